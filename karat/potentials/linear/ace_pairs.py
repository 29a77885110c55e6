"""From a batch to one-particle functions of the atomic cluster expansion, and back.

Pairs stand in rows, one for each atom, or, where a batch has none, each pair in its own.

Checked: tests/potentials/linear/test_ace_module.py.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.linear.ace_basis import AceBasis, AceSpec, ace_basis
from karat.potentials.linear.density import harmonic_gradient, harmonics
from karat.potentials.linear.radial import Polynomials, agnesi, agnesi_at

INNER, OUTER = 1, 4
"""Powers of the many-body envelope at the origin and at the cut-off."""
PAIR_INNER, PAIR_OUTER = 0, 3
"""Powers of the envelope of pair functions."""


@dataclass(frozen=True)
class AceShape:
    """What is fixed of a module: its functions and lengths.

    Attributes:
        species: atomic numbers.
        spacings: r₀ of centre and neighbour, Å.
        cutoff: Å.
    """

    spec: AceSpec
    species: tuple[int, ...]
    spacings: tuple[tuple[float, ...], ...]
    cutoff: float

    @property
    def basis(self) -> AceBasis:
        """The many-body features of one central element."""
        return ace_basis(self.spec)

    @property
    def pair_count(self) -> int:
        """Pair functions of one neighbouring element."""
        return int(self.spec.degrees[0])

    @property
    def many_count(self) -> int:
        """Radial functions of one neighbouring element."""
        return -(-self.basis.channels // self.spec.elements)


class Geometry(eqx.Module):
    """Of each pair, in rows: unit vector, 1/r, y(r) between -1 (cut-off) and 1, and dy/dr; where
    neighbours are of several elements, which pairs are of each."""

    x: Float[Array, "rows width"]
    y: Float[Array, "rows width"]
    z: Float[Array, "rows width"]
    inverse: Float[Array, "rows width"]
    place: Float[Array, "rows width"]
    climb: Float[Array, "rows width"]
    mask: Bool[Array, "rows width"]
    kinds: Int[Array, "rows width"] | None

    def chosen(self, value: Array, element: int) -> Array:
        """`value` where the neighbour is of this element, else zero."""
        if self.kinds is None:
            return value
        return jnp.where(self.kinds == element, value, 0)


def geometry(shape: AceShape, batch: Batch) -> Geometry:
    """Distances, directions and transformed distances of all pairs."""
    width = batch.width or 1
    vectors = batch.vectors.reshape(-1, width, 3)
    x, y, z = (jax.lax.optimization_barrier(vectors[:, :, axis]) for axis in range(3))
    square = x * x + y * y + z * z
    inverse = jax.lax.rsqrt(square)
    spacings = np.array(shape.spacings)
    scale, low = spacings**-2.0, agnesi_at(shape.cutoff, spacings)
    kinds: Array | None = None
    per_pair: tuple[Array | float, Array | float]
    if len(shape.species) == 1:
        per_pair = scale.item(), low.item()
    else:
        kinds = species_index(batch.neighbour_numbers, shape.species).reshape(-1, width)
        centres = row_species(shape, batch)
        per_pair = _of_pairs(scale, centres, kinds, x), _of_pairs(low, centres, kinds, x)
    transformed, slope = agnesi(square, per_pair[0])
    stretch = 2 / (1 - per_pair[1])
    return Geometry(
        x=x * inverse,
        y=y * inverse,
        z=z * inverse,
        inverse=inverse,
        place=stretch * (transformed - per_pair[1]) - 1,
        climb=stretch * slope * 2 * (square * inverse),
        mask=batch.pair_mask.reshape(-1, width),
        kinds=kinds,
    )


def _of_pairs(
    table: Float[np.ndarray, "species species"],
    centres: Int[Array, "rows"],
    kinds: Int[Array, "rows width"],
    like: Array,
) -> Float[Array, "rows width"]:
    return jnp.asarray(table, like.dtype)[centres[:, None], kinds]


def row_species(shape: AceShape, batch: Batch) -> Int[Array, "rows"]:
    """Index of the element at the centre of each row; 0 on padding."""
    kinds = species_index(batch.numbers, shape.species)
    return kinds if batch.width is not None else kinds[batch.centers]


class Functions(eqx.Module):
    """Radial functions and their slopes by y, and harmonics, of each pair."""

    radial: Float[Array, "rows channels width"]
    radial_slope: Float[Array, "rows channels width"]
    angular: Float[Array, "rows harmonics width"]


def functions(shape: AceShape, geometry: Geometry) -> Functions:
    """One-particle functions of many-body features; zero on padding and beyond the cut-off."""
    basis = shape.basis
    radial, slope = _radials(shape, geometry, INNER, OUTER, shape.many_count, geometry.mask)
    rows = harmonics(geometry.x, geometry.y, geometry.z, basis.highest)
    return Functions(
        jnp.stack(radial[: basis.channels], axis=1),
        jnp.stack(slope[: basis.channels], axis=1),
        jnp.stack(rows, axis=1),
    )


def pair_functions(
    shape: AceShape, geometry: Geometry
) -> tuple[Float[Array, "functions rows width"], Float[Array, "functions rows width"]]:
    """Pair functions and their slopes by y, n = 1 … of the first element, then of the next."""
    count = shape.pair_count
    values, slopes = _radials(shape, geometry, PAIR_INNER, PAIR_OUTER, count, geometry.mask)
    elements = len(shape.species)
    order = [n * elements + element for element in range(elements) for n in range(count)]
    return (
        jnp.stack([values[i] for i in order]),
        jnp.stack([slopes[i] for i in order]),
    )


def _radials(
    shape: AceShape, geometry: Geometry, inner: int, outer: int, count: int, mask: Array
) -> tuple[list[Array], list[Array]]:
    """Values and slopes by y; of all elements n = 1, then of all n = 2, …"""
    polynomials = Polynomials.make(inner, outer, count)
    value, slope = polynomials.envelope(geometry.place)
    values, slopes = [], []
    for element in range(len(shape.species)):
        own = geometry.chosen(jnp.where(mask, value, 0), element)
        found = polynomials.values(geometry.place, own)
        values.append(found)
        factor = geometry.chosen(jnp.where(mask, slope, 0), element)
        slopes.append(polynomials.slopes(geometry.place, found, factor))
    return (
        [rows[n] for n in range(count) for rows in values],
        [rows[n] for n in range(count) for rows in slopes],
    )


def to_atoms(batch: Batch, rows: Float[Array, "rows *shape"]) -> Float[Array, "atoms *shape"]:
    """Sums over rows' pairs, summed over an atom's rows."""
    return rows if batch.width is not None else batch.sum_pairs(rows)


def to_rows(batch: Batch, atoms: Float[Array, "atoms *shape"]) -> Float[Array, "rows *shape"]:
    """What each row's atom has."""
    return atoms if batch.width is not None else batch.spread(atoms)


def vector_slopes(
    geometry: Geometry,
    along: Float[Array, "rows width"],
    weights: list[Float[Array, "rows width"]],
) -> list[Float[Array, "rows width"]]:
    """∂/∂(x, y, z) of each pair's vector of a function with slope `along` by y(r) and weights
    of harmonics."""
    g = harmonic_gradient(geometry.x, geometry.y, geometry.z, weights)
    u = (geometry.x, geometry.y, geometry.z)
    outward = g[0] * u[0] + g[1] * u[1] + g[2] * u[2]
    length = along * geometry.climb - outward * geometry.inverse
    return [length * u[axis] + g[axis] * geometry.inverse for axis in range(3)]
