"""karat's `ace` on the mlearn sets by one recipe: errors, fit time, speed, beside published ones.

    .venv/bin/python benchmarks/linear_ace.py [Ni Cu Li Mo Si] [--save FOLDER]

One recipe for all elements: lengths are multiples of the distance that nearest neighbours have in a
close packing of the same density; a tenth of the training structures chooses the smoothness and
calibrates, then all are fitted. Intervals (95 %) are bootstrapped over test structures. Speed:
dynamics of about 500 atoms of the perfect crystal at 300 K, time step 1 fs, one core, float64,
neighbour lists included; the median (smallest – largest) of five blocks. The recipe was chosen by
cross-validation within the training files; the test files are read for the figures only. Data:
KARAT_DATA, by default ../shared/data.

Published: Zuo et al., J. Phys. Chem. A 124, 731 (2020), as quoted by ACEpotentials.jl, and that
program's own "large" recipe.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from dynamics_worker import machine, pin, slope, spread, verdict

from karat.core.threads import single_thread

single_thread()

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KARAT_DATA", ROOT.parent / "shared" / "data"))
LATTICE = {
    "Ni": ("fcc", 3.52, 4, 5),
    "Cu": ("fcc", 3.62, 4, 5),
    "Li": ("bcc", 3.44, 2, 6),
    "Mo": ("bcc", 3.16, 2, 6),
    "Si": ("diamond", 5.47, 8, 4),
}
"""Kind, cubic lattice constant in Å, atoms in the cubic cell, repeats for timing."""
CUTOFF, DEGREES, L_WEIGHT = 1.95, (12, 12, 14, 10), 1.0
ENERGY_WEIGHT, SMOOTHNESS = 300.0, (2.0, 4.0)
PUBLISHED = {
    "GAP": {"Ni": (0.42, 0.02), "Cu": (0.46, 0.01), "Li": (0.49, 0.01), "Mo": (2.24, 0.09),
            "Si": (2.91, 0.07)},
    "MTP": {"Ni": (0.48, 0.01), "Cu": (0.41, 0.01), "Li": (0.49, 0.01), "Mo": (2.83, 0.09),
            "Si": (2.21, 0.06)},
    "ACEpotentials": {"Ni": (0.34, 0.015), "Cu": (0.228, 0.005), "Li": (0.165, 0.005),
                      "Mo": (2.911, 0.097), "Si": (2.573, 0.066)},
}  # fmt: skip
"""MAE: meV/atom and eV/Å."""
VALIDATION, RESAMPLES, BLOCKS = 0.1, 2000, 5


def recipe(element: str):
    """The hyper-parameters of one element."""
    from karat.potentials.linear.ace import Ace
    from karat.potentials.linear.regression import Regression

    _, constant, atoms, _ = LATTICE[element]
    spacing = 2 ** (1 / 6) * constant / atoms ** (1 / 3)
    regression = Regression(energy_weight=ENERGY_WEIGHT, smoothness=SMOOTHNESS)
    return Ace({element: spacing}, CUTOFF * spacing, DEGREES, L_WEIGHT, regression=regression)


def read(element: str, part: str):
    """A published set."""
    from karat.data.files import read_dataset
    from karat.structures.labels import LevelOfTheory

    return read_dataset(DATA / "mlearn" / f"{element}_{part}.xyz.gz", LevelOfTheory("PBE"))


def split(dataset):
    """Training and validation structures, at random."""
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    kept = round(VALIDATION * len(dataset))
    return dataset.subset(sorted(order[kept:])), dataset.subset(sorted(order[:kept]))


def errors(potential, dataset) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Absolute errors of each structure: of its energy, meV/atom; of its force components."""
    labels = potential.predict(dataset.structures, ("energy", "forces"))
    energies, forces = [], []
    for found, record in zip(labels, dataset):
        size = len(record.structure)
        energies.append(1e3 * np.abs([found.energy - record.labels.energy]) / size)
        forces.append(np.abs(found.forces - record.labels.forces).ravel())
    return energies, forces


def with_interval(parts: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean over all, and its 95 % interval over resampled structures."""
    sums, sizes = np.array([p.sum() for p in parts]), np.array([p.size for p in parts])
    drawn = np.random.default_rng(1).integers(0, len(parts), (RESAMPLES, len(parts)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return sums.sum() / sizes.sum(), low, high


def microseconds(potential, element: str, steps: int, repeats: int) -> tuple[list[float], int]:
    """Per atom and step of dynamics of each block, and the number of atoms."""
    from ase.build import bulk

    from karat.simulation.dynamics import Dynamics, all_stopped, make_run
    from karat.simulation.velocities import thermal_velocities
    from karat.structures.structure import Structure

    kind, constant, *_ = LATTICE[element]
    structure = Structure.from_ase(bulk(element, kind, a=constant, cubic=True).repeat(repeats))
    total = steps * (1 + BLOCKS)
    settings = Dynamics(ensemble="nve", timestep_fs=1.0, steps=total, every=steps)
    velocities = thermal_velocities(structure, 300.0, 2)
    run = make_run(potential, [structure], settings, [velocities], [0], piece_frames=1)
    run.next_piece()
    times = []
    for _ in range(BLOCKS):
        before = run.seconds
        run.next_piece()
        times.append((run.seconds - before) / steps)
    if all_stopped(run):
        sys.exit(f"{element}: the dynamics stopped.")
    return [1e6 * time / len(structure) for time in times], len(structure)


def scaling(potential, element: str) -> None:
    """Time per step of growing crystals, and its exponent."""
    sizes, costs = [], []
    for repeats in (2, 4, 6, 8, 10):
        times, atoms = microseconds(potential, element, max(4, 20_000 // (8 * repeats**3)), repeats)
        sizes.append(atoms)
        costs.append(atoms * statistics.median(times))
        print(f"{element}, {atoms} atoms: {spread(times)} µs/atom/step", flush=True)
    exponent, error = slope(sizes, costs)
    print(f"exponent {exponent:.3f} ± {error:.3f}; {verdict(exponent, 1.05, most=True)}")


def published_snap(element: str, dataset) -> str:
    """Errors of the published SNAP potential on the same structures."""
    from karat.potentials.linear.snap_files import SnapFiles

    stem = DATA / "mlearn_snap" / f"{element}_snap"
    potential = SnapFiles(f"{stem}.snapcoeff", f"{stem}.snapparam").load()
    parts = [with_interval(part) for part in errors(potential, dataset)]
    return ", ".join(f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in parts)


def main() -> None:
    from karat.potentials.karat_file import save
    from karat.potentials.precision import enable_float64

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("elements", nargs="*", default=list(LATTICE))
    parser.add_argument("--steps", type=int, default=50, help="in a timed block")
    parser.add_argument("--save", type=Path, help="folder for .karat files")
    parser.add_argument("--load", type=Path, help="folder of --save: fit nothing")
    parser.add_argument("--scaling", action="store_true", help="also time growing crystals")
    parser.add_argument("--core", type=int, help="keep everything on this core")
    asked = parser.parse_args()
    pin(asked.core)
    print(machine())
    enable_float64()
    print(f"cut-off {CUTOFF} spacings, degrees {DEGREES}, l_weight {L_WEIGHT}")
    for element in asked.elements:
        potential, note = obtained(element, asked.load)
        test = read(element, "test")
        parts = [with_interval(part) for part in errors(potential, test)]
        times, atoms = microseconds(potential, element, asked.steps, LATTICE[element][3])
        energy, force = (f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in parts)
        count = potential.module.coefficients.shape[0]
        print(f"{element}: energy {energy} meV/atom, forces {force} eV/Å")
        print(f"  {count} functions; {spread(times, 3)} µs/atom/step ({atoms} atoms)")
        print(f"  {note}")
        for name, table in PUBLISHED.items():
            print(f"  {name}: {table[element][0]:.3f} meV/atom, {table[element][1]:.3f} eV/Å")
        print(f"  published SNAP, computed here: {published_snap(element, test)}")
        if asked.save:
            asked.save.mkdir(parents=True, exist_ok=True)
            save(asked.save / f"ace-{element}.karat", recipe(element), potential)
        sys.stdout.flush()
        if asked.scaling:
            scaling(potential, element)


def obtained(element: str, folder: Path | None):
    """A fit, or one that was saved."""
    if folder is not None:
        from karat.potentials.karat_file import load

        return load(folder / f"ace-{element}.karat"), "from a file"
    train, valid = split(read(element, "train"))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        solved = recipe(element).fit(train, valid, Path(work), fresh=True)
    return solved.potential, f"fitted in {time.perf_counter() - began:.0f} s: {solved.note}"


if __name__ == "__main__":
    main()
