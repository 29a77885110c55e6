"""Spherical Bessel bases: scipy's functions, orthonormal, as smooth at the cut-off as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import spherical_jn

from karat.potentials.blocks.spherical_bessel import bessel_roots, smooth_bessel, spherical_bessel

CUTOFF = 5.0


def test_roots():
    roots = bessel_roots(6, 6)
    np.testing.assert_allclose(roots[0], np.pi * np.arange(1, 7), rtol=1e-14)
    # the first zeros of j_1 and j_2: Abramowitz and Stegun, table 10.6
    np.testing.assert_allclose(roots[1:3, 0], [4.493409, 5.763459], atol=5e-7)
    for degree, row in enumerate(roots):
        assert np.abs(spherical_jn(degree, row)).max() < 1e-14
        signs = np.sign(spherical_jn(degree, np.linspace(1e-3, row[-1] + 0.1, 2000)))
        assert np.sum(np.diff(signs) != 0) == len(row)  # none is left out


@pytest.mark.parametrize(("highest", "count"), [(2, 3), (6, 6)])
@pytest.mark.parametrize("reach", [4.0, 5.0])
def test_values_and_slopes_are_scipys(highest, count, reach):
    distances = np.linspace(1e-6, 0.999 * reach, 300)  # small arguments too
    jet = jax.jvp(
        lambda r: spherical_bessel(r, highest, count, CUTOFF, reach),
        (jnp.asarray(distances),),
        (jnp.ones(300),),
    )
    roots = bessel_roots(highest, count)
    for order, found in enumerate(jet):
        expected = np.stack(
            [
                np.sqrt(2 / CUTOFF**3)
                * (z / CUTOFF) ** order
                * spherical_jn(degree, z * distances / CUTOFF, derivative=order == 1)
                / abs(spherical_jn(degree + 1, z))
                for degree, row in enumerate(roots)
                for z in row
            ],
            axis=1,
        )
        # interpolation to 1e-13 of the largest value, about 3; slopes lose two digits
        np.testing.assert_allclose(found, expected, atol=(1e-12, 1e-10)[order])


def test_single_precision_loses_nothing_at_small_arguments():
    distances = np.linspace(0.01, CUTOFF, 300)
    double = spherical_bessel(jnp.asarray(distances), 6, 6, CUTOFF, CUTOFF)
    single = spherical_bessel(jnp.asarray(distances, jnp.float32), 6, 6, CUTOFF, CUTOFF)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, atol=2e-6)  # the largest is 2.4


def orthonormal(functions):
    """Gauss–Legendre sums up to the cut-off of products with weight r²."""
    x, weights = np.polynomial.legendre.leggauss(60)
    r, weights = 0.5 * CUTOFF * (x + 1), 0.5 * CUTOFF * weights
    values = np.asarray(functions(jnp.asarray(r)))
    return (values * (weights * r**2)[:, None]).T @ values


def test_bases_are_orthonormal():
    smooth = orthonormal(lambda r: smooth_bessel(r, 4, CUTOFF))
    np.testing.assert_allclose(smooth, np.eye(4), atol=1e-12)
    every = orthonormal(lambda r: spherical_bessel(r, 2, 3, CUTOFF, CUTOFF))
    for degree in range(3):
        block = every[3 * degree : 3 * degree + 3, 3 * degree : 3 * degree + 3]
        np.testing.assert_allclose(block, np.eye(3), atol=1e-12)


def test_smooth_functions_end_with_the_cube_of_the_distance_to_the_cutoff():
    """So value, slope and curvature are zero there, and the third derivative is not."""
    steps = np.array([1e-2, 5e-3])
    values = np.asarray(smooth_bessel(jnp.asarray(CUTOFF - steps), 4, CUTOFF))
    # the next order is steps/r_c smaller
    np.testing.assert_allclose(values[0] / values[1], np.full(4, 8.0), rtol=2e-2)
    assert np.all(np.asarray(smooth_bessel(jnp.asarray([CUTOFF, 7.0, 1e3]), 4, CUTOFF)) == 0.0)
