"""Atomic writes: a reader sees the old file or the new one, never half of one."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from karat.core.errors import BadInput


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, flush it to disk, rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def readable_file(path: Path, what: str) -> Path:
    """`path`, if it is a file with content.

    Raises:
        BadInput: it is missing, a folder, empty, or may not be read.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such {what}. Check the path (working folder: {Path.cwd()}).")
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; a {what} is needed. Name a file inside it.")
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: the {what} is empty (0 bytes). Write it again or name another.")
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path}: this {what} may not be read. Change its permissions.")
    return path


def writable_folder(path: Path) -> Path:
    """`path`, made if it was missing, after a file was written into it and removed.

    Raises:
        BadInput: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise BadInput(
            f"{path}: cannot write into this folder ({error.strerror}). "
            "Name another, or change its permissions."
        ) from error
    return path
