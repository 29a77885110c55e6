"""One description of a module gives its shapes and its numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from karat.potentials.blocks.layers import dense_layers
from karat.potentials.native.drawing import drawn, in_shape


def build(array):
    return dense_layers(array, (3, 500, 2))


def test_shapes_are_those_of_the_numbers():
    shapes, numbers = in_shape(build, "float32"), drawn(build, jax.random.key(0), "float32")
    for shape, number in zip(jax.tree.leaves(shapes), jax.tree.leaves(numbers), strict=True):
        assert isinstance(shape, jax.ShapeDtypeStruct)
        assert (shape.shape, shape.dtype) == (number.shape, jnp.dtype("float32"))


def test_numbers_are_standard_normal_and_depend_on_the_key():
    """1500 numbers: the mean is within 4.5 standard errors, false alarms below 1e-5."""
    first = drawn(build, jax.random.key(1), "float64")
    again = drawn(build, jax.random.key(1), "float64")
    other = drawn(build, jax.random.key(2), "float64")
    values = np.asarray(first[0].weight)
    assert abs(values.mean()) < 4.5 / np.sqrt(1500)
    assert abs(values.var() - 1) < 4.5 * np.sqrt(2 / 1500)
    np.testing.assert_array_equal(values, again[0].weight)
    assert not np.any(values == np.asarray(other[0].weight))
    assert not np.any(np.asarray(first[1].weight[:3, :2]) == values[:, :2])
