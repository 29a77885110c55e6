"""Extrapolation grade: how far an atom's features lie outside those of the training atoms.

The active set A holds as many training atoms' features as there are features, such that |det A| is
(nearly) the largest: every training atom is a combination of its rows with weights of at most
about one. The grade of an atom with features b is the largest weight, γ = max |b A⁻¹|. Features of
different elements stand in different columns, so that each element has its own active set.

Source: Podryabinkin & Shapeev, Comput. Mater. Sci. 140, 171 (2017); Lysogorskiy et al., Phys. Rev.
Materials 7, 043801 (2023); MaxVol: Goreinov et al., in Matrix Methods (World Scientific, 2010).
Checked: tests/potentials/linear/test_grade.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

THRESHOLD = 1.1
"""An atom whose grade is larger takes a row's place."""
SEED = 1e-6
"""The set starts with so small multiples of each feature's size, which any atom replaces: rows
that stay are directions in which the training atoms do not differ."""
ATOMS = 256
"""Atoms that are looked at together."""
PASSES = 8

Blocks = Callable[[], Iterator[Float[np.ndarray, "_ features"]]]


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """Rows of an active set, their inverse, and what finding them took.

    Attributes:
        rows: features of the chosen atoms (or what the set started with).
        inverse: of `rows`.
        passes: over the training atoms.
        largest: grade of all training atoms in the last pass.
    """

    rows: Float[np.ndarray, "features features"]
    inverse: Float[np.ndarray, "features features"]
    passes: int
    largest: float


def find_active_set(blocks: Blocks, report: Callable[[int, int], None] | None = None) -> ActiveSet:
    """MaxVol over atoms that come in blocks; passes over them end when no atom's grade is above
    `THRESHOLD`. Deterministic; memory for one block and twice features² numbers.

    Args:
        blocks: starts a pass over the features of all training atoms, in the same order.
        report: called with the passes that are done and their largest number.
    """
    search = _Search(SEED * np.diag(_sizes(blocks)))
    for number in range(PASSES):
        search.swaps, search.largest = 0, 0.0
        for block in blocks():
            for start in range(0, len(block), ATOMS):
                search.visit(block[start : start + ATOMS])
        search.refresh()
        if report is not None:
            report(number + 1, PASSES)
        if search.swaps == 0:
            break
    return ActiveSet(search.rows, search.inverse, number + 1, search.largest)


def _sizes(blocks: Blocks) -> Float[np.ndarray, "features"]:
    """Largest size of each feature; 1 for those that are always zero."""
    sizes: np.ndarray | None = None
    for block in blocks():
        here = np.abs(block).max(axis=0)
        sizes = here if sizes is None else np.maximum(sizes, here)
    assert sizes is not None
    return np.where(sizes > 0, sizes, 1.0)


class _Search:
    """The rows so far, and their inverse, updated with each swap."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.inverse = np.linalg.inv(rows)
        self.swaps = 0
        self.largest = 0.0
        self._stale = 0

    def visit(self, features: Float[np.ndarray, "atoms features"]) -> None:
        """Swap in atoms of a block until none has a grade above the threshold."""
        weights = features @ self.inverse
        while True:
            atom, row = np.unravel_index(np.argmax(np.abs(weights)), weights.shape)
            pivot = weights[atom, row]
            if not abs(pivot) > THRESHOLD:
                break
            change = weights[atom].copy()
            change[row] -= 1
            change /= pivot
            # Sherman & Morrison for a new row; the block's weights change alike
            weights -= np.multiply.outer(weights[:, row].copy(), change)
            self.inverse -= np.multiply.outer(self.inverse[:, row].copy(), change)
            self.rows[row] = features[atom]
            self.swaps += 1
            self._stale += 1
            if self._stale >= len(self.rows):
                self.refresh()
                weights = features @ self.inverse
        self.largest = max(self.largest, float(abs(pivot)))

    def refresh(self) -> None:
        """The inverse without the rounding that updates pile up."""
        scale = np.abs(self.rows).max(axis=0)
        self.inverse = np.linalg.inv(self.rows / scale) / scale[:, None]
        self._stale = 0


def grades(
    features: Float[np.ndarray, "atoms features"], inverse: Float[np.ndarray, "features active"]
) -> Float[np.ndarray, "atoms"]:
    """γ of each atom; up to `THRESHOLD` inside what the training atoms span."""
    largest: np.ndarray = np.abs(features @ inverse).max(axis=1)
    return largest
