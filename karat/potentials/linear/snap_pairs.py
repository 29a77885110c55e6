"""What each pair adds to the density of its centre, and what it gets back as a force.

Arrays have pairs, or (places in a row, atoms), behind: `shape`. Densities and the derivatives with
respect to them are lists over l of arrays (2l + 1, twojmax + 1 - l, …): m, and j = l … twojmax.

Checked: tests/potentials/linear/test_snap_lammps.py, test_snap.py.
"""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from karat.potentials.linear.snap_basis import coupling, frequencies, gradients, waves
from karat.potentials.linear.snap_settings import SnapSettings


class PairFunctions(eqx.Module):
    """Functions of pairs; exactly zero beyond the cut-off.

    Attributes:
        angular: y_lm(n), for each l (2l + 1, *shape).
        radial: s f_jl, for each l (twojmax + 1 - l, *shape); s holds weight and cut-off function.
        slopes: ∂(s f_jl)/∂r, likewise; 1/Å.
        direction: n.
        inverse: 1/r, 1/Å.
    """

    angular: list[Float[Array, "..."]]
    radial: list[Float[Array, "..."]]
    slopes: list[Float[Array, "..."]]
    direction: Float[Array, "3 *shape"]
    inverse: Float[Array, "*shape"]


def pair_functions(
    settings: SnapSettings,
    vectors: tuple[Array, Array, Array],
    listed: Bool[Array, "*shape"],
    weight: Float[Array, "*any"],
    cutoff: Float[Array, "*any"],
) -> PairFunctions:
    """Of pairs with these vectors (x, y, z in Å), weights and cut-offs (Å).

    Radial functions are sums of waves in the hyper-angle, and harmonics of one degree are sums of
    products with those of the degree below: matrix products, whose results XLA keeps.
    """
    shape, dtype, twojmax = listed.shape, vectors[0].dtype, settings.twojmax
    rows = _geometry(vectors, listed, weight, cutoff, settings)
    direction, inverse, angle = rows[:3], rows[3], rows[4]
    count, shift = (jnp.asarray(row, dtype)[:, None] for row in frequencies(twojmax))
    wave = _kept(jnp.cos(count * angle[None] - shift))
    values, bends = waves(twojmax)
    radial = _product(values, rows[5][None] * wave)
    both = (rows[6:8][:, None] * wave[None]).reshape(-1, wave.shape[1])
    slopes = _product(np.concatenate([values, bends], axis=1), both)
    angular = [jnp.ones_like(inverse)[None]]
    for degree in range(1, twojmax + 1):
        pieces = (direction[:, None] * angular[-1][None]).reshape(-1, wave.shape[1])
        angular.append(_product(coupling(degree).reshape(2 * degree + 1, -1), pieces))
    ends = np.cumsum(np.arange(twojmax + 1, 1, -1)).tolist()
    return PairFunctions(
        angular=[part.reshape(-1, *shape) for part in angular],
        radial=[part.reshape(-1, *shape) for part in jnp.split(radial, ends)],
        slopes=[part.reshape(-1, *shape) for part in jnp.split(slopes, ends)],
        direction=direction.reshape(3, *shape),
        inverse=inverse.reshape(shape),
    )


def _geometry(
    vectors: tuple[Array, Array, Array],
    listed: Array,
    weight: Array,
    cutoff: Array,
    settings: SnapSettings,
) -> Float[Array, "8 pairs"]:
    """n (three rows), 1/r, the hyper-angle χ, s, ∂s/∂r and s ∂χ/∂r of each pair."""
    x, y, z = vectors
    distance = jnp.sqrt(x * x + y * y + z * z)
    inside = listed & (distance < cutoff)
    span = cutoff - settings.rmin0
    share = jnp.where(inside, (distance - settings.rmin0) / span, 0.5)
    turn = settings.rfac0 * np.pi
    angle = turn * share
    if settings.rmin0 > 0:  # closer than rmin0, LAMMPS takes the opposite point
        angle = jnp.where(jnp.sin(angle) < 0, angle + np.pi, angle)
    if settings.switchflag:
        half = np.pi * jnp.maximum(share, 0)
        strength, fall = 0.5 * (jnp.cos(half) + 1), -0.5 * np.pi * jnp.sin(half)
    else:
        strength, fall = jnp.ones_like(share), jnp.zeros_like(share)
    strength = jnp.where(inside, weight * strength, 0)
    fall = jnp.where(inside, weight * fall / span, 0)
    inverse = 1 / distance
    rows = (x * inverse, y * inverse, z * inverse, inverse, angle)
    table = jnp.stack([*rows, strength, fall, strength * turn / span]).reshape(8, -1)
    return _kept(table)


def _kept(values: Float[Array, "rows pairs"]) -> Float[Array, "rows pairs"]:
    """The same, times one: XLA computes what is cheap anew in each of its uses, and keeps only
    products of matrices."""
    return _product(np.eye(len(values)), values)


def _product(table: np.ndarray, values: Float[Array, "given pairs"]) -> Float[Array, "made pairs"]:
    return jnp.matmul(jnp.asarray(table, values.dtype), values, precision="highest")


def products(functions: PairFunctions, degree: int) -> Float[Array, "m j *shape"]:
    """s f_jl y_lm of each pair, for one l = `degree`."""
    return functions.angular[degree][:, None] * functions.radial[degree][None]


def pair_gradient(functions: PairFunctions, derivative: list[Array]) -> tuple[Array, Array, Array]:
    """∂E/∂v of each pair, eV/Å, from the derivatives with respect to the density of its centre,
    which are given to each pair, or broadcast along axes of length one.

    The gradient of r^l y_lm is made of harmonics of one degree less; its part along n is that of
    y_lm times l, and is left out.
    """
    shape = functions.inverse.shape
    along = jnp.sum(_by_harmonic(functions.slopes[0], derivative[0]), axis=0)
    across = jnp.zeros((3, *shape), along.dtype)
    for degree in range(1, len(derivative)):
        own = _by_harmonic(functions.slopes[degree], derivative[degree])
        along = along + jnp.sum(functions.angular[degree] * own, axis=0)
        factors = _by_harmonic(functions.radial[degree], derivative[degree])
        table = gradients(degree).reshape(-1, 2 * degree + 1)
        lower = _product(table, factors.reshape(2 * degree + 1, -1))
        lower = lower.reshape(3, 2 * degree - 1, *shape)
        across = across + jnp.sum(functions.angular[degree - 1][None] * lower, axis=1)
    across = functions.inverse[None] * across
    direction = functions.direction
    along = along - jnp.sum(direction * across, axis=0)
    x, y, z = direction * along[None] + across
    return x, y, z


def _by_harmonic(radial: Array, derivative: Array) -> Float[Array, "m *shape"]:
    """Σ_j C_mj f_j of each pair."""
    terms = [derivative[:, j] * radial[j][None] for j in range(len(radial))]
    return functools.reduce(lambda one, other: one + other, terms)
