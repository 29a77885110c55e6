"""SOAP: power spectra of each atom's neighbour density, from edge vectors.

Source: Bartók, Kondor & Csányi, Phys. Rev. B 87, 184115 (2013), and its erratum for the factor
π √(8 / (2l + 1)).
Checked: tests/potentials/linear/test_soap.py, against dscribe.
"""

import math
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.chebyshev import interpolate
from karat.potentials.blocks.convolution import moments
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.linear.soap_settings import SoapSettings, node_values, orbitals

Density = list[Float[Array, "atoms _ channels"]]
"""By l: 2l + 1 components of each channel (element, n), n running fastest."""


def pair_functions(
    vectors: Float[Array, "pairs 3"], settings: SoapSettings
) -> tuple[Float[Array, "pairs _"], Float[Array, "harmonics pairs"]]:
    """Radial functions with the switch, and harmonics (mean square 1); the former are zero out of
    reach."""
    squares = jnp.sum(vectors * vectors, axis=1)
    inside = squares < settings.reach**2
    # the switch is zero there, too: only no overflow far out
    away = jnp.asarray([settings.reach, 0.0, 0.0], vectors.dtype)
    safe = jnp.where(inside[:, None], vectors, away[None, :])
    distances = jnp.sqrt(jnp.sum(safe * safe, axis=1))
    weight = jnp.where(inside, settings.weight(distances), 0)
    values = jnp.asarray(node_values(settings) / math.sqrt(4 * math.pi), vectors.dtype)
    radial = interpolate(distances, values, settings.reach) * weight[:, None]
    return radial, pair_harmonics(safe, distances, settings.l_max)


def neighbour_kinds(batch: Batch, species: tuple[int, ...]) -> Float[Array, "pairs species"]:
    """1 in the column of the neighbour's element; 0 on padding."""
    index = species_index(batch.neighbour_numbers, species)
    kinds = jax.nn.one_hot(index, len(species), dtype=batch.vectors.dtype)
    return jnp.where(batch.pair_mask[:, None], kinds, 0)


def density(batch: Batch, species: tuple[int, ...], settings: SoapSettings) -> Density:
    """Expansion coefficients of the density around each atom, its own Gaussian included."""
    radial, around = pair_functions(batch.vectors, settings)
    return gathered(batch, species, settings, radial, around)


def gathered(
    batch: Batch,
    species: tuple[int, ...],
    settings: SoapSettings,
    radial: Float[Array, "pairs _"],
    around: Float[Array, "harmonics pairs"],
) -> Density:
    """`density` from the functions of pairs."""
    kinds = neighbour_kinds(batch, species)
    count = settings.n_max
    found = []
    for degree in range(settings.l_max + 1):
        own = radial[:, degree * count : (degree + 1) * count]
        if len(species) > 1:
            own = (kinds[:, :, None] * own[:, None, :]).reshape(own.shape[0], -1)
        else:
            own = kinds * own
        found.append(moments(batch, around[degree * degree : (degree + 1) ** 2], own))
    found[0] = found[0] + _central(batch, species, settings)[:, None, :]
    return found


def _central(
    batch: Batch, species: tuple[int, ...], settings: SoapSettings
) -> Float[Array, "atoms channels"]:
    """What an atom's own Gaussian adds to l = 0."""
    _, weights = orbitals(settings)
    values = settings.central_weight * weights[0].sum(axis=1) / math.sqrt(4 * math.pi)
    kinds = jax.nn.one_hot(
        species_index(batch.numbers, species), len(species), dtype=batch.vectors.dtype
    )
    kinds = jnp.where(batch.atom_mask[:, None], kinds, 0)
    own = kinds[:, :, None] * jnp.asarray(values, kinds.dtype)[None, None, :]
    return own.reshape(kinds.shape[0], -1)


@lru_cache
def places(elements: int, settings: SoapSettings) -> tuple[Int[np.ndarray, "components"], ...]:
    """l, first and second channel of each component of the power spectrum, in dscribe's order:
    pairs of elements, l, then both n (of one element: n ≤ n')."""
    count, rows = settings.n_max, []
    for first in range(elements):
        for second in range(first, elements):
            for degree in range(settings.l_max + 1):
                for n in range(count):
                    for other in range(n if first == second else 0, count):
                        rows.append((degree, first * count + n, second * count + other))
    made = np.array(rows, np.int64).reshape(-1, 3)
    return made[:, 0], made[:, 1], made[:, 2]


def prefactors(settings: SoapSettings) -> Float[np.ndarray, "degrees"]:
    """π √(8 / (2l + 1))."""
    return math.pi * np.sqrt(8 / (2 * np.arange(settings.l_max + 1) + 1))


def power_spectrum(
    found: Density, elements: int, settings: SoapSettings
) -> Float[Array, "atoms components"]:
    """π √(8 / (2l + 1)) Σ_m c_anlm c_bn'lm, in dscribe's order."""
    factors = prefactors(settings)
    degree, first, second = places(elements, settings)
    channels = elements * settings.n_max
    blocks = []
    for own, factor in zip(found, factors.tolist()):
        block = jnp.matmul(jnp.swapaxes(own, 1, 2), own, precision="highest")
        blocks.append(factor * block.reshape(own.shape[0], -1))
    everything = jnp.concatenate(blocks, axis=1)
    return everything[:, (degree * channels + first) * channels + second]


@eqx.filter_jit
def soap(
    batch: Batch, species: tuple[int, ...], settings: SoapSettings
) -> Float[Array, "atoms components"]:
    """Power spectra of the atoms of a batch; zero on padding.

    Args:
        batch: with all neighbours within `settings.reach`.
        species: atomic numbers, ascending; all that the batch has.
        settings: of the density.
    """
    return power_spectrum(density(batch, species, settings), len(species), settings)
