"""Links: radial functions, harmonics, and products of rejections against dihedral angles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.blocks.links import (
    ExponentialNormal,
    degree_slices,
    rejected_product,
    unit_harmonics,
)

CUTOFF, COUNT = 4.0, 6


def basis():
    empty = ExponentialNormal(jnp.zeros(COUNT), jnp.zeros(()), CUTOFF)
    return ExponentialNormal(*empty.numbers(), CUTOFF)


def test_radial_functions_are_the_definition_and_end_at_the_cutoff():
    r = np.array([0.0, 0.7, 2.5, CUTOFF, 7.0])
    low = np.exp(-CUTOFF)
    centres, beta = np.linspace(low, 1, COUNT), (2 / COUNT * (1 - low)) ** -2
    window = np.where(r < CUTOFF, 0.5 * (1 + np.cos(np.pi * r / CUTOFF)), 0.0)
    shape = np.exp(-beta * (np.exp(-5 * r / CUTOFF)[:, None] - centres) ** 2)
    np.testing.assert_allclose(basis()(jnp.asarray(r)), window[:, None] * shape, rtol=1e-12)
    slope = jax.jacobian(lambda x: basis()(x[None])[0])(jnp.asarray(CUTOFF - 1e-9))
    np.testing.assert_allclose(slope, 0, atol=1e-8)


def test_each_degree_of_a_direction_has_length_one_and_legendre_products():
    r = np.random.default_rng(0).normal(size=(5, 3))
    values = np.asarray(unit_harmonics(jnp.asarray(r), jnp.linalg.norm(r, axis=1), 2))
    unit = r / np.linalg.norm(r, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert degree_slices(8) == [slice(0, 3), slice(3, 8)]
    one, two = (values[:, part] for part in degree_slices(8))
    np.testing.assert_allclose(one @ one.T, cosines, atol=1e-12)
    np.testing.assert_allclose(two @ two.T, 1.5 * cosines**2 - 0.5, atol=1e-12)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("degree", [1, 2])
def test_rejections_of_one_neighbour_each_are_the_dihedral_angle(each, degree):
    """sin θ₁ sin θ₂ cos φ for degree 1; of two degrees by the addition theorem, P_l(cos) each."""
    (t, u), phi = (1.1, 2.0), 0.7
    a = np.array([np.cos(t), np.sin(t), 0.0])
    b = np.array([np.cos(u), np.sin(u) * np.cos(phi), np.sin(u) * np.sin(phi)])
    rows = jnp.asarray(np.stack([a, b, [1.0, 0, 0]]))
    first, second, along = (one[None] for one in unit_harmonics(rows, jnp.ones(3), degree))
    found = float(rejected_product(first, second, along, each)[0, 0])
    legendre = [1.5 * x * x - 0.5 for x in (a @ b, a[0], b[0])]
    expected = np.sin(t) * np.sin(u) * np.cos(phi)
    if degree == 2 and each:
        expected += legendre[0] - legendre[1] * legendre[2]
    elif degree == 2:
        expected = a @ b + legendre[0]
    assert found == pytest.approx(expected, abs=1e-12)
