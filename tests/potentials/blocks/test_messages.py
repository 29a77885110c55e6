"""Sums over neighbours of whole rows, in a list of pairs and in rows of atoms."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from karat.potentials.batch import make_batch
from karat.potentials.blocks.messages import sum_messages
from karat.structures.structure import Structure


def test_messages_are_summed_over_the_pairs_of_each_centre():
    random = np.random.default_rng(2)
    structure = Structure(np.full(5, 6), random.normal(size=(5, 3)))
    batch = make_batch([structure], 2.0, np.float64, False)
    values = random.normal(size=(batch.vectors.shape[0], 3))
    expected = np.zeros((batch.atoms, 3))
    np.add.at(expected, np.asarray(batch.centers), values)
    np.testing.assert_allclose(sum_messages(batch, jnp.asarray(values)), expected, atol=1e-14)
    centers = np.repeat(np.arange(batch.atoms), 4)
    rows = dataclasses.replace(
        batch,
        centers=jnp.asarray(centers, jnp.int32),
        neighbours=jnp.zeros(len(centers), jnp.int32),
        vectors=jnp.ones((len(centers), 3)),
        pair_mask=jnp.ones(len(centers), bool),
        width=4,
    )
    values = random.normal(size=(4 * batch.atoms, 3))
    expected = values.reshape(-1, 4, 3).sum(axis=1)
    np.testing.assert_allclose(sum_messages(rows, jnp.asarray(values)), expected, atol=1e-14)
