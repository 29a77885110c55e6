"""`Posterior`: what a linear fit knows about its own errors; arrays that a `.karat` file keeps.

Checked: tests/potentials/linear/test_posterior.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.linear.ellipsoid import Ellipsoid

if TYPE_CHECKING:
    from karat.potentials.linear.design import Rows

TERMS = ("constant", "posterior", "force")
"""What a calibrated variance is made of: a constant, a multiple of the posterior variance of the
coefficients, and a multiple of the squared size of the predicted force."""
CALIBRATED = ("energy", "forces")
"""Quantities with calibrated deviations; those of energies are per atom."""


class Posterior(eqx.Module):
    """Covariance of the coefficients, calibration and active sets; empty where unknown.

    Attributes:
        root: L with covariance L Lᵀ, eV.
        noise: standard deviations of the rows that the fit found: energies in eV/atom, forces in
            eV/Å, virials in eV/atom; NaN where there were none.
        calibration: weights ≥ 0 of `TERMS` in the variance of each of `CALIBRATED`.
        active: inverse of the active sets' feature matrices, elements side by side; see `grade.py`.
        ellipsoid: around the training structures' mean features; `None` where these do not
            differ, and in files older than grades of structures.
    """

    root: Float[Array, "features rank"]
    noise: Float[Array, "quantities"]
    calibration: Float[Array, "calibrated terms"]
    active: Float[Array, "described active"]
    ellipsoid: Ellipsoid | None = None

    @classmethod
    def none(cls, dtype: str) -> "Posterior":
        """Nothing is known: all arrays are empty."""
        return cls(
            root=jnp.zeros((0, 0), dtype),
            noise=jnp.zeros((0,), dtype),
            calibration=jnp.zeros((0, 0), dtype),
            active=jnp.zeros((0, 0), dtype),
        )

    @classmethod
    def frame(cls, shapes: Mapping[str, tuple[int, ...]], dtype: str, features: int) -> "Posterior":
        """`jax.ShapeDtypeStruct` in place of the arrays, of the shapes that a file has.

        Args:
            shapes: of all arrays of a file; those of the posterior begin with ``posterior.``.
            dtype: of the file.
            features: number of coefficients.

        Raises:
            BadInput: shapes that do not fit the number of coefficients.
        """
        found = {name: tuple(shapes.get(f"posterior.{name}", (0,))) for name in _ALLOWED}
        for name, shape in found.items():
            if len(shape) != len(_ALLOWED[name]) or not _fits(name, shape, features):
                raise BadInput(
                    f"the array 'posterior.{name}' has shape {shape}, which does not fit "
                    f"{features} coefficients. The file is damaged; copy or train it again."
                )
        structs = {
            name: jax.ShapeDtypeStruct(shape, np.dtype(dtype)) for name, shape in found.items()
        }
        template = eqx.filter_eval_shape(lambda: cls.none(dtype))
        names = list(_ALLOWED)
        framed: Posterior = eqx.tree_at(
            lambda one: [getattr(one, name) for name in names],
            template,
            [structs[name] for name in names],
        )
        if not any(name.startswith("posterior.ellipsoid.") for name in shapes):
            return framed
        ellipsoid = eqx.filter_eval_shape(lambda: Ellipsoid.zeros(features, dtype))
        return eqx.tree_at(lambda one: one.ellipsoid, framed, ellipsoid, is_leaf=_is_none)

    def check(self) -> None:
        """Refuse numbers that no fit gives.

        Raises:
            BadInput: NaN or infinity, or a negative deviation or weight.
        """
        for name in _ALLOWED:
            values = np.asarray(getattr(self, name))
            # a fit without, say, stresses has no noise of stresses: NaN
            if not (np.isfinite(values) | ((name == "noise") & np.isnan(values))).all():
                raise BadInput(f"the array 'posterior.{name}' holds NaN or infinity.")
            if name in ("noise", "calibration") and (values < 0).any():
                raise BadInput(f"the array 'posterior.{name}' holds negative numbers.")
        if self.ellipsoid is not None:
            for name in ("centre", "axes"):
                if not np.isfinite(np.asarray(getattr(self.ellipsoid, name))).all():
                    raise BadInput(f"the array 'posterior.ellipsoid.{name}' holds NaN or infinity.")


_ALLOWED = {"root": (0, 0), "noise": (0,), "calibration": (0, 0), "active": (0, 0)}


def _is_none(leaf: object) -> bool:
    """A leaf that is not there yet."""
    return leaf is None


def _fits(name: str, shape: tuple[int, ...], features: int) -> bool:
    """Whether a file's array has one of the shapes that a fit gives."""
    if shape == _ALLOWED[name]:
        return True
    if name == "noise":
        return shape == (3,)
    if name == "calibration":
        return shape == (len(CALIBRATED), len(TERMS))
    return shape[0] == features and 1 <= shape[1] <= features


def deviations(
    posterior: Posterior, rows: "Rows", forces: Float[np.ndarray, "atoms 3"] | None
) -> tuple[float | None, Float[np.ndarray, "atoms 3"] | None]:
    """Calibrated standard deviations of one structure's energy (eV, total) and force components
    (eV/Å); `None` where that quantity was not fitted to.

    Args:
        posterior: not empty.
        rows: of the structure.
        forces: that were predicted; `None` for no deviations of forces.
    """
    root, weights = np.asarray(posterior.root, float), np.asarray(posterior.calibration, float)
    energy = spread = None
    if weights[0].any():
        variance = float(np.sum((rows.energy @ root) ** 2))
        energy = len(rows.atoms) * float(np.sqrt(weights[0, 0] + weights[0, 1] * variance))
    if forces is not None and weights[1].any():
        assert rows.forces is not None
        variances = np.sum((rows.forces @ root) ** 2, axis=1).reshape(-1, 3)
        sizes = np.sum(forces**2, axis=1, keepdims=True)
        spread = np.sqrt(weights[1, 0] + weights[1, 1] * variances + weights[1, 2] * sizes)
    return energy, spread


def posterior_of(module: Any) -> Posterior:
    """The posterior of a linear module."""
    posterior = module.posterior
    assert isinstance(posterior, Posterior)
    return posterior
