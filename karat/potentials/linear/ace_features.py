"""Features of the atomic cluster expansion one by one, and their slopes: for fits.

Each feature is a list of monomials of one-particle functions; what dynamics needs, only their sum,
is in `ace_energy.py`.

Checked: tests/potentials/linear/test_ace_module.py.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.potentials.batch import Batch
from karat.potentials.linear.ace_basis import AceSpec, Products, ace_basis, products
from karat.potentials.linear.ace_pairs import (
    AceShape,
    Functions,
    Geometry,
    functions,
    geometry,
    pair_functions,
    to_atoms,
    to_rows,
    vector_slopes,
)


@dataclass(frozen=True, eq=False)
class Monomials:
    """Features, and their derivatives by the one-particle functions that occur (`used`).

    Attributes:
        used: columns among (harmonics, channels).
        orders: monomials of the features of each order, over `used`.
        slopes: of each order, monomials of the entries (feature, function) of the Jacobian.
        entries: places of these entries in (features, used), flattened.
    """

    used: Int[np.ndarray, "used"]
    orders: tuple[Products, ...]
    slopes: tuple[Products, ...]
    entries: Int[np.ndarray, "entries"]


@functools.lru_cache(maxsize=8)
def monomials(spec: AceSpec) -> Monomials:
    """The monomials of all many-body features of one central element."""
    found = products(ace_basis(spec))
    columns = [one.columns.ravel() for one in found]
    used = np.unique(np.concatenate(columns)) if columns else np.zeros(0, int)
    orders = [Products(np.searchsorted(used, one.columns), one.values, one.rows) for one in found]
    flat, others, values = [], [], []
    for one in orders:
        order = one.columns.shape[1]
        flat.append(np.concatenate([one.rows * len(used) + c for c in one.columns.T]))
        others.append(np.concatenate([np.delete(one.columns, i, 1) for i in range(order)]))
        values.append(np.tile(one.values, order))
    entries = np.unique(np.concatenate(flat)) if flat else np.zeros(0, int)
    slopes = []
    for place, rest, value in zip(flat, others, values):
        rows = np.searchsorted(entries, place)
        by_row = np.argsort(rows, kind="stable")
        slopes.append(Products(rest[by_row], value[by_row], rows[by_row]))
    return Monomials(used, tuple(orders), tuple(slopes), entries)


def _sum_products(
    found: tuple[Products, ...], count: int, functions: Float[Array, "used atoms"]
) -> Float[Array, "count atoms"]:
    total = jnp.zeros((count, functions.shape[1]), functions.dtype)
    for one in found:
        product = jnp.asarray(one.values, functions.dtype)[:, None]
        for factor in range(one.columns.shape[1]):
            product = product * functions[jnp.asarray(one.columns[:, factor])]
        total = total.at[jnp.asarray(one.rows)].add(product)
    return total


def _density(shape: AceShape, batch: Batch, found: Functions) -> Float[Array, "used atoms"]:
    """The one-particle functions that occur."""
    rows = jnp.matmul(
        found.angular, jnp.swapaxes(found.radial, 1, 2), precision=jax.lax.Precision.HIGHEST
    )
    flat = to_atoms(batch, rows).reshape(batch.atoms, -1)
    return flat[:, jnp.asarray(monomials(shape.spec).used)].T


def one_center_features(shape: AceShape, batch: Batch) -> Float[Array, "atoms features"]:
    """Constant, pair functions and many-body features, as of one central element."""
    places = geometry(shape, batch)
    pairs = to_atoms(batch, jnp.sum(pair_functions(shape, places)[0], axis=2).T)
    parts = [jnp.ones((batch.atoms, 1), pairs.dtype), pairs]
    if shape.basis.members:
        density = _density(shape, batch, functions(shape, places))
        orders = monomials(shape.spec).orders
        parts.append(_sum_products(orders, len(shape.basis.members), density).T)
    return jnp.concatenate(parts, axis=1)


def one_center_slopes(shape: AceShape, batch: Batch) -> Float[Array, "pairs features 3"]:
    """Derivatives of `one_center_features` of each pair's centre by the pair's vector."""
    places = geometry(shape, batch)
    slope = pair_functions(shape, places)[1] * places.climb[None]
    unit = jnp.stack([places.x, places.y, places.z], axis=-1)
    pairs = jnp.moveaxis(slope, 0, -1)[..., None] * unit[:, :, None, :]
    parts = [jnp.zeros_like(pairs[:, :, :1]), pairs]
    if shape.basis.members:
        parts.append(_many_slopes(shape, batch, places))
    return jnp.concatenate(parts, axis=2).reshape(-1, _count(shape), 3)


def _count(shape: AceShape) -> int:
    return 1 + shape.pair_count * len(shape.species) + len(shape.basis.members)


def _many_slopes(
    shape: AceShape, batch: Batch, places: Geometry
) -> Float[Array, "rows width features 3"]:
    found, known = functions(shape, places), monomials(shape.spec)
    density = _density(shape, batch, found)
    features, used = len(shape.basis.members), len(known.used)
    entries = _sum_products(known.slopes, len(known.entries), density)
    jacobian = jnp.zeros((features * used, batch.atoms), density.dtype)
    jacobian = jacobian.at[jnp.asarray(known.entries)].set(entries)
    jacobian = to_rows(batch, jacobian.T.reshape(batch.atoms, features, used))
    moves = _function_slopes(shape, places, found)  # rows used 3 width
    rows, width = places.x.shape
    slopes = jnp.matmul(
        jacobian, moves.reshape(rows, used, 3 * width), precision=jax.lax.Precision.HIGHEST
    )
    return slopes.reshape(rows, features, 3, width).transpose(0, 3, 1, 2)


def _function_slopes(
    shape: AceShape, places: Geometry, found: Functions
) -> Float[Array, "rows used 3 width"]:
    """∂A/∂(vector of the pair) of the one-particle functions that occur."""
    zero, one = jnp.zeros_like(places.x), jnp.ones_like(places.x)
    harmonics, channels = shape.basis.harmonics, shape.basis.channels
    turned = []
    for index in range(harmonics):
        weights = [one if i == index else zero for i in range(harmonics)]
        turned.append(jnp.stack(vector_slopes(places, zero, weights), axis=1))
    unit = jnp.stack([places.x, places.y, places.z], axis=1) * places.climb[:, None]
    parts = []
    for column in monomials(shape.spec).used.tolist():
        index, channel = column // channels, column % channels
        along = found.radial_slope[:, channel] * found.angular[:, index]
        parts.append(along[:, None] * unit + found.radial[:, channel][:, None] * turned[index])
    return jnp.stack(parts, axis=1)
