"""Isolated Python environments, made on demand, for packages whose pins clash with karat's.

An environment is a folder below `cache_folder()/environments`, named after itself and a digest of
all that it was asked for. It is built under another name and renamed into place when it is
complete, so an interrupted build leaves nothing that could be taken for it; a lock keeps two
processes from building it twice. `record.json` in it says what was asked for and what it became;
the log lies beside it.

Checked: tests/core/test_environments.py.
"""

import datetime
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from karat.core.cache_folder import cache_folder
from karat.core.errors import BadInput, unknown_key
from karat.core.files import writable_folder, write_json
from karat.core.hashing import digest_json
from karat.core.installers import Installer, PipInstaller, UvInstaller, find_uv

Report = Callable[[str], None]
"""Takes one line that tells the user what is going on."""

RECORD: Final = "record.json"
_SCHEMA: Final = 1


@dataclass(frozen=True)
class Environment:
    """What an isolated environment shall hold.

    Attributes:
        name: letters, digits and hyphens.
        requirements: as pip understands them, e.g. ``mace-torch==0.3.16``.
        python: version, e.g. ``3.11``; by default that of the running interpreter.
        indexes: package indexes (URLs) to search besides those the user has configured.
        find_links: folders or pages with packages to search as well.
        no_index: search `find_links` only.
        disk_gb: room that it needs; less is refused before anything is downloaded.
    """

    name: str
    requirements: tuple[str, ...]
    python: str | None = None
    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    disk_gb: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        if not self.name or not all(c.isascii() and (c.isalnum() or c == "-") for c in self.name):
            raise BadInput(
                f"environment name '{self.name}': use letters, digits and hyphens, e.g. mace-torch."
            )
        for requirement in self.requirements:
            if not requirement or requirement.startswith("-") or "\n" in requirement:
                raise BadInput(
                    f"environment {self.name}: '{requirement}' is not a requirement; "
                    "write e.g. mace-torch==0.3.16."
                )

    @property
    def python_version(self) -> str:
        """Major and minor version of its interpreter."""
        return self.python or f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def folder_name(self) -> str:
        """Its name and a digest of all that decides its contents."""
        values = asdict(self) | {"python": self.python_version, "schema": _SCHEMA}
        del values["disk_gb"]
        return f"{self.name}-{digest_json(values)[:12]}"


@dataclass(frozen=True)
class Installed:
    """An environment that is there.

    Attributes:
        name, requirements, python: as asked for.
        folder: where it lies.
        resolved: `name==version` of every package in it.
        made: date and time, UTC.
        tool: what installed it, with its version.
        size_bytes: sum of its files; those shared with the installer's cache count too.
    """

    name: str
    requirements: tuple[str, ...]
    python: str
    folder: Path
    resolved: tuple[str, ...]
    made: str
    tool: str
    size_bytes: int


def environments_folder() -> Path:
    """Where environments are kept by default."""
    return cache_folder() / "environments"


def interpreter(folder: Path) -> Path:
    """The Python program of an environment's folder."""
    return folder / "bin" / "python"


def find(environment: Environment, root: Path | None = None) -> Path | None:
    """The interpreter of `environment` if it is there already."""
    folder = (root or environments_folder()) / environment.folder_name
    return interpreter(folder) if _complete(folder) else None


def ensure(
    environment: Environment, root: Path | None = None, report: Report | None = None
) -> Path:
    """The interpreter of `environment`, which is made now if it is not there.

    Args:
        environment: what it shall hold.
        root: folder of all environments; by default `environments_folder()`.
        report: is told what happens, line by line.

    Raises:
        BadInput: the folder cannot be written, too little room, no such Python.
        CalculationFailed: the installer failed; kinds ``disk-full``, ``no-network``,
            ``no-such-version``, ``install``. The message holds the end of the log and the next
            step.
    """
    root, tell = root or environments_folder(), report or (lambda line: None)
    found = find(environment, root)
    if found is not None:
        return found
    writable_folder(root)
    with _locked(root, environment.folder_name, tell):
        found = find(environment, root)  # another process may have made it meanwhile
        if found is None:
            _check_room(environment, root)
            _build(environment, root, tell)
            found = interpreter(root / environment.folder_name)
    return found


def installed(root: Path | None = None) -> list[Installed]:
    """All complete environments, in order of their folders' names."""
    root = root or environments_folder()
    folders = sorted(path.parent for path in root.glob(f"*/{RECORD}")) if root.is_dir() else []
    return [_read(folder) for folder in folders if _complete(folder)]


def delete(name: str, root: Path | None = None, report: Report | None = None) -> list[Path]:
    """Delete the environments of this name, or the one whose folder has it; returns the folders.

    Raises:
        UnknownKey: there is none.
    """
    root, tell = root or environments_folder(), report or (lambda line: None)
    there = installed(root)
    chosen = [one for one in there if name in (one.name, one.folder.name)]
    if not chosen:
        raise unknown_key(str(root), name, {one.name for one in there})
    for one in chosen:
        with _locked(root, one.folder.name, tell):
            aside = Path(tempfile.mkdtemp(dir=root, prefix=f".{one.folder.name}-"))
            one.folder.rename(aside / "old")  # at once: nobody finds half of it
            shutil.rmtree(aside, ignore_errors=True)
            _log(root, one.folder.name).unlink(missing_ok=True)
    return [one.folder for one in chosen]


def _complete(folder: Path) -> bool:
    return not folder.name.startswith(".") and (folder / RECORD).is_file()


def _log(root: Path, folder_name: str) -> Path:
    return root / f"{folder_name}.log"


def _read(folder: Path) -> Installed:
    """Raises: BadInput: the record is damaged."""
    try:
        values = json.loads((folder / RECORD).read_text())
        asked = values["asked"]
        return Installed(
            name=str(asked["name"]),
            requirements=tuple(map(str, asked["requirements"])),
            python=str(asked["python"]),
            folder=folder,
            resolved=tuple(map(str, values["resolved"])),
            made=str(values["made"]),
            tool=str(values["tool"]),
            size_bytes=sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir()),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder / RECORD}: is damaged ({error}). Delete the folder.") from error


@contextmanager
def _locked(root: Path, folder_name: str, tell: Report) -> Iterator[None]:
    """Only one process at a time works on this environment; the lock ends with the process."""
    import fcntl

    with open(root / f".{folder_name}.lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            tell(f"{folder_name}: waiting for another process that works on it …")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _check_room(environment: Environment, root: Path) -> None:
    free = shutil.disk_usage(root).free / 1e9
    if free < environment.disk_gb:
        raise BadInput(
            f"{root}: the environment {environment.name} needs {environment.disk_gb:.1f} GB and "
            f"{free:.1f} GB are free. Make room, or name another folder in KARAT_HOME."
        )


def _installer() -> Installer:
    uv = find_uv()
    return UvInstaller(uv) if uv else PipInstaller()


def _build(environment: Environment, root: Path, tell: Report) -> None:
    """Build under another name, write the record, rename into place."""
    for leftover in root.glob(f".{environment.folder_name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    log, installer = _log(root, environment.folder_name), _installer()
    scratch = Path(tempfile.mkdtemp(dir=root, prefix=f".{environment.folder_name}-"))
    try:
        folder = scratch / "environment"
        tell(f"making the environment {environment.name} in {root} (once) …")
        with log.open("w") as stream:
            installer.create(folder, environment.python_version, stream)
            installer.install(
                interpreter(folder),
                environment.requirements,
                environment.indexes,
                environment.find_links,
                environment.no_index,
                stream,
                tell,
            )
            resolved = installer.freeze(interpreter(folder), stream)
        record: dict[str, Any] = {
            "schema": _SCHEMA,
            "asked": asdict(environment) | {"python": environment.python_version},
            "resolved": resolved,
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "tool": installer.version(),
        }
        write_json(folder / RECORD, record)
        folder.rename(root / environment.folder_name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    tell(f"the environment {environment.name} is ready ({len(resolved)} packages).")
