"""`compute`: one property of many structures by one potential; what is finished is never done
again.

Checked: tests/campaign/test_compute.py.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import karat
from karat.campaign.compute.catalogue import CATALOGUE
from karat.campaign.compute.protocol import (
    AbstractProperty,
    Case,
    Desk,
    Found,
    Progress,
    Silent,
    Source,
)
from karat.campaign.compute.storing import read_case, write_case
from karat.campaign.folder import locked
from karat.campaign.inputs import component_digest
from karat.core.components import dump, parse
from karat.core.errors import (
    BadInput,
    CalculationFailed,
    KaratError,
    MissingDependency,
    UnknownKey,
)
from karat.core.files import writable_folder
from karat.core.hashing import digest_json
from karat.data.files import read_structures
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent
from karat.results.metric import Failure
from karat.results.result import Result
from karat.results.store import Store
from karat.simulation.export.bundle import component_of

MOST_CASES, MOST_ATOMS = 64, 2048
"""Handed to a batched property at once: what an interruption can cost at most."""
SHOWN = 5
"""Refused cases that a message names."""


@dataclass(frozen=True, eq=False)
class ComputedCase:
    """A finished case.

    Attributes:
        case: what was asked for.
        key: hash of structures, potential, settings and versions.
        folder: where it is kept.
        before: whether an earlier call computed it.
    """

    case: Case
    key: str
    folder: Path
    before: bool

    @property
    def found(self) -> Found:
        """What was found, read from the folder at each access."""
        return read_case(self.folder)


@dataclass(frozen=True, eq=False)
class Computed:
    """What one call gave.

    Attributes:
        property: its name.
        settings: the property with all its settings.
        about: property, settings and potential, JSON-ready.
        cases: that are finished, in order.
        failures: cases and parts of cases that did not work.
        attempted: how many cases were asked for.
        folder: that keeps them.
    """

    property: str
    settings: AbstractProperty
    about: Mapping[str, Any]
    cases: tuple[ComputedCase, ...]
    failures: tuple[Failure, ...]
    attempted: int
    folder: Path


def compute(
    property: str,
    potential: str,
    sources: Sequence[Source],
    folder: Path | str,
    settings: Mapping[str, Any] | None = None,
    potential_settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Computed:
    """A property of every structure; each finished case is written at once.

    A case that fails costs no other; it is tried again by the next call. Cases are kept under a
    hash of structure, potential (contents of its files included), settings and versions; what
    `folder` has is not computed again. Batches are cut from the list of all cases, so that an
    interrupted and an undisturbed run see the same ones.

    Args:
        property: a name of `catalogue.py`, or ``module:Class``.
        potential: a ``.karat`` file, a name in the catalogue of potentials, or ``module:Class``.
        sources: structures, e.g. of `read_sources`.
        settings: of the property.
        potential_settings: of the potential.
        progress: told what happens.

    Raises:
        BadInput: unknown names or settings, no case, a structure that the potential or the
            property cannot take (all are checked before any work), a folder in use.
        KaratError: the folder cannot be written any more.
    """
    component = property_of(property, settings or {})
    cases = _named_apart(component.cases(sources))
    if not cases:
        raise BadInput(f"{property}: there is no structure to compute it of. Name files.")
    _, chosen = component_of(potential, potential_settings or {})
    loaded = chosen.load()
    _refuse(property, component, loaded, cases)
    about = _about(property, component, potential, potential_settings or {}, chosen, loaded)
    folder = writable_folder(Path(folder))
    with locked(folder):
        run = _Run(property, component, loaded, about, folder, progress or Silent())
        try:
            run.all(cases)
        finally:
            run.progress.end()
        with contextlib.suppress(OSError):  # stays where another case has something left in it
            run.desk.work.rmdir()
        return Computed(
            property=property,
            settings=component,
            about=about,
            cases=run.finished(cases),
            failures=run.failures(cases),
            attempted=len(cases),
            folder=folder,
        )


def _about(
    property: str,
    component: AbstractProperty,
    potential: str,
    settings: Mapping[str, Any],
    chosen: AbstractPotentialComponent,
    loaded: AbstractPotential,
) -> dict[str, Any]:
    """See `Computed.about`."""
    level = loaded.traits.level
    return {
        "property": property,
        "version": type(component).version,
        "settings": dump(component),
        "potential": {
            "name": potential,
            "settings": dict(settings),
            "digest": component_digest(chosen),
            "level": None if level is None else level.as_dict(),
        },
    }


def property_of(name: str, settings: Mapping[str, Any]) -> AbstractProperty:
    """The property of that name with these settings.

    Raises:
        UnknownKey: no such property or setting, with a suggestion.
        BadInput: a setting that is missing or wrong.
    """
    cls = CATALOGUE.resolve(name)
    if not (isinstance(cls, type) and issubclass(cls, AbstractProperty)):
        raise BadInput(f"{name}: is no property (AbstractProperty).")
    try:
        return parse(cls, settings, name)
    except UnknownKey:
        raise
    except BadInput as error:
        raise BadInput(f"{error}\n`karat compute list {name}` explains the settings.") from error


def read_sources(paths: Sequence[Path | str]) -> tuple[Source, ...]:
    """The structures of files; names are the files' own, else file and place.

    Raises:
        BadInput: missing, empty or unreadable; nothing is read beyond that file.
    """
    sources = []
    for path in map(Path, paths):
        items = read_structures(path)
        stem = path.name.partition(".")[0]
        names = tuple(item.name for item in items)
        if len(items) == 1 and names[0].startswith(stem):
            names = (stem,)
        sources.append(Source(str(path), tuple(item.structure for item in items), names))
    return tuple(sources)


def _named_apart(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Cases, names that occur again numbered."""
    seen: dict[str, int] = {}
    found = []
    for case in cases:
        seen[case.name] = seen.get(case.name, 0) + 1
        again = seen[case.name]
        found.append(case if again == 1 else replace(case, name=f"{case.name}#{again}"))
    return tuple(found)


def _refuse(
    property: str, component: AbstractProperty, potential: AbstractPotential, cases: Sequence[Case]
) -> None:
    refused: list[tuple[str, BadInput]] = []
    for case in cases:
        try:
            component.check(potential, case)
        except BadInput as error:
            refused.append((case.name, error))
    if not refused:
        return
    lines = [f"{name}: {error}" for name, error in refused[:SHOWN]]
    if len(refused) > SHOWN:
        lines.append(f"and {len(refused) - SHOWN} more.")
    head = f"{property}: {len(refused)} of {len(cases)} cannot be computed; nothing was started."
    raise type(refused[0][1])("\n  ".join([head, *lines]))


class _Run:
    """The state of one call."""

    def __init__(
        self,
        name: str,
        component: AbstractProperty,
        potential: AbstractPotential,
        about: Mapping[str, Any],
        folder: Path,
        progress: Progress,
    ) -> None:
        self.name, self.component, self.potential = name, component, potential
        self.about, self.progress = about, progress
        self.store = Store(folder)
        self.store.clean()
        self.desk = Desk(folder / "work", self.key, progress.inside)
        self.kept: dict[str, Path] = {}
        self.before: set[str] = set()
        self.failed: dict[str, KaratError] = {}
        self._what = [
            "compute",
            component_digest(component),
            type(component).version,
            about["potential"]["digest"],
            karat.__version__,
        ]

    def key(self, case: Case) -> str:
        """Hash of all that goes into a case."""
        return digest_json([*self._what, case.digest])

    def all(self, cases: Sequence[Case]) -> None:
        """Compute and keep what is missing; equal cases only once."""
        unique = {self.key(case): case for case in reversed(cases)}
        there = self.store.finished()
        self.kept = {key: there[key[:16]] for key in unique if key[:16] in there}
        self.before = set(self.kept)
        self.progress.begin(len(unique), len(self.kept))
        for batch in self._batches(list(reversed(unique.values()))):
            missing = [case for case in batch if self.key(case) not in self.kept]
            if missing:
                self._compute(missing)

    def finished(self, cases: Sequence[Case]) -> tuple[ComputedCase, ...]:
        """Of these cases."""
        keys = [self.key(case) for case in cases]
        return tuple(
            ComputedCase(case, key, self.kept[key], key in self.before)
            for case, key in zip(cases, keys)
            if key in self.kept
        )

    def failures(self, cases: Sequence[Case]) -> tuple[Failure, ...]:
        """Cases that failed, and parts of finished ones that did, in order."""
        found: list[Failure] = []
        for case in cases:
            key = self.key(case)
            if key in self.failed:
                found.append(_failure(self.name, case, self.failed[key]))
            elif key in self.kept:
                parts = Result.load(self.kept[key]).failures
                found += [replace(part, case=f"{case.name}: {part.case}") for part in parts]
        return tuple(found)

    def _batches(self, cases: Sequence[Case]) -> Iterator[list[Case]]:
        """Cut where a batch is full; one by one where nothing is gained."""
        together = type(self.component).batched and self.potential.traits.native
        batch: list[Case] = []
        atoms = 0
        for case in cases:
            size = len(case.structure)
            full = len(batch) >= MOST_CASES or atoms + size > MOST_ATOMS
            if batch and (full or not together):
                yield batch
                batch, atoms = [], 0
            batch.append(case)
            atoms += size
        if batch:
            yield batch

    def _compute(self, cases: Sequence[Case]) -> None:
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        self.progress.inside(f"{cases[0].name}{more}")
        started = time.monotonic()
        outcomes = self._measured(cases)
        seconds = (time.monotonic() - started) / len(cases)
        for case, outcome in zip(cases, outcomes, strict=True):
            reason = ""
            if isinstance(outcome, KaratError):
                self.failed[self.key(case)] = outcome
                reason = str(outcome)
            else:
                self._keep(case, outcome, seconds)
            self.progress.finished(case.name, len(case.structure), reason)

    def _measured(self, cases: Sequence[Case]) -> list[Found | KaratError]:
        """What was found; a fault of one method or library fails its case, not the run."""
        outcomes: list[Found | KaratError]
        try:
            outcomes = self.component.measure(self.potential, cases, self.desk)
        except Exception as error:
            if len(cases) > 1:
                return [outcome for case in cases for outcome in self._measured([case])]
            outcomes = [error if isinstance(error, KaratError) else _unexpected(error)]
        for outcome in outcomes:
            if isinstance(outcome, MissingDependency):
                raise outcome
        return outcomes

    def _keep(self, case: Case, found: Found, seconds: float) -> None:
        key = self.key(case)

        def write(folder: Path) -> None:
            write_case(folder, self.name, case, found, self.about, seconds)

        try:
            self.kept[key] = self.store.commit(key, f"{self.name}-{case.name}", write)
        except OSError as error:
            raise KaratError(
                f"{self.store.root}: cannot be written ({error.strerror or error}). What is "
                "finished is kept: make room, then give the same command again."
            ) from error
        shutil.rmtree(self.desk.work / key[:16], ignore_errors=True)


def _failure(name: str, case: Case, error: KaratError) -> Failure:
    kind = error.kind if isinstance(error, CalculationFailed) else "unsuitable"
    return Failure(what=name, case=case.name, kind=kind, reason=str(error))


def _unexpected(error: Exception) -> CalculationFailed:
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return CalculationFailed(f"unexpected {type(error).__name__}: {first}", kind="unexpected")
