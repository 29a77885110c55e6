"""What an engine is: `prepare`, `run`, `parse`, each usable alone.

An engine is a frozen dataclass (a component: its fields are what a campaign may set). To add
one: write it in one file of this folder, add a line to `catalogue.py`, pass `conformance.py`.
"""

import abc
from collections.abc import Sequence
from pathlib import Path

from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.structure import Structure


class AbstractEngine(abc.ABC):
    """Computes labels of one structure at a time at one level of theory."""

    @property
    @abc.abstractmethod
    def level(self) -> LevelOfTheory:
        """What is computed, program and its version included."""

    @property
    @abc.abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """What it can compute."""

    @abc.abstractmethod
    def check(self, structure: Structure, want: Sequence[Quantity]) -> None:
        """Refuse what cannot be treated before any work starts.

        Raises:
            UnsuitableStructure: periodicity, charge, spin or size that it cannot treat.
            UnknownElement: an element it has no parameters or basis for.
            MissingDependency: the program is not installed.
        """

    @abc.abstractmethod
    def prepare(self, structure: Structure, want: Sequence[Quantity], folder: Path) -> None:
        """Write the input into `folder` (which exists and is empty)."""

    @abc.abstractmethod
    def run(self, folder: Path) -> None:
        """Do the calculation that `prepare` wrote, leaving its output in `folder`.

        Raises:
            CalculationFailed: with kind ``not-converged``, ``dead-process`` or ``error``.
        """

    @abc.abstractmethod
    def parse(self, folder: Path) -> Labels:
        """Read the output that `run` left.

        Raises:
            CalculationFailed: the output is missing, incomplete or not finite.
        """

    @abc.abstractmethod
    def compute(self, structure: Structure, want: Sequence[Quantity]) -> Labels:
        """All of it in memory where the program allows (fast path of dynamics and assays)."""
