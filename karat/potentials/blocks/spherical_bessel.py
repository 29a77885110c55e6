"""Spherical Bessel functions of the distance, as bases of M3GNet and DimeNet++.

They are evaluated once on the host, at Chebyshev nodes and in float64, and interpolated to
rounding: the textbook formulas lose all digits at small arguments, and the higher degrees need
many operations.

Checked: tests/potentials/blocks/test_spherical_bessel.py, against scipy's functions.
"""

import functools
import math
from functools import partial
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.blocks.chebyshev import interpolate, nodes

SPARE_NODES = 18
"""Beyond three quarters of the largest argument z ≤ 40: e^{izx} is then interpolated to 1e-13."""


@functools.cache
def bessel_roots(highest: int, count: int) -> Float[np.ndarray, "degrees count"]:
    """The first zeros above 0 of j_l, l = 0 … highest; those of j_l lie between those of j_l-1."""
    from scipy.optimize import brentq
    from scipy.special import spherical_jn

    above = np.pi * np.arange(1, highest + count + 1)
    rows = [above[:count]]
    for degree in range(1, highest + 1):
        above = np.array(
            [
                brentq(partial(spherical_jn, degree), low, high, xtol=1e-14, rtol=1e-15)
                for low, high in pairwise(above)
            ]
        )
        rows.append(above[:count])
    return np.stack(rows)


@functools.cache
def _node_values(highest: int, count: int, stretch: float) -> Float[np.ndarray, "nodes functions"]:
    """√2 j_l(z_ln x)/|j_l+1(z_ln)| at Chebyshev nodes of x in 0…stretch, by l, then n."""
    from scipy.special import spherical_jn

    roots = bessel_roots(highest, count)
    places = 0.5 * stretch * (nodes(math.ceil(0.75 * stretch * roots.max()) + SPARE_NODES) + 1)
    columns = [
        math.sqrt(2) * spherical_jn(degree, z * places) / abs(spherical_jn(degree + 1, z))
        for degree, row in enumerate(roots)
        for z in row
    ]
    return np.stack(columns, axis=1)


def spherical_bessel(
    distances: Float[Array, "pairs"], highest: int, count: int, cutoff: float, reach: float
) -> Float[Array, "pairs functions"]:
    """√(2/r_c³) j_l(z_ln r/r_c)/|j_l+1(z_ln)|: for each degree l = 0 … highest its first `count`,
    orthonormal from 0 to r_c with weight r² (Å); zero at the cut-off, with a slope.

    Args:
        cutoff: r_c, Å.
        reach: Å, at most r_c; beyond it functions have their value there.

    Source: Gasteiger et al., ICLR (2020), arXiv:2003.03123, eq. 6 without the angle.
    """
    values = _node_values(highest, count, reach / cutoff) * cutoff**-1.5
    return interpolate(distances, jnp.asarray(values, distances.dtype), reach)


@functools.cache
def _combination(count: int) -> Float[np.ndarray, "sines functions"]:
    """From sin(k π (1 − r/r_c)) to the functions of `smooth_bessel`, times r r_c^½."""
    m = np.arange(count)
    size = math.sqrt(2) * math.pi * (m + 1) * (m + 2) / np.hypot(m + 1, m + 2)
    plain = np.zeros((count + 1, count))  # (−1)^m sin(kπx) is ∓ sin(kπ(1−x)) for k = m + 1, m + 2
    plain[m, m] = size / (math.pi * (m + 1))
    plain[m + 1, m] = -size / (math.pi * (m + 2))
    e = m**2 * (m + 2.0) ** 2 / (4.0 * (m + 1) ** 4 + 1)
    made, d = [plain[:, 0]], 1.0
    for i in range(1, count):
        before, d = d, 1 - e[i] / d
        made.append((plain[:, i] + math.sqrt(e[i] / before) * made[-1]) / math.sqrt(d))
    return np.stack(made, axis=1)


def smooth_bessel(
    distances: Float[Array, "pairs"], count: int, cutoff: float
) -> Float[Array, "pairs count"]:
    """Combinations of sin(k π r/r_c)/r, k = 1 … count + 1, orthonormal from 0 to r_c with weight r²
    (Å), whose value, slope and curvature are zero at the cut-off; zero beyond.

    Source: Kocer, Mason, Erturk, AIP Adv. 10, 015021 (2020).
    """
    x = distances * (1 / cutoff)
    inner = jnp.maximum(1 - x, 0.0)  # from the cut-off inwards: zero there without cancellation
    sines = jnp.sin(inner[:, None] * jnp.asarray(np.pi * np.arange(1, count + 2), x.dtype)[None, :])
    mix = jnp.asarray(_combination(count) * cutoff**-1.5, x.dtype)
    return jnp.matmul(sines * (1 / x)[:, None], mix, precision="highest")
