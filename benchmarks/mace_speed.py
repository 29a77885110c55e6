"""karat's MACE against mace-torch and InstaDeep's mlip: the same network, timed in turn.

    .venv/bin/python benchmarks/mace_speed.py --torch PYTHON --mlip PYTHON --tasks md train first

PYTHON: interpreters of environments with torch 2.13.0 and mace-torch 0.3.16, and with mlip 0.2.5
(each has its own; a peer without one is left out). 32x0e + 32x1o, harmonics up to 2, correlation 3,
two layers, 5 Å, 72,592 parameters, float32, one core, random weights. Printed, with the range over
the rounds: milliseconds of a step of dynamics of acetylacetone (15 atoms) and of 64 atoms of
silicon (karat: compiled loop with neighbour rows; mace-torch: ASE; mlip: its jax-md engine), of a
training step on five structures of acetylacetone; peak memory of the training; and the time from
the start of a process to the first forces with a warm cache. Data: KARAT_DATA, by default
../shared/data.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dynamics_worker import (
    HERE,
    ONE_THREAD,
    Worker,
    alternate,
    machine,
    pin,
    ratios,
    spread,
    verdict,
)

import numpy as np  # isort: skip  (threads are set by the workers)

BARS = {"md acac": 1.25, "md si64": 9.0, "train acac": 35.0}  # ms, of the machine of the issue
TIMES = {
    ("md acac", "torch"): 14.0,
    ("md acac", "mlip"): 2.0,
    ("md si64", "torch"): 4.8,
    ("md si64", "mlip"): 3.0,
    ("train acac", "torch"): 2.7,
    ("train acac", "mlip"): 2.1,
}
MEMORY_MB, FIRST_S = 1500, 6.0


def acetylacetone(folder: Path) -> Path:
    """100 labelled structures of the training set."""
    from ase.io import read

    data = Path(os.environ.get("KARAT_DATA", HERE.parents[1] / "shared" / "data"))
    frames = read(data / "acac" / "train_300K.xyz.gz", ":100")
    path = folder / "acac.npz"
    np.savez(
        path,
        numbers=frames[0].numbers,
        positions=np.array([frame.positions for frame in frames]),
        cell=np.zeros((3, 3)),
        periodic=np.zeros(3, bool),
        energies=np.array([frame.info["REF_energy"] for frame in frames]),
        forces=np.array([frame.arrays["REF_forces"] for frame in frames]),
    )
    return path


def silicon(folder: Path) -> Path:
    """64 atoms of the diamond structure, displaced; forces are made up, for the scale only."""
    from ase.build import bulk

    atoms = bulk("Si", "diamond", a=5.43, cubic=True).repeat((2, 2, 2))
    atoms.rattle(0.05, seed=1)
    path = folder / "si64.npz"
    np.savez(
        path,
        numbers=atoms.numbers,
        positions=atoms.positions[None],
        cell=np.array(atoms.cell),
        periodic=np.ones(3, bool),
        energies=np.zeros(1),
        forces=np.random.default_rng(0).normal(scale=0.05, size=(1, 64, 3)),
    )
    return path


def compare(task: str, start: Path, pythons: dict[str, str], rounds: int) -> None:
    """All programs on one task, in turn."""
    label = f"{task} {start.stem}"
    workers = {
        name: Worker(python, "mace_workers.py", [name, task, start, rounds])
        for name, python in pythons.items()
    }
    print(f"\n{label}")
    for name, worker in workers.items():
        facts = {key: value for key, value in worker.facts.items() if key != "name"}
        print(f"  {name}: {facts}")
    found = alternate(workers, rounds)
    for worker in workers.values():
        worker.close()
    for name, blocks in found.items():
        wall = [1e3 * block["wall"] for block in blocks]
        print(f"  {name}: {spread(wall)} ms, peak memory {blocks[-1]['peak_mb']:.0f} MB")
    middle = statistics.median(1e3 * block["wall"] for block in found["karat"])
    print(f"  karat {middle:.3g} ms; {verdict(middle, BARS[label], most=True)}")
    for name in found:
        if name != "karat":
            times = [1 / ratio for ratio in ratios(found["karat"], found[name], "wall")]
            bar = TIMES[label, name]
            words = verdict(statistics.median(times), bar, most=False)
            print(f"  times faster than {name}: {spread(times)}; {words}")
    if task == "train":
        memory = found["karat"][-1]["peak_mb"]
        print(f"  memory {memory:.0f} MB; {verdict(memory, MEMORY_MB, most=True)}")


def first_forces(start: Path, folder: Path, rounds: int) -> None:
    """A fresh process each time; the first fills the cache."""
    script = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[1]); import mace_workers as w;"
        "from karat.potentials.karat_file import save; from karat.potentials.native.mace import "
        "Mace; s = np.load(sys.argv[2]); save(sys.argv[3], Mace().completed(w.karat_dataset(s)), "
        "w.karat_potential(s))"
    )
    potential = start.with_suffix(".karat")
    environment = os.environ | ONE_THREAD
    subprocess.run(
        [sys.executable, "-c", script, str(HERE), str(start), str(potential)],
        check=True,
        env=environment,
    )
    seconds = []
    for _ in range(rounds + 1):
        words = [str(HERE / "mace_workers.py"), "karat", "first", str(potential), f"{folder}/jax"]
        began = {"KARAT_BENCHMARK_BEGAN": str(time.time())}
        done = subprocess.run(
            [sys.executable, *words], check=True, env=environment | began, capture_output=True
        )
        seconds.append(float(done.stdout.decode().rpartition(": ")[2].rstrip("}\n ")))
    print(f"\nfirst forces, cold cache {seconds[0]:.1f} s, warm {spread(seconds[1:])} s; ", end="")
    print(verdict(statistics.median(seconds[1:]), FIRST_S, most=True))


def main() -> None:
    """Read the words, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch")
    parser.add_argument("--mlip")
    parser.add_argument("--tasks", nargs="+", default=["md", "train", "first"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=1)
    words = parser.parse_args()
    pin(words.core)
    print(machine())
    pythons = {"karat": sys.executable}
    pythons |= {n: p for n, p in (("torch", words.torch), ("mlip", words.mlip)) if p}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        molecule, crystal = acetylacetone(folder), silicon(folder)
        if "md" in words.tasks:
            compare("md", molecule, pythons, words.rounds)
            compare("md", crystal, pythons, words.rounds)
        if "train" in words.tasks:
            compare("train", molecule, pythons, words.rounds)
        if "first" in words.tasks:
            first_forces(molecule, folder, words.rounds)


if __name__ == "__main__":
    main()
