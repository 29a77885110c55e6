"""Many functions of the distance as sums of few, which one table of splines holds.

Checked: tests/potentials/native/test_mace.py, test_nequip.py, test_schnet.py, by what is made
with it.
"""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.blocks.splines import SplineTable, spline_table

Module = TypeVar("Module")
INTERVALS = {"float32": 1024, "float64": 8192}
"""Of the table."""
TOLERANCE = {"float32": 3e-8, "float64": 1e-13}
"""Singular values below this part of the largest are left out."""
NEAREST = 1e-6
"""Å; stands for zero, where functions may divide by the distance."""


def few_functions(
    module: Module,
    functions: Callable[[Module, Float[Array, "distances"]], Float[Array, "distances functions"]],
    cutoff: float,
    dtype: np.dtype,
) -> tuple[SplineTable, Float[np.ndarray, "few functions"]]:
    """A table of few functions, and the matrix that makes all from them.

    Args:
        functions: of a module and distances in Å, zero with zero slope at the cut-off; called
            with the module in float64, whatever its own numbers are.
        cutoff: Å.
        dtype: of the table.
    """
    knots = np.linspace(0.0, cutoff, INTERVALS[str(dtype)] + 1)
    with jax.enable_x64(True):  # differences of neighbouring values must not be rounding
        double = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64) if eqx.is_inexact_array(x) else x, module
        )
        places = jnp.asarray(np.maximum(knots, NEAREST), jnp.float64)
        values = np.asarray(functions(double, places))
    left, sizes, right = np.linalg.svd(values, full_matrices=False)
    rank = max(1, int(np.sum(sizes > TOLERANCE[str(dtype)] * sizes[0])))
    return spline_table(knots, left[:, :rank] * sizes[:rank], dtype), right[:rank]
