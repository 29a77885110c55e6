"""Slopes of one thing on another, robust against a minority of wrong rows.

Checked: tests/data/test_doctor_faults.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.data.steps import Steps
from karat.data.survey import Survey

NEAR = 0.4
"""Å; frames in which no atom moved farther are near: forces change little on the way."""

NEAR_STRAIN = 0.06

MOVED = 0.005
"""Å, root mean square; forces of frames nearer than that differ by rounding."""


@dataclass(frozen=True)
class Fit:
    """y against x.

    Attributes:
        count: pairs.
        slope: weighted median of y/x: half of the weight may be wrong.
        correlation: weighted, through the origin.
        signal: root mean square of x over its own uncertainty; below 2 nothing can be said.
    """

    count: int
    slope: float
    correlation: float
    signal: float


def fit(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], noise: Float[np.ndarray, "n"]) -> Fit:
    """y against x, whose standard error is `noise`."""
    usable = np.isfinite(x) & np.isfinite(y) & np.isfinite(noise) & (x != 0)
    x, y, noise = x[usable], y[usable], noise[usable]
    if len(x) == 0:
        return Fit(0, np.nan, 0.0, 0.0)
    signal = float(np.sqrt(np.mean(np.square(np.clip(x / noise, -1e6, 1e6)))))
    weights = np.abs(x) / np.maximum(noise, 1e-12)
    weights = np.minimum(weights, np.percentile(weights, 75))
    order = np.argsort(y / x)
    running = np.cumsum(weights[order])
    slope = float((y / x)[order][np.searchsorted(running, running[-1] / 2)])
    # rank-like: clipped so that a few huge pairs do not decide
    a, b = x / noise, y / noise
    a = np.clip(a, *(np.median(np.abs(a)) * np.array([-5, 5])))
    b = np.clip(b, *(np.median(np.abs(b)) * np.array([-5, 5])))
    scale = np.sqrt(np.square(a).sum() * np.square(b).sum())
    correlation = float((a * b).sum() / scale) if scale > 0 else 0.0
    return Fit(len(x), slope, correlation, signal)


def near_steps(survey: Survey) -> Steps:
    """Pairs of near frames with energies and forces, and the strain's work where cells differ."""
    steps = survey.steps
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(
            np.isfinite(steps.energy)
            & np.isfinite(steps.work)
            & (steps.farthest < NEAR)
            & (steps.strain < NEAR_STRAIN)
        )
    return steps.take(rows)
