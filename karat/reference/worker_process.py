"""A labelling worker seen from its parent: start, send, receive, kill.

Checked: tests/reference/test_labelling.py.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Final

_TAIL: Final = 2000
"""Bytes of a dead worker's standard error that go into the reason."""


class WorkerDied(Exception):
    """The worker's end of the pipe is closed; the message says how it ended."""


class WorkerProcess:
    """One process running `karat.reference.worker`, leader of its own process group.

    Its working folder and everything temporary that it writes lie in one folder, which goes with
    it.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="karat-worker-", ignore_cleanup_errors=True
        )
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `kill`
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
        # -P: modules in the working folder must not stand in for installed ones
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "karat.reference.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            cwd=self._folder.name,
            env=os.environ | {"PYTHONPATH": paths, "TMPDIR": self._folder.name},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._buffer = b""
        self._sent = time.monotonic()

    @property
    def folder(self) -> str:
        """Its working folder."""
        return self._folder.name

    @property
    def output(self) -> int:
        """File descriptor that becomes readable when there is something to receive."""
        return self._output.fileno()

    def seconds_since_send(self) -> float:
        """Wall seconds since the last `send`."""
        return time.monotonic() - self._sent

    def send(self, message: dict[str, Any]) -> None:
        """Hand over one JSON document; that the worker is dead shows on `receive`."""
        self._sent = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self._input.write(json.dumps(message, allow_nan=False).encode() + b"\n")
            self._input.flush()

    def receive(self) -> list[dict[str, Any]]:
        """The documents that have arrived completely; possibly none.

        Raises:
            WorkerDied: the worker ended.
        """
        chunk = os.read(self.output, 1 << 20)
        if not chunk:
            raise WorkerDied(self._how_it_ended())
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        code = self._process.returncode
        if code is None:
            ending = "the worker process closed its output"
        elif code < 0:
            ending = f"the worker process was ended by {signal.Signals(-code).name}"
        else:
            ending = f"the worker process ended with exit status {code}"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _TAIL))
        said = self._errors.read().decode(errors="replace").strip()
        return f"{ending}; it said: {said}" if said else f"{ending}."

    def kill(self) -> None:
        """End the worker and every program that it started; return when it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
        self._errors.close()
        self._folder.cleanup()
