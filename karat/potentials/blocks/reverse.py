"""The pair that leads back, for architectures with features of directed edges.

Checked: tests/potentials/native/test_dimenetpp.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from karat.potentials.batch import Batch

DIRECTION = (0.754877666, 0.569840290, 0.324717957)
"""Of the projections that tell images of one neighbour apart: no lattice is symmetric to it."""
TOLERANCE = 1e-4
"""Å; between projections of opposite vectors, which may be rounded differently."""


def reverse_pairs(batch: Batch) -> tuple[Int[Array, "pairs"], Bool[Array, "pairs"]]:
    """The index of the pair from neighbour to centre with the opposite vector, and whether there is
    one: not for padding, and not where rounding has put only one of both within the cut-off.

    Pairs are sorted by (centre, neighbour, projection of the vector), and what leads back is sought
    there by halves.
    """
    none = batch.atoms
    centers = jnp.where(batch.pair_mask, batch.centers, none).astype(jnp.int32)
    neighbours = jnp.where(batch.pair_mask, batch.neighbours, none).astype(jnp.int32)
    x, y, z = (batch.vectors[:, axis] * DIRECTION[axis] for axis in range(3))
    along = jax.lax.stop_gradient(x + y + z)
    count = centers.shape[0]
    place = jnp.arange(count, dtype=jnp.int32)
    first, second, third, sorted_place = jax.lax.sort(
        (centers, neighbours, along, place), num_keys=3
    )
    wanted = -along - TOLERANCE

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        a, b = first[middle], second[middle]
        here = (a == neighbours) & ((b < centers) | ((b == centers) & (third[middle] < wanted)))
        before = (a < neighbours) | here
        return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

    bounds = jnp.zeros_like(place), jnp.full_like(place, count - 1)
    found, _ = jax.lax.fori_loop(0, count.bit_length(), halve, bounds)
    same = (first[found] == neighbours) & (second[found] == centers) & batch.pair_mask
    same = same & (third[found] <= 2 * TOLERANCE + wanted)
    return jnp.where(same, sorted_place[found], place), same
