"""What a run tells whoever watches: the protocol, silence, and an estimate of the time left."""

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from karat.campaign.plan import Step


class Progress(Protocol):
    """A watcher of a run; the command line draws, tests record, `Silent` does neither."""

    def begin(self, steps: Sequence["Step"], done: Collection[str], workers: int) -> None:
        """The plan is known; `done` are the keys of the steps that were committed before."""

    def started(self, step: "Step") -> None:
        """A step began."""

    def inside(self, step: "Step", done: int, total: int, text: str) -> None:
        """A running step said how far it is."""

    def finished(self, step: "Step", status: str, reason: str, seconds: float) -> None:
        """A step ended, or will never begin."""

    def end(self) -> None:
        """Nothing more follows, for whatever reason."""


class Silent:
    """Watches and says nothing."""

    def begin(self, steps: Sequence["Step"], done: Collection[str], workers: int) -> None: ...

    def started(self, step: "Step") -> None: ...

    def inside(self, step: "Step", done: int, total: int, text: str) -> None: ...

    def finished(self, step: "Step", status: str, reason: str, seconds: float) -> None: ...

    def end(self) -> None: ...


WEIGHTS: Final = {"sample": 10.0, "labels": 5.0, "fit": 20.0, "cases": 2.0, "measure": 3.0}
"""Roughly how long steps of a kind take compared with others."""
LIGHT: Final = 0.2
"""The weight of all other kinds."""


class Estimate:
    """Time left: mean duration of finished steps of a kind, for those left of that kind.

    Kinds that never finished yet count by `WEIGHTS`, in proportion to those that did.
    """

    def __init__(self, kinds: Sequence[str], workers: int) -> None:
        self._left: dict[str, int] = {}
        for kind in kinds:
            self._left[kind] = self._left.get(kind, 0) + 1
        self._seconds: dict[str, list[float]] = {}
        self._workers = workers
        self._begun = time.monotonic()

    def finished(self, kind: str, seconds: float, counts: bool = True) -> None:
        """A step of that kind ended; `counts` is False where it did no work."""
        self._left[kind] -= 1
        if counts:
            self._seconds.setdefault(kind, []).append(seconds)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float | None:
        """Seconds left, roughly; `None` before the first step has finished."""
        if not self._seconds:
            return None
        spent = sum(sum(values) for values in self._seconds.values())
        weight = sum(len(v) * WEIGHTS.get(kind, LIGHT) for kind, v in self._seconds.items())
        work = 0.0
        for kind, count in self._left.items():
            seen = self._seconds.get(kind)
            each = sum(seen) / len(seen) if seen else WEIGHTS.get(kind, LIGHT) * spent / weight
            work += count * each
        return work / self._workers
