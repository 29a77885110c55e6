"""Bayesian linear regression by maximal evidence, from the small triangles of the equations.

Coefficients are Gaussian with precision α d_k (d_k from the smoothness of each feature), rows of
each quantity have their own noise; α and the noises maximise the marginal likelihood. Iterations
cost features³, whatever the number of rows.

Source: MacKay, Neural Comput. 4, 415 (1992); Bishop, Pattern Recognition and Machine Learning
(2006), §3.5.
Checked: tests/potentials/linear/test_bayes.py, against scikit-learn and the exact posterior.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import CalculationFailed
from karat.potentials.linear.least_squares import Kind, Triangle, stack

CONSTANT_WIDTH = 100.0
"""eV; prior deviation of features that no prior may shrink (constants): wide, but proper."""
QUIET, LOUD = 1e-8, 10.0
"""Bounds on a quantity's noise, relative to the root mean square of its targets."""
NARROW, WIDE = 1e-9, 1e9
"""Bounds on prior deviations, relative to the deviation at the start."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A posterior over coefficients, N(coefficients, root rootᵀ).

    Attributes:
        coefficients: its mean.
        root: root of its covariance; fewer columns than rows where features were dropped.
        noise: standard deviation of the rows of each quantity.
        effective: number of coefficients that the data determine, rather than the prior.
        equations: number of rows.
        log_evidence: of the data; NaN where there is no prior.
    """

    coefficients: Float[np.ndarray, "features"]
    root: Float[np.ndarray, "features rank"]
    noise: Mapping[Kind, float]
    effective: float
    equations: int
    log_evidence: float

    @property
    def interpolates(self) -> bool:
        """Whether hardly any equation is left to tell the noise from the fit."""
        return self.effective > 0.95 * self.equations


def given_prior(
    parts: Mapping[Kind, Triangle],
    weights: Mapping[Kind, float],
    precision: Float[np.ndarray, "features"],
) -> Estimate:
    """Ridge regression: rows weighted, and so many prior precisions; their common noise from the
    residuals.

    Args:
        parts: equations.
        weights: of each quantity's rows, inverse standard deviations but for a common factor.
        precision: of each coefficient, in units of the common factor.
    """
    mean, root = posterior(parts, weights, precision)
    equations = sum(part.rows for part in parts.values())
    determined = len(mean) - float(np.sum(precision * np.sum(root**2, axis=1)))
    squares = sum(weights[q] ** 2 * residual(part, mean) for q, part in parts.items())
    common = np.sqrt(squares / max(equations - determined, 1.0))
    noise = {q: float(common / weights[q]) for q in parts}
    return Estimate(mean, common * root, noise, determined, equations, float("nan"))


def residual(part: Triangle, coefficients: Float[np.ndarray, "features"]) -> float:
    """Sum of the squared residuals of all rows."""
    return float(np.sum((part.matrix @ np.append(coefficients, -1.0)) ** 2))


def maximal_evidence(
    parts: Mapping[Kind, Triangle],
    shape: Float[np.ndarray, "features"],
    ratios: Mapping[Kind, float] | None = None,
) -> Estimate:
    """Bayesian regression with the prior's width and the noises of maximal evidence.

    Args:
        parts: equations.
        shape: relative prior precisions d_k; 0 for a wide prior of `CONSTANT_WIDTH`.
        ratios: weights that say the ratios of the quantities' noises; `None` to find them.

    Raises:
        CalculationFailed: the search ended nowhere.
    """
    from scipy.optimize import minimize

    problem = Problem.of(parts, shape)
    names = list(parts)
    groups = [names] if ratios else [[name] for name in names]
    base = {q: 1.0 if ratios is None else ratios[q] for q in names}

    def unpack(theta: np.ndarray) -> tuple[float, dict[Kind, float]]:
        betas = {q: np.exp(theta[1 + g]) * base[q] ** 2 for g, qs in enumerate(groups) for q in qs}
        return float(np.exp(theta[0])), betas

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, by_alpha, by_beta = problem.log_evidence(*unpack(theta))
        return -value, -np.array([by_alpha, *(sum(by_beta[q] for q in qs) for qs in groups)])

    start, bounds = problem.start(groups, base)
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 200, "ftol": 1e-12, "gtol": 1e-5},
    )
    if not np.isfinite(found.fun):
        raise CalculationFailed(
            f"the search for the prior's width and the noise failed ({found.message}). Look for "
            "absurd labels with `karat check`, or use the solver ridge.",
            kind="not-converged",
        )
    alpha, betas = unpack(found.x)
    weights = {q: float(np.sqrt(beta)) for q, beta in betas.items()}
    precision = problem.precision(alpha)
    mean, root = posterior(parts, weights, precision)
    effective = len(mean) - float(np.sum(precision * np.sum(root**2, axis=1)))
    noise = {q: 1 / weight for q, weight in weights.items()}
    equations = sum(part.rows for part in parts.values())
    return Estimate(mean, root, noise, effective, equations, -float(found.fun))


def posterior(
    parts: Mapping[Kind, Triangle],
    weights: Mapping[Kind, float],
    precision: Float[np.ndarray, "features"],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and root of the covariance, by an orthogonal factorisation (no squares of the design);
    columns are scaled by the prior's width."""
    from scipy.linalg import solve_triangular

    width = 1 / np.sqrt(precision)
    features = len(width)
    rows = [weights[q] * part.matrix * np.append(width, 1.0) for q, part in parts.items()]
    upper = stack([*rows, np.eye(features, features + 1)])[:features]
    inverse = solve_triangular(upper[:, :-1], np.eye(features))
    return width * (inverse @ upper[:, -1]), width[:, None] * inverse


@dataclass(frozen=True, eq=False)
class Problem:
    """The equations in units of the prior's shape: squares of columns, right-hand sides."""

    parts: Mapping[Kind, Triangle]
    grams: Mapping[Kind, np.ndarray]
    unit: np.ndarray  # coefficients in units of these widths
    shrunk: np.ndarray  # False where the prior is wide

    @classmethod
    def of(cls, parts: Mapping[Kind, Triangle], shape: np.ndarray) -> "Problem":
        shrunk = shape > 0
        unit = np.where(shrunk, 1 / np.sqrt(np.where(shrunk, shape, 1.0)), CONSTANT_WIDTH)
        scaled = {
            q: Triangle(part.matrix * np.append(unit, 1.0), part.rows) for q, part in parts.items()
        }
        grams = {q: part.matrix.T @ part.matrix for q, part in scaled.items()}
        return cls(scaled, grams, unit, shrunk)

    def precision(self, alpha: float) -> np.ndarray:
        """Of the coefficients in their own units."""
        return np.where(self.shrunk, alpha, 1.0) / self.unit**2

    def start(
        self, groups: list[list[Kind]], base: Mapping[Kind, float]
    ) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """log α and log β of each group to start from, and their bounds."""
        noise = []
        for names in groups:
            rows = sum(self.parts[q].rows for q in names)
            squares = sum(base[q] ** 2 * self.grams[q][-1, -1] for q in names)
            noise.append(np.sqrt(max(squares, 1e-30) / rows))
        betas = {q: (10 * base[q] / s) ** 2 for s, names in zip(noise, groups) for q in names}
        diagonal = sum(betas[q] * np.diag(self.grams[q])[:-1] for q in betas)
        alpha = max(1e-6 * float(np.mean(diagonal[self.shrunk])), 1e-300) if any(self.shrunk) else 1
        centre = np.log([alpha, *((10 / s) ** 2 for s in noise)])
        bounds = [(centre[0] + 2 * np.log(NARROW), centre[0] + 2 * np.log(WIDE))]
        bounds += [(-2 * np.log(LOUD * s), -2 * np.log(QUIET * s)) for s in noise]
        return centre, bounds

    def log_evidence(
        self, alpha: float, betas: Mapping[Kind, float]
    ) -> tuple[float, float, dict[Kind, float]]:
        """And its derivatives by log α and by the logs of the β."""
        diagonal = np.where(self.shrunk, alpha, 1.0)
        mean, covariance, log_det = self.solve(diagonal, betas)
        shrunk = mean[self.shrunk]
        squares = {q: residual(self.parts[q], mean) for q in betas}
        rows = {q: self.parts[q].rows for q in betas}
        value = 0.5 * (
            np.sum(self.shrunk) * np.log(alpha)
            + sum(rows[q] * np.log(betas[q] / (2 * np.pi)) - betas[q] * squares[q] for q in betas)
            - log_det
            - np.sum(diagonal * mean**2)
        )
        traces = np.sum(np.diag(covariance)[self.shrunk])
        by_alpha = 0.5 * (np.sum(self.shrunk) - alpha * (traces + np.sum(shrunk**2)))
        by_beta = {
            q: 0.5
            * (rows[q] - betas[q] * (np.sum(covariance * self.grams[q][:-1, :-1]) + squares[q]))
            for q in betas
        }
        return float(value), float(by_alpha), by_beta

    def solve(
        self, diagonal: np.ndarray, betas: Mapping[Kind, float]
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Posterior mean, covariance and log determinant of the precision, in scaled units."""
        from scipy.linalg import lapack, solve_triangular

        total = sum(beta * self.grams[q] for q, beta in betas.items())
        assert isinstance(total, np.ndarray)
        matrix = total[:-1, :-1] + np.diag(diagonal)
        lower, info = lapack.dpotrf(matrix, lower=1)
        if info == 0:
            inverse, info = lapack.dpotri(lower, lower=1)
            covariance = np.tril(inverse) + np.tril(inverse, -1).T
            mean, _ = lapack.dpotrs(lower, total[:-1, -1], lower=1)
            return mean, covariance, 2 * float(np.sum(np.log(np.diag(lower))))
        # squares of the design lose what matters: factorise the design itself
        rows = [np.sqrt(beta) * self.parts[q].matrix for q, beta in betas.items()]
        prior = np.pad(np.diag(np.sqrt(diagonal)), ((0, 0), (0, 1)))
        upper = stack([*rows, prior])[: len(diagonal)]
        root = solve_triangular(upper[:, :-1], np.eye(len(diagonal)))
        log_det = 2 * float(np.sum(np.log(np.abs(np.diag(upper[:, :-1])))))
        return root @ upper[:, -1], root @ root.T, log_det
