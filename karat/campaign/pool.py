"""A pool of persistent worker processes on this machine.

Plain subprocesses and pipes: a worker that crashes (a segmentation fault in a foreign library)
costs its own step only, and none outlives the campaign's process.

Checked: tests/campaign/test_pool.py.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

LOG_TAIL = 4000
"""Characters at the end of a log that are searched for the last words of a dead worker."""


@dataclass(frozen=True)
class Event:
    """What a worker said (`progress`, `done`, `failed`), or that it `died`."""

    ticket: str
    kind: str
    message: Mapping[str, Any] = field(default_factory=dict)


class Pool:
    """Worker processes, started when first needed, restarted when one died.

    Args:
        count: how many at most.
        hello: first message to each; `serve` names the function that makes its server.
        logs: folder for what libraries print.
    """

    def __init__(self, count: int, hello: Mapping[str, Any], logs: Path) -> None:
        self.count = count
        self._hello = dict(hello) | {"sys_path": [path for path in sys.path if path]}
        self._logs = logs
        self._idle: list[_Worker] = []
        self._busy: dict[str, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._started = 0

    @property
    def running(self) -> tuple[str, ...]:
        """Tickets of what runs now."""
        return tuple(self._busy)

    def submit(self, ticket: str, task: Mapping[str, Any]) -> None:
        """Give a task to an idle worker; there must be one (`len(running) < count`)."""
        assert len(self._busy) < self.count, "no idle worker"
        while True:
            worker = self._idle.pop() if self._idle else self._start()
            if worker.send(task):
                self._busy[ticket] = worker
                return
            self._discard(worker)  # it died while idle

    def wait(self, timeout: float) -> list[Event]:
        """What workers said since the last call; waits at most `timeout` seconds."""
        events: list[Event] = []
        for key, _ in self._selector.select(timeout):
            worker: _Worker = key.data
            ticket = next((t for t, w in self._busy.items() if w is worker), None)
            messages, alive = worker.read()
            for message in messages:
                if ticket is None:
                    continue
                events.append(Event(ticket, message["event"], message))
                if message["event"] in ("done", "failed"):
                    self._idle.append(self._busy.pop(ticket))
                    ticket = None
            if not alive:
                reason = self._discard(worker, patience_s=2.0)
                if ticket is not None:
                    events.append(Event(ticket, "died", {"reason": reason}))
        return events

    def close(self) -> None:
        """End every worker and its children, now."""
        for worker in [*self._idle, *self._busy.values()]:
            self._discard(worker)
        self._idle.clear()
        self._busy.clear()
        self._selector.close()

    def _start(self) -> "_Worker":
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"worker-{self._started}.log"
        self._started += 1
        worker = _Worker(log)
        self._selector.register(worker.output, selectors.EVENT_READ, worker)
        worker.send(self._hello)
        return worker

    def _discard(self, worker: "_Worker", patience_s: float = 0.0) -> str:
        self._selector.unregister(worker.output)
        for ticket, busy in list(self._busy.items()):
            if busy is worker:
                del self._busy[ticket]
        if worker in self._idle:
            self._idle.remove(worker)
        return worker.end(patience_s)


class _Worker:
    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "karat.campaign.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                process_group=0,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input: IO[bytes] = self.process.stdin
        self.output: IO[bytes] = self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        self._partial = b""

    def send(self, message: Mapping[str, Any]) -> bool:
        """Whether the worker could be told."""
        try:
            self.input.write(json.dumps(message).encode() + b"\n")
            self.input.flush()
        except (BrokenPipeError, OSError):
            return False
        return True

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Complete messages, and whether the worker still lives."""
        alive = True
        while True:
            try:
                chunk = os.read(self.output.fileno(), 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                alive = False
                break
            self._partial += chunk
        *lines, self._partial = self._partial.split(b"\n")
        return [json.loads(line) for line in lines if line], alive

    def end(self, patience_s: float = 0.0) -> str:
        """Kill its process group and say how it ended.

        Args:
            patience_s: how long one that closed its output may take to end by itself.
        """
        until = time.monotonic() + patience_s
        while not self._ended() and time.monotonic() < until:
            time.sleep(0.01)
        # a leader that ended is not reaped yet, so that its number still is its group's
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        for stream in (self.input, self.output):
            with contextlib.suppress(OSError):
                stream.close()
        how = f"exit status {code}" if code >= 0 else f"signal {-code} {_signal_name(-code)}"
        words = _last_words(self.log)
        return f"the worker process died ({how})" + (f": {words}" if words else "")

    def _ended(self) -> bool:
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        try:
            return os.waitid(os.P_PID, self.process.pid, flags) is not None
        except ChildProcessError:
            return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _last_words(log: Path) -> str:
    """The last line a dead worker left in its log, or ""."""
    try:
        text = log.read_bytes()[-LOG_TAIL:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
