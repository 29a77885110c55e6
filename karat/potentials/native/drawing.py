"""Makers of a module's arrays: a module is put together once, from shapes only or with numbers.

An architecture writes one function `build(array)` in which `array(*shape)` stands for each of its
weights; `skeleton` gives it shapes, `initialise` standard normal numbers. What normalises weights
stands in the function that uses them (`blocks/perceptron.py`, `blocks/layers.py`).

Checked: tests/potentials/native/test_drawing.py.
"""

import itertools
from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

ArrayMaker = Callable[..., Array]
Module = TypeVar("Module")


def in_shape(build: Callable[[ArrayMaker], Module], dtype: str) -> Module:
    """The module with `jax.ShapeDtypeStruct` in place of its arrays; nothing is allocated."""
    kind = np.dtype(dtype)
    return eqx.filter_eval_shape(lambda: build(lambda *shape: jnp.zeros(shape, kind)))


def drawn(build: Callable[[ArrayMaker], Module], key: PRNGKeyArray, dtype: str) -> Module:
    """The module with standard normal numbers; the n-th array depends on `key`, n and its shape
    only."""
    kind, counter = np.dtype(dtype), itertools.count()

    def normal(*shape: int) -> Array:
        return jax.random.normal(jax.random.fold_in(key, next(counter)), shape, kind)

    return build(normal)
