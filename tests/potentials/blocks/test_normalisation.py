"""Layer normalisation: its definition, what it does not see, its start."""

import jax
import jax.numpy as jnp
import numpy as np

from karat.potentials.blocks.normalisation import EPSILON, LayerNorm, layer_norm

ROWS = np.random.default_rng(0).normal(2.0, 3.0, size=(5, 7))


def test_it_is_the_definition():
    weight, bias = np.random.default_rng(1).normal(size=(2, 7))
    found = LayerNorm(jnp.asarray(weight), jnp.asarray(bias))(jnp.asarray(ROWS))
    away = ROWS - ROWS.mean(axis=1, keepdims=True)
    expected = away / np.sqrt(ROWS.var(axis=1, keepdims=True) + EPSILON) * weight + bias
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_it_begins_without_effect_on_normal_rows():
    norm = layer_norm(lambda *shape: jnp.zeros(shape), 7)
    found = np.asarray(norm(jnp.asarray(ROWS)))
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(found.var(axis=1), 1, rtol=2 * EPSILON)
    # shifted and scaled rows are the same to ε
    again = norm(jnp.asarray(10 * ROWS + 4))
    np.testing.assert_allclose(again, found, rtol=2 * EPSILON)


def test_rows_of_equal_numbers_are_zero_with_finite_slopes():
    norm, rows = layer_norm(lambda *shape: jnp.zeros(shape), 4), jnp.full((2, 4), 3.0)
    slope = jax.grad(lambda x: jnp.sum(norm(x)[:, 0]))(rows)
    assert not np.any(norm(rows))
    np.testing.assert_allclose(slope[0, 0], 0.75 * EPSILON**-0.5, rtol=1e-9)
