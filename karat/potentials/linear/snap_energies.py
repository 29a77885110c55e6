"""Bispectra, energies and forces of all atoms of a batch, a few atoms at a time.

Neighbour rows (dynamics, fits) are worked on in tiles of atoms that fit into a processor's cache,
lists of pairs in chunks: memory stays small, whatever the size of the system.

Checked: tests/potentials/linear/test_snap.py, test_snap_lammps.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.potentials.analytic.pairwise import by_pair, species_index
from karat.potentials.batch import PADDING_DISTANCE, Batch
from karat.potentials.linear.snap_basis import largest_spin, quadrature, triples
from karat.potentials.linear.snap_bispectrum import (
    by_degree,
    by_order,
    components,
    energy_slopes,
    in_points,
    offsets,
)
from karat.potentials.linear.snap_pairs import (
    PairFunctions,
    pair_functions,
    pair_gradient,
    products,
)
from karat.potentials.linear.snap_settings import SnapSettings

TILE_BYTES = 80_000
"""Of one part of a tile's densities in the points of the quadrature: with the others, as much as
fits into a processor's cache."""
SMALLEST, LARGEST = 8, 64
"""Atoms of a tile."""
ACCELERATED = 4096
"""Atoms of a tile where JAX does not run on a processor."""
CHUNK = 2048
"""Pairs of a chunk."""


@dataclass(frozen=True)
class Kinds:
    """Which elements, with which settings."""

    species: tuple[int, ...]
    settings: SnapSettings

    def of_pairs(self, batch: Batch) -> tuple[Array, Array]:
        """Weight and cut-off (Å) of each pair; single numbers where there is one element."""
        dtype = batch.vectors.dtype
        radii = np.array(self.settings.radii)
        reach = jnp.asarray(self.settings.rcutfac * np.add.outer(radii, radii), dtype)
        weights = jnp.asarray(self.settings.weights, dtype)
        if len(self.species) == 1:
            return weights[0], reach[0, 0]
        other = species_index(batch.neighbour_numbers, self.species)
        centre = batch.spread(species_index(batch.numbers, self.species))
        return weights[other], by_pair(reach, centre, other)


def tile_size(settings: SnapSettings, dtype: np.dtype) -> int:
    """Atoms of a tile for energies and forces."""
    if jax.default_backend() != "cpu":
        return ACCELERATED
    points = len(quadrature(largest_spin(settings.twojmax))[1])
    return min(max(TILE_BYTES // (points * dtype.itemsize), SMALLEST), LARGEST)


class Tiles:
    """Rows of pairs as tiles: arrays (tiles, width, atoms of a tile).

    Args:
        batch: in rows.
        size: atoms of a tile at most.
    """

    def __init__(self, batch: Batch, size: int) -> None:
        assert batch.width is not None
        self.atoms, self.width = batch.atoms, batch.width
        self.size = min(size, self.atoms)
        self.count = -(-self.atoms // self.size)

    def of_atoms(self, values: Array, fill: Any) -> Array:
        """(atoms, …) → (tiles, atoms of a tile, …)."""
        missing = self.count * self.size - self.atoms
        if missing:
            rest = jnp.full((missing, *values.shape[1:]), fill, values.dtype)
            values = jnp.concatenate([values, rest])
        return values.reshape(self.count, self.size, *values.shape[1:])

    def of_pairs(self, values: Array, fill: Any) -> Array:
        """(pairs,) → (tiles, width, atoms of a tile); single numbers are given to every tile."""
        if values.ndim == 0:
            return jnp.broadcast_to(values, (self.count,))
        rows = self.of_atoms(values.reshape(self.atoms, self.width), fill)
        return jnp.swapaxes(rows, 1, 2)

    def to_pairs(self, values: Array) -> Array:
        """The way back of `of_pairs`."""
        rows = jnp.swapaxes(values, 1, 2).reshape(-1, self.width)
        return rows[: self.atoms].reshape(-1)

    def to_atoms(self, values: Array) -> Array:
        """(tiles, atoms of a tile, …) → (atoms, …)."""
        return values.reshape(-1, *values.shape[2:])[: self.atoms]

    def inputs(self, batch: Batch, kinds: Kinds) -> tuple:
        """What `pair_functions` needs, for all tiles."""
        weight, reach = kinds.of_pairs(batch)
        vectors = tuple(self.of_pairs(batch.vectors[:, a], PADDING_DISTANCE) for a in range(3))
        listed = self.of_pairs(batch.pair_mask, False)
        return vectors, listed, self.of_pairs(weight, 0), self.of_pairs(reach, 1)

    def map(self, work: Callable[..., Any], inputs: Any) -> Any:
        """`work` on each tile's inputs."""
        if self.count == 1:
            only = jax.tree.map(lambda leaf: leaf[0], inputs)
            return jax.tree.map(lambda leaf: leaf[None], work(only))
        return jax.lax.map(work, inputs)


def row_density(functions: PairFunctions, twojmax: int) -> list[Array]:
    """For each l (m, j, atoms), summed over the places in rows."""
    return [jnp.sum(products(functions, degree), axis=2) for degree in range(twojmax + 1)]


def chunks(batch: Batch, kinds: Kinds, size: int) -> tuple[Any, int]:
    """A list of pairs in chunks: inputs of `pair_functions` and centres, (chunks, pairs)."""
    pairs = batch.vectors.shape[0]
    size = min(size, pairs)
    count = -(-pairs // size)
    missing = count * size - pairs

    def split(values: Array, fill: Any) -> Array:
        if values.ndim == 0:
            return jnp.broadcast_to(values, (count,))
        rest = jnp.full((missing,), fill, values.dtype)
        return jnp.concatenate([values, rest]).reshape(count, size)

    weight, reach = kinds.of_pairs(batch)
    vectors = tuple(split(batch.vectors[:, a], PADDING_DISTANCE) for a in range(3))
    listed = split(batch.pair_mask, False)
    centers = split(batch.centers, batch.atoms - 1)
    return ((vectors, listed, split(weight, 0), split(reach, 1)), centers), pairs


def listed_density(batch: Batch, kinds: Kinds) -> list[Array]:
    """For each l (m, j, atoms), of a list of pairs."""
    twojmax = kinds.settings.twojmax
    inputs, _ = chunks(batch, kinds, CHUNK)
    shapes = [(2 * degree + 1, twojmax + 1 - degree) for degree in range(twojmax + 1)]
    ends = np.cumsum([rows * columns for rows, columns in shapes])

    def add(total: Array, chunk: Any) -> tuple[Array, None]:
        given, centers = chunk
        functions = pair_functions(kinds.settings, *given)
        flat = [
            products(functions, degree).reshape(-1, len(centers)) for degree in range(twojmax + 1)
        ]
        return total.at[centers].add(jnp.concatenate(flat).T), None

    start = jnp.zeros((batch.atoms, int(ends[-1])), batch.vectors.dtype)
    total, _ = jax.lax.scan(add, start, inputs)
    parts = jnp.split(total.T, ends[:-1].tolist())
    return [part.reshape(*shape, -1) for part, shape in zip(parts, shapes)]


def descriptors(batch: Batch, kinds: Kinds) -> Float[Array, "atoms components"]:
    """The bispectrum of each atom; on padding it means nothing."""
    settings = kinds.settings

    def of(density: list[Array]) -> Array:
        return components(in_points(by_order(density, settings.twojmax)), settings)

    if batch.width is None:
        return of(listed_density(batch, kinds)).T
    tiles = Tiles(batch, tile_size(settings, batch.vectors.dtype))

    def work(given: tuple) -> Array:
        return of(row_density(pair_functions(settings, *given), settings.twojmax)).T

    return tiles.to_atoms(tiles.map(work, tiles.inputs(batch, kinds)))


def energies_and_slopes(
    batch: Batch, coefficients: Float[Array, "features"], kinds: Kinds, slopes: bool
) -> tuple[Float[Array, "atoms"], tuple[Array, ...]]:
    """Atom energies (eV, zero on padding) and, if asked for, ∂E/∂v of each pair (x, y, z, eV/Å)."""
    kind = species_index(batch.numbers, kinds.species)
    settings = kinds.settings
    if batch.width is None:
        density = by_order(listed_density(batch, kinds), settings.twojmax)
        energies, found = _atom_part(density, coefficients, kind, kinds, slopes)
        parts = _listed_gradient(batch, found, kinds) if slopes else ()
        return jnp.where(batch.atom_mask, energies, 0), parts
    tiles = Tiles(batch, tile_size(settings, batch.vectors.dtype))

    def work(given: tuple) -> tuple[Array, tuple[Array, ...]]:
        functions = pair_functions(settings, *given[0])
        density = by_order(row_density(functions, settings.twojmax), settings.twojmax)
        energies, found = _atom_part(density, coefficients, given[1], kinds, slopes)
        if not slopes:
            return energies, ()
        return energies, pair_gradient(functions, [part[:, :, None] for part in by_degree(found)])

    inputs = (tiles.inputs(batch, kinds), tiles.of_atoms(kind, 0))
    energies, parts = tiles.map(work, inputs)
    energies = jnp.where(batch.atom_mask, tiles.to_atoms(energies), 0)
    return energies, tuple(tiles.to_pairs(part) for part in parts)


def _listed_gradient(batch: Batch, found: list[Array], kinds: Kinds) -> tuple[Array, ...]:
    table = jnp.concatenate([part.reshape(-1, batch.atoms) for part in by_degree(found)]).T
    inputs, pairs = chunks(batch, kinds, CHUNK)
    twojmax = kinds.settings.twojmax
    shapes = [(2 * degree + 1, twojmax + 1 - degree) for degree in range(twojmax + 1)]
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1].tolist()

    def work(chunk: Any) -> tuple[Array, Array, Array]:
        given, centers = chunk
        parts = jnp.split(table[centers].T, ends)
        derivative = [part.reshape(*shape, -1) for part, shape in zip(parts, shapes)]
        return pair_gradient(pair_functions(kinds.settings, *given), derivative)

    return tuple(part.reshape(-1)[:pairs] for part in jax.lax.map(work, inputs))


def _atom_part(
    density: list[Array],
    coefficients: Float[Array, "features"],
    kind: Int[Array, "atoms"],
    kinds: Kinds,
    slopes: bool,
) -> tuple[Float[Array, "atoms"], list[Array]]:
    """Energies, and their derivatives with respect to the density for each j."""
    settings = kinds.settings
    points = in_points(density)
    size = len(triples(settings.twojmax))
    table = coefficients.reshape(len(kinds.species), -1)
    constant, linear = table[:, 0], table[:, 1 : size + 1].T
    if len(kinds.species) > 1:
        constant, linear = constant[kind], linear[:, kind]
    else:
        constant = constant[0]
    if not settings.quadraticflag and slopes:
        found = energy_slopes(points, linear, settings)
        zero = jnp.asarray(offsets(settings), linear.dtype) @ linear
        # cubic in the density: Euler's theorem
        cubic = sum(jnp.sum(a * b, axis=0) for a, b in zip(density, found))
        return constant + cubic / 3 - zero, found
    values = components(points, settings)
    total = constant + jnp.sum(values * linear, axis=0)
    factors = linear
    if settings.quadraticflag:
        curved = _curvature(values, table[:, size + 1 :], kind)
        total = total + 0.5 * jnp.sum(values * curved, axis=0)
        factors = linear + curved
    return total, energy_slopes(points, factors, settings) if slopes else []


def _curvature(
    values: Float[Array, "components atoms"],
    table: Float[Array, "species products"],
    kind: Int[Array, "atoms"],
) -> Float[Array, "components atoms"]:
    """α B of each atom, α symmetric, of its element."""
    size = values.shape[0]
    first, second = np.triu_indices(size)
    place = np.zeros((size, size), int)
    place[first, second] = place[second, first] = np.arange(len(first))
    total = jnp.zeros_like(values)
    for index in range(table.shape[0]):
        found = jnp.matmul(table[index][place], values, precision="highest")
        total = jnp.where((kind == index)[None], found, total)
    return total
