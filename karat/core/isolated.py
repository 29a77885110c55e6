"""Run scripts and long-lived workers with another environment's Python, apart from this process.

They see none of this process's import settings, use one compute thread, and work in a folder that
is named. A script ends with status 2 and the line `{"bad-input": reason}` on standard error where
its input is at fault.

Checked: tests/core/test_isolated.py.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from karat.core import isolated_worker
from karat.core.errors import BadInput, CalculationFailed
from karat.core.installers import clean_environment
from karat.core.isolated_worker import read_frame, write_frame
from karat.core.threads import VARIABLES

_TAIL: Final = 4000
"""Bytes of standard error that go into a reason."""

_BAD_INPUT: Final = 2


def command(interpreter: Path, script: Path | str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a script (a path, or source text) apart from user and site settings.

    The interpreter sees the script's folder and its own packages, and no others.
    """
    start = [str(interpreter), "-E", "-s"]  # no variables, no user packages
    body = [str(script.resolve())] if isinstance(script, Path) else ["-P", "-c", script]
    return [*start, *body, *arguments]


def process_environment(folder: Path) -> dict[str, str]:
    """Environment variables of an isolated process: one thread, temporary files in `folder`."""
    return clean_environment() | dict.fromkeys(VARIABLES, "1") | {"TMPDIR": str(folder)}


def run(
    interpreter: Path,
    script: Path | str,
    arguments: Sequence[str],
    folder: Path,
    timeout_s: float,
) -> str:
    """What the script printed on standard output.

    Args:
        interpreter: of an environment (`karat.core.environments.ensure`).
        script: its path, or its source text.
        arguments: of the script.
        folder: its working folder, where input files may lie and results may be written.
        timeout_s: after which it is ended.

    Raises:
        BadInput: the script says that its input cannot be used.
        CalculationFailed: it failed (kind ``dead-process``) or took too long (``timeout``).
    """
    name = script.name if isinstance(script, Path) else "script"
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        process = _start(command(interpreter, script, arguments), folder, subprocess.DEVNULL,
                         said, errors)  # fmt: skip
        try:
            status: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        tail = _tail(errors)
        if status is None:
            raise CalculationFailed(
                f"{name} was stopped after {timeout_s:g} s. {tail}".strip(), kind="timeout"
            )
        if status != 0:
            raise _failure(name, status, tail)
        said.seek(0)
        return said.read().decode(errors="replace")


class Worker:
    """A long-lived process that answers messages with arrays; see `isolated_worker.py`.

    Use it as a context, or call `close`.

    Args:
        interpreter: of an environment.
        script: defines `start(arguments)`.
        arguments: of `start`.
        timeout_s: for its start, imports included.

    Raises:
        BadInput: the script says that its arguments cannot be used.
        CalculationFailed: it ended (kind ``dead-process``) or took too long (``timeout``).
    """

    def __init__(
        self, interpreter: Path, script: Path, arguments: Sequence[str], timeout_s: float = 300.0
    ) -> None:
        self._name = script.name
        self._folder = tempfile.TemporaryDirectory(
            prefix="karat-isolated-", ignore_cleanup_errors=True
        )
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        boot = Path(isolated_worker.__file__)
        self._process = _start(
            command(interpreter, boot, [str(script.resolve()), *arguments]),
            Path(self._folder.name),
            subprocess.PIPE,
            subprocess.PIPE,
            self._errors,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        try:
            self._receive(timeout_s)
        except BaseException:
            self.close()
            raise

    def ask(
        self, message: dict[str, Any], arrays: Mapping[str, np.ndarray], timeout_s: float
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The answer of the worker's function.

        Raises:
            CalculationFailed: the function failed (its own kind; the worker lives on), or the
                worker ended (``dead-process``) or was ended for taking too long (``timeout``).
        """
        if self._process.poll() is None:
            with contextlib.suppress(BrokenPipeError):  # shows when receiving
                write_frame(self._input, message, arrays)
        header, found = self._receive(timeout_s)
        if "failure" in header:
            failure = header["failure"]
            raise CalculationFailed(f"{self._name}: {failure['text']}", kind=failure["kind"])
        return header["answer"], found

    def close(self) -> None:
        """End the process and delete its folder; it may be called twice."""
        _end(self._process)
        for stream in (self._input, self._output, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._folder.cleanup()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *ending: object) -> None:
        self.close()

    def _receive(self, timeout_s: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The next frame; the process is ended where it does not come in time."""
        if self._errors.closed:
            raise CalculationFailed(f"{self._name}: the worker is closed.", kind="dead-process")
        ready, _, _ = select.select([self._output], [], [], timeout_s)
        if not ready:
            _end(self._process)
            raise CalculationFailed(
                f"{self._name} gave no answer in {timeout_s:g} s. {_tail(self._errors)}".strip(),
                kind="timeout",
            )
        try:
            frame = read_frame(self._output)
        except ValueError as error:
            _end(self._process)
            raise CalculationFailed(
                f"{self._name} sent what cannot be read: {error}. {_tail(self._errors)}".strip(),
                kind="dead-process",
            ) from error
        if frame is None:
            status = _wait_briefly(self._process)
            raise _failure(self._name, status, _tail(self._errors))
        return frame


def _start(
    line: Sequence[str], folder: Path, stdin: int, stdout: int | IO[bytes], stderr: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            line,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=folder,
            env=process_environment(folder),
            start_new_session=True,
        )
    except OSError as error:
        raise BadInput(f"{line[0]}: cannot be started ({error.strerror}).") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_briefly(process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 5.0
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    _end(process)
    return process.returncode


def _tail(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _TAIL))
    said = errors.read().decode(errors="replace").strip()
    return f"It said: {said}" if said else ""


def _failure(name: str, status: int, tail: str) -> BadInput | CalculationFailed:
    """What the end of a process means."""
    if status == _BAD_INPUT and tail:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return BadInput(
                str(json.loads(tail.splitlines()[-1].removeprefix("It said: "))["bad-input"])
            )
    ending = f"was ended by {signal.Signals(-status).name}" if status < 0 else (
        f"ended with exit status {status}"
    )  # fmt: skip
    return CalculationFailed(f"{name} {ending}. {tail}".strip(), kind="dead-process")
