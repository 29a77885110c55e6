"""Covariances of forces under the permutation-summed Matérn kernel on inverse distances.

With d = |x − x'| on descriptors, k = (1 + √5 d/σ + 5 d²/(3σ²)) exp(−√5 d/σ), summed over the
molecule's permutations of x'. Minus the gradient of the energy being the force,

    cov(F, F') = Jᵀ (g 1 − h v vᵀ) J',   v = x − x',
    g = 5/(3σ²) (1 + √5 d/σ) exp(−√5 d/σ),   h = 25/(3σ⁴) exp(−√5 d/σ).

Forces along translations and rotations of the whole molecule are nothing that a function of
distances can fit, so all is done along the 3N − 6 internal directions: the same predictions from
a matrix of (3N − 6)/3N the size.

Source: Chmiela et al., Sci. Adv. 3, e1603015 (2017); Nat. Commun. 9, 3887 (2018).
Checked: tests/potentials/kernel/test_matrix.py, against automatic derivatives of k.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from karat.potentials.kernel.geometry import Geometries
from karat.potentials.kernel.packed import PackedMatrix

ROOT5 = np.sqrt(5.0)
CHUNK = 48
"""Structures whose blocks are made at once: enough for matrix products to be fast."""

Progress = Callable[[int, int], None]


def matern(distances: Float[np.ndarray, "..."], sigma: float) -> Float[np.ndarray, "..."]:
    """k of the module's docstring: the covariance of energies."""
    scaled = (ROOT5 / sigma) * distances
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def matern_weights(
    distances: Float[np.ndarray, "..."], sigma: float
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """g and h of the module's docstring."""
    decay = np.exp(-(ROOT5 / sigma) * distances)
    g = 5 / (3 * sigma**2) * (1 + (ROOT5 / sigma) * distances) * decay
    return g, 25 / (3 * sigma**4) * decay


class Column:
    """Blocks cov(F_i, F_j) of all i for one structure j; its permuted copies are made once."""

    def __init__(
        self, other: Geometries, pair_permutations: Int[np.ndarray, "permutations pairs"]
    ) -> None:
        """Of the one structure in `other`."""
        self._pairs = other.descriptors.shape[1]
        self._descriptors = other.descriptors[0][pair_permutations]
        self._jacobians = other.jacobians[0][pair_permutations]
        self._own = other.descriptors[0] @ other.jacobians[0]

    def blocks(
        self, rows: Geometries, sigma: float
    ) -> Float[np.ndarray, "frames internal internal"]:
        """cov(F_i, F_j) for some rows i."""
        frames, pairs, internal = rows.jacobians.shape
        permutations = len(self._descriptors)
        g, h = matern_weights(self._distances(rows), sigma)
        flat = self._jacobians.reshape(permutations, -1)
        mixed = (g @ flat).reshape(frames, pairs, internal)
        by_pair = np.ascontiguousarray(self._jacobians.transpose(1, 0, 2)).reshape(pairs, -1)
        along = (rows.descriptors @ by_pair).reshape(frames, permutations, internal) - self._own
        along *= h[:, :, None]
        result = rows.jacobians.transpose(0, 2, 1) @ mixed
        result -= self._along_rows(rows).transpose(0, 2, 1) @ along
        return result

    def energies(
        self, rows: Geometries, sigma: float
    ) -> tuple[Float[np.ndarray, "frames"], Float[np.ndarray, "frames internal"]]:
        """cov(E_i, E_j) and cov(F_i, E_j) for some rows i."""
        distances = self._distances(rows)
        g, _ = matern_weights(distances, sigma)
        mixed = (g[:, None] @ self._along_rows(rows))[:, 0]
        return matern(distances, sigma).sum(axis=1), mixed

    def _along_rows(self, rows: Geometries) -> np.ndarray:
        """v·J_i (frames, permutations, internal), without forming v of each row and copy."""
        own = rows.descriptors[:, None] @ rows.jacobians
        return own - self._descriptors @ rows.jacobians

    def _distances(self, rows: Geometries) -> np.ndarray:
        """(frames, permutations); summed squares of differences, so that near ones are exact."""
        difference = rows.descriptors[:, None] - self._descriptors[None]
        return np.sqrt(np.sum(difference**2, axis=-1))


def fill_matrix(
    geometries: Geometries,
    pair_permutations: Int[np.ndarray, "permutations pairs"],
    sigma: float,
    progress: Progress | None = None,
) -> PackedMatrix:
    """The covariance of all forces with all, packed.

    Raises:
        BadInput: larger than memory allows; before any work.
    """
    count, _, internal = geometries.jacobians.shape
    matrix = PackedMatrix(count * internal)
    panel = np.empty((count * internal, internal))
    for j in range(count):
        if progress is not None:
            progress(j, count)
        column = Column(geometries[j : j + 1], pair_permutations)
        for start in range(j, count, CHUNK):
            stop = min(start + CHUNK, count)
            block = column.blocks(geometries[start:stop], sigma)
            panel[(start - j) * internal : (stop - j) * internal] = block.reshape(-1, internal)
        matrix.fill(j * internal, panel[: (count - j) * internal])
    return matrix
