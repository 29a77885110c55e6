"""Tables of functions of the distance as cubic splines.

Checked: tests/potentials/blocks/test_radial.py, against scipy's.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class SplineTable(eqx.Module):
    """Functions with continuous second derivatives on [0, cutoff], zero beyond.

    Attributes:
        coefficients: of 1, t, t², t³ in each interval, 0 ≤ t < 1, one after the other; a last row
            of zeros.
        cutoff: Å.
    """

    coefficients: Float[Array, "rows _"]
    cutoff: float = eqx.field(static=True)

    def __call__(self, distances: Float[Array, "pairs"]) -> Float[Array, "pairs functions"]:
        """Values at distances in Å."""
        intervals = self.coefficients.shape[0] - 1
        place = jnp.minimum(distances * (intervals / self.cutoff), float(intervals))
        row = jnp.floor(place)
        t = (place - row)[:, None]
        found = self.coefficients[row.astype(jnp.int32)]
        count = found.shape[1] // 4
        a, b, c, d = (found[:, k * count : (k + 1) * count] for k in range(4))
        return a + t * (b + t * (c + t * d))


def spline_table(
    knots: Float[np.ndarray, "knots"], values: Float[np.ndarray, "knots functions"], dtype: np.dtype
) -> SplineTable:
    """Cubic splines through values at evenly spaced knots from 0 to the cut-off, where the last
    value shall be zero; the slope is zero there."""
    from scipy.interpolate import CubicSpline

    values = values.copy()
    values[-1] = 0.0
    flat = np.zeros(values.shape[1])
    step = float(knots[1] - knots[0])
    start = (-1.5 * values[0] + 2 * values[1] - 0.5 * values[2]) / step
    spline = CubicSpline(knots, values, bc_type=((1, start), (1, flat)))
    powers = spline.c[::-1] * (step ** np.arange(4))[:, None, None]
    rows = np.swapaxes(powers, 0, 1).reshape(len(knots) - 1, -1)
    rows = np.vstack([rows, np.zeros((1, rows.shape[1]))])
    return SplineTable(jnp.asarray(rows, dtype), float(knots[-1]))
