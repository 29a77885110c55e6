"""The solver that a `Regression` names, applied to triangles of equations.

Checked: tests/potentials/linear/test_linear_model.py.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.potentials.linear.bayes import Estimate, given_prior, maximal_evidence, residual
from karat.potentials.linear.bayes_ard import relevant
from karat.potentials.linear.least_squares import (
    QUANTITIES,
    Kind,
    Triangle,
    solve_least_squares,
)
from karat.potentials.linear.regression import Regression


def priors(
    regression: Regression,
    roughness: Float[np.ndarray, "features"],
    parts: Mapping[Kind, Triangle],
    power: float,
) -> Float[np.ndarray, "features"]:
    """Relative prior precision of each coefficient, zero for constants.

    Widths are relative to the inverse root mean square of the features in the force rows (energy
    rows where there are none) if the regression scales features.
    """
    shape = np.where(roughness > 0, (1 + roughness) ** (2 * power), 0.0)
    if not regression.scale_features:
        return shape
    part = parts["forces"] if "forces" in parts else parts["energy"]
    squares = np.sum(part.matrix[:, :-1] ** 2, axis=0) / part.rows
    least = 1e-12 * squares.max()
    scaled: np.ndarray = shape * np.maximum(squares, least)
    return scaled


def estimate(
    regression: Regression,
    parts: Mapping[Kind, Triangle],
    shape: Float[np.ndarray, "features"],
) -> Estimate:
    """The posterior of the coefficients by the solver that is asked for.

    Raises:
        BadInput: fewer equations than the solver can do with, a singular design.
        CalculationFailed: the search for the evidence's maximum failed.
    """
    weights = dict(zip(QUANTITIES, regression.weights))
    features, equations = len(shape), sum(part.rows for part in parts.values())
    if regression.solver == "least_squares":
        return _least_squares(parts, weights)
    unshrunk = int(np.sum(shape == 0))
    if equations <= unshrunk + len(parts) + 1:
        raise _too_few(equations, features)
    if regression.solver == "ridge":
        rows = (weights[q] ** 2 * np.sum(part.matrix[:, :-1] ** 2) for q, part in parts.items())
        mean = sum(rows) / features
        wide = np.where(shape > 0, shape, 1e-6 * np.min(shape[shape > 0], initial=1.0))
        relative = wide / np.mean(shape[shape > 0]) if (shape > 0).any() else wide
        return given_prior(parts, weights, regression.ridge * mean * relative)
    ratios = weights if regression.noise == "weights" else None
    solve = relevant if regression.solver == "ard" else maximal_evidence
    found = solve(parts, shape, ratios)
    if found.interpolates:
        raise _too_few(equations, features)
    return found


def _least_squares(parts: Mapping[Kind, Triangle], weights: Mapping[Kind, float]) -> Estimate:
    mean, root = solve_least_squares(weights[q] * part.matrix for q, part in parts.items())
    equations = sum(part.rows for part in parts.values())
    squares = sum(weights[q] ** 2 * residual(part, mean) for q, part in parts.items())
    common = np.sqrt(squares / max(equations - len(mean), 1))
    noise = {q: float(common / weights[q]) for q in parts}
    return Estimate(mean, common * root, noise, float(len(mean)), equations, float("nan"))


def _too_few(equations: int, features: int) -> BadInput:
    return BadInput(
        f"{equations} equations are too few for {features} coefficients: they are fitted exactly, "
        "and nothing is left to tell noise from signal. Add structures, label forces, or take a "
        "smaller basis."
    )
