"""Label many structures in worker processes: time limits, retries, nothing done twice.

Every worker is a process of its own with one compute thread. What a worker finishes is stored at
once; a structure whose worker is too slow or dies is tried again in a new one and finally recorded
as a `Failure`. Values and order do not depend on the number of workers.

Checked: tests/reference/test_labelling.py.
"""

import selectors
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from karat.core.components import dump
from karat.core.errors import BadInput, CalculationFailed
from karat.core.files import writable_folder
from karat.reference.exchange import labels_from_json, ordered, structure_to_json
from karat.reference.label_store import LabelStore, Stored, label_keys
from karat.reference.protocol import AbstractEngine
from karat.reference.worker_process import WorkerDied, WorkerProcess
from karat.results.metric import Failure
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

STARTUP_LIMIT_S: Final = 300.0
"""Wall time that a worker may take to import its engine."""
STARTUP_ATTEMPTS: Final = 3

Progress = Callable[[int, int, int], None]
"""Called with how many structures are finished, how many of them failed, how many there are."""


@dataclass(frozen=True)
class Limits:
    """How labelling may use the machine.

    Attributes:
        workers: processes at a time.
        timeout_s: wall seconds for one structure, or `None` for no limit.
        attempts: how often a structure is tried before it is recorded as failed.
    """

    workers: int = 2
    timeout_s: float | int | None = None
    attempts: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1 or self.attempts < 1:
            raise BadInput(
                f"workers ({self.workers}) and attempts ({self.attempts}) must be at least 1."
            )
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise BadInput(f"the time limit is {self.timeout_s} s; it must be above 0, or absent.")


def label_structures(
    engine: AbstractEngine,
    structures: Sequence[Structure],
    names: Sequence[str],
    want: Sequence[Quantity],
    folder: Path,
    limits: Limits,
    progress: Progress | None = None,
    *,
    retry_failed: bool = False,
) -> list[Labels | Failure]:
    """Labels of each structure, or why there are none, in order.

    Only what `folder` does not hold yet is computed, so an interrupted run goes on where it was;
    equal structures are computed once.

    Args:
        names: of the structures, for messages and failures.
        folder: where outcomes are kept; see `karat.reference.label_store`.
        retry_failed: compute what failed earlier once more.

    Raises:
        BadInput: a structure that the engine refuses (the message names it), a folder that cannot
            be written: before any work starts.
        CalculationFailed: kind ``dead-process``: workers cannot even start.
    """
    if len(names) != len(structures):
        raise BadInput(f"{len(structures)} structures with {len(names)} names.")
    wanted = ordered(want)
    for name, structure in zip(names, structures):
        try:
            engine.check(structure, wanted)
        except BadInput as error:
            raise type(error)(f"{name}: {error}") from error
    store = LabelStore(writable_folder(folder))
    keys = label_keys(engine, structures, wanted)
    first = {key: index for index, key in reversed(list(enumerate(keys)))}
    known: dict[str, Stored] = {}
    for key in first:
        stored = store.read(key)
        if stored and not (retry_failed and isinstance(stored.outcome, Failure)):
            known[key] = stored
    tasks = [
        _Task(key, names[index], _message(structures[index], wanted))
        for key, index in sorted(first.items(), key=lambda item: item[1])
        if key not in known
    ]
    run = _Run(engine, store, limits, keys, known, progress)
    run.report()
    if tasks:
        run.work_off(tasks)
    return [_renamed(known[key].outcome, name) for key, name in zip(keys, names)]


def _message(structure: Structure, want: Sequence[Quantity]) -> dict[str, Any]:
    return {"structure": structure_to_json(structure), "want": list(want)}


def _renamed(outcome: Labels | Failure, name: str) -> Labels | Failure:
    if isinstance(outcome, Failure):
        return Failure(**(outcome.as_dict() | {"case": name}))
    return outcome


@dataclass
class _Task:
    """One structure on its way; `attempts` counts how often it was begun."""

    key: str
    name: str
    message: dict[str, Any]
    attempts: int = 0


@dataclass
class _Seat:
    """A worker and what it does: it starts up (not `ready`), computes `task`, or has none."""

    worker: WorkerProcess
    deadline: float | None
    ready: bool = False
    task: _Task | None = None


class _Run:
    """The loop that hands out tasks, collects outcomes, and replaces workers."""

    def __init__(
        self,
        engine: AbstractEngine,
        store: LabelStore,
        limits: Limits,
        keys: Sequence[str],
        known: dict[str, Stored],
        progress: Progress | None,
    ) -> None:
        self.engine, self.store, self.limits = engine, store, limits
        self.known, self.progress = known, progress
        self.shares = Counter(keys)  # how many structures share an outcome
        self.done = self.failed = 0
        for key, stored in known.items():
            self._count(key, stored.outcome)
        self.waiting: deque[_Task] = deque()
        self.seats: list[_Seat] = []
        self.bad_starts = 0

    def report(self) -> None:
        """Tell the caller how far it is."""
        if self.progress is not None:
            self.progress(self.done, self.failed, self.shares.total())

    def _count(self, key: str, outcome: Labels | Failure) -> None:
        self.done += self.shares[key]
        if isinstance(outcome, Failure):
            self.failed += self.shares[key]

    def work_off(self, tasks: Sequence[_Task]) -> None:
        """Compute all tasks; whatever happens, no worker is left running."""
        self.waiting.extend(tasks)
        try:
            for _ in range(min(self.limits.workers, len(tasks))):
                self._start_worker()
            while self.waiting or any(seat.task for seat in self.seats):
                self._turn()
        finally:
            for seat in self.seats:
                seat.worker.kill()

    def _start_worker(self) -> None:
        worker = WorkerProcess()
        self.seats.append(_Seat(worker, time.monotonic() + STARTUP_LIMIT_S))
        kind = type(self.engine)
        path = f"{kind.__module__}:{kind.__qualname__}"
        worker.send({"class": path, "values": dump(self.engine), "folder": worker.folder})

    def _turn(self) -> None:
        """Wait until a worker says something, dies, or exceeds its limit; act on it."""
        for seat in self._speaking_seats():
            try:
                for message in seat.worker.receive():
                    self._heard(seat, message)
            except WorkerDied as death:
                self._lost(seat, "dead-process", str(death))
        now = time.monotonic()
        for seat in list(self.seats):
            if seat.deadline is not None and now >= seat.deadline:
                limit = self.limits.timeout_s if seat.task else STARTUP_LIMIT_S
                self._lost(seat, "timeout", f"not finished after {limit:g} s.")
        for seat in self.seats:  # what is to be tried again goes to whoever is free
            self._occupy(seat)
        starting = sum(not seat.ready for seat in self.seats)
        vacant = self.limits.workers - len(self.seats)
        for _ in range(min(vacant, len(self.waiting) - starting)):
            self._start_worker()

    def _speaking_seats(self) -> list[_Seat]:
        deadlines = [seat.deadline for seat in self.seats if seat.deadline is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        with selectors.DefaultSelector() as selector:
            for seat in self.seats:
                selector.register(seat.worker.output, selectors.EVENT_READ, seat)
            return [key.data for key, _ in selector.select(timeout)]

    def _heard(self, seat: _Seat, message: dict[str, Any]) -> None:
        if "unusable" in message:
            raise CalculationFailed(
                f"A labelling worker cannot make the engine: {message['unusable']}.",
                kind="dead-process",
            )
        task, seat.task, seat.deadline, seat.ready = seat.task, None, None, True
        self.bad_starts = 0
        self._occupy(seat)  # first, so that it computes while its last outcome is written
        if task is not None:
            if "labels" in message:
                self._finish(task, labels_from_json(message["labels"]), message["seconds"])
            else:
                self._failed(task, message["kind"], message["reason"], message["seconds"])

    def _occupy(self, seat: _Seat) -> None:
        """Give an idle worker the next task, if there is one."""
        if not seat.ready or seat.task is not None or not self.waiting:
            return
        task = self.waiting.popleft()
        task.attempts += 1
        seat.task = task
        limit = self.limits.timeout_s
        seat.deadline = None if limit is None else time.monotonic() + limit
        seat.worker.send(task.message)

    def _lost(self, seat: _Seat, kind: str, reason: str) -> None:
        """A worker died or was too slow: it goes; its structure is tried again or has failed."""
        seat.worker.kill()
        self.seats.remove(seat)
        if seat.task is None:
            self.bad_starts += 1
            if self.bad_starts >= STARTUP_ATTEMPTS:
                raise CalculationFailed(
                    f"Labelling workers do not start ({self.bad_starts} in a row): {reason}",
                    kind=kind,
                )
        else:
            self._failed(seat.task, kind, reason, seat.worker.seconds_since_send())

    def _failed(self, task: _Task, kind: str, reason: str, seconds: float) -> None:
        if task.attempts < self.limits.attempts and kind != "refused":
            self.waiting.append(task)
            return
        failure = Failure(
            what="label", case=task.name, kind=kind, reason=reason, attempts=task.attempts
        )
        self._finish(task, failure, seconds)

    def _finish(self, task: _Task, outcome: Labels | Failure, seconds: float) -> None:
        self.store.write(task.key, outcome, seconds)
        self.known[task.key] = Stored(outcome, seconds)
        self._count(task.key, outcome)
        self.report()
