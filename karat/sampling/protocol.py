"""What a sampler is: it makes or selects structures worth labelling.

A sampler is a frozen dataclass. To add one: one file here, one line in `catalogue.py`.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

from karat.potentials.protocol import AbstractPotential
from karat.results.metric import Failure
from karat.structures.structure import Structure


@dataclass(frozen=True, eq=False)
class Candidate:
    """A structure with its origin: what a dataset's `Record` keeps as kind, group and frame."""

    structure: Structure
    name: str
    kind: str
    group: str
    frame: int = -1


@dataclass(frozen=True, eq=False)
class Selection:
    """What a sampler found, and what failed on the way."""

    candidates: tuple[Candidate, ...]
    failures: tuple[Failure, ...] = ()


class AbstractSampler(abc.ABC):
    """Candidates → structures worth labelling."""

    @abc.abstractmethod
    def select(
        self, starts: Sequence[Structure], potential: AbstractPotential | None, seed: int
    ) -> Selection:
        """Structures, made from `starts` with `potential` where the sampler moves atoms.

        Raises:
            BadInput: settings that do not fit the structures.
        """
