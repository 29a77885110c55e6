"""Layer normalisation of an atom's features.

Source: Ba, Kiros, Hinton, arXiv:1607.06450 (2016).
Checked: tests/potentials/blocks/test_normalisation.py.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

EPSILON = 1e-5
"""Added to the variance, as in torch."""


class LayerNorm(eqx.Module):
    """(x − mean) / √(variance + ε) ∘ weight + bias, mean and variance over channels.

    Attributes:
        weight, bias: begin as ones and zeros.
    """

    weight: Float[Array, "channels"]
    bias: Float[Array, "channels"]

    def __call__(self, values: Float[Array, "rows channels"]) -> Float[Array, "rows channels"]:
        """Of each row."""
        away = values - _mean(values)
        scaled = away * lax.rsqrt(_mean(away * away) + EPSILON)
        return scaled * self.weight[None, :] + self.bias[None, :]


def layer_norm(array: Callable[..., Array], channels: int) -> LayerNorm:
    """Ones and zeros; `array` makes an array of a shape (`native/drawing.py`)."""
    return LayerNorm(jnp.ones_like(array(channels)), jnp.zeros_like(array(channels)))


def _mean(values: Float[Array, "rows channels"]) -> Float[Array, "rows 1"]:
    """A product with ones: faster than a sum over the last axis."""
    channels = values.shape[1]
    ones = jnp.full((channels, 1), 1 / channels, values.dtype)
    return jnp.matmul(values, ones, precision="highest")
