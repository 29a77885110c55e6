"""Evidence and ARD, against scikit-learn, a direct Gaussian density and simulated posteriors."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from karat.potentials.linear.bayes import (
    CONSTANT_WIDTH,
    given_prior,
    maximal_evidence,
)
from karat.potentials.linear.bayes_ard import relevant
from karat.potentials.linear.least_squares import Triangle


def equations(rng, rows, truth, noise, scales=1.0):
    matrix = rng.normal(size=(rows, len(truth))) * scales
    return np.column_stack([matrix, matrix @ truth + noise * rng.normal(size=rows)])


def triangle(matrix):
    return Triangle(np.zeros((0, matrix.shape[1])), 0).add([matrix])


@pytest.fixture(scope="module")
def one():
    """One quantity: 200 rows, 12 features of which 5 matter."""
    rng = np.random.default_rng(3)
    truth = np.where(np.arange(12) < 5, rng.normal(0, 2, 12), 0.0)
    return equations(rng, 200, truth, 0.3, np.linspace(0.5, 2, 12))


def test_bayes_is_scikit_learns_bayesian_ridge(one):
    from sklearn.linear_model import BayesianRidge

    peer = BayesianRidge(
        max_iter=2000, tol=1e-10, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False
    )
    peer.fit(one[:, :-1], one[:, -1])
    mine = maximal_evidence({"forces": triangle(one)}, np.ones(12))
    # both stop near the maximum of the same function: coefficients to ~1e-5 of their size
    np.testing.assert_allclose(mine.coefficients, peer.coef_, rtol=0, atol=2e-5)
    assert mine.noise["forces"] == pytest.approx(peer.alpha_**-0.5, rel=1e-4)
    np.testing.assert_allclose(mine.root @ mine.root.T, peer.sigma_, rtol=1e-3, atol=1e-8)


def test_ard_is_scikit_learns(one):
    from sklearn.linear_model import ARDRegression

    peer = ARDRegression(
        max_iter=3000,
        tol=1e-12,
        alpha_1=0,
        alpha_2=0,
        lambda_1=0,
        lambda_2=0,
        threshold_lambda=1e6,
        fit_intercept=False,
    )
    peer.fit(one[:, :-1], one[:, -1])
    mine = relevant({"forces": triangle(one)}, np.ones(12))
    dropped = ~mine.root.any(axis=1)
    # scikit-learn updates all widths at once and may jump over a maximum of a hardly relevant
    # feature: within a tenth of a deviation of the coefficients
    deviations = np.sqrt(np.max(np.diag(mine.root @ mine.root.T)))
    np.testing.assert_allclose(mine.coefficients, peer.coef_, rtol=0, atol=0.2 * deviations)
    assert mine.noise["forces"] == pytest.approx(peer.alpha_**-0.5, rel=2e-3)
    assert not peer.coef_[dropped].any()
    assert 3 <= dropped.sum() <= 7

    def density(widths, noise):
        spread = (one[:, :-1] * widths) @ one[:, :-1].T + noise**2 * np.eye(len(one))
        return multivariate_normal(np.zeros(len(one)), spread).logpdf(one[:, -1])

    theirs = density(np.where(peer.coef_ == 0, 0, 1 / peer.lambda_), peer.alpha_**-0.5)
    assert mine.log_evidence >= theirs - 1e-6
    kept, noise = mine.root[~dropped], mine.noise["forces"]
    data = one[:, :-1][:, ~dropped]
    precision = np.linalg.inv(kept @ kept.T) - data.T @ data / noise**2
    widths = np.zeros(12)
    widths[~dropped] = 1 / np.diag(precision)
    assert density(widths, noise) == pytest.approx(mine.log_evidence, abs=1e-6)


def test_evidence_is_the_gaussian_density_of_the_targets():
    """log N(y; 0, noise + X prior Xᵀ), written down with all rows at once."""
    rng = np.random.default_rng(8)
    shape = np.array([0.0, 1.0, 2.0, 3.0])
    first = equations(rng, 9, rng.normal(size=4), 0.2)
    second = equations(rng, 15, rng.normal(size=4), 0.05)
    parts = {"energy": triangle(first), "forces": triangle(second)}
    found = maximal_evidence(parts, shape)

    def density(alpha, noises):
        widths = np.append(CONSTANT_WIDTH**2, 1 / (alpha * shape[1:]))
        rows = np.concatenate([first, second])
        spread = (rows[:, :-1] * widths) @ rows[:, :-1].T
        noise = np.repeat([noises[0] ** 2, noises[1] ** 2], [9, 15])
        return multivariate_normal(np.zeros(24), spread + np.diag(noise)).logpdf(rows[:, -1])

    noises = np.array([found.noise["energy"], found.noise["forces"]])
    # find the prior's width back from the root: precision = αd + XᵀX/noise² at the last feature
    data = sum(m[:, :-1].T @ m[:, :-1] / s**2 for m, s in zip((first, second), noises))
    precision = np.linalg.inv(found.root @ found.root.T) - data
    alpha = precision[3, 3] / 3
    best = density(alpha, noises)
    assert found.log_evidence == pytest.approx(best, abs=1e-6)
    for factor in (0.97, 1.03):  # a maximum: nothing near it is better
        assert density(alpha * factor, noises) < best
        assert density(alpha, noises * [factor, 1]) < best
        assert density(alpha, noises * [1, factor]) < best


def test_noises_of_quantities_are_found():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=20)
    parts = {
        "energy": triangle(equations(rng, 400, truth, 0.01)),
        "forces": triangle(equations(rng, 4000, truth, 0.2)),
        "stress": triangle(equations(rng, 900, truth, 1.0)),
    }
    found = maximal_evidence(parts, np.ones(20))
    # relative deviation of a noise from n rows: 1/√(2n) = 3.5, 1.1, 2.4 %; four of them:
    # a false alarm once in 10⁴ seeds
    assert found.noise["energy"] == pytest.approx(0.01, rel=0.15)
    assert found.noise["forces"] == pytest.approx(0.2, rel=0.045)
    assert found.noise["stress"] == pytest.approx(1.0, rel=0.1)
    tied = maximal_evidence(parts, np.ones(20), {"energy": 100.0, "forces": 5.0, "stress": 1.0})
    assert tied.noise["energy"] * 100 == pytest.approx(tied.noise["forces"] * 5)
    assert tied.noise["stress"] == pytest.approx(1.0, rel=0.045)


def test_a_given_prior_is_the_conjugate_posterior():
    rng = np.random.default_rng(2)
    first, second = equations(rng, 30, np.ones(5), 0.1), equations(rng, 3, np.ones(5), 0.1)
    parts = {"energy": triangle(first), "forces": triangle(second)}
    weights, precision = {"energy": 3.0, "forces": 2.0}, np.array([0.1, 0.5, 1.0, 2.0, 8.0])
    found = given_prior(parts, weights, precision)
    rows = np.concatenate([3 * first, 2 * second])
    exact = np.linalg.inv(rows[:, :-1].T @ rows[:, :-1] + np.diag(precision))
    np.testing.assert_allclose(found.coefficients, exact @ rows[:, :-1].T @ rows[:, -1], rtol=1e-10)
    common = found.noise["energy"] * 3
    np.testing.assert_allclose(found.root @ found.root.T, common**2 * exact, rtol=1e-9)


def test_coefficients_lie_within_their_deviations():
    """200 draws of truths from the prior: the standardised errors have unit variance."""
    rng = np.random.default_rng(4)
    scores = []
    for _ in range(200):
        truth = rng.normal(0, 1.5, 10)
        found = maximal_evidence({"forces": triangle(equations(rng, 60, truth, 0.5))}, np.ones(10))
        scores.append(
            np.linalg.solve(
                np.linalg.cholesky(found.root @ found.root.T), truth - found.coefficients
            )
        )
    # 2000 squares: their mean deviates by √(2/2000) = 0.03; hyper-parameters from 60 rows make
    # them 3 % larger: five deviations, a false alarm less than once in 10⁵ seeds
    assert np.mean(np.square(scores)) == pytest.approx(1.03, abs=0.16)


def test_useless_features_and_badly_scaled_ones_do_not_matter():
    rng = np.random.default_rng(6)
    matrix = equations(rng, 300, np.array([1.0, -2, 0.5, 0, 0, 0]), 0.01)
    doubled = np.column_stack([matrix[:, :-1], matrix[:, 0] + 1e-9, matrix[:, -1]])
    found = maximal_evidence({"forces": triangle(doubled)}, np.ones(7))
    assert found.coefficients[0] + found.coefficients[6] == pytest.approx(1.0, abs=0.01)
    assert np.isfinite(found.root).all()
