"""Dense layers against NumPy, activations against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.blocks.layers import ACTIVATIONS, Dense, celu, network
from karat.potentials.native.drawing import drawn


def test_a_network_is_numpys():
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=s) for s in ((4, 7), (7, 3))]
    biases = [generator.normal(size=s) for s in (7, 3)]
    values = generator.normal(size=(5, 2, 4))
    layers = [Dense(jnp.asarray(w), jnp.asarray(b)) for w, b in zip(weights, biases)]
    hidden = np.tanh(values @ weights[0] / 2 + biases[0])
    expected = hidden @ weights[1] / np.sqrt(7) + biases[1]
    found = network(jnp.asarray(values), layers, "tanh")
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_activations_are_their_definitions():
    x = np.linspace(-3, 3, 13)
    expected = {
        "silu": x / (1 + np.exp(-x)),
        "tanh": np.tanh(x),
        "celu": np.where(x > 0, x, 0.1 * (np.exp(x / 0.1) - 1)),
        "shifted_softplus": np.log(0.5 * np.exp(x) + 0.5),
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, values in expected.items():
        found = ACTIVATIONS[name](jnp.asarray(x))
        np.testing.assert_allclose(found, values, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_celu_has_finite_derivatives_far_away(far):
    """exp(10⁵) would overflow and give NaN where it is not taken."""
    first, second = jax.grad(celu), jax.grad(jax.grad(celu))
    assert first(jnp.asarray(far)) == (1.0 if far > 0 else 0.0)
    assert second(jnp.asarray(far)) == 0.0


def test_biases_begin_as_zero():
    from karat.potentials.blocks.layers import dense

    layer = drawn(lambda array: dense(array, 3, 2), jax.random.key(0), "float64")
    np.testing.assert_array_equal(layer.bias, 0.0)
