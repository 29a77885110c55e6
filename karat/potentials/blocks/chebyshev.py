"""Radial networks read from their values at Chebyshev nodes.

A smooth function of the distance equals, to rounding, its interpolation in few Chebyshev
polynomials: u(r) Σ_n c_n T_n(2r/r_c − 1), with the envelope u kept exact so that value, slope and
curvature end at the cut-off. The network is evaluated at the nodes only, whatever the number of
pairs.

Source: Trefethen, Approximation Theory and Approximation Practice (SIAM, 2013), ch. 4 and 8.
Checked: tests/potentials/blocks/test_radial.py, against NumPy's.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_Four = tuple[Array, Array, Array, Array]


def nodes(count: int) -> Float[np.ndarray, "count"]:
    """Zeros of T_count in (-1, 1)."""
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def to_coefficients(count: int) -> Float[np.ndarray, "count count"]:
    """The matrix that takes values at the nodes to coefficients (a cosine transform)."""
    angles = np.pi * np.outer(np.arange(count), np.arange(count) + 0.5) / count
    matrix = np.cos(angles) * (2 / count)
    matrix[0] *= 0.5
    return matrix


def node_distances(count: int, cutoff: float, dtype: np.dtype) -> Float[Array, "count"]:
    """Where the network is evaluated, Å."""
    return jnp.asarray(0.5 * cutoff * (nodes(count) + 1), dtype)


def interpolate(
    distances: Float[Array, "pairs"], values: Float[Array, "nodes functions"], cutoff: float
) -> Float[Array, "pairs functions"]:
    """Functions with these values at the nodes, at any distance up to the cut-off (beyond it: their
    value there)."""
    count = values.shape[0]
    matrix = jnp.asarray(to_coefficients(count), values.dtype)
    coefficients = jnp.matmul(matrix, values, precision="highest")
    x = jnp.minimum(distances * (2 / cutoff) - 1, 1.0)
    return jax.lax.dot_general(
        polynomials(x, count), coefficients, (((0,), (0,)), ((), ())), precision="highest"
    )


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def polynomials(x: Float[Array, "pairs"], count: int) -> Float[Array, "count pairs"]:
    """T_0 … T_count-1 at x in [-1, 1]."""
    return _recurrence(x, jnp.ones_like(x), x, count)


@polynomials.defjvp
def _slopes(count: int, values: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = values, tangents
    return polynomials(x, count), _derivatives(x, count) * dx[None, :]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _derivatives(x: Array, count: int) -> Array:
    """T'_n = n U_n-1."""
    second = _recurrence(x, jnp.ones_like(x), 2 * x, count - 1)
    orders = jnp.arange(1, count, dtype=x.dtype)
    return jnp.concatenate([jnp.zeros_like(x)[None], second * orders[:, None]])


@_derivatives.defjvp
def _curvatures(count: int, values: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """U'_n from the recurrence differentiated: U'_n+1 = 2 U_n + 2x U'_n − U'_n-1."""
    (x,), (dx,) = values, tangents
    one, zero = jnp.ones_like(x), jnp.zeros_like(x)

    def step(carry: _Four, _: None) -> tuple[_Four, Array]:
        before, now, slope_before, slope = carry
        after = 2 * x * now - before
        slope_after = 2 * now + 2 * x * slope - slope_before
        return (now, after, slope, slope_after), slope_before

    _, slopes = jax.lax.scan(step, (one, 2 * x, zero, 2 * one), None, length=count - 1)
    orders = jnp.arange(1, count, dtype=x.dtype)
    second = jnp.concatenate([zero[None], slopes * orders[:, None]])
    return _derivatives(x, count), second * dx[None, :]


def _recurrence(x: Array, first: Array, second: Array, count: int) -> Float[Array, "count pairs"]:
    """f_n+1 = 2x f_n − f_n-1. A loop: written out, XLA computes each from the start."""

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        before, now = carry
        return (now, 2 * x * now - before), before

    return jax.lax.scan(step, (first, second), None, length=count)[1]
