"""Sparse products against einsum, and their derivatives against dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.blocks.products import (
    dense,
    elementwise,
    merged,
    scalar_products,
    scaled,
    take,
    terms_of,
)

RNG = np.random.default_rng(1)
TENSOR = RNG.normal(size=(3, 4, 5)) * (RNG.random((3, 4, 5)) < 0.4)
TERMS = merged(terms_of(TENSOR))


def arrays(*shapes):
    return [jnp.asarray(RNG.normal(size=shape)) for shape in shapes]


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_elementwise_is_the_dense_contraction_along_either_axis():
    a, b = arrays((3, 7, 2), (4, 7, 2))
    expected = jnp.einsum("ijo,ipk,jpk->opk", TENSOR, a, b)
    close(elementwise(a, b, TERMS, 5, 0), expected)
    close(dense(a, b, TERMS, 5), expected)
    across = elementwise(jnp.swapaxes(a, 0, 1), jnp.swapaxes(b, 0, 1), TERMS, 5, 1)
    close(across, jnp.swapaxes(expected, 0, 1))


def test_scaled_and_scalar_products_are_the_dense_contractions():
    y, b = arrays((3, 7), (7, 4, 2))
    close(scaled(y, b, TERMS, 5), jnp.einsum("ijo,ip,pjk->pok", TENSOR, y, b))
    first, second = arrays((7, 3, 2), (7, 4, 2))
    expected = jnp.einsum("ijo,pik,pjk->op", TENSOR, first, second)
    close(scalar_products(first, second, TERMS, 5), expected)


FORMS = {
    "elementwise": (
        lambda a, b: elementwise(a, b, TERMS, 5, 0),
        lambda a, b: jnp.einsum("ijo,ipk,jpk->opk", TENSOR, a, b),
        ((3, 7, 2), (4, 7, 2)),
    ),
    "dense": (
        lambda a, b: dense(a, b, TERMS, 5),
        lambda a, b: jnp.einsum("ijo,ipk,jpk->opk", TENSOR, a, b),
        ((3, 7, 2), (4, 7, 2)),
    ),
    "scaled": (
        lambda a, b: scaled(a, b, TERMS, 5),
        lambda a, b: jnp.einsum("ijo,ip,pjk->pok", TENSOR, a, b),
        ((3, 7), (7, 4, 2)),
    ),
    "scalar": (
        lambda a, b: scalar_products(a, b, TERMS, 5),
        lambda a, b: jnp.einsum("ijo,pik,pjk->op", TENSOR, a, b),
        ((7, 3, 2), (7, 4, 2)),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_first_and_second_derivatives_are_those_of_einsum(name):
    sparse, full, shapes = FORMS[name]
    a, b = arrays(*shapes)

    def first(form):
        return jax.grad(lambda a, b: jnp.sum(jnp.sin(form(a, b))), (0, 1))

    def second(form):
        def size(a, b):
            return sum(jnp.sum(slope**3) for slope in first(form)(a, b))

        return jax.grad(size, (0, 1))

    for derivative in (first, second):
        for found, expected in zip(derivative(sparse)(a, b), derivative(full)(a, b)):
            close(found, expected)


def test_equal_terms_are_added_and_factors_of_one_array_commute():
    terms = merged([(0, 1, 0, 2.0), (0, 0, 1, 3.0), (1, 0, 0, 1.0), (1, 0, 0, -1.0)], True)
    assert terms == ((0, 0, 1, 5.0),)


def test_take_repeats_components_and_its_derivative_adds_them():
    (a,) = arrays((3, 2))
    index = (2, 0, 2)
    close(take(a, index), a[np.array(index)])
    slope = jax.grad(lambda a: jnp.sum(take(a, index) * jnp.arange(1.0, 4.0)[:, None]))(a)
    close(slope, np.array([[2.0, 2.0], [0.0, 0.0], [4.0, 4.0]]))
