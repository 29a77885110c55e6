"""Calibration: exact leave-one-out, recovered variance models, coverage of new draws."""

import numpy as np
import pytest

from karat.potentials.linear.bayes import given_prior
from karat.potentials.linear.calibration import (
    LEVEL,
    WIDTH,
    Errors,
    calibrate,
    conformal_factor,
    coverage,
    leave_out,
)
from karat.potentials.linear.least_squares import Triangle


def triangle(matrix):
    return Triangle(np.zeros((0, matrix.shape[1])), 0).add([matrix])


@pytest.mark.parametrize("rows", [3, 25])
def test_leaving_out_is_a_fit_without(rows):
    """With fewer and with more rows than coefficients."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(60, 9))
    own, rest = matrix[:rows], matrix[rows:]
    weights, precision = {"forces": 4.0}, np.linspace(0.1, 2, 8)
    whole = given_prior({"forces": triangle(matrix)}, weights, precision)
    without = given_prior({"forces": triangle(rest)}, weights, precision)
    unit = whole.noise["forces"] * 4
    found = leave_out(
        own[:, :-1],
        own[:, -1],
        np.full(rows, whole.noise["forces"]),
        whole.coefficients,
        whole.root,
    )
    np.testing.assert_allclose(
        found.errors, own[:, :-1] @ without.coefficients - own[:, -1], rtol=1e-9, atol=1e-11
    )
    root = without.root / (without.noise["forces"] * 4) * unit  # the same noise
    exact = np.sum((own[:, :-1] @ root) ** 2, axis=1)
    np.testing.assert_allclose(found.variances, exact, rtol=1e-9)


def test_rows_that_were_not_fitted_to_are_just_predicted():
    rng = np.random.default_rng(1)
    matrix, other = rng.normal(size=(40, 6)), rng.normal(size=(4, 6))
    found = given_prior({"forces": triangle(matrix)}, {"forces": 1.0}, np.ones(5))
    left = leave_out(other[:, :-1], other[:, -1], np.full(4, 1e100), found.coefficients, found.root)
    errors = other[:, :-1] @ found.coefficients - other[:, -1]
    np.testing.assert_allclose(left.errors, errors, rtol=1e-12)
    spread = np.sum((other[:, :-1] @ found.root) ** 2, axis=1)
    np.testing.assert_allclose(left.variances, spread, rtol=1e-12)


def simulated(rng, weights, structures=60, each=80, tails=False):
    """Errors whose variances are a sum of three terms."""
    count = structures * each
    terms = np.stack(
        [np.ones(count), rng.gamma(1.0, 0.1, count), rng.gamma(0.5, 4.0, count)], axis=1
    )
    deviation = np.sqrt(terms @ weights)
    drawn = rng.laplace(0, 2**-0.5, count) if tails else rng.normal(size=count)
    return Errors(deviation * drawn, terms, np.repeat(np.arange(structures), each))


@pytest.mark.parametrize("tails", [False, True])
@pytest.mark.parametrize("weights", [[0.01, 0, 0], [0.0, 1.0, 0], [0.01, 0.3, 0.02]])
def test_coverage_of_new_draws_is_nominal(weights, tails):
    rng = np.random.default_rng(2)
    found = calibrate(simulated(rng, np.array(weights), tails=tails))
    new = simulated(rng, np.array(weights), tails=tails)
    share, width = coverage(new, found)
    # 4800 errors each: shares deviate by 0.43 %, twice (fitted and new); five deviations
    assert share.value == pytest.approx(LEVEL, abs=0.03)
    assert share.low < share.value < share.high
    assert share.n == 60
    assert width.value > 0


def test_local_widths_are_found():
    """Large and small deviations are covered alike, which one width for all would not."""
    rng = np.random.default_rng(3)
    weights = np.array([0.01, 0.3, 0.02])
    found = calibrate(simulated(rng, weights))
    new = simulated(rng, weights)
    true = np.sqrt(new.terms @ weights)
    inside = np.abs(new.errors) <= WIDTH * np.sqrt(new.terms @ found)
    for part in (true < np.quantile(true, 0.2), true > np.quantile(true, 0.8)):
        # 960 errors: 1 %
        assert inside[part].mean() == pytest.approx(LEVEL, abs=0.05)
    narrow = np.abs(new.errors) <= np.quantile(np.abs(new.errors), LEVEL)
    assert narrow[true < np.quantile(true, 0.2)].mean() > 0.98


def test_terms_that_are_zero_everywhere_are_left_out():
    rng = np.random.default_rng(4)
    terms = np.stack([np.ones(500), np.zeros(500), np.zeros(500)], axis=1)
    errors = Errors(rng.normal(0, 0.3, 500), terms, np.arange(500))
    found = calibrate(errors)
    assert found[1] == found[2] == 0
    # relative deviation of a 90 % quantile of 500: 4 %
    assert np.sqrt(found[0]) == pytest.approx(0.3, rel=0.15)


def test_the_factor_makes_the_share_right():
    rng = np.random.default_rng(5)
    errors = simulated(rng, np.array([0.01, 0.3, 0.02]))
    weights = np.array([1.0, 0.0, 0.0])
    scaled = weights * conformal_factor(errors, weights) ** 2
    share, _ = coverage(errors, scaled)
    assert share.value == pytest.approx(LEVEL, abs=1e-3)


def test_a_bootstrap_over_structures_is_wider_where_errors_go_together():
    rng = np.random.default_rng(6)
    owner = np.repeat(np.arange(30), 50)
    together = Errors(rng.normal(size=30)[owner], np.stack([np.ones(1500)] * 3, axis=1), owner)
    weights = np.array([1.0, 0, 0])
    share, _ = coverage(together, weights)
    assert share.high - share.low > 0.1
