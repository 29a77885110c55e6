"""Weights by element against plain indexing."""

import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.batch import make_batch
from karat.potentials.blocks.elements import (
    FEW_ELEMENTS,
    by_element,
    element_rows,
    rows_of_elements,
)
from karat.structures.structure import Structure

NUMBERS = np.array([8, 1, 6, 1, 17, 9, 7, 16, 8])


@pytest.mark.parametrize("species", [(1, 6, 7, 8, 9, 16, 17), (1, 6, 8)])
def test_each_atom_has_the_weights_of_its_element(species):
    """More and fewer elements than the two ways are for."""
    assert (len(species) > FEW_ELEMENTS) is (len(species) == 7)
    numbers = NUMBERS[np.isin(NUMBERS, species)]
    generator = np.random.default_rng(0)
    structure = Structure(numbers, generator.normal(size=(len(numbers), 3)))
    elements = element_rows(
        make_batch([structure], 3.0, np.float64, False), species, jnp.dtype("float64")
    )
    weights = generator.normal(size=(len(species), 4, 5))
    values = generator.normal(size=(len(elements), 3, 4))
    index = np.searchsorted(species, numbers)
    found = by_element(jnp.asarray(values), jnp.asarray(weights), elements)
    real = len(numbers)
    expected = np.einsum("aoc,acr->aor", values[:real], weights[index])
    np.testing.assert_allclose(found[:real], expected, rtol=1e-12, atol=1e-13)
    rows = rows_of_elements(jnp.asarray(weights), elements)
    np.testing.assert_array_equal(rows[:, :real], np.swapaxes(weights[index], 0, 1))
