"""Weights that depend on an atom's element.

Checked: tests/potentials/blocks/test_elements.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch

FEW_ELEMENTS = 6
"""Up to so many, products with all elements' matrices are taken."""


def element_rows(
    batch: Batch, species: tuple[int, ...], dtype: jnp.dtype
) -> Float[Array, "atoms species"]:
    """1 in the column of each atom's element; padding counts as the first."""
    return jax.nn.one_hot(species_index(batch.numbers, species), len(species), dtype=dtype)


def rows_of_elements(
    weights: Float[Array, "species rows channels"], elements: Float[Array, "atoms species"]
) -> Float[Array, "rows atoms channels"]:
    """Each atom's own weights."""
    species, rows, channels = weights.shape
    flat = jnp.matmul(elements, weights.reshape(species, -1), precision="highest")
    return jnp.swapaxes(flat.reshape(-1, rows, channels), 0, 1)


def by_element(
    values: Float[Array, "atoms orders channels"],
    weights: Float[Array, "species channels results"],
    elements: Float[Array, "atoms species"],
) -> Float[Array, "atoms orders results"]:
    """x W_element.

    Of few elements all products are taken, of which each atom keeps its own: on a CPU one large
    matrix product is faster than sorting atoms. Of many, each atom's matrix is put together.
    """
    species, channels, results = weights.shape
    if species > FEW_ELEMENTS:
        own = jnp.matmul(elements, weights.reshape(species, -1), precision="highest")
        return jnp.matmul(values, own.reshape(-1, channels, results), precision="highest")
    together = jnp.swapaxes(weights, 0, 1).reshape(channels, species * results)
    atoms, orders, _ = values.shape
    mixed = jnp.matmul(values.reshape(-1, channels), together, precision="highest")
    mixed = mixed.reshape(atoms, orders, species, results)
    return jnp.sum(mixed * elements[:, None, :, None], axis=2)
