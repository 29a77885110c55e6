"""karat's DeepPot-SE on 216 atoms of silicon: a step of dynamics, with networks and with tables.

    .venv/bin/python benchmarks/deeppot_speed.py [--rounds 5] [--core 1]

Embedding 25-50-100, 16 axis columns, fitting 100x3, cut-off 5 Å, 46 slots, float64, one core,
random weights (speed does not depend on them). Printed, with the range over the rounds:
microseconds per atom and step of karat's compiled loop (energy, forces, neighbour rows), with the
embedding networks themselves and with tables of them, which dynamics uses; and by how much the
tables change energies and forces. Bars: 65 µs, deepmd-kit 3.2.0's compressed model (TensorFlow,
energy and forces with its neighbour list, ../shared/peers/deepmd_si.py), and 30 µs.
"""

import argparse
import os
import statistics
import sys

from dynamics_worker import ONE_THREAD, Worker, alternate, machine, pin, say, serve, spread, timed
from dynamics_worker import verdict as judged

os.environ.update(ONE_THREAD)

BAR, STRETCH = 65.0, 30.0  # µs per atom and step
STEPS = 100


def silicon():
    """216 atoms of the diamond structure, displaced."""
    from ase.build import bulk

    from karat.structures.structure import Structure

    atoms = bulk("Si", "diamond", a=5.43, cubic=True).repeat((3, 3, 3))
    atoms.rattle(0.05, seed=1)
    return Structure.from_ase(atoms)


def potential(structure):
    """Random weights; forces are made small, so that the crystal stays one."""
    import equinox as eqx

    from karat.potentials.conformance.architecture import random_potential
    from karat.potentials.native.deeppot import DeepPot

    model = DeepPot(5.0, 0.5, (25, 50, 100), 16, (100, 100, 100), (46,))
    made = random_potential(model, [structure])
    made.reference_energies = {}  # large ones would round differences away
    made.module = eqx.tree_at(lambda m: m.scale, made.module, made.module.scale * 0.05)
    return made


class Plain:
    """Keeps dynamics from using tables: `prepared` gives the module itself."""

    def __init__(self, module) -> None:
        self.kind = type(module)
        self.before = self.kind.prepared

    def __enter__(self) -> None:
        self.kind.prepared = lambda module, species: module

    def __exit__(self, *_: object) -> None:
        self.kind.prepared = self.before


def work(which: str, blocks: int) -> None:
    """A worker: blocks of dynamics."""
    from contextlib import nullcontext

    import numpy as np

    from karat.potentials.precision import enable_float64
    from karat.simulation.dynamics import Dynamics, all_stopped, make_run

    enable_float64()
    structure = silicon()
    made = potential(structure)
    every = STEPS // 2
    steps = every * (2 * blocks + 2)
    settings = Dynamics(
        ensemble="nve", timestep_fs=0.5, temperature_k=30.0, steps=steps, every=every
    )
    rest = np.zeros((len(structure), 3))
    with Plain(made.module) if which == "networks" else nullcontext():
        run = make_run(made, [structure], settings, [rest], [0], piece_frames=2)
        run.next_piece()

    def block() -> dict:
        before = run.seconds
        timed(run.next_piece, STEPS)
        if all_stopped(run):
            sys.exit("karat: the run stopped.")
        return {"wall": (run.seconds - before) / STEPS / len(structure)}

    serve({"name": which}, block)


def deviations() -> None:
    """A worker: how much the tables change."""
    import numpy as np

    from karat.potentials.native.deeppot_compressed import compressed
    from karat.potentials.native_protocol import NativePotential
    from karat.potentials.precision import enable_float64

    enable_float64()
    structure = silicon()
    made = potential(structure)
    small = compressed(made.module)
    new = NativePotential(small)
    first, second = (p.predict([structure])[0] for p in (made, new))
    say(
        {
            "energy": abs(first.energy - second.energy) / len(structure),
            "forces": float(np.abs(first.forces - second.forces).max()),
            "largest_force": float(np.abs(first.forces).max()),
            "intervals": small.table.shape[0],
            "functions": small.empty.shape[0],
        }
    )
    sys.stdin.read()


def main() -> None:
    """Read the words, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--worker", choices=["networks", "tables", "deviations"])
    words = parser.parse_args()
    if words.worker == "deviations":
        return deviations()
    if words.worker:
        return work(words.worker, words.rounds)
    pin(words.core)
    print(machine(), flush=True)
    script = os.path.basename(__file__)
    one = Worker(sys.executable, script, ["--worker", "deviations"])
    found = one.facts
    one.close()
    print(
        f"{found['functions']} functions on {found['intervals']} intervals: energy differs by "
        f"{found['energy']:.1e} eV/atom, forces by {found['forces']:.1e} of "
        f"{found['largest_force']:.2g} eV/Å"
    )
    given = ["--rounds", words.rounds, "--worker"]
    workers = {
        name: Worker(sys.executable, script, [*given, name]) for name in ("networks", "tables")
    }
    blocks = alternate(workers, words.rounds)
    for worker in workers.values():
        worker.close()
    for name, rows in blocks.items():
        print(f"{name}: {spread([1e6 * row['wall'] for row in rows])} µs/atom/step")
    middle = statistics.median(1e6 * row["wall"] for row in blocks["tables"])
    for bar in (BAR, STRETCH):
        print(f"tables {middle:.3g} µs/atom/step; {judged(middle, bar, most=True)}")
    return None


if __name__ == "__main__":
    main()
