"""The programs that fill an isolated environment: uv, or Python's own venv and pip without it.

Checked: tests/core/test_environments.py.
"""

import abc
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TextIO

from karat.core.errors import BadInput, CalculationFailed

TIME_LIMIT_S: Final = 3600.0
"""An installation that takes longer is stopped."""

_TAIL_LINES: Final = 12

_SIGNS: Final = (
    ("disk-full", ("no space left on device", "os error 28", "disk quota exceeded")),
    (
        "no-such-version",
        (
            "no solution found",
            "not found in the package registry",
            "no matching distribution",
            "could not find a version",
            "was not found in the provided",
        ),
    ),
    (
        "no-network",
        (
            "dns error",
            "failed to fetch",
            "name resolution",
            "connection",
            "error sending request",
            "network is unreachable",
            "timed out",
        ),
    ),
)
"""Kind of failure → what an installer then says (lower case), looked for in this order."""

_NEXT_STEP: Final = {
    "disk-full": "Make room, or name a folder on another disk in KARAT_HOME.",
    "no-network": (
        "Connect to the network, or name a mirror in UV_DEFAULT_INDEX (PIP_INDEX_URL); "
        "then try again."
    ),
    "no-such-version": (
        "The package index that is configured does not have it; name one that does in UV_INDEX "
        "(PIP_EXTRA_INDEX_URL) or a folder with the packages in UV_FIND_LINKS (PIP_FIND_LINKS)."
    ),
    "install": "Read the log; when the cause is mended, try again.",
    "timeout": "Try again; what was downloaded is kept.",
}


def find_uv() -> Path | None:
    """The program uv: on the PATH, or beside the running interpreter."""
    on_path = shutil.which("uv")
    if on_path:
        return Path(on_path)
    beside = Path(sys.executable).with_name("uv")
    return beside if beside.is_file() and os.access(beside, os.X_OK) else None


class Installer(abc.ABC):
    """Makes an empty environment and puts packages into it; everything said goes to a log."""

    @abc.abstractmethod
    def create(self, folder: Path, python: str, log: TextIO) -> None:
        """Make an empty environment.

        Raises:
            BadInput: that Python is not there.
        """

    @abc.abstractmethod
    def install(
        self,
        interpreter: Path,
        requirements: Sequence[str],
        indexes: Sequence[str],
        find_links: Sequence[str],
        no_index: bool,
        log: TextIO,
        report: Callable[[str], None],
    ) -> None:
        """Install packages; see `karat.core.environments.Environment`.

        Raises:
            CalculationFailed: see `karat.core.environments.ensure`.
        """

    @abc.abstractmethod
    def freeze(self, interpreter: Path, log: TextIO) -> list[str]:
        """`name==version` of every package."""

    @abc.abstractmethod
    def version(self) -> str:
        """Name and version of the installer."""


class UvInstaller(Installer):
    """uv: fast, shares files between environments.

    What the user has configured for pip by environment variables holds for it too.
    """

    def __init__(self, program: Path) -> None:
        self._uv = str(program)

    def create(self, folder: Path, python: str, log: TextIO) -> None:
        # the running interpreter is the one that is surely there
        same = python == f"{sys.version_info.major}.{sys.version_info.minor}"
        wanted = sys.executable if same else python
        command = [self._uv, "venv", "--relocatable", "--no-project", "--python", wanted]
        try:
            follow([*command, str(folder)], self._environment(), log, _silent)
        except CalculationFailed as error:
            raise BadInput(_no_python(python, str(error))) from error

    def install(
        self,
        interpreter: Path,
        requirements: Sequence[str],
        indexes: Sequence[str],
        find_links: Sequence[str],
        no_index: bool,
        log: TextIO,
        report: Callable[[str], None],
    ) -> None:
        if not requirements:
            return
        command = [self._uv, "pip", "install", "--python", str(interpreter)]
        for url in indexes:
            command += ["--index", url]
        for place in find_links:
            command += ["--find-links", place]
        command += ["--no-index"] if no_index else []
        follow([*command, "--", *requirements], self._environment(), log, report)

    def freeze(self, interpreter: Path, log: TextIO) -> list[str]:
        command = [self._uv, "pip", "freeze", "--python", str(interpreter)]
        return _output(command, self._environment(), log)

    def version(self) -> str:
        return subprocess.run(
            [self._uv, "--version"], capture_output=True, text=True
        ).stdout.strip()

    @staticmethod
    def _environment() -> dict[str, str]:
        values = clean_environment()
        for pip, uv in (
            ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
            ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
            ("PIP_FIND_LINKS", "UV_FIND_LINKS"),
        ):
            if values.get(pip) and uv not in values:
                # uv separates several folders by commas, indexes by blanks
                between = "," if uv == "UV_FIND_LINKS" else " "
                values[uv] = between.join(values[pip].split())
        return values


class PipInstaller(Installer):
    """Python's own venv and pip: needs no other program."""

    def create(self, folder: Path, python: str, log: TextIO) -> None:
        same = python == f"{sys.version_info.major}.{sys.version_info.minor}"
        program = sys.executable if same else shutil.which(f"python{python}")
        if program is None:
            raise BadInput(_no_python(python, f"there is no python{python} on the PATH"))
        follow([program, "-m", "venv", str(folder)], clean_environment(), log, _silent)

    def install(
        self,
        interpreter: Path,
        requirements: Sequence[str],
        indexes: Sequence[str],
        find_links: Sequence[str],
        no_index: bool,
        log: TextIO,
        report: Callable[[str], None],
    ) -> None:
        if not requirements:
            return
        command = [str(interpreter), "-m", "pip", "install", "--disable-pip-version-check"]
        for url in indexes:
            command += ["--extra-index-url", url]
        for place in find_links:
            command += ["--find-links", place]
        command += ["--no-index"] if no_index else []
        follow([*command, "--", *requirements], clean_environment(), log, report)

    def freeze(self, interpreter: Path, log: TextIO) -> list[str]:
        command = [str(interpreter), "-m", "pip", "freeze", "--disable-pip-version-check"]
        return _output(command, clean_environment(), log)

    def version(self) -> str:
        import importlib.metadata

        try:
            return f"pip {importlib.metadata.version('pip')}"
        except importlib.metadata.PackageNotFoundError:
            return "pip"


def clean_environment() -> dict[str, str]:
    """This process's environment variables without those that bend another Python's imports."""
    drop = ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if not name.startswith(drop)}


def follow(
    command: Sequence[str],
    environment: dict[str, str],
    log: TextIO,
    report: Callable[[str], None],
    limit_s: float = TIME_LIMIT_S,
) -> None:
    """Run a command to its end; each line that it says goes to the log and to `report`.

    Raises:
        CalculationFailed: it failed or took too long; the message holds what it said last.
    """
    print("$", *command, file=log, flush=True)
    lines: list[str] = []
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    late = threading.Timer(limit_s, _end, [process])
    late.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            print(lines[-1], file=log, flush=True)
            report(lines[-1])
        status = process.wait()
    finally:
        timed_out = not late.is_alive()
        late.cancel()
        _end(process)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if status != 0:
        said = "\n".join(line for line in lines if line)
        kind = "timeout" if timed_out else _kind(said)
        tail = "\n".join(said.splitlines()[-_TAIL_LINES:])
        raise CalculationFailed(
            f"{Path(command[0]).name} could not make the environment:\n{tail}\n"
            f"{_NEXT_STEP[kind]} The whole log: {log.name}",
            kind=kind,
        )


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that still runs, and what it started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _kind(said: str) -> str:
    low = said.lower()
    for kind, signs in _SIGNS:
        if any(sign in low for sign in signs):
            return kind
    return "install"


def _output(command: Sequence[str], environment: dict[str, str], log: TextIO) -> list[str]:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    print("$", *command, done.stdout, done.stderr, sep="\n", file=log, flush=True)
    if done.returncode != 0:
        raise CalculationFailed(
            f"{Path(command[0]).name} cannot list the packages: {done.stderr[-500:]}",
            kind="install",
        )
    return [line for line in done.stdout.splitlines() if line and not line.startswith("#")]


def _silent(line: str) -> None:
    """Reports nothing: how to activate an environment is of no use to karat's users."""


def _no_python(python: str, reason: str) -> str:
    return (
        f"Python {python} for the environment is not available: {reason}. Install Python {python}."
    )
