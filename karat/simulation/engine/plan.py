"""`Plan`: the sizes of neighbour rows and of the cell grid in which neighbours are found.

A plan is made on the host; all arrays of one plan have the same shapes, so that nothing is
compiled anew while atoms move. What does not fit is reported by the device, and a larger plan
is made.

Checked: tests/simulation/engine/test_rows.py.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from karat.potentials.batch import round_up
from karat.simulation.engine.systems import pack_cells
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

SPARE = 1.1
"""Room beyond what was needed when it was measured."""
SHAKE = 0.1
"""Å, standard deviation of the moves that show how much room shaking atoms need."""
BUILD_COST, PAIR_BUILD_COST = 5.0, 14.0
"""What building rows costs, in evaluations of a cheap potential, or of a sum over pairs."""
LEAST_SKIN, MOST_SKIN = 0.3, 2.0
"""Å."""
BLOCK_PAIRS = 40_000
"""Pairs that are evaluated together where a potential is strictly local: as many as fit into a
processor's cache."""
NEAREST_COST = 1.0
"""What a candidate costs that is looked up in its nearest image, in candidates of a grid."""
LOOSE = 1.1
"""Cells of a grid are made this much wider than needed along directions that do not repeat, and
where cells of crystals may shrink."""


@dataclass(frozen=True)
class Plan:
    """Sizes; see the module's docstring.

    Attributes:
        stencil: how many grid cells away neighbours are sought, in each direction.
        cells: grid cells of all systems.
        capacity: atoms in a grid cell.
        width: neighbours of an atom.
        block: atoms that are evaluated together.
        blocks: how many blocks there are.
        nearest: all atoms of a system are candidates, each in its nearest image: for few atoms
            in cells wider than twice the reach.
    """

    stencil: tuple[int, int, int]
    cells: int
    capacity: int
    width: int
    block: int
    blocks: int
    nearest: bool = False


class Grid(eqx.Module):
    """Where the grid cells of each system are.

    Attributes:
        counts: grid cells along each direction.
        away: how many of them away neighbours can be; at most the plan's stencil.
        start: number of the first cell.
        reach: Å; pairs closer than this are listed: cut-off and skin, or infinity. Not in the
            plan: runs that differ in it only share what is compiled.
    """

    counts: Int[Array, "systems 3"]
    away: Int[Array, "systems 3"]
    start: Int[Array, "systems"]
    reach: Float[Array, ""]


def make_plan(
    periodic: Bool[np.ndarray, "systems 3"],
    sizes: Int[np.ndarray, "systems"],
    positions: Float[np.ndarray, "atoms 3"],
    cells: Float[np.ndarray, "systems 3 3"],
    reach: float,
    width: int,
    capacity: int,
    loose: bool,
    dtype: np.dtype,
) -> tuple[Plan, Grid]:
    """A plan for these positions (padding left out) and cells (completed), and its grid.

    Args:
        sizes: atoms of each system.
        reach: Å.
        width, capacity: at least these.
        loose: cells of crystals may shrink.
        dtype: of positions.
    """
    count_table, away, nearest = _grids(periodic, sizes, positions, cells, reach, loose)
    if nearest:
        capacity = int(sizes.max())
    numbers = np.prod(count_table, axis=1)
    start = np.concatenate([[0], np.cumsum(numbers)[:-1]])
    stencil = tuple(int(value) for value in away.max(axis=0))
    rows = len(positions) + 1
    blocks = max(1, -(-rows * width // BLOCK_PAIRS))
    plan = Plan(
        stencil=(stencil[0], stencil[1], stencil[2]),
        cells=int(numbers.sum()),
        capacity=capacity,
        width=width,
        block=-(-rows // blocks),
        blocks=blocks,
        nearest=nearest,
    )
    grid = Grid(
        counts=jnp.asarray(count_table, jnp.int32),
        away=jnp.asarray(away, jnp.int32),
        start=jnp.asarray(start, jnp.int32),
        reach=jnp.asarray(reach, dtype),
    )
    return plan, grid


def _grids(
    periodic: Bool[np.ndarray, "systems 3"],
    sizes: Int[np.ndarray, "systems"],
    positions: Float[np.ndarray, "atoms 3"],
    cells: Float[np.ndarray, "systems 3 3"],
    reach: float,
    loose: bool,
) -> tuple[Int[np.ndarray, "all 3"], Int[np.ndarray, "all 3"], bool]:
    """`Grid.counts` and `Grid.away` of all systems and the padding, and `Plan.nearest`."""
    counts: list[np.ndarray] = []
    reaches: list[np.ndarray] = []
    ends = np.cumsum(sizes)
    work = 0.0
    nearest = bool(reach < np.inf)
    for i, (size, end) in enumerate(zip(sizes, ends)):
        inside = positions[end - size : end] @ np.linalg.inv(cells[i])
        heights = 1 / np.linalg.norm(np.linalg.inv(cells[i]), axis=0)
        extent = np.where(periodic[i], heights, np.ptp(inside, axis=0) * heights)
        slack = reach * np.where(periodic[i] & (not loose), 1.0, LOOSE)
        count, away, candidates = _divisions(extent, slack, periodic[i], int(size))
        work += size * (candidates - NEAREST_COST * size)
        nearest = nearest and bool((~periodic[i] | (heights > 2 * slack)).all())
        counts.append(count)
        reaches.append(away)
    counts.append(np.ones(3, int))
    reaches.append(np.zeros(3, int))
    count_table, reach_table = np.array(counts), np.array(reaches)
    nearest = bool(nearest and work > 0)
    if nearest:
        count_table, reach_table = np.ones_like(count_table), np.zeros_like(reach_table)
        reach_table += 1  # images to name
    return count_table, reach_table, nearest


def longest_row(structures: Sequence[Structure], reach: float) -> int:
    """Most neighbours that an atom has, also where atoms shake."""
    longest = 0
    for structure in structures:
        for shaken in _shaken(structure, 1):
            pairs = neighbour_pairs(structure.replace(positions=shaken), reach)
            longest = max(longest, int(np.bincount(pairs.centers).max(initial=0)))
    return longest


def fullest_cell(grid: Grid, structures: Sequence[Structure]) -> int:
    """Most atoms in a grid cell, also where atoms shake: those of a crystal often lie on the
    borders of grid cells."""
    fullest = 0
    cells = pack_cells(structures)
    for structure, cell, count in zip(structures, cells, np.asarray(grid.counts)):
        for shaken in _shaken(structure, 4):
            inside = shaken @ np.linalg.inv(cell)
            low, extent = inside.min(axis=0), np.maximum(np.ptp(inside, axis=0), 1e-6)
            free = (inside - low) / extent
            inside = np.where(structure.periodic, inside - np.floor(inside), free)
            place = np.minimum((inside * count).astype(int), count - 1)
            number = np.ravel_multi_index(tuple(place.T), tuple(count))
            fullest = max(fullest, int(np.bincount(number).max()))
    return fullest


def _shaken(structure: Structure, copies: int) -> Iterator[Float[np.ndarray, "atoms 3"]]:
    """The positions, and copies of them with all atoms moved a little."""
    yield structure.positions
    random = np.random.default_rng(0)
    for _ in range(copies):
        noise: np.ndarray = random.normal(scale=SHAKE, size=structure.positions.shape)
        yield structure.positions + noise


def _divisions(
    extent: Float[np.ndarray, "3"],
    reach: Float[np.ndarray, "3"],
    periodic: Bool[np.ndarray, "3"],
    atoms: int,
) -> tuple[Int[np.ndarray, "3"], Int[np.ndarray, "3"], float]:
    """Grid cells along each direction, how many of them away neighbours can be, and how many
    candidates an atom has; of several divisions the one with the fewest."""
    best: tuple[float, Any, Any] = (np.inf, None, None)
    for finer in (1, 2, 3):
        wanted = np.nan_to_num(finer * extent / reach, posinf=1.0)
        count = np.maximum(1, np.floor(wanted)).astype(int)
        while np.prod(count, dtype=float) > 2 * atoms + 64:  # few cells beyond the atoms
            count[np.argmax(count)] = max(1, count.max() // 2)
        needed = np.ceil(reach * count / np.maximum(extent, 1e-9) - 1e-9)
        away = np.where(periodic, needed, np.where(count > 1, np.minimum(needed, count - 1), 0))
        mean = atoms / np.prod(count)
        candidates = float(np.prod(2 * away + 1) * (mean + 2 * np.sqrt(mean) + 2))
        if candidates < best[0]:
            best = (candidates, count, away.astype(int))
    return best[1], best[2], best[0]


def best_skin(cutoff: float, step: float, cost: float) -> float:
    """Å beyond the cut-off with the least work, where atoms move up to `step` (Å) in a step.

    Work per step is (1 + s/r)³ (1 + c/s): pairs in the rows, and building them every s/(2 step)
    steps, which costs as much as `cost` steps; c = 2 step cost.
    """
    ratio = 2 * step * cost
    skin = -ratio / 3 + math.sqrt((ratio / 3) ** 2 + ratio * cutoff / 3)
    return float(min(max(skin, LEAST_SKIN), MOST_SKIN))


def roomier(needed: int, spare: float = SPARE) -> int:
    """A size a little above `needed`, of few distinct ones."""
    return round_up(math.ceil(spare * needed) + 1, steps_per_octave=8)
