"""Directions against optax's own complete optimisers."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from karat.training.optimisers import OPTIMISERS, make_optimiser
from karat.training.settings import OptimiserName

RATE = 0.03
WHOLE = {
    "adam": lambda: optax.adam(RATE),
    "adamw": lambda: optax.adam(RATE),
    "amsgrad": lambda: optax.amsgrad(RATE),
    "nadam": lambda: optax.nadam(RATE),
    "adabelief": lambda: optax.adabelief(RATE),
    "lion": lambda: optax.lion(RATE, weight_decay=0.0),
    "sgd": lambda: optax.sgd(RATE, momentum=0.9),
    "muon": lambda: optax.contrib.muon(RATE),
}


def parameters():
    """A matrix, a stack of matrices and a vector; one part is not trained."""
    generator = np.random.default_rng(0)
    shapes = {"matrix": (4, 6), "stack": (2, 3, 3), "bias": (5,)}
    arrays = {k: jnp.asarray(generator.normal(size=shape)) for k, shape in shapes.items()}
    return {**arrays, "fixed": None}


def after(transform, rate, steps=6):
    """Where steps downhill on Σ cosh p lead; `rate` is 1 for a complete optimiser."""

    @jax.jit
    def step(p, state):
        u, state = transform.update(jax.tree.map(jnp.sinh, p), state, p)
        return jax.tree.map(lambda a, b: a + rate * b, p, u), state

    p = parameters()
    with jax.numpy_dtype_promotion("standard"):
        state = jax.jit(transform.init)(p)
        for _ in range(steps):
            p, state = step(p, state)
    return p


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_each_is_the_one_of_optax(name):
    mine = after(make_optimiser(name, 0.0, 0.0), -RATE)
    assert_equal(mine, after(WHOLE[name](), 1.0))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), mine, parameters())
    assert min(jax.tree.leaves(moved)) > 0.01


def test_weight_decay_is_decoupled_and_spares_biases():
    spared = {"matrix": True, "stack": True, "bias": False, "fixed": None}
    whole = optax.adamw(RATE, weight_decay=0.1, mask=spared)
    assert_equal(after(make_optimiser("adamw", 0.0, 0.1), -RATE), after(whole, 1.0))


def test_muon_turns_a_matrix_into_a_nearly_orthogonal_one():
    transform = make_optimiser("muon", 0.0, 0.0)
    p = parameters()
    with jax.numpy_dtype_promotion("standard"):
        update, _ = jax.jit(transform.update)(p, transform.init(p), p)
    singular = np.linalg.svd(np.asarray(update["matrix"]), compute_uv=False)
    # five Newton–Schulz steps leave singular values of about 0.7 to 1.2 (Jordan et al.), times
    # optax's factor √max(1, columns/rows)
    assert 0.6 < singular.min() <= singular.max() < 1.3 * np.sqrt(6 / 4)


def test_the_settings_name_them_all():
    assert set(get_args(OptimiserName)) == set(OPTIMISERS)
