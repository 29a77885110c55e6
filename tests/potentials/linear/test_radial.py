"""Radial functions and harmonics against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import eval_jacobi, sph_harm_y

from karat.potentials.linear.density import harmonic_gradient, harmonics
from karat.potentials.linear.radial import Polynomials, agnesi, agnesi_at

PLACES = np.linspace(-0.999, 0.999, 201)


@pytest.mark.parametrize(("inner", "outer"), [(1, 4), (0, 3), (2, 2)])
def test_polynomials_are_those_of_jacobi(inner, outer):
    """Up to norm and sign; and orthonormal by Gauss's rule, exact to degree 79."""
    made = Polynomials.make(inner, outer, 14)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for y, check in ((PLACES, "jacobi"), (nodes, "norm")):
        y = jnp.asarray(y)
        rows = np.array(made.values(y, made.envelope(y)[0]))
        if check == "norm":
            np.testing.assert_allclose((rows * weights) @ rows.T, np.eye(14), atol=1e-12)
            continue
        shape = (1 - PLACES) ** inner * (1 + PLACES) ** outer
        for k, row in enumerate(rows):
            expected = shape * eval_jacobi(k, 2 * inner, 2 * outer, PLACES)
            scale = np.sum(expected * row) / np.sum(expected**2)
            assert scale > 0
            # 14 steps of a stable recurrence
            np.testing.assert_allclose(row, scale * expected, rtol=0, atol=1e-11)


def test_slopes_are_derivatives():
    made = Polynomials.make(2, 3, 12)

    def value(y):
        return jnp.stack(made.values(y, made.envelope(y)[0]))

    y = jnp.asarray(PLACES)
    factor, slope = made.envelope(y)
    rows = np.array(made.slopes(y, made.values(y, factor), slope))
    expected = jax.jvp(value, (y,), (jnp.ones_like(y),))[1]
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("inner", "outer"), [(2, 3), (0, 3)])
def test_functions_vanish_smoothly_at_the_cutoff(inner, outer):
    """Like the third power of the distance to it, and are exactly zero beyond."""
    made = Polynomials.make(inner, outer, 5)
    near = jnp.asarray([-1.0 + 1e-3, -1.0 + 2e-3, -1.0, -1.2])
    rows = np.array(made.values(near, made.envelope(near)[0]))
    np.testing.assert_allclose(rows[:, 1] / rows[:, 0], 8, rtol=0.03)
    assert not rows[:, 2:].any()
    assert not np.array(made.envelope(near)[1])[2:].any()


def test_transform_is_steepest_at_the_spacing():
    """Where p = 2 and q = 4, as the source defines a."""
    spacing = 2.35

    def climb(distance):
        square = jnp.asarray(distance) ** 2
        return float(agnesi(square, 1 / spacing**2)[1] * 2 * distance)

    found = minimize_scalar(climb, bounds=(1.0, 4.0), method="bounded", options={"xatol": 1e-8})
    assert found.x == pytest.approx(spacing, abs=1e-6)
    s = found.x / spacing
    explicit = 1 / (1 + 10 / 13 * s**4 / (1 + s**2))
    assert float(agnesi_at(found.x, spacing)) == pytest.approx(explicit, rel=1e-14)
    value, slope = agnesi(jnp.asarray(6.0), 1 / spacing**2)
    step = 1e-5
    high, low = (float(agnesi(jnp.asarray(6.0 + d), 1 / spacing**2)[0]) for d in (step, -step))
    assert float(slope) == pytest.approx((high - low) / (2 * step), rel=1e-8)
    assert float(value) == pytest.approx(float(agnesi_at(6.0**0.5, spacing)), rel=1e-14)


def unit_vectors(count):
    vectors = np.random.default_rng(2).normal(size=(count, 3))
    vectors[0] = [0, 0, 1]
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


def test_harmonics_are_scipys():
    vectors = unit_vectors(30)
    theta, phi = np.arccos(vectors[:, 2]), np.arctan2(vectors[:, 1], vectors[:, 0])
    rows = np.array(harmonics(*jnp.asarray(vectors.T), 7))
    for degree in range(8):
        for m in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(m), theta, phi) * (-1) ** m
            part = value.imag if m < 0 else value.real
            expected = part * np.sqrt(4 * np.pi) * (np.sqrt(2) if m else 1)
            found = rows[degree * (degree + 1) + m]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_gradient_of_harmonics_along_the_sphere():
    vectors = unit_vectors(20)
    weights = np.random.default_rng(3).normal(size=(25, 20))
    xyz = jnp.asarray(vectors.T)
    found = np.array(harmonic_gradient(*xyz, list(jnp.asarray(weights))))

    def value(point):
        turned = point / jnp.linalg.norm(point, axis=0)[None]
        return jnp.sum(jnp.stack(harmonics(*turned, 4)) * weights)

    expected = np.array(jax.grad(value)(xyz))
    along = found - np.sum(found * vectors.T, axis=0) * vectors.T
    np.testing.assert_allclose(along, expected, rtol=0, atol=1e-11)
