"""Automatic relevance determination: a prior width for each coefficient; useless ones vanish.

Source: Tipping, J. Mach. Learn. Res. 1, 211 (2001); Tipping & Faul, Proc. 9th AISTATS (2003).
Checked: tests/potentials/linear/test_bayes.py, against scikit-learn.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from karat.potentials.linear.bayes import Estimate, Problem, maximal_evidence, posterior, residual
from karat.potentials.linear.least_squares import Kind, Triangle

SWEEPS = 200
TOLERANCE = 1e-4
"""Sweeps end when no log of a precision moves by more."""


def relevant(
    parts: Mapping[Kind, Triangle],
    shape: Float[np.ndarray, "features"],
    ratios: Mapping[Kind, float] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Bayesian regression with the prior precision of each coefficient of maximal evidence.

    Starts from `maximal_evidence`; then each precision in turn is set to the exact maximum given
    all others, which for useless features is infinite: their coefficients are zero from then on.

    Args:
        parts, shape, ratios: see `maximal_evidence`; features of shape 0 are never dropped.
        report: called with the sweeps that are done and their largest number.

    Raises:
        CalculationFailed: see `maximal_evidence`.
    """
    first = maximal_evidence(parts, shape, ratios)
    betas = {q: 1 / first.noise[q] ** 2 for q in parts}
    kept = np.arange(len(shape))
    problem = Problem.of(parts, shape)
    scaled = first.coefficients / problem.unit
    spread = np.sum((first.root / problem.unit[:, None]) ** 2, axis=1)
    alphas = np.where(problem.shrunk, 1 / (scaled**2 + spread), 1.0)
    for sweep in range(SWEEPS):
        new = _sweep(problem, alphas, betas)
        useful = np.isfinite(new)
        moved = np.max(np.abs(np.log(new[useful] / alphas[useful])), initial=0.0)
        alphas = new[useful]
        if not useful.all():
            kept = kept[useful]
            problem = Problem.of(_columns(parts, kept), shape[kept])
        updated = _noises(problem, alphas, betas, ratios)
        moved = max(moved, *(abs(np.log(updated[q] / betas[q])) for q in parts))
        betas = updated
        if report is not None:
            report(sweep + 1, SWEEPS)
        if useful.all() and moved < TOLERANCE:
            break
    weights = {q: float(np.sqrt(beta)) for q, beta in betas.items()}
    precision = alphas / problem.unit**2
    few, root = posterior(_columns(parts, kept), weights, precision)
    effective = len(few) - float(np.sum(precision * np.sum(root**2, axis=1)))
    coefficients, full = np.zeros(len(shape)), np.zeros((len(shape), len(kept)))
    coefficients[kept], full[kept] = few, root
    noise = {q: 1 / weight for q, weight in weights.items()}
    value = _log_evidence(problem, alphas, betas)
    return Estimate(coefficients, full, noise, effective, first.equations, value)


def _sweep(
    problem: Problem, alphas: np.ndarray, betas: Mapping[Kind, float]
) -> Float[np.ndarray, "features"]:
    """Each precision at its maximum in turn, infinite where the feature is useless."""
    mean, covariance, _ = problem.solve(alphas, betas)
    new = alphas.copy()
    for k in np.flatnonzero(problem.shrunk):
        spread = covariance[k, k]
        determined = 1 - alphas[k] * spread  # of this coefficient, by the data
        excess = mean[k] ** 2 - determined * spread
        new[k] = determined**2 / excess if excess > 0 and determined > 0 else np.inf
        change = new[k] - alphas[k]
        if change == 0:
            continue
        # the covariance after a change of one precision (Sherman & Morrison)
        column = covariance[:, k].copy()
        factor = 1 / (1 / change + spread)
        mean = mean - column * (mean[k] * factor)
        covariance -= np.multiply.outer(column * factor, column)
    return new


def _noises(
    problem: Problem,
    alphas: np.ndarray,
    betas: Mapping[Kind, float],
    ratios: Mapping[Kind, float] | None,
) -> dict[Kind, float]:
    """MacKay's update of the noise precisions."""
    mean, covariance, _ = problem.solve(alphas, betas)
    squares = {q: residual(part, mean) for q, part in problem.parts.items()}
    free = {
        q: max(part.rows - betas[q] * float(np.sum(covariance * problem.grams[q][:-1, :-1])), 1e-3)
        for q, part in problem.parts.items()
    }
    if ratios is None:
        return {q: free[q] / max(squares[q], 1e-300) for q in free}
    common = sum(free.values()) / max(sum(ratios[q] ** 2 * squares[q] for q in free), 1e-300)
    return {q: common * ratios[q] ** 2 for q in free}


def _columns(parts: Mapping[Kind, Triangle], kept: np.ndarray) -> dict[Kind, Triangle]:
    """The equations of some of the coefficients."""
    return {
        q: Triangle(part.matrix[:, np.append(kept, part.matrix.shape[1] - 1)], part.rows)
        for q, part in parts.items()
    }


def _log_evidence(problem: Problem, alphas: np.ndarray, betas: Mapping[Kind, float]) -> float:
    mean, _, log_det = problem.solve(alphas, betas)
    fits = sum(
        part.rows * np.log(betas[q] / (2 * np.pi)) - betas[q] * residual(part, mean)
        for q, part in problem.parts.items()
    )
    prior = np.sum(np.log(alphas)) - np.sum(alphas * mean**2)
    return 0.5 * float(fits + prior - log_det)
