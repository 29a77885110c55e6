"""`Store`: one folder per finished step, keyed by what went into it.

Files are the truth: a step is finished exactly when its folder `steps/<slug>-<key[:16]>` exists,
and that folder appears by one atomic rename, so that a process may be killed at any moment and
many may write at once. Anything kept in memory is only a cache.

Checked: tests/results/test_store.py.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from karat.core.errors import BadInput
from karat.core.files import writable_folder, write_json

KEY_LENGTH = 16
"""Hex characters of a key that name a folder: 64 bits."""

STALE_SECONDS = 86_400.0
"""Age at which a temporary folder of another machine counts as abandoned."""

_KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH},64}}")
_TEMPORARY = re.compile(
    rf"\.part-(?P<key>[0-9a-f]{{{KEY_LENGTH}}})-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{{16}}"
)


class Store:
    """Steps of one run folder.

    Raises:
        BadInput: the folder cannot be made or written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.steps = writable_folder(self.root / "steps")

    def find(self, key: str) -> Path | None:
        """The folder of a finished step, or `None`."""
        ending = f"-{_short(key)}"
        with os.scandir(self.steps) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(ending)]
        finished = sorted(name for name in names if not name.startswith("."))
        return self.steps / finished[0] if finished else None

    def has(self, key: str) -> bool:
        """Whether the step is finished."""
        return self.find(key) is not None

    def folder(self, key: str, name: str) -> Path:
        """The folder of the step: where it is, or where `commit` will put it."""
        return self.find(key) or self.steps / f"{slug(name)}-{_short(key)}"

    def commit(self, key: str, name: str, write: Callable[[Path], None]) -> Path:
        """Finish a step: `write` fills a temporary folder, which is flushed and renamed.

        Nothing is written for a step that is finished already. Where another process finished
        it meanwhile, theirs stays and this copy is discarded.

        Raises:
            Exception: whatever `write` raises; the step is then not finished.
        """
        found = self.find(key)
        if found is not None:
            return found
        temporary = self.steps / (
            f".part-{_short(key)}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"
        )
        final = self.folder(key, name)
        try:
            temporary.mkdir()
            write(temporary)
            write_json(temporary / "step.json", {"key": key, "name": name})
            _flush(temporary)
            try:
                os.rename(temporary, final)
            except OSError:
                if self.find(key) is None:
                    raise
            _flush_folder(self.steps)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return self.find(key) or final

    def finished(self) -> dict[str, Path]:
        """Every finished step: first 16 characters of its key → folder, sorted by name."""
        found: dict[str, Path] = {}
        for path in sorted(self.steps.iterdir()):
            key = path.name.rpartition("-")[2]
            if path.is_dir() and not path.name.startswith(".") and len(key) == KEY_LENGTH:
                found.setdefault(key, path)
        return found

    def clean(self) -> list[Path]:
        """Remove what killed processes left: temporaries of dead processes of this machine, and
        any not touched for a day. Returns what was removed.

        Temporaries are ignored by everything else, so calling this is never necessary.
        """
        removed = []
        for path in sorted(self.steps.glob(".part-*")):
            if _abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
        return removed


def slug(name: str) -> str:
    """A name as part of a file name: lower case, at most 60 of `a-z 0-9 . _ -`."""
    return re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-.")[:60].rstrip("-.") or "step"


def _short(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise BadInput(f"step key {key!r} is not a digest of {KEY_LENGTH} to 64 hex characters.")
    return key[:KEY_LENGTH]


def _flush(folder: Path) -> None:
    """Force a folder and everything in it to disk, innermost first."""
    for parent, _, files in os.walk(folder, topdown=False):
        for file in files:
            descriptor = os.open(os.path.join(parent, file), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _flush_folder(Path(parent))


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems refuse to flush folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _abandoned(path: Path) -> bool:
    named = _TEMPORARY.fullmatch(path.name)
    try:
        newest = max(item.stat().st_mtime for item in (path, *path.rglob("*")))
    except FileNotFoundError:  # renamed or removed meanwhile
        return False
    if time.time() - newest > STALE_SECONDS:
        return True
    if named is None or named["host"] != socket.gethostname():
        return False
    return not _alive(int(named["pid"]))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
