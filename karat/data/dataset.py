"""`Dataset`: structures with labels of one level of theory.

Checked: tests/data/test_dataset.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from karat.core.errors import BadInput
from karat.core.hashing import digest_arrays, digest_json
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure


@dataclass(frozen=True, eq=False)
class Record:
    """One labelled structure.

    Attributes:
        structure, labels: what it is and what was computed.
        name: unique within a dataset, for people.
        kind: what sort of structure: ``300K``, ``conformer``, ``vacancy``, …; "" if unknown.
        group: frames of one trajectory (or of one molecule) share a group.
        frame: place in time within the group, -1 where there is no time.
    """

    structure: Structure
    labels: Labels
    name: str = ""
    kind: str = ""
    group: str = ""
    frame: int = -1

    @cached_property
    def digest(self) -> str:
        """SHA-256 over structure, labels, kind, group and frame."""
        labels = {
            str(name): np.asarray(getattr(self.labels, name)) for name in self.labels.quantities
        }
        parts = [self.structure.digest, digest_arrays(labels), self.kind, self.group, self.frame]
        return digest_json(parts)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Records of one level of theory, in order.

    Raises:
        BadInput: no record.
    """

    records: tuple[Record, ...]
    level: LevelOfTheory

    def __post_init__(self) -> None:
        if not self.records:
            raise BadInput("A dataset needs at least one labelled structure.")

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @property
    def structures(self) -> list[Structure]:
        """The structures, in order."""
        return [record.structure for record in self.records]

    @property
    def labels(self) -> list[Labels]:
        """The labels, in order."""
        return [record.labels for record in self.records]

    @cached_property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(sorted({int(z) for record in self.records for z in record.structure.numbers}))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all records in order and the level of theory."""
        return digest_json([[record.digest for record in self.records], self.level.digest])

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """The records of those indices, in that order."""
        return Dataset(tuple(self.records[i] for i in indices), self.level)
