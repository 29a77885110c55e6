"""The same structure twice: exactly, by symmetry, or nearly.

Checked: tests/data/test_doctor_faults.py.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from karat.data.finding import Finding, counted, offenders
from karat.data.survey import Survey
from karat.data.survey_block import SHAPED_ATOMS

NEAR = 0.004
"""Å, root mean square displacement; a half-femtosecond step of an organic molecule at room
temperature is 0.01, coordinates rounded to two decimals move by 0.005."""

SAFE = 0.75
"""Traces are right to about a sixth: nearer than this share of `NEAR` is nearer than `NEAR`."""

NEAR_SHAPE = 0.00015
"""Å, the same for fingerprints, as displacements of all atoms at random change them. Some motions
(a methyl group's turn) change them ten times less, so that only rounding is called near."""

NEAR_CRYSTAL = 2e-5
"""Å, the same for periodic structures, whose fingerprints change in second order only."""

ALIKE_ENERGY = 2e-4
"""eV/atom, besides force times `NEAR`; energies of near duplicates agree so far."""

ALIKE_FORCE = 0.15
"""eV/Å; what the stiffest bonds (35 eV/Å²) change over `NEAR`."""


def duplicates(survey: Survey) -> Iterator[Finding]:
    """Structures that repeat exactly; worse, with another label."""
    columns = survey.columns
    _, first, which = np.unique(columns.digest, axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    original = first[which]
    rows = np.flatnonzero(original != np.arange(len(survey)))
    if len(rows):
        yield Finding(
            "warning",
            "duplicates",
            f"{counted(len(rows), len(survey))} repeat another exactly: drop them (--fix does).",
            offenders(survey, rows),
        )
    with np.errstate(invalid="ignore"):
        off = np.abs(columns.energy - columns.energy[original]) / columns.atoms
        force = np.abs(columns.force_rms - columns.force_rms[original])
        clash = rows[(off[rows] > 1e-4) | (force[rows] > 0.01)]
    if len(clash):
        yield Finding(
            "error",
            "contradicting-labels",
            f"{counted(len(clash), len(survey))} repeat another structure exactly but with another "
            f"energy (up to {np.nanmax(off[clash]):.2g} eV/atom) or other forces: two levels, or "
            "labels of other structures.",
            offenders(survey, clash, np.nan_to_num(off[clash])),
        )


def equivalent(survey: Survey) -> Iterator[Finding]:
    """Different structures with identical energies and forces."""
    columns = survey.columns
    rows = np.flatnonzero(columns.labels_key != 0)
    _, first, which = np.unique(columns.labels_key[rows], return_index=True, return_inverse=True)
    original = rows[first[which]]
    other = (columns.digest[rows] != columns.digest[original]).any(axis=1)
    found = rows[other & (original != rows)]
    if len(found):
        yield Finding(
            "info",
            "equivalent",
            f"{counted(len(found), len(survey))} have the energy and forces of another: "
            "symmetry-equivalent, they weigh double.",
            offenders(survey, found),
        )


def near_duplicates(survey: Survey) -> Iterator[Finding]:
    """Structures that differ by less than any step of dynamics."""
    first, second = near_pairs(survey, survey)
    columns = survey.columns
    forward = first < second
    first, second = first[forward], second[forward]
    known = (columns.digest[first] == columns.digest[second]).all(axis=1)
    known |= (columns.labels_key[first] == columns.labels_key[second]) & (
        columns.labels_key[first] != 0
    )
    rows = np.unique(second[~known])
    if len(rows):
        yield Finding(
            "warning",
            "near-duplicates",
            f"{counted(len(rows), len(survey))} differ from another by less than {NEAR:g} Å (root "
            "mean square displacement, less than a step of dynamics), or only by a turn, a "
            "reflection, another order of atoms or cell, and in labels as little: they add nothing "
            "and weigh double.",
            offenders(survey, rows),
        )


def not_compared(survey: Survey) -> Iterator[Finding]:
    """Periodic structures beyond those that got a fingerprint."""
    columns = survey.columns
    without = ~survey.molecule & columns.fine_geometry & np.isnan(columns.shape).any(axis=1)
    if without.any():
        yield Finding(
            "info",
            "not-compared",
            f"{counted(int(without.sum()), len(survey))} are periodic and beyond the first "
            f"{SHAPED_ATOMS} atoms, or absurdly dense: near duplicates among them were looked for "
            "in the same order of atoms only.",
        )


def near_pairs(
    one: Survey, other: Survey
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
    """Rows of both whose geometry and labels nearly agree, by trace and by fingerprint; of one
    survey with itself every pair stands twice, never a row with itself."""
    found = [_by(one, other, name) for name in ("trace", "shape")]
    pairs = np.unique(np.concatenate(found), axis=0)
    first, second = pairs[:, 0], pairs[:, 1]
    if one is other:
        first, second = first[first != second], second[first != second]
    a, b = one.columns, other.columns
    with np.errstate(invalid="ignore"):
        energy = np.abs(one.per_atom[first] - other.per_atom[second])
        force = np.abs(a.force_rms[first] - b.force_rms[second])
        largest = np.abs(a.force_max[first] - b.force_max[second])
        # what forces do over such a way
        work = NEAR * np.nan_to_num(a.force_rms[first])
        alike = ~(energy > ALIKE_ENERGY + work) & ~(force > ALIKE_FORCE)
        alike &= ~(largest > 4 * ALIKE_FORCE)
        stress = np.abs(a.stress[first] - b.stress[second]).max(axis=1)
        alike &= ~(stress > 2e-3)
    return first[alike], second[alike]


def _by(one: Survey, other: Survey, name: str) -> np.ndarray:
    """Pairs (n, 2) of the same system (trace) or composition (fingerprint)."""
    from scipy.spatial import cKDTree

    a, b = one.columns, other.columns
    left, right = getattr(a, name), getattr(b, name)
    exact = name == "trace"
    keys_a, keys_b = _keys(one, exact), _keys(other, exact)
    whole_a = np.isfinite(left).all(axis=1) & (a.atoms > 1)
    whole_b = np.isfinite(right).all(axis=1) & (b.atoms > 1)
    found = [np.zeros((0, 2), np.int64)]
    places = _places(keys_b, whole_b)
    for key, rows in _places(keys_a, whole_a).items():
        if key not in places or (one is other and len(rows) < 2):
            continue
        # a displacement of d Å moves a fingerprint by d/√atoms
        radius = SAFE * NEAR
        if not exact:
            free = not a.periodic[rows[0]].any()
            radius = (NEAR_SHAPE if free else NEAR_CRYSTAL) / np.sqrt(a.atoms[rows[0]])
        targets = places[key]
        base = left[rows[0]].astype(np.float64)
        here, there = left[rows] - base, right[targets] - base
        tree = cKDTree(there)
        nearest = min(4, len(targets))
        distance, index = tree.query(here, k=nearest, distance_upper_bound=radius)
        distance, index = distance.reshape(len(rows), -1), index.reshape(len(rows), -1)
        line, column = np.nonzero(np.isfinite(distance))
        found.append(np.stack([rows[line], targets[index[line, column]]], axis=1))
    return np.concatenate(found)


def _keys(survey: Survey, exact: bool) -> np.ndarray:
    columns = survey.columns
    flags = columns.periodic.sum(axis=1)
    if exact:
        return columns.system * 4 + flags
    weights = np.random.default_rng(0).integers(1, 2**40, columns.composition.shape[1])
    return (columns.composition.astype(np.int64) @ weights + columns.charge * 7) * 4 + flags


def _places(keys: np.ndarray, usable: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of each key."""
    rows = np.flatnonzero(usable)
    order = rows[np.argsort(keys[rows], kind="stable")]
    values, starts = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:])))


DUPLICATE_CHECKS = (duplicates, equivalent, near_duplicates, not_compared)
