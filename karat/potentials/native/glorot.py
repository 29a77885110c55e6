"""Glorot's variance of first weights.

Source: Glorot, Bengio, AISTATS, PMLR 9, 249 (2010).
Checked: tests/potentials/native/test_glorot.py.
"""

from jaxtyping import Array


def glorot(array: Array) -> Array:
    """A layer's weights as drawn, so that in use (divided by √inputs) their variance is 2/(inputs +
    outputs) instead of 1/inputs; biases as they are."""
    if array.ndim < 2:
        return array
    inputs, outputs = array.shape[-2:]
    return array * (2 * inputs / (inputs + outputs)) ** 0.5
