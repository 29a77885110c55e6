"""Σ_{j<k} λ (u_j·u_k - c)² h_j h_k over the neighbours of each atom, from pairs alone.

Σ_jk (u_j·u_k)² h_j h_k is the square of Σ_j h_j u_j ⊗ u_j, and so on: the sum over triplets is one
over moments of the neighbours. Its derivative with respect to one neighbour needs the same moments,
so that it is written down here instead of being derived step by step (three times faster on a CPU);
derivatives of any order and mode follow from it.

Checked: tests/potentials/analytic/test_stillinger_weber.py, against triplets and LAMMPS.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from karat.potentials.batch import Batch

Geometry = tuple[Array, Array, Array, Array]
"""h, and x, y, z of the unit vector, of each pair."""
Tables = tuple[Array, Array]
"""λ (eV) and c over (centre, neighbour, neighbour) species; symmetric in the last two."""


Species = tuple[Int[Array, "pairs"], Int[Array, "pairs"]]
"""Of each pair's centre and neighbour."""


@eqx.filter_custom_jvp
def angle_energies(
    geometry: Geometry, tables: Tables, batch: Batch, species: Species
) -> Float[Array, "atoms"]:
    """Energy of each atom's angles, eV."""
    return _energies(geometry, tables, batch, species)


@angle_energies.def_jvp
def _angle_tangents(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    geometry, tables, batch, species = primals
    decay, strength = geometry[0], _slopes(geometry, tables, batch, species)
    energies = 0.5 * batch.sum_pairs(decay * strength[0])
    change = jnp.zeros_like(decay)
    for slope, tangent in zip(strength, tangents[0]):
        if tangent is not None:
            change = change + slope * tangent
    result = batch.sum_pairs(change)
    given = [jnp.zeros_like(t) if d is None else d for t, d in zip(tables, tangents[1])]
    if any(d is not None for d in tangents[1]):

        def of_tables(*values: Array) -> Array:
            return _energies(geometry, (values[0], values[1]), batch, species)

        result = result + jax.jvp(of_tables, tables, tuple(given))[1]
    return energies, result


def _energies(
    geometry: Geometry, tables: Tables, batch: Batch, species: Species
) -> Float[Array, "atoms"]:
    return 0.5 * batch.sum_pairs(geometry[0] * _slopes(geometry, tables, batch, species)[0])


def _slopes(
    geometry: Geometry, tables: Tables, batch: Batch, species: Species
) -> tuple[Array, Array, Array, Array]:
    """Derivatives of an atom's energy with respect to h, x, y, z of each of its pairs; the energy
    is half of Σ h ∂E/∂h."""
    h, x, y, z = geometry
    by_decay = jnp.zeros_like(h)
    by_x, by_y, by_z = by_decay, by_decay, by_decay
    for third in range(tables[0].shape[1]):
        same = species[1] == third
        mine = h if tables[0].shape[1] == 1 else jnp.where(same, h, 0)
        m0, mx, my, mz, xx, yy, zz, xy, xz, yz = _moments(batch, mine, x, y, z)
        strength, cosine = (_of_pair(table, species, third) for table in tables)
        px = xx * x + xy * y + xz * z - cosine * mx
        py = xy * x + yy * y + yz * z - cosine * my
        pz = xz * x + yz * y + zz * z - cosine * mz
        rest = x * px + y * py + z * pz - cosine * (x * mx + y * my + z * mz)
        itself = jnp.where(same, (1 - cosine) ** 2 * h, 0)
        by_decay = by_decay + strength * (rest + cosine * cosine * m0 - itself)
        by_x = by_x + strength * px
        by_y = by_y + strength * py
        by_z = by_z + strength * pz
    return by_decay, 2 * h * by_x, 2 * h * by_y, 2 * h * by_z


def _moments(batch: Batch, h: Array, x: Array, y: Array, z: Array) -> list[Array]:
    """Σ h (1, x, y, z, xx, yy, zz, xy, xz, yz) over each atom's pairs, given to each of them."""
    hx, hy, hz = h * x, h * y, h * z
    terms = (h, hx, hy, hz, hx * x, hy * y, hz * z, hx * y, hx * z, hy * z)
    return [batch.spread(batch.sum_pairs(term)) for term in terms]


def _of_pair(
    table: Float[Array, "species species species"], species: Species, third: int
) -> Float[Array, "*pairs"]:
    """table[centre, neighbour, third] of each pair; one number where there is one species."""
    return table[0, 0, 0] if table.shape[0] == 1 else table[species[0], species[1], third]
