"""`Finding`: what a check of the data doctor found."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from karat.data.dataset import Record

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
        offenders: names of structures, at most `SHOWN`.
    """

    severity: Severity
    code: str
    message: str
    offenders: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "offenders": list(self.offenders)}


def named(records: Sequence[Record]) -> tuple[str, ...]:
    """Names of the first offenders."""
    return tuple(record.name for record in records[:SHOWN])


def counted(number: int, total: int) -> str:
    """``3 of 29 structures``."""
    return f"{number} of {total} structures"


def label_key(record: Record) -> tuple | None:
    """Energy and sorted force lengths: equal for symmetry-equivalent structures, else hardly."""
    labels, structure = record.labels, record.structure
    if labels.energy is None or labels.forces is None or len(structure) < 2:
        return None
    lengths = np.sort(np.linalg.norm(labels.forces, axis=1))
    if not np.isfinite(lengths).all() or not np.isfinite(labels.energy):
        return None
    # identical as printed: strains of one crystal that merely come close differ in the 10th digit
    return (structure.formula, f"{labels.energy:.12g}", tuple(np.round(lengths, 4).tolist()))
