"""karat's `ace` on the mlearn sets by one recipe: errors, fit time, speed, beside published ones.

    .venv/bin/python benchmarks/linear_ace.py [Ni Cu Li Mo Si] [--steps 50] [--save FOLDER]

One recipe for all elements: lengths are multiples of the distance that nearest neighbours have in a
close packing of the same density; a tenth of the training structures chooses the smoothness and
calibrates, then all are fitted. Intervals (95 %) are bootstrapped over test structures. Speed:
dynamics of about 500 atoms of the perfect crystal at 300 K, time step 1 fs, one core, float64,
neighbour lists included; the least of four blocks. The recipe was chosen by cross-validation within
the training files; the test files are read for the figures only. Data: KARAT_DATA, by default
../shared/data.

Published: Zuo et al., J. Phys. Chem. A 124, 731 (2020), as quoted by ACEpotentials.jl, and that
program's own "large" recipe.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

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
VALIDATION, RESAMPLES, BLOCKS = 0.1, 2000, 4


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


def microseconds(potential, element: str, steps: int) -> tuple[float, int]:
    """Per atom and step of dynamics, and the number of atoms."""
    from ase.build import bulk

    from karat.simulation.dynamics import Dynamics, all_stopped, make_run
    from karat.simulation.velocities import thermal_velocities
    from karat.structures.structure import Structure

    kind, constant, _, repeats = LATTICE[element]
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
    return 1e6 * min(times) / len(structure), len(structure)


def main() -> None:
    from karat.potentials.karat_file import save
    from karat.potentials.precision import enable_float64

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("elements", nargs="*", default=list(LATTICE))
    parser.add_argument("--steps", type=int, default=50, help="in a timed block")
    parser.add_argument("--save", type=Path, help="folder for .karat files")
    asked = parser.parse_args()
    enable_float64()
    print(f"cut-off {CUTOFF} spacings, degrees {DEGREES}, l_weight {L_WEIGHT}")
    for element in asked.elements:
        train, valid = split(read(element, "train"))
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            solved = recipe(element).fit(train, valid, Path(folder), fresh=True)
        seconds = time.perf_counter() - began
        parts = [with_interval(part) for part in errors(solved.potential, read(element, "test"))]
        cost, atoms = microseconds(solved.potential, element, asked.steps)
        energy, force = (f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in parts)
        count = solved.potential.module.coefficients.shape[0]
        print(f"{element}: energy {energy} meV/atom, forces {force} eV/Å")
        print(f"  {count} functions, fitted in {seconds:.0f} s; {cost:.1f} µs/atom/step", end="")
        print(f" ({atoms} atoms)")
        print(f"  {solved.note}")
        for name, table in PUBLISHED.items():
            print(f"  {name}: {table[element][0]:.3f} meV/atom, {table[element][1]:.3f} eV/Å")
        if asked.save:
            asked.save.mkdir(parents=True, exist_ok=True)
            save(asked.save / f"ace-{element}.karat", recipe(element), solved.potential)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
