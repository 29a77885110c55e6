"""Glorot's variance."""

import jax.numpy as jnp
import numpy as np

from karat.potentials.native.glorot import glorot


def test_variance_in_use_is_that_of_glorot_and_bengio():
    drawn = jnp.asarray(np.random.default_rng(0).normal(size=(300, 100)))
    used = np.asarray(glorot(drawn)) / 300**0.5
    # standard deviation of a variance of n numbers: √(2/n)
    np.testing.assert_allclose(used.var(), 2 / 400, rtol=5 * (2 / 30_000) ** 0.5)


def test_square_layers_and_biases_stay():
    for shape in ((4, 4), (5,)):
        values = jnp.arange(float(np.prod(shape))).reshape(shape)
        np.testing.assert_allclose(glorot(values), values, rtol=1e-15)
