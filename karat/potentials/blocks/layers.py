"""Dense layers with biases.

Weights are stored as drawn from a standard normal distribution and divided by √inputs in use, so
that values of unit variance stay so; biases begin as zero.

Checked: tests/potentials/blocks/test_layers.py.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.blocks.perceptron import linear

ActivationName = Literal["silu", "tanh", "celu", "shifted_softplus"]


def shifted_softplus(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """ln(½ eˣ + ½) of Schütt et al., NeurIPS (2017)."""
    return jax.nn.softplus(values) - math.log(2.0)


def celu(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(0, x) + min(0, α (exp(x/α) − 1)) with α = 0.1, as in ANI networks; once continuously
    differentiable."""
    return jnp.maximum(values, 0.0) + 0.1 * jnp.expm1(jnp.minimum(values, 0.0) / 0.1)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "celu": celu,
    "shifted_softplus": shifted_softplus,
}


class Dense(eqx.Module):
    """x W / √inputs + b.

    Attributes:
        weight, bias: see above.
    """

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, "outputs"]

    def __call__(self, values: Float[Array, "*shape inputs"]) -> Float[Array, "*shape outputs"]:
        """Of the last axis."""
        mixed = linear(values, self.weight)
        return mixed + jnp.broadcast_to(self.bias, mixed.shape)


def dense(array: Callable[..., Array], inputs: int, outputs: int) -> Dense:
    """A layer; `array` makes an array of a shape (`native/drawing.py`)."""
    return Dense(array(inputs, outputs), jnp.zeros_like(array(outputs)))


def dense_layers(array: Callable[..., Array], widths: Sequence[int]) -> tuple[Dense, ...]:
    """Layers between consecutive widths."""
    return tuple(dense(array, a, b) for a, b in pairwise(widths))


def network(
    values: Float[Array, "*shape inputs"], layers: Sequence[Dense], activation: ActivationName
) -> Float[Array, "*shape outputs"]:
    """Layers with an activation between them, none after the last."""
    for layer in layers[:-1]:
        values = ACTIVATIONS[activation](layer(values))
    return layers[-1](values)
