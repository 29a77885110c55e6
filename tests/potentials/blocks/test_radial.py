"""Radial functions: envelope, Bessel functions, splines, Chebyshev interpolation, networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.special import spherical_jn

from karat.core.errors import BadInput
from karat.potentials.blocks.chebyshev import interpolate, node_distances, polynomials
from karat.potentials.blocks.perceptron import linear, perceptron, silu
from karat.potentials.blocks.radial import Envelope, bessel
from karat.potentials.blocks.splines import spline_table


def test_the_envelope_ends_with_zero_value_slope_and_curvature():
    envelope = Envelope(5.0, 5)
    value, slope, curvature = envelope, jax.grad(envelope), jax.grad(jax.grad(envelope))
    near, beyond, x = jnp.asarray(5.0 - 1e-9), jnp.asarray(5.0 + 1e-9), 0.37
    assert value(jnp.asarray(0.0)) == 1.0
    for derivative in (value, slope, curvature):
        assert abs(derivative(near)) < 1e-7  # third derivative times the distance
        assert derivative(beyond) == 0.0
    # p = 5: 1 - 21 x^5 + 35 x^6 - 15 x^7
    assert value(jnp.asarray(5 * x)) == pytest.approx(
        1 - 21 * x**5 + 35 * x**6 - 15 * x**7, abs=1e-14
    )


def test_a_senseless_power_is_refused():
    with pytest.raises(BadInput, match="envelope_power 0"):
        Envelope(5.0, 0)


def test_bessel_functions_are_spherical_bessel_functions():
    """√(2/c) sin(nπr/c)/r = √(2/c) nπ/c j₀(nπr/c); they are orthonormal over the ball."""
    cutoff, n = 4.0, np.arange(1.0, 5.0)
    r = np.linspace(0.01, 3.9, 30)
    found = bessel(jnp.asarray(r), jnp.asarray(n), cutoff)
    wave = n * np.pi / cutoff
    expected = np.sqrt(2 / cutoff) * wave * spherical_jn(0, np.outer(r, wave))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    r = 0.5 * cutoff * (nodes + 1)
    values = np.asarray(bessel(jnp.asarray(r), jnp.asarray(n), cutoff))
    overlap = np.einsum("r,ri,rj->ij", 0.5 * cutoff * weights * r * r, values, values)
    np.testing.assert_allclose(overlap, np.eye(4), atol=1e-12)


def test_chebyshev_polynomials_and_their_derivatives_are_numpys():
    x = jnp.linspace(-0.99, 0.98, 17)
    for n in (0, 1, 15):
        series = np.polynomial.chebyshev.Chebyshev.basis(n)
        value = lambda x, n=n: jnp.sum(polynomials(x, 16)[n])  # noqa: E731
        slope = lambda x, value=value: jnp.sum(jax.grad(value)(x))  # noqa: E731
        np.testing.assert_allclose(polynomials(x, 16)[n], series(x), atol=1e-12)
        np.testing.assert_allclose(jax.grad(value)(x), series.deriv()(x), atol=1e-10)
        np.testing.assert_allclose(jax.grad(slope)(x), series.deriv(2)(x), atol=1e-8)


def test_interpolation_is_exact_for_polynomials_and_converges_for_smooth_functions():
    cutoff = 5.0
    r = jnp.linspace(0.1, 4.99, 50)
    places = node_distances(12, cutoff, np.dtype("float64"))
    found = interpolate(r, jnp.stack([places**11, places**3], axis=1), cutoff)
    np.testing.assert_allclose(
        found, jnp.stack([r**11, r**3], axis=1), rtol=1e-11, atol=1e-6
    )  # of 5¹¹
    worst = []
    for count in (20, 40):
        places = node_distances(count, cutoff, np.dtype("float64"))
        found = interpolate(r, jnp.sin(6 * places)[:, None], cutoff)
        worst.append(float(jnp.abs(found[:, 0] - jnp.sin(6 * r)).max()))
    assert worst[0] > 1e-8
    assert worst[1] < 1e-12


def test_splines_are_scipys_inside_and_zero_beyond():
    knots = np.linspace(0, 5, 41)
    values = np.stack([np.cos(knots) * (5 - knots) ** 3, (5 - knots) ** 4], axis=1)
    table = spline_table(knots, values, np.dtype("float64"))
    r = np.linspace(0.3, 4.99, 71)
    expected = CubicSpline(knots, values, bc_type=("not-a-knot", (1, np.zeros(2))))(r)
    # the two differ in the condition at r = 0 only, which fades within a few knots
    np.testing.assert_allclose(table(jnp.asarray(r[8:])), expected[8:], atol=1e-3)
    assert not np.any(table(jnp.asarray([5.0, 5.1, 1e3])))
    exact = np.stack([np.cos(r) * (5 - r) ** 3, (5 - r) ** 4], axis=1)
    np.testing.assert_allclose(table(jnp.asarray(r)), exact, atol=2e-3)  # h⁴/384 times f⁗


def test_normalised_layers_keep_unit_variance():
    """1000 x 400 standard normal numbers: the mean square of a layer's output has a relative
    standard deviation below 1 %; 5 % is never exceeded by chance."""
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.normal(size=(1000, 400)))
    weights = [jnp.asarray(rng.normal(size=(400, 400))) for _ in range(2)]
    assert float(jnp.mean(silu(values) ** 2)) == pytest.approx(1, abs=0.05)
    assert float(jnp.mean(linear(values, weights[0]) ** 2)) == pytest.approx(1, abs=0.05)
    assert float(jnp.mean(perceptron(values, weights) ** 2)) == pytest.approx(1, abs=0.05)
