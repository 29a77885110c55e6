"""Where a training stands, live: a bar on a terminal, else lines; always on standard error.

Checked: tests/cli/test_train_display.py.
"""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from karat.potentials.model import Stage

Report = Callable[["Stage"], None]
PAUSE = 2.0
"""Seconds between two plain lines, unless there is news other than progress."""


def display(plain: bool, as_json: bool) -> AbstractContextManager[Report]:
    """A bar with a line of words, or plain lines: where they are asked for, with JSON on standard
    output, and where standard error is no terminal."""
    if plain or as_json or not sys.stderr.isatty():
        return nullcontext(plain_report())
    return _Bar()


def plain_report(clock: Callable[[], float] = time.monotonic) -> Report:
    """A line for each part of the work that is done, at most every 2 s and at the end; at once
    where nothing was done since the last call: a compilation begins, a run goes back."""
    last: list[float] = []
    seen: list[tuple[int, str]] = []

    def report(now: "Stage") -> None:
        news = not seen or now.done == seen[0][0]
        if seen and (now.done, now.words) == seen[0]:
            return
        seen[:] = [(now.done, now.words)]
        ends = now.done == now.total
        if not news and not ends and last and clock() - last[0] < PAUSE:
            return
        if not news:
            last[:] = [clock()]
        print(f"train: {now.done}/{now.total} {now.words}", file=sys.stderr, flush=True)

    return report


class _Bar(AbstractContextManager[Report]):
    """A rich progress bar, with what is done now in the line below."""

    def __enter__(self) -> Report:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=Console(stderr=True),
        )
        task = self._bar.add_task("", total=None, words="preparing …")
        self._bar.start()

        def report(now: "Stage") -> None:
            self._bar.update(task, completed=now.done, total=now.total, words=now.words)
            if now.words.startswith("compiling"):
                self._bar.refresh()  # before the long call, not a tenth of a second later

        return report

    def __exit__(self, *exception: Any) -> None:
        self._bar.stop()
