"""Extrapolation grade of a structure as a whole: how far its mean features (its energy row) lie
from those of the training structures.

A mean over atoms averages thermal disorder out: atoms of a foreign crystal may each lie within the
disorder of the training atoms, where its mean features lie outside. There are mostly fewer
training structures than features, so that the rows span no active set. Instead, the grade is the
regularised Mahalanobis distance (the root of a ridge regression's leverage)

    d² = yᵀ (S + λ tr(S) / features)⁻¹ y,    y = (mean features - their mean) / scale,

where S is the covariance of y over the training structures and the scale of a feature its
deviation over the atoms of one structure. It is given in units of the distance within which 95 %
of the training structures lie, each left out of S in turn (by Sherman & Morrison's identity,
without building S again): of structures like those, one in twenty has a grade above 1.

Source: energy rows: Podryabinkin & Shapeev, Comput. Mater. Sci. 140, 171 (2017); the distance:
Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed. (2009), §4.3; the
unit is that of split conformal prediction, Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018).
Checked: tests/potentials/linear/test_ellipsoid.py.
"""

from collections.abc import Iterable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

RIDGE = 0.1
"""λ. Chosen on the mlearn sets of Si and Li (training structures left out against planted phases),
where all values from 0.03 to 1 do."""
COVERED = 0.95
"""Share of the training structures, left out in turn, whose grade is at most 1."""
FLAT = 1e-6
"""Features whose deviation over the atoms of a structure is less than so many times their size
are scaled by their size."""

Row = tuple[Int[np.ndarray, "atoms"], Float[np.ndarray, "atoms features"]]
"""Atomic numbers and features of the atoms of one structure."""


class Ellipsoid(eqx.Module):
    """Around the training structures' mean features.

    Attributes:
        centre: mean over the training structures.
        axes: map to the ball of radius 1 that holds 95 % of the training structures.
    """

    centre: Float[Array, "features"]
    axes: Float[Array, "features features"]

    @classmethod
    def zeros(cls, features: int, dtype: str) -> "Ellipsoid":
        """Of that size, to be filled."""
        return cls(jnp.zeros(features, dtype), jnp.zeros((features, features), dtype))


def find_ellipsoid(structures: Iterable[Row]) -> Ellipsoid | None:
    """The ellipsoid of training structures, which are passed over once; a row of each is kept in
    memory. `None` where all have the same mean features.

    Args:
        structures: at least one.
    """
    means, scale = _means_and_scale(structures)
    centre = means.mean(axis=0)
    scaled = (means - centre) / scale
    covariance = scaled.T @ scaled / len(scaled)
    ridge = RIDGE * float(np.trace(covariance)) / len(covariance)
    if not ridge > np.finfo(float).eps:
        return None
    values, vectors = np.linalg.eigh(covariance)
    root = vectors / np.sqrt(np.maximum(values, 0) + ridge)
    leverage = np.sum((scaled @ root) ** 2, axis=1) / len(scaled)
    left_out = np.sqrt(len(scaled) * leverage / (1 - leverage))
    radius = float(np.quantile(left_out, COVERED, method="higher"))
    return Ellipsoid(jnp.asarray(centre), jnp.asarray(root / scale[:, None] / radius))


def _means_and_scale(
    structures: Iterable[Row],
) -> tuple[Float[np.ndarray, "structures features"], Float[np.ndarray, "features"]]:
    """Mean features of each structure; deviation of each feature over the atoms of one element in
    one structure (features of other elements are zero and do not count)."""
    means: list[np.ndarray] = []
    scatter = counts = sizes = np.zeros(0)
    for numbers, features in structures:
        if not means:
            scatter, counts, sizes = np.zeros((3, features.shape[1]))
        means.append(features.mean(axis=0))
        for number in np.unique(numbers):
            own = features[numbers == number]
            scatter = scatter + np.sum((own - own.mean(axis=0)) ** 2, axis=0)
            counts = counts + len(own) * own.any(axis=0)
            sizes = np.maximum(sizes, np.abs(own).max(axis=0))
    scale = np.sqrt(scatter / np.maximum(counts, 1))
    scale = np.where(scale > FLAT * sizes, scale, sizes)
    # features that are zero for all training atoms: the least size, so that others stand out
    smallest = scale[scale > 0].min() if scale.any() else 1.0
    return np.array(means), np.where(scale > 0, scale, smallest)


def structure_grade(row: Float[np.ndarray, "features"], ellipsoid: Ellipsoid) -> float:
    """Grade of a structure with these mean features."""
    shifted = row - np.asarray(ellipsoid.centre, float)
    return float(np.linalg.norm(shifted @ np.asarray(ellipsoid.axes, float)))
