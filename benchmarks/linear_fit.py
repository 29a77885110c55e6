"""Fitting SNAP to mlearn's Mo: karat against LAMMPS' `compute snap` with a least-squares solve.

    python benchmarks/linear_fit.py
    python benchmarks/linear_fit.py --twojmax 8 --rounds 5

Energies, forces and stresses of all 194 training structures, settings of the published potential
(twojmax 6, 4.6 Å), the same weights and plain weighted least squares on both sides, one core,
rounds alternating in one process; both fits must have the same error. karat's time is that of
`Snap.fit` from structures to coefficients. Its first fit also compiles: printed by itself.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dynamics_worker import machine, pin, spread, verdict

from karat.core.threads import single_thread

single_thread()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KARAT_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = (100.0, 1.0, 0.3)
CUTOFF, RFAC0 = 4.6, 0.99363
BAR = 0.5
SHEARS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def by_lammps(lmp: Any, train: Any, twojmax: int) -> tuple[np.ndarray, float, float]:
    """Coefficients (constant last), the seconds that they took, weighted RMS of the residuals."""
    from karat.simulation.export.lammps_engine import make_box

    started = time.perf_counter()
    rows, targets = [], []
    for record in train:
        structure, labels = record.structure, record.labels
        lmp.command("clear")
        rotation = make_box(lmp, structure, [42])
        lmp.commands_string(
            f"pair_style zero {CUTOFF}\npair_coeff * *\n"
            f"compute snap all snap {CUTOFF} {RFAC0} {twojmax} 0.5 1.0 rmin0 0.0 bzeroflag 1\n"
            "thermo_style custom step c_snap[1][1]\nrun 0 post no"
        )
        table = np.array(lmp.numpy.extract_compute("snap", 0, 2))[:, :-1]
        atoms = len(structure)
        energy = np.append(table[0] / atoms, 1.0)
        zero = np.zeros((3 * atoms + 6, 1))
        rest = np.hstack([table[1:], zero])
        rest[3 * atoms :] /= atoms
        pressure = -rotation.T @ labels.stress @ rotation * structure.volume / atoms
        scale = np.repeat(WEIGHTS, (1, 3 * atoms, 6))
        rows.append(np.vstack([energy, rest]) * scale[:, None])
        values = [labels.energy / atoms, *(labels.forces @ rotation).ravel()]
        values += [pressure[place] for place in SHEARS]
        targets.append(np.array(values) * scale)
    matrix, wanted = np.vstack(rows), np.concatenate(targets)
    found, *_ = np.linalg.lstsq(matrix, wanted, rcond=None)
    error = float(np.sqrt(np.mean((matrix @ found - wanted) ** 2)))
    return found, time.perf_counter() - started, error


def by_karat(train: Any, valid: Any, twojmax: int) -> tuple[Any, float]:
    """The potential, and the seconds that it took."""
    from karat.potentials.linear.regression import Regression
    from karat.potentials.linear.snap import Snap

    energy, force, stress = WEIGHTS
    regression = Regression(
        solver="least_squares",
        energy_weight=energy,
        force_weight=force,
        stress_weight=stress,
        use_validation=False,
        uncertainty=False,
    )
    model = Snap(twojmax=twojmax, rcutfac=CUTOFF, rfac0=RFAC0, regression=regression)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        solved = model.fit(train, valid, Path(folder))
        return solved.potential, time.perf_counter() - started


def error_of(potential: Any, train: Any) -> float:
    """Root mean square of the weighted residuals of all rows, as LAMMPS' side counts them."""
    squares = []
    want = ("energy", "forces", "stress")
    for found, record in zip(potential.predict(train.structures, want), train):
        atoms, given = len(record.structure), record.labels
        per_atom = record.structure.volume / atoms
        squares.append((WEIGHTS[0] * (found.energy - given.energy) / atoms) ** 2)
        squares += ((WEIGHTS[1] * (found.forces - given.forces)) ** 2).ravel().tolist()
        off = WEIGHTS[2] * (found.stress - given.stress) * per_atom
        squares += [off[place] ** 2 for place in SHEARS]
    return float(np.sqrt(np.mean(squares)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--twojmax", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, help="keep everything on this core")
    asked = parser.parse_args()
    pin(asked.core)
    from karat.data.files import read_dataset
    from karat.potentials.precision import enable_float64
    from karat.simulation.export.lammps_fix import open_lammps
    from karat.structures.labels import LevelOfTheory

    enable_float64()
    train = read_dataset(DATA / "mlearn" / "Mo_train.xyz.gz", LevelOfTheory("PBE"))
    valid = train.subset(range(2))  # nothing is chosen by it: least squares has no prior
    lmp = open_lammps(["-screen", "none", "-log", "none", "-nocite"])
    potential, first = by_karat(train, valid, asked.twojmax)
    mine, theirs = [], []
    for _ in range(asked.rounds):
        _, seconds, error = by_lammps(lmp, train, asked.twojmax)
        theirs.append(seconds)
        mine.append(by_karat(train, valid, asked.twojmax)[1])
    own = error_of(potential, train)
    if abs(own - error) > 1e-4 * error:
        sys.exit(f"the fits differ: weighted RMS {own} and {error}.")
    print(machine())
    print(f"SNAP, twojmax {asked.twojmax}, Mo, {len(train)} structures; weighted RMS {own:.6g}")
    print(f"karat's first fit, compilation included: {first:.2f} s")
    print(f"karat: {spread(mine)} s; compute snap + lstsq: {spread(theirs)} s")
    gain = [a / b for a, b in zip(mine, theirs)]
    print(f"ratio: {spread(gain)}; {verdict(statistics.median(gain), BAR, most=True)}")


if __name__ == "__main__":
    main()
