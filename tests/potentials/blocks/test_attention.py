"""Attention: sums in heads, weights that end at the cut-off and stay finite."""

import jax
import jax.numpy as jnp
import numpy as np

from karat.potentials.batch import make_batch
from karat.potentials.blocks.attention import softmax_within_cutoff, spread_heads, sum_in_heads
from karat.structures.structure import Structure

VALUES = np.random.default_rng(0).normal(size=(3, 6))


def test_heads_are_consecutive_channels():
    found = sum_in_heads(jnp.asarray(VALUES), 2)
    np.testing.assert_allclose(found, VALUES.reshape(3, 2, 3).sum(axis=2), rtol=1e-14)
    spread = spread_heads(jnp.asarray(VALUES[:, :2]), 6, 4)
    np.testing.assert_allclose(spread, VALUES[:, [0, 0, 0, 1]], rtol=1e-14)


def three_atoms():
    """A batch of one molecule, the padding atom last; random scores."""
    place = np.array([[0.0, 0, 0], [1.0, 0, 0], [0, 1.5, 0]])
    batch = make_batch([Structure(np.array([1, 1, 1]), place)], 3.0, np.float64, False)
    random = np.random.default_rng(1)
    pairs = random.normal(size=(batch.centers.size, 2))
    own = random.normal(size=(batch.atoms, 2))
    return batch, jnp.asarray(pairs), jnp.asarray(own)


def test_weights_are_the_definition_and_add_up_to_one():
    batch, pairs, own = three_atoms()
    envelope = np.where(batch.pair_mask, np.linspace(0.1, 0.9, pairs.shape[0]), 0.0)[:, None]
    found, alone = softmax_within_cutoff(batch, pairs, own, jnp.asarray(envelope))
    raised, centers = envelope * np.exp(pairs), np.asarray(batch.centers)
    total = np.exp(own)
    np.add.at(total, centers, raised)
    np.testing.assert_allclose(found, raised / total[centers], rtol=1e-12)
    np.testing.assert_allclose(alone, np.exp(own) / total, rtol=1e-12)
    np.testing.assert_allclose(batch.sum_pairs(found) + alone, 1.0, rtol=1e-12)


def test_huge_scores_and_pairs_beyond_the_cutoff_do_no_harm():
    batch, pairs, own = three_atoms()
    envelope = jnp.where(batch.pair_mask, 0.5, 0.0)[:, None]
    huge = jnp.where(batch.pair_mask[:, None], 1e4 * pairs, 1e6)

    def total(scores):
        found, alone = softmax_within_cutoff(batch, scores, -1e4 * jnp.abs(own), envelope)
        return jnp.sum(found * found) + jnp.sum(alone * alone)

    value, slope = jax.value_and_grad(total)(huge)
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))
    assert not np.any(np.asarray(slope)[~np.asarray(batch.pair_mask)])
