"""Small networks without biases, normalised so that random weights of unit variance give values of
unit variance.

Checked: tests/potentials/blocks/test_radial.py.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SILU_FACTOR = 1.6791767923989418
"""Makes the mean square of SiLU of a standard normal variable 1. It is e3nn 0.4.4's number, found
there by sampling (the integral gives 1.6765), so that weights mean the same as in MACE's code."""


def silu(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Normalised x · sigmoid(x)."""
    return SILU_FACTOR * jax.nn.silu(values)


def linear(
    values: Float[Array, "*shape inputs"], weight: Float[Array, "inputs outputs"]
) -> Float[Array, "*shape outputs"]:
    """x W / √inputs."""
    flat = values.reshape(-1, values.shape[-1])
    mixed = jnp.matmul(flat, weight * weight.shape[0] ** -0.5, precision="highest")
    return mixed.reshape(*values.shape[:-1], weight.shape[1])


def perceptron(
    values: Float[Array, "rows inputs"], weights: Sequence[Float[Array, "_ _"]]
) -> Float[Array, "rows outputs"]:
    """Layers with SiLU between them, none after the last."""
    for weight in weights[:-1]:
        values = silu(linear(values, weight))
    return linear(values, weights[-1])
