"""Derivatives of each atom's bispectrum with respect to its pairs: what fits to forces need.

By matrix products: ∂B/∂(density) of each atom times ∂(density)/∂v of each of its pairs.

Checked: tests/potentials/linear/test_snap.py, against the Jacobian.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.batch import Batch
from karat.potentials.linear.snap_basis import gradients, triples
from karat.potentials.linear.snap_bispectrum import (
    by_order,
    component_slopes,
    offsets,
    sum_members,
)
from karat.potentials.linear.snap_energies import (
    Kinds,
    Tiles,
    chunks,
    listed_density,
    row_density,
)
from karat.potentials.linear.snap_pairs import PairFunctions, pair_functions
from karat.potentials.linear.snap_settings import SnapSettings

TILE = 8
"""Atoms of a tile."""
CHUNK = 128
"""Pairs of a chunk."""


def descriptors_and_slopes(
    batch: Batch, kinds: Kinds
) -> tuple[Float[Array, "atoms components"], Float[Array, "pairs components 3"]]:
    """B_k of each atom, and ∂B_k/∂v of each pair's centre, 1/Å; on padding they mean nothing."""
    settings = kinds.settings
    twojmax, count = settings.twojmax, len(triples(settings.twojmax))
    if batch.width is None:
        density = by_order(listed_density(batch, kinds), twojmax)
        tables = component_slopes(density, settings)
        inputs, pairs = chunks(batch, kinds, CHUNK)

        def one(chunk: Any) -> Array:
            given, centers = chunk
            moved = density_slopes(pair_functions(settings, *given), twojmax)
            parts = [
                (jnp.einsum("pkd,dap->pka", table[centers], part, precision="highest"), members)
                for (table, members), part in zip(tables, moved)
            ]
            return sum_members(parts, count)

        slopes = jax.lax.map(one, inputs).reshape(-1, count, 3)[:pairs]
        return _values(density, tables, settings), slopes
    tiles = Tiles(batch, TILE)

    def work(given: tuple) -> tuple[Array, Array]:
        functions = pair_functions(settings, *given)
        density = by_order(row_density(functions, twojmax), twojmax)
        tables = component_slopes(density, settings)
        parts = []
        for (table, members), part in zip(tables, density_slopes(functions, twojmax)):
            # one product of matrices for each atom
            laid = jnp.transpose(part, (3, 0, 2, 1)).reshape(*table.shape[::2], -1)
            parts.append((jnp.matmul(table, laid, precision="highest"), members))
        found = sum_members(parts, count)
        slopes = jnp.swapaxes(found.reshape(*found.shape[:2], -1, 3), 1, 2)
        return _values(density, tables, settings), slopes

    values, slopes = tiles.map(work, tiles.inputs(batch, kinds))
    return tiles.to_atoms(values), tiles.to_atoms(slopes).reshape(-1, count, 3)


def _values(
    density: list[Array], tables: list[tuple[Array, list[int]]], settings: SnapSettings
) -> Float[Array, "atoms components"]:
    """The components from their derivatives: each is of third degree in the density (Euler)."""
    parts = [
        (jnp.einsum("akd,da->ak", table, own, precision="highest"), members)
        for (table, members), own in zip(tables, density)
    ]
    found = sum_members(parts, len(triples(settings.twojmax))) / 3
    return found - jnp.asarray(offsets(settings), found.dtype)[None]


def density_slopes(functions: PairFunctions, twojmax: int) -> list[Array]:
    """∂(s f_jl y_lm)/∂v, for each j (functions (l, m), 3, *shape)."""
    found: dict[tuple[int, int], Array] = {}
    direction, inverse = functions.direction, functions.inverse
    for degree in range(twojmax + 1):
        angular = functions.angular[degree]
        across = [jnp.zeros_like(angular)] * 3
        if degree:
            below = functions.angular[degree - 1]
            flat = below.reshape(2 * degree - 1, -1)
            table = jnp.asarray(gradients(degree), flat.dtype)
            across = [
                jnp.matmul(table[axis].T, flat, precision="highest").reshape(angular.shape)
                for axis in range(3)
            ]
        for j in range(degree, twojmax + 1):
            radial = functions.radial[degree][j - degree] * inverse
            slope = functions.slopes[degree][j - degree] - degree * radial
            found[j, degree] = jnp.stack(
                [
                    angular * (slope * direction[axis])[None] + across[axis] * radial[None]
                    for axis in range(3)
                ],
                axis=1,
            )
    size = twojmax + 1
    return [jnp.concatenate([found[j, degree] for degree in range(j + 1)]) for j in range(size)]
