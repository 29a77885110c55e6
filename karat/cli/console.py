"""How a run shows itself: a live display on a terminal, plain lines elsewhere; on standard error.

Checked: tests/cli/test_console.py.
"""

import sys
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from karat.campaign.progress import Estimate, Progress

if TYPE_CHECKING:
    from karat.campaign.plan import Step

QUIET_SECONDS = 10.0
"""A running step is mentioned again after this long, in plain lines."""


def make_progress(plain: bool, stream: TextIO | None = None) -> Progress:
    """A live display where `stream` (standard error) is a terminal, unless `plain`."""
    stream = stream or sys.stderr
    return PlainProgress(stream) if plain or not stream.isatty() else LiveProgress(stream)


def duration(seconds: float | None) -> str:
    """`1:23` minutes, `2:01:00` hours, or `–`."""
    if seconds is None:
        return "–"
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


class _Counts:
    """What both displays know."""

    def __init__(self, steps: Sequence["Step"], done: Collection[str], workers: int) -> None:
        self.total = len(steps)
        self.done = len(done)
        self.failed = 0
        self.running: dict[str, tuple[float, str, str]] = {}
        self.estimate = Estimate([step.kind for step in steps if step.key not in done], workers)

    def finish(self, step: "Step", status: str, seconds: float) -> None:
        self.running.pop(step.key, None)
        self.done += 1
        self.failed += status == "failed"
        self.estimate.finished(step.kind, seconds, counts=status == "done")

    def summary(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        left = self.estimate.left
        more = f", about {duration(left)} left" if left is not None else ""
        return (
            f"{self.done}/{self.total} steps{failed}, {len(self.running)} running, "
            f"{self.total - self.done - len(self.running)} waiting, "
            f"{duration(self.estimate.elapsed)} passed{more}"
        )


class PlainProgress:
    """A line for each step that ends, and now and then one for those that run long."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said = 0.0

    def begin(self, steps: Sequence["Step"], done: Collection[str], workers: int) -> None:
        self._counts = _Counts(steps, done, workers)
        kept = f", {len(done)} done before" if done else ""
        self._say(f"{len(steps)} steps{kept}, {workers} worker{'s' if workers > 1 else ''}")

    def started(self, step: "Step") -> None:
        self._counts.running[step.key] = (time.monotonic(), step.name, "")
        self._said = time.monotonic()

    def inside(self, step: "Step", done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - self._said >= QUIET_SECONDS:
            self._said = now
            self._say(f"  … {step.name}: {done}/{total} {text}".rstrip())

    def finished(self, step: "Step", status: str, reason: str, seconds: float) -> None:
        self._counts.finish(step, status, seconds)
        why = f": {reason}" if reason else ""
        self._say(f"[{self._counts.summary()}] {step.name}: {status} ({seconds:.1f} s){why}")

    def end(self) -> None:
        self._stream.flush()

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class LiveProgress:
    """A bar with what runs now below it; failures stay on the screen."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._counts: _Counts | None = None
        self._console = Console(file=stream)
        self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self._draw)

    def begin(self, steps: Sequence["Step"], done: Collection[str], workers: int) -> None:
        self._counts = _Counts(steps, done, workers)
        self._live.start()

    def started(self, step: "Step") -> None:
        assert self._counts is not None
        self._counts.running[step.key] = (time.monotonic(), step.name, "")

    def inside(self, step: "Step", done: int, total: int, text: str) -> None:
        assert self._counts is not None
        begun, name, _ = self._counts.running[step.key]
        self._counts.running[step.key] = (begun, name, f"{done}/{total} {text}".rstrip())

    def finished(self, step: "Step", status: str, reason: str, seconds: float) -> None:
        assert self._counts is not None
        self._counts.finish(step, status, seconds)
        if status == "failed":
            self._console.print(
                f"failed: {step.name}: {reason}", markup=False, highlight=False, style="red"
            )
        elif status == "not-applicable" and step.kind == "measure":
            self._console.print(
                f"not applicable: {step.name}: {reason}", markup=False, highlight=False, style="dim"
            )

    def end(self) -> None:
        self._live.stop()

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        counts = self._counts
        if counts is None:
            return Text("planning …")
        lines: list[Any] = [
            ProgressBar(total=counts.total, completed=counts.done, width=60),
            Text(counts.summary(), overflow="fold"),
        ]
        now = time.monotonic()
        for begun, name, text in list(counts.running.values()):
            lines.append(Text(f"  {duration(now - begun)}  {name}  {text}", style="cyan"))
        return Group(*lines)
