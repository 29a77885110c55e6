"""Harmonics, their gradients and the quadrature against SciPy and exact integrals."""

import numpy as np
import pytest
from scipy.special import eval_chebyu, eval_legendre

from karat.potentials.linear.snap_basis import (
    gradients,
    harmonics,
    largest_spin,
    point_values,
    quadrature,
    radial_functions,
    triples,
    waves,
)

LARGEST = 8


def directions(seed, dimensions):
    values = np.random.default_rng(seed).normal(size=(6, dimensions))
    return values / np.linalg.norm(values, axis=1)[:, None]


@pytest.mark.parametrize(("twojmax", "count"), [(0, 1), (2, 5), (4, 14), (6, 30), (8, 55)])
def test_number_of_components(twojmax, count):
    """As published: Thompson et al. (2015), Zuo et al. (2020)."""
    assert len(triples(twojmax)) == count


def test_order_of_components():
    """LAMMPS manual, compute sna/atom: the order for twojmax 2, in halves there."""
    assert triples(2) == ((0, 0, 0), (1, 0, 1), (1, 1, 2), (2, 0, 2), (2, 2, 2))


def test_addition_theorem_on_the_sphere():
    one, other = directions(1, 3), directions(2, 3)
    cosine = (one * other).sum(axis=1)
    pairs = zip(harmonics(one, LARGEST), harmonics(other, LARGEST))
    for degree, (a, b) in enumerate(pairs):
        expected = (2 * degree + 1) * eval_legendre(degree, cosine)
        np.testing.assert_allclose((a * b).sum(axis=0), expected, atol=1e-12)


def hyperspherical(points):
    sine = np.linalg.norm(points[:, 1:], axis=1)
    angular = harmonics(points[:, 1:] / sine[:, None], LARGEST)
    radial = radial_functions(np.arctan2(sine, points[:, 0]), LARGEST)
    return [
        np.concatenate([radial[j][degree] * angular[degree] for degree in range(j + 1)])
        for j in range(LARGEST + 1)
    ]


def test_addition_theorem_in_four_dimensions():
    """Σ_lm is the character of SU(2): the Chebyshev polynomial of the cosine between the points."""
    one, other = directions(3, 4), directions(4, 4)
    cosine = (one * other).sum(axis=1)
    for j, (a, b) in enumerate(zip(hyperspherical(one), hyperspherical(other))):
        np.testing.assert_allclose((a * b).sum(axis=0), eval_chebyu(j, cosine), atol=1e-12)


@pytest.mark.parametrize("degree", range(1, LARGEST + 1))
def test_gradients_of_solid_harmonics(degree):
    def solid(points, order):
        length = np.linalg.norm(points, axis=1)
        return length**order * harmonics(points / length[:, None], order)[order]

    points = np.random.default_rng(5).normal(size=(4, 3))
    for axis in range(3):
        shift = 1e-5 * np.eye(3)[axis]
        numeric = (solid(points + shift, degree) - solid(points - shift, degree)) / 2e-5
        exact = gradients(degree)[axis].T @ solid(points, degree - 1)
        # central differences: truncation ~1e-10 of third derivatives, rounding ~1e-11 of values
        np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=1e-6 * np.abs(exact).max())


def test_waves_give_radial_functions_and_slopes():
    from karat.potentials.linear.snap_basis import frequencies

    angle = np.array([1e-3, 0.4, 1.3, 2.9, 3.1])
    count, shift = (row[:, None] for row in frequencies(LARGEST))
    values, slopes = waves(LARGEST)
    wave = np.cos(count * angle - shift)
    by_order = radial_functions(angle, LARGEST)
    size = LARGEST + 1
    rows = [by_order[j][degree] for degree in range(size) for j in range(degree, size)]
    np.testing.assert_allclose(values @ wave, np.array(rows), atol=1e-13)
    step = 1e-6
    moved = [values @ np.cos(count * (angle + s) - shift) for s in (step, -step)]
    np.testing.assert_allclose(slopes @ wave, (moved[0] - moved[1]) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("twojmax", [1, 2, 3, 4, 8])
def test_quadrature_is_exact_for_products_of_three(twojmax):
    """∫ U_a(x·u) U_b(x·u) U_c(x·u) is one where a ⊗ b contains c: characters of SU(2)."""
    points, weights = quadrature(largest_spin(twojmax))
    np.testing.assert_allclose((points**2).sum(axis=1), 1, atol=1e-14)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    cosine = points @ directions(6, 4)[0]
    for a, b, c in triples(twojmax):
        product = eval_chebyu(a, cosine) * eval_chebyu(b, cosine) * eval_chebyu(c, cosine)
        assert weights @ product == pytest.approx(1, abs=1e-11)
    # one degree more is not integrated exactly: no point is wasted
    if twojmax % 2 == 0:
        beyond = 3 * twojmax + 2
        assert abs(weights @ eval_chebyu(beyond, cosine)) > 1e-3


def test_point_values_are_orthogonal():
    """∫ Z Z' = δ / (j + 1); the tables hold the cube root of the weights."""
    spin = largest_spin(LARGEST)
    weights = quadrature(spin)[1]
    for j, table in enumerate(point_values(LARGEST, spin)):
        gram = table.T @ (table * np.cbrt(weights)[:, None])
        np.testing.assert_allclose(gram, np.eye((j + 1) ** 2) / (j + 1), atol=1e-13)
