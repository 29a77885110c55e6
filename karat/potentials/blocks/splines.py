"""Tables of functions of the distance as cubic splines.

Checked: tests/potentials/blocks/test_radial.py, against scipy's.
"""

import equinox as eqx
import jax
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
        row = jnp.floor(jax.lax.stop_gradient(place))
        # through memory: else XLA computes the index anew for each number of a row
        index = jnp.zeros(row.shape, jnp.int32).at[jnp.arange(row.size)].set(row.astype(jnp.int32))
        return _cubic(self.coefficients[index], place - row)


@jax.custom_jvp
def _cubic(found: Float[Array, "pairs _"], t: Float[Array, "pairs"]) -> Float[Array, "pairs _"]:
    """Polynomials in t."""
    a, b, c, d = jnp.split(found, 4, axis=1)
    x = t[:, None]
    return a + x * (b + x * (c + x * d))


@_cubic.defjvp
def _cubic_slope(values: tuple[Array, Array], slopes: tuple[Array, Array]) -> tuple[Array, Array]:
    found, t = values
    _, b, c, d = jnp.split(found, 4, axis=1)
    x = t[:, None]
    spread = jnp.ones((1, b.shape[1]), t.dtype)  # its transpose is a product: faster than a sum
    along = jnp.matmul(slopes[1][:, None], spread, precision="highest")
    along = (b + x * (2 * c + 3 * x * d)) * along
    return _cubic(found, t), _cubic(slopes[0], t) + along


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
