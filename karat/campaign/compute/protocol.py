"""What a property is: cases from structures, a check before the work, values with unit and axes.

To add one see README.md.
"""

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from karat.core.errors import BadInput, KaratError
from karat.potentials.protocol import AbstractPotential
from karat.results.figure import Figure
from karat.results.metric import Failure
from karat.structures.structure import Structure


@dataclass(frozen=True, eq=False)
class Source:
    """Structures that came together, e.g. in one file.

    Attributes:
        name: of the file.
        structures: in the file's order.
        names: of each; by default the source's name, with the place where there are several.
    """

    name: str
    structures: tuple[Structure, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            many = len(self.structures) > 1
            names = [f"{self.name}:{i}" if many else self.name for i in range(len(self.structures))]
            object.__setattr__(self, "names", tuple(names))
        if len(self.names) != len(self.structures):
            raise BadInput(f"{self.name}: {len(self.names)} names, not {len(self.structures)}.")


@dataclass(frozen=True, eq=False)
class Case:
    """What is computed, kept and counted as one.

    Attributes:
        name: for people.
        structures: one, but for paths between several.
        variant: what is done with them where that is not all, e.g. the name of a torsion.
    """

    name: str
    structures: tuple[Structure, ...]
    variant: str = ""

    @property
    def structure(self) -> Structure:
        """The first one."""
        return self.structures[0]

    @cached_property
    def digest(self) -> list[Any]:
        """What identifies it, whatever its name: structures, bonds, variant."""
        bonds = [None if s.topology is None else s.topology.digest for s in self.structures]
        return [[s.digest for s in self.structures], bonds, self.variant]


@dataclass(frozen=True, eq=False)
class Value:
    """A quantity that was found.

    Attributes:
        name: unique within a case, e.g. ``stiffness``.
        data: whole numbers, floats or truth values; no axes for a single one.
        unit: e.g. ``eV/Å``; "" for pure numbers.
        axes: what each axis counts, e.g. ``("atoms", "xyz")``.
        title: for people, where the name does not say it.

    Raises:
        BadInput: NaN or infinity, or another number of axes than names for them.
    """

    name: str
    data: np.ndarray
    unit: str = ""
    axes: tuple[str, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        data = np.array(self.data)
        data.setflags(write=False)
        object.__setattr__(self, "data", data)
        if data.dtype.kind not in "bif" or data.ndim != len(self.axes):
            raise BadInput(
                f"value {self.name}: {data.dtype} of shape {data.shape} with axes {self.axes}."
            )
        if not np.isfinite(data).all():
            raise BadInput(f"value {self.name} holds NaN or infinity: raise a failure instead.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Empty for a single number."""
        return self.data.shape

    @property
    def number(self) -> int | float | bool:
        """The single number.

        Raises:
            ValueError: there are several.
        """
        found: int | float | bool = self.data.item()
        return found


@dataclass(frozen=True, eq=False)
class Found:
    """What a property found in one case.

    Attributes:
        values: names are unique.
        structures: role → structure, e.g. ``relaxed``.
        failures: parts that did not work, e.g. points of a scan.
        figures: curves that people would rather look at.
        notes: name → words, e.g. the space group.
        files: name → file that is moved into the case's folder, e.g. a trajectory.
    """

    values: tuple[Value, ...]
    structures: Mapping[str, Structure] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def value(self, name: str) -> Value:
        """The value of that name.

        Raises:
            KeyError: there is none.
        """
        for value in self.values:
            if value.name == name:
                return value
        raise KeyError(f"no value {name}; there are {', '.join(v.name for v in self.values)}")


class Progress(Protocol):
    """A watcher; the command line draws, tests record."""

    def begin(self, total: int, kept: int) -> None:
        """So many cases are asked for, of which so many are there from before."""

    def inside(self, words: str) -> None:
        """What runs now said how far it is."""

    def finished(self, name: str, atoms: int, reason: str) -> None:
        """A case is kept, or has failed for this reason."""

    def end(self) -> None:
        """Nothing more follows, for whatever reason."""


class Silent:
    """Watches and says nothing."""

    def begin(self, total: int, kept: int) -> None: ...

    def inside(self, words: str) -> None: ...

    def finished(self, name: str, atoms: int, reason: str) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Desk:
    """Where a property that runs long keeps what it would go on from, and says how far it is.

    Attributes:
        work: below which cases have their folders.
        key: of a case: hash of all that goes into it.
        say: shown until something else is said.
    """

    work: Path
    key: Callable[[Case], str]
    say: Callable[[str], None]

    def folder(self, case: Case) -> Path:
        """Kept when interrupted, removed when the case is finished; made if missing."""
        path = self.work / self.key(case)[:16]
        path.mkdir(parents=True, exist_ok=True)
        return path


class AbstractProperty(abc.ABC):
    """A frozen dataclass: its fields are the settings of one property.

    Attributes:
        version: raised when the code changes what comes out.
        columns: names of single values that the printed table shows.
        batched: whether `measure` gains from many cases at once.
    """

    version: ClassVar[int]
    columns: ClassVar[tuple[str, ...]]
    batched: ClassVar[bool] = False

    @abc.abstractmethod
    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        """What is to be computed.

        Raises:
            BadInput: structures that give no case, naming them.
        """

    @abc.abstractmethod
    def check(self, potential: AbstractPotential, case: Case) -> None:
        """Refuse what cannot be computed, before any work.

        Raises:
            UnknownElement, UnsuitableStructure, BadInput: naming the value.
        """

    @abc.abstractmethod
    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        """What was found, or the error, of each case in order; only one unless `batched`."""


def one_per_structure(sources: Sequence[Source]) -> tuple[Case, ...]:
    """A case for each structure."""
    return tuple(
        Case(name, (structure,))
        for source in sources
        for name, structure in zip(source.names, source.structures, strict=True)
    )


def each(
    function: Callable[[Structure], Found], cases: Sequence[Case]
) -> "list[Found | KaratError]":
    """`function` of each case's structure; one that fails costs no other."""
    outcomes: list[Found | KaratError] = []
    for case in cases:
        try:
            outcomes.append(function(case.structure))
        except KaratError as error:
            outcomes.append(error)
    return outcomes


def defaults(function: Callable) -> dict[str, Any]:
    """The defaults of a function's arguments, so that settings need not repeat them."""
    parameters = inspect.signature(function).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def positive(settings: AbstractProperty, place: str, *names: str) -> None:
    """Refuse settings that must be positive and are not.

    Raises:
        BadInput: naming the setting.
    """
    for name in names:
        given = getattr(settings, name)
        if not (np.min(given) > 0 and np.isfinite(given).all()):
            raise BadInput(f"{place}.{name} is {given}; it must be positive and finite.")
