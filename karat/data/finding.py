"""`Finding`: what a check of the data doctor found.

Checked: tests/data/test_doctor_faults.py.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from karat.data.survey import Survey

Severity = Literal["error", "warning", "info"]

SHOWN = 10
"""At most so many offenders are named; the message has their number."""


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        severity: ``error``: do not train on it; ``warning``: know it; ``info``: a fact.
        code: short word for programs, e.g. ``duplicates``.
        message: for people, with what to do.
        offenders: names of structures, worst first, at most `SHOWN`.
    """

    severity: Severity
    code: str
    message: str
    offenders: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "offenders": list(self.offenders)}


def offenders(
    survey: "Survey",
    rows: Int[np.ndarray, "found"],
    badness: Sequence[float] | np.ndarray | None = None,
) -> tuple[str, ...]:
    """Names of at most `SHOWN` of those rows, worst (largest `badness`) first, else in order."""
    rows = np.asarray(rows, dtype=np.int64)
    if badness is not None:
        rows = rows[np.argsort(-np.asarray(badness, dtype=np.float64), kind="stable")]
    return tuple(survey.names[row] for row in rows[:SHOWN].tolist())


def counted(number: int, total: int) -> str:
    """``3 of 29 structures``."""
    return f"{number} of {total} structures"
