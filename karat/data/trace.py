"""Traces: a few numbers by which frames of one system differ as much as their atoms moved.

Unlike a fingerprint, a trace knows which atom is which: frames of one trajectory are near where
their atoms are. Checked: tests/data/test_survey.py, against aligned displacements.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

PROJECTIONS = 24
"""Random directions; the length of a difference is then right to about 1/√(2·24) = 14 %."""

TRACE_SIZE = PROJECTIONS + 6
PAIRS = 200
"""Pairs of atoms that are looked at, at most."""


def traces(
    positions: Float[np.ndarray, "n atoms 3"],
    cell: Float[np.ndarray, "n 3 3"],
    periodic: Bool[np.ndarray, "n 3"],
    fine: Bool[np.ndarray, "n"],
) -> Float[np.ndarray, "n features"]:
    """Traces, Å; NaN where the geometry is not `fine`. Two traces differ by about the root mean
    square displacement of the atoms (without turns and shifts of the whole).

    Molecules: distances between fixed pairs of atoms, which change by √(2/3) of it. Periodic
    structures: |a| / 2π times cosine and sine of 2π times the difference of fractional
    coordinates, blind to wrapping, which change by √2 of it; and lengths of the cell's edges and
    face diagonals.
    """
    atoms = positions.shape[1]
    first, second, weights, pair_weights = _directions(atoms)
    result = np.full((len(fine), TRACE_SIZE), np.nan, np.float32)
    rows = np.flatnonzero(fine & ~periodic.any(axis=1))
    if len(rows):
        difference = positions[rows][:, first] - positions[rows][:, second]
        lengths = np.sqrt(np.square(difference).sum(axis=2))
        result[rows, :PROJECTIONS] = np.sqrt(1.5) * (lengths @ weights)
        result[rows, PROJECTIONS:] = 0.0
    rows = np.flatnonzero(fine & periodic.any(axis=1))
    if len(rows):
        box = whole_cells(cell[rows], periodic[rows])
        edges = np.linalg.norm(box, axis=2)
        fractional = np.einsum("nai,nij->naj", positions[rows], np.linalg.inv(box))
        angle = 2 * np.pi * (fractional[:, first] - fractional[:, second])
        scale = edges[:, None, :] / (2 * np.pi)
        waves = np.concatenate([scale * np.cos(angle), scale * np.sin(angle)], axis=2)
        flat = waves.reshape(len(rows), -1)
        result[rows, :PROJECTIONS] = np.sqrt(0.5) * (flat @ pair_weights)
        diagonals = np.linalg.norm(box + np.roll(box, 1, axis=1), axis=2)
        result[rows, PROJECTIONS:] = 0.3 * np.concatenate([edges, diagonals], axis=1)
    return result


def whole_cells(
    cell: Float[np.ndarray, "n 3 3"], periodic: Bool[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3 3"]:
    """Cells whose directions without period are unit vectors at right angles to the others."""
    box = np.array(cell)
    for row in np.flatnonzero(~periodic.all(axis=1)):
        some = periodic[row]
        _, _, axes = np.linalg.svd(box[row][some])
        box[row][~some] = axes[some.sum() :]
    return box


@lru_cache(maxsize=64)
def _directions(atoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of atoms, and projections of one and of six numbers for each pair."""
    generator = np.random.default_rng(atoms)
    first, second = np.triu_indices(min(atoms, 2000), 1)
    if atoms > 2000:
        first = generator.integers(0, atoms, PAIRS)
        second = generator.integers(0, atoms, PAIRS)
    elif len(first) > PAIRS:
        # each atom is in as many pairs as any other, give or take one
        order = generator.permutation(atoms)
        hop = np.arange(PAIRS)
        first = order[hop % atoms]
        second = order[(hop + 1 + hop // atoms) % atoms]
    pairs = max(len(first), 1)
    single = generator.normal(size=(len(first), PROJECTIONS)) / np.sqrt(PROJECTIONS * pairs)
    several = generator.normal(size=(6 * len(first), PROJECTIONS)) / np.sqrt(PROJECTIONS * pairs)
    return first, second, single, several
