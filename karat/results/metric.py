"""`Metric`: a number with unit, interval, count and direction; `Failure`: not a number."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from karat.core.errors import BadInput

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Metric:
    """One measured number. No interval is made up.

    Attributes:
        name: e.g. ``force_rmse``; with `subset` unique within a result.
        value: finite.
        unit: e.g. ``eV/Å``; "" for pure numbers.
        low, high: 95 % interval; both `None` with the reason in `why_no_interval`.
        n: number of independent cases it is made of.
        better: which direction is better.
        subset: "" for all cases, else the kind of case or the element, e.g. ``kind:600K``.
        floor: noise floor in the same unit, below which nothing is discriminated.
        floor_source: where it comes from.
        baseline: what a trivial predictor scores on the same cases.
        baseline_source: which trivial predictor.
        headline: whether it counts in the karat score of its assay.
        title: readable name for tables; "" to use `name`.

    Raises:
        BadInput: a value that is not finite, half an interval, or none without a reason.
    """

    name: str
    value: float
    unit: str
    low: float | None
    high: float | None
    n: int
    better: Better
    why_no_interval: str = ""
    subset: str = ""
    floor: float | None = None
    floor_source: str = ""
    baseline: float | None = None
    baseline_source: str = ""
    headline: bool = False
    title: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise BadInput(f"metric {self.name} is {self.value}: store a Failure instead.")
        if (self.low is None) != (self.high is None):
            raise BadInput(f"metric {self.name} has half an interval.")
        if self.low is None and not self.why_no_interval:
            raise BadInput(f"metric {self.name} has neither an interval nor the reason why not.")

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Metric":
        """The inverse of `as_dict`."""
        return cls(**values)


@dataclass(frozen=True)
class Failure:
    """Something that was attempted and did not work: counted and shown, never a number.

    Attributes:
        what: what was attempted, e.g. ``label``, ``torsion scan``.
        case: which structure or case.
        kind: short word for counting: ``not-converged``, ``timeout``, ``dead-process``, …
        reason: message for people.
        attempts: how often it was tried.
    """

    what: str
    case: str
    kind: str
    reason: str
    attempts: int = 1

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Failure":
        """The inverse of `as_dict`."""
        return cls(**values)
