"""Neighbour rows, found on the device: any cell, small ones with several images included.

Every system has its own grid of cells. A neighbour is sought in the grid cells around that of its
centre; beyond the edge of a periodic system they are those of the next image, however many images
away, so that large and small cells are one case.

Checked: tests/simulation/engine/test_rows.py, against the host's lists.
"""

import itertools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from karat.potentials.batch import PADDING_DISTANCE
from karat.simulation.engine.plan import Grid, Plan
from karat.simulation.engine.systems import Systems


class Rows(eqx.Module):
    """The neighbours of each atom, and where all were when they were found.

    Attributes:
        neighbours: atoms; where a row has less, the padding atom, and in the padding atom's row
            the first atom.
        images: which lattice translation of the neighbour, an index into `image_vectors`.
        wraps: lattice translations that bring each atom into its cell.
        built: Å, positions then.
        built_cells: Å, cells then.
        needed: widest row and fullest grid cell, as they would have been needed.
        fits: whether nothing was left out.
    """

    neighbours: Int[Array, "rows width"]
    images: Int[Array, "rows width"]
    wraps: Float[Array, "atoms 3"]
    built: Float[Array, "atoms 3"]
    built_cells: Float[Array, "systems 3 3"]
    needed: Int[Array, "2"]
    fits: Bool[Array, ""]


def build_rows(
    plan: Plan,
    grid: Grid,
    systems: Systems,
    positions: Float[Array, "atoms 3"],
    cells: Float[Array, "systems 3 3"],
) -> Rows:
    """All pairs closer than the reach; block after block, so that memory is bounded."""
    inside, wraps, narrow = _scaled(plan, grid, systems, positions, cells)
    counts = grid.counts[systems.system]
    place = jnp.minimum((inside * counts.astype(inside.dtype)).astype(jnp.int32), counts - 1)
    number = (place[:, 0] * counts[:, 1] + place[:, 1]) * counts[:, 2] + place[:, 2]
    number = jnp.where(systems.real, number + grid.start[systems.system], plan.cells)
    members, fullest = _members(plan, systems, number)
    wrapped = wrap(positions, wraps, systems, cells)
    table = _Table(
        number=number,
        members=members,
        around=_around(plan, grid, systems),
        wrapped=wrapped,
        inside=wrapped[members].transpose(2, 0, 1),
        images=image_vectors(plan, cells),
        reach=grid.reach,
    )
    first = jnp.arange(plan.blocks, dtype=jnp.int32) * plan.block
    search = partial(_search_nearest, cells) if plan.nearest else _search
    neighbours, codes, widest = jax.lax.map(partial(search, plan, systems, table), first)
    rows = plan.blocks * plan.block
    needed = jnp.stack([jnp.max(widest), fullest])
    room = jnp.array([plan.width, plan.capacity], jnp.int32)
    return Rows(
        neighbours=neighbours.reshape(rows, plan.width),
        images=codes.reshape(rows, plan.width),
        wraps=wraps,
        built=positions,
        built_cells=cells,
        needed=needed,
        fits=jnp.all(needed <= room) & ~narrow,
    )


def wrap(
    positions: Float[Array, "atoms 3"],
    wraps: Float[Array, "atoms 3"],
    systems: Systems,
    cells: Float[Array, "systems 3 3"],
) -> Float[Array, "atoms 3"]:
    """Positions in the cell of when the rows were built; the padding atom far from all."""
    wrapped = positions - times_cells(wraps, systems, cells)
    far = jnp.max(jnp.abs(wrapped)) + PADDING_DISTANCE
    return wrapped.at[-1].set(far)


def times_cells(
    vectors: Float[Array, "atoms 3"], systems: Systems, matrices: Float[Array, "systems 3 3"]
) -> Float[Array, "atoms 3"]:
    """Each atom's row vector times its system's matrix."""
    if systems.count == 2:  # one system and the padding: no gather
        return jnp.dot(vectors, matrices[0], precision="highest")
    return jnp.einsum("ax,axy->ay", vectors, matrices[systems.system], precision="highest")


def image_vectors(plan: Plan, cells: Float[Array, "systems 3 3"]) -> Float[Array, "rows 3"]:
    """Lattice translations, image by image, of one system after the other."""
    shifts = jnp.asarray(_shifts(plan), cells.dtype)
    return jnp.einsum("ix,sxy->siy", shifts, cells, precision="highest").reshape(-1, 3)


def images_of(plan: Plan) -> int:
    """How many lattice translations `image_vectors` has for each system."""
    return int(np.prod([2 * m + 1 for m in plan.stencil]))


def _shifts(plan: Plan) -> np.ndarray:
    return np.array(list(itertools.product(*(range(-m, m + 1) for m in plan.stencil))))


def _scaled(
    plan: Plan, grid: Grid, systems: Systems, positions: Array, cells: Array
) -> tuple[Array, Array, Array]:
    """Positions from 0 to 1 along the cell, lattice translations taken off, and whether a grid
    cell has become narrower than it may be."""
    inverse = jnp.linalg.inv(cells)
    scaled = times_cells(positions, systems, inverse)
    periodic = systems.periodic[systems.system]
    wraps = jnp.where(periodic, jnp.floor(scaled), 0)
    low = jax.ops.segment_min(scaled, systems.system, num_segments=systems.count)
    high = jax.ops.segment_max(scaled, systems.system, num_segments=systems.count)
    extent = jnp.where(systems.periodic, 1, jnp.maximum(high - low, 1e-6))
    origin = jnp.where(systems.periodic, 0, low)
    inside = (scaled - wraps - origin[systems.system]) / extent[systems.system]
    heights = extent / jnp.sqrt(jnp.sum(inverse * inverse, axis=1))
    if plan.nearest:
        covered = heights > 2 * grid.reach
    else:
        ratio = grid.away.astype(heights.dtype) / grid.counts.astype(heights.dtype)
        covered = heights * ratio >= grid.reach * (1 - 1e-6)
    searched = systems.periodic | (grid.counts > 1)
    searched = searched.at[-1].set(False)
    return jnp.clip(inside, 0, 1), wraps, jnp.any(searched & ~covered)


class _Table(eqx.Module):
    """Everything that a block's search looks up.

    Attributes:
        number: grid cell of each atom; an empty one for padding.
        members: atoms of each grid cell.
        around: grid cells around each, and the image in which each lies.
        wrapped: positions.
        inside: positions of `members`, axis by axis.
        images: see `image_vectors`.
        reach: Å.
    """

    number: Int[Array, "atoms"]
    members: Int[Array, "cells capacity"]
    around: tuple[Int[Array, "cells stencil"], Int[Array, "cells stencil"]]
    wrapped: Float[Array, "atoms 3"]
    inside: Float[Array, "3 cells capacity"]
    images: Float[Array, "_ 3"]
    reach: Float[Array, ""]


def _members(
    plan: Plan, systems: Systems, number: Int[Array, "atoms"]
) -> tuple[Int[Array, "cells capacity"], Int[Array, ""]]:
    """The atoms of each grid cell (the last one is empty), and how many the fullest has."""
    order = jnp.argsort(number, stable=True)
    ranked = number[order]
    atoms = jnp.arange(systems.atoms, dtype=jnp.int32)
    rank = atoms - jnp.searchsorted(ranked, ranked, side="left").astype(jnp.int32)
    members = jnp.full((plan.cells + 1, plan.capacity), systems.atoms - 1, jnp.int32)
    members = members.at[ranked, rank].set(order.astype(jnp.int32), mode="drop")
    return members, jnp.max(jnp.where(ranked < plan.cells, rank, 0)) + 1


def _search(
    plan: Plan, systems: Systems, table: _Table, first: Array
) -> tuple[Array, Array, Array]:
    """Rows of one block: neighbours, images, and the length of the longest."""
    last = systems.atoms - 1
    atoms = jnp.minimum(first + jnp.arange(plan.block, dtype=jnp.int32), last)
    cell, codes = (part[table.number[atoms]] for part in table.around)
    found = table.members[cell]
    base = (systems.system[atoms] * images_of(plan))[:, None]
    shift = table.images[base + codes] - table.wrapped[atoms][:, None]
    squared = jnp.zeros(found.shape, shift.dtype)
    for axis in range(3):
        squared = squared + (table.inside[axis][cell] + shift[:, :, axis, None]) ** 2
    own = (codes == images_of(plan) // 2)[:, :, None] & (found == atoms[:, None, None])
    near = (squared < table.reach**2) & (found != last) & ~own & (atoms != last)[:, None, None]
    near = jax.lax.optimization_barrier(near)  # else XLA computes it again for each use
    neighbours, chosen, length = _compact(plan, systems, atoms, found, near)
    image = jnp.take_along_axis(codes, jnp.maximum(chosen, 0) // plan.capacity, axis=1)
    return neighbours, jnp.where(chosen < 0, images_of(plan) // 2, image), length


def _search_nearest(
    cells: Array, plan: Plan, systems: Systems, table: _Table, first: Array
) -> tuple[Array, Array, Array]:
    """As `_search`, among all atoms of each system, each in its nearest image."""
    last = systems.atoms - 1
    atoms = jnp.minimum(first + jnp.arange(plan.block, dtype=jnp.int32), last)
    system = table.number[atoms]
    found = table.members[system]
    cell = jnp.concatenate([cells, jnp.eye(3, dtype=cells.dtype)[None]])[system]
    inverse = jnp.linalg.inv(cell)
    turns = systems.periodic[jnp.minimum(system, systems.count - 1)]
    vectors = [
        table.inside[axis][system] - table.wrapped[atoms][:, axis, None] for axis in range(3)
    ]
    shifts = []
    for axis in range(3):
        scaled = sum(vectors[k] * inverse[:, k, axis, None] for k in range(3))
        shifts.append(jnp.where(turns[:, axis, None], -jnp.round(scaled), 0))
    squared = jnp.zeros(found.shape, table.wrapped.dtype)
    for axis in range(3):
        moved = vectors[axis] + sum(shifts[k] * cell[:, k, axis, None] for k in range(3))
        squared = squared + moved * moved
    codes = ((shifts[0] + 1) * 9 + (shifts[1] + 1) * 3 + shifts[2] + 1).astype(jnp.int32)
    near = (squared < table.reach**2) & (found != last) & (found != atoms[:, None])
    near = jax.lax.optimization_barrier(near & (atoms != last)[:, None])
    neighbours, chosen, length = _compact(plan, systems, atoms, found[:, None], near[:, None])
    image = jnp.take_along_axis(codes, jnp.maximum(chosen, 0), axis=1)
    return neighbours, jnp.where(chosen < 0, images_of(plan) // 2, image), length


def _compact(
    plan: Plan,
    systems: Systems,
    atoms: Int[Array, "block"],
    found: Int[Array, "block stencil capacity"],
    near: Bool[Array, "block stencil capacity"],
) -> tuple[Int[Array, "block width"], Int[Array, "block width"], Int[Array, ""]]:
    """Those of `found` that are near, in rows; which candidate each is, -1 where a row has less;
    and the length of the longest row."""
    slot, length = _slots(near)
    width, last = plan.width, systems.atoms - 1
    target = jnp.where(near & (slot < width), slot, width)
    target = target + jnp.arange(plan.block, dtype=jnp.int32)[:, None, None] * (width + 1)
    candidates = jnp.arange(found.shape[1] * found.shape[2], dtype=jnp.int32)
    chosen = jnp.full(plan.block * (width + 1), -1, jnp.int32)
    chosen = chosen.at[target.reshape(-1)].set(jnp.tile(candidates, plan.block))
    chosen = chosen.reshape(plan.block, width + 1)[:, :width]
    # where there is no neighbour, the row of the padding atom names a real one: never itself
    empty = jnp.where(atoms == last, 0, last)[:, None]
    there = jnp.maximum(chosen, 0)
    neighbours = jnp.take_along_axis(found.reshape(plan.block, -1), there, axis=1)
    return jnp.where(chosen < 0, empty, neighbours), chosen, jnp.max(length)


def _slots(
    near: Bool[Array, "block stencil capacity"],
) -> tuple[Int[Array, "block stencil capacity"], Int[Array, "block"]]:
    """The place of each neighbour in its row, and how long the row is.

    Running sums as products with triangular matrices: a CPU does them faster than scans; whole
    numbers up to 2²⁴ are exact.
    """
    block, stencil, capacity = near.shape
    if stencil == 1 and capacity > PIECE:  # cut the one long row into pieces
        stencil = -(-capacity // PIECE)
        extra = ((0, 0), (0, 0), (0, stencil * PIECE - capacity))
        slot, length = _slots(jnp.pad(near, extra).reshape(block, stencil, PIECE))
        return slot.reshape(block, 1, -1)[:, :, :capacity], length
    ones = near.astype(jnp.float32)
    within = jnp.einsum("bsc,cd->bsd", ones, _triangle(capacity), precision="highest")
    each = within[:, :, -1]
    upto = jnp.einsum("bs,st->bt", each, _triangle(stencil), precision="highest")
    slot = within - 1 + (upto - each)[:, :, None]
    return slot.astype(jnp.int32), upto[:, -1].astype(jnp.int32)


PIECE = 24
"""Candidates whose running sum is one product."""


def _triangle(size: int) -> Float[Array, "size size"]:
    return jnp.asarray(np.triu(np.ones((size, size), np.float32)))


def _around(
    plan: Plan, grid: Grid, systems: Systems
) -> tuple[Int[Array, "cells stencil"], Int[Array, "cells stencil"]]:
    """Grid cells around each and the image in which each lies; the empty last cell where the
    system ends or does not look so far."""
    numbers = jnp.arange(plan.cells + 1, dtype=jnp.int32)
    system = jnp.searchsorted(grid.start, numbers, side="right").astype(jnp.int32) - 1
    counts, local = grid.counts[system], numbers - grid.start[system]
    rest = local // counts[:, 2]
    place = jnp.stack([rest // counts[:, 1], rest % counts[:, 1], local % counts[:, 2]], axis=1)
    steps = jnp.asarray(_shifts(plan), jnp.int32)
    counts, periodic = counts[:, None], systems.periodic[system][:, None]
    target = place[:, None] + steps[None]
    shift = jnp.where(periodic, target // counts, 0)
    there = target - shift * counts
    exists = (there >= 0) & (there < counts) & (jnp.abs(steps)[None] <= grid.away[system][:, None])
    number = (there[..., 0] * counts[..., 1] + there[..., 1]) * counts[..., 2] + there[..., 2]
    exists = jnp.all(exists, axis=2) & (numbers < plan.cells)[:, None]
    number = jnp.where(exists, number + grid.start[system][:, None], plan.cells)
    m1, m2, m3 = plan.stencil
    code = ((shift[..., 0] + m1) * (2 * m2 + 1) + shift[..., 1] + m2) * (2 * m3 + 1)
    return number, code + shift[..., 2] + m3
