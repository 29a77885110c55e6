"""Energies of the atomic cluster expansion for dynamics, with their derivative written down.

Checked: tests/potentials/linear/test_ace_module.py, against features times coefficients and finite
differences.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import PADDING_DISTANCE, Batch
from karat.potentials.linear.ace_pairs import (
    AceShape,
    Geometry,
    functions,
    geometry,
    pair_functions,
    row_species,
    to_atoms,
    to_rows,
    vector_slopes,
)
from karat.potentials.linear.ace_tree import Mix, energy_and_slopes, make_tree

CACHED_PAIRS = 2000
"""Pairs whose functions fit into a core's own cache."""


@eqx.filter_custom_jvp
def ace_energies(
    vectors: Float[Array, "pairs 3"],
    coefficients: Float[Array, "features"],
    batch: Batch,
    shape: AceShape,
) -> Float[Array, "atoms"]:
    """Energy of each atom, eV; those on padding mean nothing.

    Args:
        vectors: of the pairs of `batch`.
    """
    return _energies(vectors, coefficients, batch, shape)[0]


@ace_energies.def_jvp
def _tangents(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    vectors, coefficients, batch, shape = primals
    energies, slopes = _energies(vectors, coefficients, batch, shape)
    change = jnp.zeros_like(energies)
    if tangents[0] is not None:
        change = change + batch.sum_pairs(jnp.sum(slopes * tangents[0], axis=1))
    if tangents[1] is not None:
        change = change + _energies(vectors, tangents[1], batch, shape)[0]
    return energies, change


def _energies(
    vectors: Float[Array, "pairs 3"],
    coefficients: Float[Array, "features"],
    batch: Batch,
    shape: AceShape,
) -> tuple[Float[Array, "atoms"], Float[Array, "pairs 3"]]:
    """Energies, and their derivatives by the vector of each pair; a few atoms at a time where
    pairs come in rows, so that what is between stays in the cache."""
    moved = eqx.tree_at(lambda b: b.vectors, batch, vectors)
    by_centre = coefficients.reshape(len(shape.species), -1)
    width = batch.width or 1
    count = -(-batch.atoms * width // CACHED_PAIRS)
    if batch.width is None or count == 1:
        return _few(moved, by_centre, shape)
    size = -(-batch.atoms // count)
    missing = count * size - batch.atoms
    arrays = (
        _cut(batch.numbers, count, missing, 0),
        _cut(vectors, count, missing * width, PADDING_DISTANCE),
        _cut(batch.pair_mask, count, missing * width, False),
        _cut(batch.neighbour_numbers, count, missing * width, 0),
    )

    def one(part: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        return _few(_rows(*part, width), by_centre, shape)

    energies, slopes = jax.lax.map(one, arrays)
    return energies.reshape(-1)[: batch.atoms], slopes.reshape(-1, 3)[: vectors.shape[0]]


def _cut(
    array: Shaped[Array, "rows *shape"], count: int, missing: int, fill: float | int
) -> Shaped[Array, "count part *shape"]:
    """`count` parts along a first axis, the last one padded."""
    widths = ((0, missing), *((0, 0) for _ in array.shape[1:]))
    padded = jnp.pad(array, widths, constant_values=fill)
    return padded.reshape(count, -1, *array.shape[1:])


def _rows(
    numbers: Int[Array, "atoms"],
    vectors: Float[Array, "pairs 3"],
    mask: Bool[Array, "pairs"],
    elements: Int[Array, "pairs"],
    width: int,
) -> Batch:
    """A batch of some rows; its neighbours are known by their element only."""
    ends = jnp.zeros_like(elements)
    return Batch(
        numbers=numbers,
        system=jnp.zeros_like(numbers),
        centers=ends,
        neighbours=ends,
        vectors=vectors,
        pair_mask=mask,
        triplets=None,
        triplet_mask=None,
        volume=jnp.ones(1, vectors.dtype),
        width=width,
        elements=elements,
    )


def _few(
    batch: Batch, by_centre: Float[Array, "centres features"], shape: AceShape
) -> tuple[Float[Array, "atoms"], Float[Array, "pairs 3"]]:
    places = geometry(shape, batch)
    pairs = 1 + shape.pair_count * len(shape.species)
    kinds = species_index(batch.numbers, shape.species)
    own, along = _pair_part(shape, batch, places, by_centre[:, 1:pairs])
    energies = by_centre[:, 0][kinds] + own
    weights = [jnp.zeros_like(along)]
    if shape.basis.members:
        many, more, weights = _many_part(shape, batch, places, by_centre[:, pairs:])
        energies, along = energies + many, along + more
    slopes = vector_slopes(places, along, weights)
    return energies, jnp.stack(slopes, axis=2).reshape(-1, 3)


def _pair_part(
    shape: AceShape, batch: Batch, places: Geometry, coefficients: Float[Array, "centres functions"]
) -> tuple[Float[Array, "atoms"], Float[Array, "rows width"]]:
    """Energies of pair functions, and the slope by y of each pair."""
    values, slopes = pair_functions(shape, places)
    chosen = coefficients[row_species(shape, batch)]
    value = sum(
        (chosen[:, i, None] * values[i] for i in range(values.shape[0])), jnp.zeros_like(places.x)
    )
    slope = sum(
        (chosen[:, i, None] * slopes[i] for i in range(values.shape[0])), jnp.zeros_like(places.x)
    )
    return to_atoms(batch, jnp.sum(value, axis=1)), slope


def _many_part(
    shape: AceShape, batch: Batch, places: Geometry, coefficients: Float[Array, "centres features"]
) -> tuple[Float[Array, "atoms"], Float[Array, "rows width"], list[Float[Array, "rows width"]]]:
    """Energies of many-body features, slopes by y, and weights of the harmonics of each pair."""
    found, tree = functions(shape, places), make_tree(shape.spec)
    groups = _groups(tree.channels)
    parts = []
    for start, stop, count in groups:
        radial = jnp.swapaxes(found.radial[:, :count], 1, 2)
        part = _matmul(found.angular[:, start:stop], radial)
        parts.append(jnp.pad(part, ((0, 0), (0, 0), (0, shape.basis.channels - count))))
    density = to_atoms(batch, jnp.concatenate(parts, axis=1))
    energies, slopes = energy_and_slopes(
        tree, coefficients, _mixer(shape, batch), jnp.moveaxis(density, 0, 2)
    )
    slopes = to_rows(batch, jnp.moveaxis(slopes, 2, 0))  # rows harmonics channels
    along = jnp.zeros_like(places.x)
    weights: list[Array] = []
    for start, stop, count in groups:
        own = slopes[:, start:stop, :count]
        turned = _matmul(jnp.swapaxes(own, 1, 2), found.angular[:, start:stop])
        along = along + jnp.sum(turned * found.radial_slope[:, :count], axis=1)
        mixed = _matmul(own, found.radial[:, :count])
        weights += [mixed[:, i] for i in range(stop - start)]
    return energies, along, weights


def _groups(channels: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Harmonics of low and of high l, which need fewer channels: (start, stop, channels)."""
    middle = (len(channels) + 1) // 2
    bounds = [0, middle, len(channels)] if middle < len(channels) else [0, middle]
    return [
        (low * low, high * high, max(channels[low:high]))
        for low, high in itertools.pairwise(bounds)
    ]


def _mixer(shape: AceShape, batch: Batch) -> Mix:
    kinds = species_index(batch.numbers, shape.species)

    def mix(table: Array, values: Array) -> Array:
        outer = values.shape[0]
        mixed = [_matmul(jnp.broadcast_to(t, (outer, *t.shape)), values) for t in table]
        total = mixed[0]
        for centre in range(1, len(mixed)):
            total = jnp.where((kinds == centre)[None, None], mixed[centre], total)
        return total

    return mix


def _matmul(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
