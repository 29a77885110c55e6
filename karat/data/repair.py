"""What can be repaired without guessing: structures dropped, cells turned, stresses symmetrised.

Units and signs are never touched. Checked: tests/data/test_doctor_repair.py.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from karat.data.entry import Entry
from karat.data.leakage import leaked
from karat.data.survey import Survey

ROUNDED = 1e-2
"""Asymmetry of a stress, over its largest component, that rounding may have left."""

WORDS = {
    "bad-geometry": "structures with unknown elements, NaN or a singular cell dropped",
    "not-finite": "structures with NaN or infinity in their labels dropped",
    "no-labels": "structures without energy and forces dropped",
    "duplicates": "exact duplicates dropped",
    "leakage": "structures dropped that the test set has, too",
    "asymmetric-stress": "structures dropped whose stress is far from symmetric",
    "rounded-stress": "rounded stresses made symmetric",
    "left-handed-cell": "cells turned right-handed, the crystal being the same",
}
"""Codes of what is done, in order, and what that is; all but the last two drop the structure."""


class Repair:
    """Repairs entries as they stream; counts what it did."""

    def __init__(self, survey: Survey, test: Survey | None = None) -> None:
        self.done: Counter[str] = Counter()
        self._why = _reasons(survey, test)

    @property
    def kept(self) -> int:
        """Structures that stay."""
        return sum(not why for why in self._why)

    def apply(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries that stay, in order, repaired; the same entries as were surveyed."""
        for entry, why in zip(entries, self._why, strict=True):
            if why:
                self.done[why] += 1
                continue
            yield self._mended(entry)

    def _mended(self, entry: Entry) -> Entry:
        stress = entry.stress
        if stress is not None and (stress != stress.T).any():
            self.done["rounded-stress"] += 1
            entry = dataclasses.replace(entry, stress=(stress + stress.T) / 2)
        if entry.periodic.all() and np.linalg.det(entry.cell) < 0:
            self.done["left-handed-cell"] += 1
            # turning all three vectors round spans the same lattice
            entry = dataclasses.replace(entry, cell=-entry.cell + 0.0)
        return entry


def _reasons(survey: Survey, test: Survey | None) -> list[str]:
    """The code for which each structure is dropped, or nothing."""
    columns = survey.columns
    reasons = np.full(len(survey), "", dtype=object)
    first: dict[tuple, int] = {}
    repeated = np.zeros(len(survey), bool)
    fine = columns.fine_geometry & columns.finite & (columns.has_energy | columns.has_forces)
    for row, key in enumerate(map(tuple, columns.digest.tolist())):
        if fine[row]:
            repeated[row] = first.setdefault(key, row) != row
    labelled = columns.has_energy | columns.has_forces
    with np.errstate(invalid="ignore"):
        wrong = columns.asymmetry > ROUNDED
    for code, rows in (
        ("asymmetric-stress", wrong),
        ("leakage", np.zeros(len(survey), bool) if test is None else leaked(survey, test)),
        ("duplicates", repeated),
        ("no-labels", ~labelled),
        ("not-finite", ~columns.finite),
        ("bad-geometry", ~columns.fine_geometry),
    ):
        reasons[rows] = code
    return reasons.tolist()
