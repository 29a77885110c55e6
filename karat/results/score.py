"""The karat score: where an error lies between a trivial predictor (0) and the noise (24).

Checked: tests/results/test_score.py (monotone, independent of units and of other contestants).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from karat.core.errors import BadInput

FULL = 24.0
"""Karats of an error at or below the noise floor."""

Status = Literal["scored", "failed", "missing", "no-scale"]


@dataclass(frozen=True)
class Karats:
    """Karats of one metric, or why there are none.

    Attributes:
        value: 0 to 24; 0 where it failed; `None` where missing or without a scale.
        reason: why it is `None`, or why it failed; "" otherwise.
        status: ``missing`` (not run, not applicable) lowers the covered share; ``no-scale``
            (no floor, no baseline, or they discriminate nothing) is no part of it.
    """

    value: float | None
    reason: str = ""
    status: Status = "scored"


def karats(value: float, floor: float | None, baseline: float | None) -> Karats:
    """24·clip(ln(baseline/value) / ln(baseline/floor), 0, 1), all in one unit, lower is better.

    No karats where `baseline ≤ 2·floor` (nothing is discriminated) or where one is unknown.

    Raises:
        BadInput: an error or baseline that is negative or not finite.

    Source: DESIGN.md, "The karat score".
    """
    for name, number in (("error", value), ("floor", floor), ("baseline", baseline)):
        if number is not None and not (math.isfinite(number) and number >= 0):
            raise BadInput(f"karats: {name} is {number}; needs a finite number ≥ 0.")
    if floor is None:
        return Karats(None, "no noise floor with a source is known", "no-scale")
    if baseline is None:
        return Karats(None, "no baseline is known", "no-scale")
    if floor == 0:
        return Karats(None, "the noise floor is zero: no logarithmic scale", "no-scale")
    if baseline <= 2 * floor:
        reason = f"baseline {baseline:.3g} ≤ 2 × noise floor {floor:.3g}: discriminates nothing"
        return Karats(None, reason, "no-scale")
    if value <= floor:
        return Karats(FULL)
    if value >= baseline:
        return Karats(0.0)
    return Karats(FULL * _log_ratio(baseline, value) / _log_ratio(baseline, floor))


def _log_ratio(above: float, below: float) -> float:
    """ln(above/below), monotone also where the ratio would overflow."""
    return math.log(above) - math.log(below)


def failed(reason: str) -> Karats:
    """Zero karats for something that was attempted and failed."""
    return Karats(0.0, reason, "failed")


def missing(reason: str) -> Karats:
    """Neither counted nor hidden: not run, or not applicable."""
    return Karats(None, reason, "missing")


@dataclass(frozen=True)
class Aggregate:
    """Mean karats with the share that they cover.

    Attributes:
        value: mean over what was scored or failed, or `None` where that is nothing.
        counted: how many were scored or failed.
        possible: these and the missing ones.
        reason: why `value` is `None`.
    """

    value: float | None
    counted: int
    possible: int
    reason: str = ""

    @property
    def covered(self) -> float:
        """`counted / possible`; 0 where nothing was possible."""
        return self.counted / self.possible if self.possible else 0.0


def aggregate(parts: Sequence[Karats]) -> Aggregate:
    """Mean over scored and failed ones; missing ones lower the covered share only."""
    values = [part.value for part in parts if part.value is not None]
    possible = sum(part.status != "no-scale" for part in parts)
    if not values:
        reasons = dict.fromkeys(part.reason for part in parts if part.reason)
        return Aggregate(None, 0, possible, "; ".join(reasons) or "nothing was measured")
    return Aggregate(math.fsum(values) / len(values), len(values), possible)
