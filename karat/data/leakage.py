"""Checks of a training set against a test set. To add one: write the function, add it to
`PAIR_CHECKS`.

Checked: tests/data/test_doctor.py, also on published sets with known findings.
"""

from collections.abc import Callable, Iterator

import numpy as np

from karat.data.dataset import Dataset
from karat.data.finding import Finding, counted, label_key, named

NEAR_FRAMES = 2
"""Frames of one trajectory at most so far apart are neighbours: one is nearly the other."""


def leakage(train: Dataset, test: Dataset) -> Iterator[Finding]:
    """The same structure on both sides."""
    known = {record.structure.digest for record in train}
    bad = [record for record in test if record.structure.digest in known]
    if bad:
        message = (
            f"leakage: {counted(len(bad), len(test))} of the test set are in the training set. "
            "Remove them from one side."
        )
        yield Finding("error", "leakage", message, named(bad))
    keys = {key for record in train if (key := label_key(record)) is not None}
    alike = [
        record
        for record in test
        if record.structure.digest not in known and label_key(record) in keys
    ]
    if alike:
        message = (
            f"{counted(len(alike), len(test))} of the test set have the energy and forces of a "
            "training structure: symmetry-equivalent, they test nothing."
        )
        yield Finding("warning", "equivalent-leakage", message, named(alike))


def neighbouring_frames(train: Dataset, test: Dataset) -> Iterator[Finding]:
    """Neighbouring frames of one trajectory on both sides."""
    frames: dict[str, list[int]] = {}
    for record in train:
        if record.group and record.frame >= 0:
            frames.setdefault(record.group, []).append(record.frame)
    arrays = {group: np.array(values) for group, values in frames.items()}
    bad = [
        r
        for r in test
        if r.frame >= 0
        and r.group in arrays
        and np.abs(arrays[r.group] - r.frame).min() <= NEAR_FRAMES
    ]
    if bad:
        message = (
            f"leakage: {counted(len(bad), len(test))} of the test set are at most {NEAR_FRAMES} "
            "frames from a training frame of the same trajectory. Split by time block."
        )
        yield Finding("error", "neighbouring-frames", message, named(bad))


def same_system(train: Dataset, test: Dataset) -> Iterator[Finding]:
    """One molecule or cell on both sides: the test says nothing about others."""

    def systems(dataset: Dataset) -> set[tuple[bytes, int]]:
        return {(r.structure.numbers.tobytes(), r.structure.charge) for r in dataset}

    if systems(train) == systems(test) and len(systems(train)) == 1:
        yield Finding(
            "info",
            "same-system",
            "train and test hold the same system: errors hold for it alone; if both are frames "
            "of one trajectory, they are optimistic.",
        )


def different_levels(train: Dataset, test: Dataset) -> Iterator[Finding]:
    """Two levels of theory."""
    if train.level.label.upper() != test.level.label.upper():
        message = f"train is {train.level.label}, test is {test.level.label}: never mix levels."
        yield Finding("error", "different-levels", message)


def new_elements(train: Dataset, test: Dataset) -> Iterator[Finding]:
    """Elements that only the test set has."""
    from ase.data import chemical_symbols

    new = sorted(set(test.species) - set(train.species))
    if new:
        words = ", ".join(chemical_symbols[z] for z in new)
        yield Finding("error", "new-elements", f"the test set has {words}, the training set not.")


PAIR_CHECKS: tuple[Callable[[Dataset, Dataset], Iterator[Finding]], ...] = (
    leakage,
    neighbouring_frames,
    same_system,
    different_levels,
    new_elements,
)
