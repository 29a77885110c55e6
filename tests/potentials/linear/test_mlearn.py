"""Intervals and grades on the published test sets of five elements (minutes)."""

import os
from pathlib import Path

import ase.build
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from karat.data.files import read_dataset
from karat.potentials.linear.ace import Ace
from karat.potentials.linear.linear_potential import LinearWithUncertainty
from karat.potentials.linear.regression import Regression
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure

DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "mlearn"
CASES = {
    "Li": (3.0, 5.0, "sc"),
    "Mo": (2.73, 5.2, "diamond"),
    "Si": (2.35, 5.2, "fcc"),
    "Cu": (2.55, 5.0, "sc"),
    "Ni": (2.49, 5.0, "sc"),
}
"""Distance of nearest neighbours and cut-off, Å; a phase that is not in the data.
(Phases that atoms do not tell, the grade of the structure does: test_ellipsoid.py.)

hcp is not among them: close packed as fcc, it is no extrapolation by this grade (docs/linear.md).
"""


@pytest.mark.slow
@pytest.mark.parametrize("element", list(CASES))
def test_intervals_and_grades_on_published_test_sets(element, tmp_path):
    if not DATA.is_dir():
        pytest.skip(f"{DATA}: no such folder; set KARAT_DATA to the test data")
    spacing, cutoff, phase = CASES[element]
    level = LevelOfTheory("PBE")
    data = read_dataset(DATA / f"{element}_train.xyz.gz", level)
    test = read_dataset(DATA / f"{element}_test.xyz.gz", level)
    order = np.random.default_rng(0).permutation(len(data))
    parts = np.split(order, [len(data) // 10])
    valid, train = (data.subset(np.sort(part).tolist()) for part in parts)
    model = Ace({element: spacing}, cutoff, (12, 12, 11), 1.5, None, Regression(smoothness=(2.0,)))
    sure = LinearWithUncertainty(model.fit(train, valid, tmp_path).potential)
    predicted = sure.predict(test.structures)
    inside = [
        np.abs(one.forces - record.labels.forces) <= 1.645 * one.uncertainty.forces
        for one, record in zip(predicted, test)
    ]
    # what the issue asks for
    assert 0.85 <= np.concatenate(inside).mean() <= 0.95
    near = np.concatenate([one.uncertainty.grade for one in predicted])
    for strange in (_compressed(test), _foreign(element, phase, data)):
        far = [one.uncertainty.grade for one in sure.predict(strange, ("energy",))]
        grades = np.concatenate([near, *far])
        assert roc_auc_score(np.arange(len(grades)) >= len(near), grades) > 0.95


def _compressed(test):
    return [
        Structure(s.numbers, 0.8 * s.positions, 0.8 * s.cell, s.periodic) for s in test.structures
    ]


def _foreign(element, phase, data):
    """Rattled crystals of the phase at the volume per atom of the training structures."""
    per_atom = np.median([s.volume / len(s) for s in data.structures])
    size = {"sc": 1, "fcc": 4, "diamond": 8}[phase]
    crystal = ase.build.bulk(element, phase, a=(per_atom * size) ** (1 / 3), cubic=True)
    crystal = crystal.repeat(4 if size == 1 else 2)
    found = []
    for seed in range(6):
        atoms = crystal.copy()
        atoms.rattle(0.05, seed=seed)
        found.append(Structure(atoms.numbers, atoms.positions, atoms.cell.array, np.ones(3, bool)))
    return found
