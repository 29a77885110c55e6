"""karat's NequIP against nequip (eager): the same network, timed in turn.

    .venv/bin/python benchmarks/nequip_speed.py --nequip PYTHON --tasks md train

PYTHON: interpreter of an environment with torch 2.13.0 and nequip 0.19.1 (left out: karat alone).
Three layers of 32 features of each parity up to degree 1, 8 Bessel functions, radial networks
64-64, 5 Å, float32, one core, random weights. Printed, with the range over the rounds: milliseconds
of a step of dynamics of acetylacetone (15 atoms; karat: compiled loop with neighbour rows; nequip:
ASE) and of a training step on five structures of it; peak memory. nequip has more parameters: an
array for self-connections of which karat stores the products, and features that cannot change the
energy. Data: KARAT_DATA, by default ../shared/data.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from dynamics_worker import Worker, alternate, machine, pin, ratios, spread, verdict
from mace_speed import acetylacetone

TIMES = {"md": 5.0, "train": 2.0}


def compare(task: str, start: Path, pythons: dict[str, str], rounds: int) -> None:
    """Both programs on one task, in turn."""
    workers = {
        name: Worker(python, "nequip_workers.py", [name, task, start, rounds])
        for name, python in pythons.items()
    }
    print(f"\n{task} {start.stem}")
    for name, worker in workers.items():
        facts = {key: value for key, value in worker.facts.items() if key != "name"}
        print(f"  {name}: {facts}")
    found = alternate(workers, rounds)
    for worker in workers.values():
        worker.close()
    for name, blocks in found.items():
        wall = [1e3 * block["wall"] for block in blocks]
        print(f"  {name}: {spread(wall)} ms, peak memory {blocks[-1]['peak_mb']:.0f} MB")
    if "nequip" in found:
        times = [1 / ratio for ratio in ratios(found["karat"], found["nequip"], "wall")]
        words = verdict(statistics.median(times), TIMES[task], most=False)
        print(f"  times faster than nequip: {spread(times)}; {words}")


def main() -> None:
    """Read the words, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nequip")
    parser.add_argument("--tasks", nargs="+", default=["md", "train"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=1)
    words = parser.parse_args()
    pin(words.core)
    print(machine())
    pythons = {"karat": sys.executable} | ({"nequip": words.nequip} if words.nequip else {})
    with tempfile.TemporaryDirectory() as name:
        molecule = acetylacetone(Path(name))
        for task in words.tasks:
            compare(task, molecule, pythons, words.rounds)


if __name__ == "__main__":
    main()
