"""Calibrated deviations: intervals that hold as many errors as they say, on structures that the
fit did not see.

The variance of a prediction is a sum of terms with weights ≥ 0: a constant, the posterior variance
of the coefficients, and the squared size of the predicted force. The weights minimise the interval
score (width, and what errors exceed it by) of nominal 90 % intervals on structures left out of the
fit, then one factor makes them hold 90 % of the errors (normalised conformal prediction).

Every structure can be left out of a linear fit in turn without refitting: with whitened rows Z =
X root / noise, errors and covariance without it follow from H = Z Zᵀ alone.

Source: Gneiting & Raftery, J. Am. Stat. Assoc. 102, 359 (2007), §6.2, for the score; Lei et al., J.
Am. Stat. Assoc. 113, 1094 (2018), for the factor; Hastie, Tibshirani & Friedman, The
Elements of Statistical Learning, 2nd ed. (2009), §7.10.
Checked: tests/potentials/linear/test_calibration.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from karat.results.statistics import Interval, bootstrap

LEVEL = 0.9
"""Coverage that the factor is set for."""
WIDTH = float(norm.ppf(0.5 + LEVEL / 2))
"""Half the width of such an interval, in deviations."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of some predictions of structures that were not fitted to.

    Attributes:
        errors: predicted minus labelled.
        terms: what the variance is made of, in the order of `posterior.TERMS`.
        owner: index of the structure.
    """

    errors: Float[np.ndarray, "values"]
    terms: Float[np.ndarray, "values terms"]
    owner: Int[np.ndarray, "values"]

    @classmethod
    def join(cls, parts: Sequence["Errors"]) -> "Errors":
        """Of several structures; at least one."""
        return cls(
            np.concatenate([part.errors for part in parts]),
            np.concatenate([part.terms for part in parts]),
            np.concatenate([part.owner for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Errors and posterior variances of one structure's equations, by a fit without it.

    Attributes:
        errors: predicted minus labelled, in the units of the rows.
        variances: of the prediction, noise not included.
    """

    errors: Float[np.ndarray, "rows"]
    variances: Float[np.ndarray, "rows"]


def leave_out(
    rows: Float[np.ndarray, "rows features"],
    targets: Float[np.ndarray, "rows"],
    noise: Float[np.ndarray, "rows"],
    coefficients: Float[np.ndarray, "features"],
    root: Float[np.ndarray, "features rank"],
) -> LeftOut:
    """What a fit without these equations would predict for them; hyper-parameters are kept.

    Args:
        rows, targets: equations that were fitted to.
        noise: of each row, with which it entered the fit; infinite where it did not.
        coefficients, root: posterior mean and root of its covariance, with these equations.
    """
    spread = rows @ root
    whitened = spread / noise[:, None]
    errors = rows @ coefficients - targets
    size = min(whitened.shape)
    if size == len(rows):
        gained = np.linalg.solve(np.eye(size) - whitened @ whitened.T, whitened)
    else:  # the same by Woodbury's identity
        gained = whitened @ np.linalg.inv(np.eye(size) - whitened.T @ whitened)
    # the covariance without these equations is root (1 + whitenedᵀ gained) rootᵀ
    lifted = spread @ gained.T
    return LeftOut(
        errors=errors + lifted @ (errors / noise),
        variances=np.sum(spread**2, axis=1) + np.sum(lifted * (spread @ whitened.T), axis=1),
    )


def calibrate(errors: Errors) -> Float[np.ndarray, "terms"]:
    """Weights of the terms of the variance, such that a nominal `LEVEL` interval holds that share
    of the errors.

    Terms that are zero everywhere get the weight 0; the first term is the constant.
    """
    from scipy.optimize import minimize

    size = np.abs(errors.errors)
    units = errors.terms.mean(axis=0)
    used = np.flatnonzero(units > 0)
    typical = max(float(np.mean(size)), 1e-300)
    scaled = errors.terms[:, used] / units[used] * typical**2

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        deviation = np.sqrt(scaled @ np.exp(logs) + 1e-12 * typical**2)
        excess = size - WIDTH * deviation
        value = np.mean(WIDTH * deviation + np.maximum(excess, 0) / (1 - LEVEL)) / typical
        slope = WIDTH * (1 - (excess > 0) / (1 - LEVEL)) / (2 * deviation * len(size) * typical)
        return float(value), (slope @ scaled) * np.exp(logs)

    # forces that vanish by symmetry have no posterior variance: the constant never quite vanishes
    bounds = [(-9.0 if k == 0 else -16.0, 8.0) for k in used]
    starts = [np.full(len(used), np.log(1 / len(used)))]
    starts += [np.where(np.arange(len(used)) == k, 0.0, -6.0) for k in range(len(used))]
    tries = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    best = min(tries, key=lambda one: one.fun)
    weights = np.zeros(errors.terms.shape[1])
    weights[used] = np.exp(best.x) / units[used] * typical**2
    return weights * conformal_factor(errors, weights) ** 2


def conformal_factor(errors: Errors, weights: Float[np.ndarray, "terms"]) -> float:
    """What deviations are to be multiplied by for their intervals to hold `LEVEL` of the errors.

    (No bound with a guarantee: errors of one structure are not exchangeable with each other.)
    """
    deviations = np.sqrt(errors.terms @ weights)
    scores = np.abs(errors.errors) / np.maximum(deviations, 1e-300)
    return float(np.quantile(scores, LEVEL)) / WIDTH


def coverage(errors: Errors, weights: Float[np.ndarray, "terms"]) -> tuple[Interval, Interval]:
    """Share of the errors within nominal `LEVEL` intervals, and these intervals' mean width (from
    end to end), both with 95 % intervals bootstrapped over structures.

    A structure with more atoms counts by its number of atoms.
    """
    deviations = np.sqrt(errors.terms @ weights)
    inside = np.abs(errors.errors) <= WIDTH * deviations
    groups = [str(owner) for owner in errors.owner]
    share = bootstrap(inside.astype(float), "mean", 0, groups)
    return share, bootstrap(2 * WIDTH * deviations, "mean", 0, groups)
