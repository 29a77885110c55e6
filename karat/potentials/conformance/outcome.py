"""What a check says: passed, failed, or not applicable, with the measured number."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from karat.structures.structure import Structure


class Violation(AssertionError):
    """A potential does not keep what it declares; the message has value and tolerance."""


class NotApplicable(Exception):
    """The potential's declarations (or the structures at hand) do not call for this check."""


@dataclass(frozen=True)
class Outcome:
    """Result of one check.

    Attributes:
        check: its name.
        status: what came out.
        detail: largest deviation and its tolerance, what is wrong, or why it was skipped.
    """

    check: str
    status: Literal["passed", "failed", "skipped"]
    detail: str


class Deviations:
    """Largest deviation of several comparisons, as a share of its tolerance."""

    def __init__(self) -> None:
        self.share = -1.0
        self.text = ""

    def compare(
        self, what: str, got: np.ndarray | float, want: np.ndarray | float, tolerance: float
    ) -> None:
        """Raises Violation: they differ by more than `tolerance`, or are not finite."""
        difference = np.abs(np.asarray(got) - np.asarray(want))
        worst = float(difference.max()) if difference.size else 0.0
        text = f"{what}: deviation {worst:.3g}, tolerance {tolerance:.3g}"
        if not worst <= tolerance:
            raise Violation(text)
        if worst / tolerance > self.share:
            self.share, self.text = worst / tolerance, text


def name_of(structure: Structure) -> str:
    """E.g. ``SiC (periodic, 8 atoms)``."""
    kind = "periodic" if structure.periodic.any() else "molecule"
    return f"{structure.formula} ({kind}, {len(structure)} atoms)"
