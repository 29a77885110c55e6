"""A file that only grows at its end, and whose end can always be put back to a mark.

What was appended survives the death of the process; what was marked, also that of the machine.

Checked: tests/simulation/trajectory/test_writer.py, test_kill.py, test_full_disk.py.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from karat.core.errors import BadInput, CalculationFailed
from karat.core.hashing import digest_bytes

PIECE: Final = 2**20
"""Bytes that are gathered for one call of the system."""
ENDS: Final = 2**16
"""Bytes at the beginning and before a mark that a mark remembers by their digest."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Mark:
    """A place in a trajectory file to which it can be put back; everything before is on disk.

    Attributes:
        frames: complete frames before it.
        size: bytes before it.
        identity: digest of system and storage settings.
        content: digest of the size, and of the bytes at the beginning and just before the mark.
        optional: quantities that the frames have beside the ones that all have.
    """

    frames: int
    size: int
    identity: str
    content: str
    optional: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {**asdict(self), "optional": list(self.optional)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Mark":
        """The inverse of `as_dict`.

        Raises:
            KeyError, TypeError, ValueError: not a mark.
        """
        frames, size = int(values["frames"]), int(values["size"])
        if frames < 0 or size < 0:
            raise ValueError("a mark cannot be negative")
        optional = tuple(str(name) for name in values["optional"])
        return cls(frames, size, str(values["identity"]), str(values["content"]), optional)


class AppendFile:
    """An open file of `frames` complete frames in `size` bytes; one process at a time has it."""

    def __init__(self, path: Path, new: bool) -> None:
        """Create the file (one of 0 bytes may be there), or open an existing one at position 0.

        Raises:
            BadInput: it exists (or does not), cannot be opened, or another process has it.
        """
        self.path = path
        self.frames = self.size = 0
        self._marked = (0, 0)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if new else 0)
        try:
            self._handle = os.open(path, flags, 0o644)
        except OSError as error:
            raise BadInput(
                f"{path}: cannot be opened for writing ({error.strerror}). Check the path."
            ) from error
        self._lock()
        if new and os.fstat(self._handle).st_size:
            self.close()
            raise exists(path)
        if new:
            sync_folder(path.parent)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise BadInput(
                f"{self.path}: another process writes this file. End it first, or name another."
            ) from error
        except OSError:
            pass  # a file system without locks: nothing is lost but this check

    def append(self, pieces: Iterable[bytes], frames: int) -> None:
        """Write all pieces, which hold so many frames, or leave the file as it was.

        Raises:
            CalculationFailed: the disk is full (kind ``disk-full``) or broken
                (``write-failed``), with what is kept and what to do.
        """
        end = self.size
        try:
            for piece in _gathered(pieces):
                end = self._write(piece, end)
        except OSError as error:
            self._cut()
            raise self._failed(error, f"frames {self.frames} to {self.frames + frames - 1}") from (
                error
            )
        except BaseException:
            self._cut()
            raise
        self.size, self.frames = end, self.frames + frames

    def _write(self, piece: bytes, end: int) -> int:
        view = memoryview(piece)
        while len(view):
            written = os.pwrite(self._handle, view, end)
            view, end = view[written:], end + written
        return end

    def _cut(self) -> None:
        # what may remain where even this fails is cut off when the run is resumed
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, self.size)

    def mark(self, identity: str, optional: tuple[str, ...]) -> Mark:
        """Bring everything to disk, and say where the end is.

        Raises:
            CalculationFailed: see `append`; the file is then put back to the mark before.
        """
        try:
            os.fsync(self._handle)
        except OSError as error:
            lost = f"frames {self._marked[0]} to {self.frames - 1}"
            self.frames, self.size = self._marked
            self._cut()
            raise self._failed(error, lost) from error
        self._marked = (self.frames, self.size)
        return Mark(self.frames, self.size, identity, self._content(self.size), optional)

    def truncate(self, mark: Mark) -> None:
        """Drop everything behind the mark.

        Raises:
            BadInput: the file is shorter, or not the one that was marked.
        """
        held = os.fstat(self._handle).st_size
        if held < mark.size:
            raise BadInput(
                f"{self.path}: has {held} bytes, the checkpoint was made at {mark.size}: the file "
                "was cut or replaced. Put the right one back, or start the run anew elsewhere."
            )
        if self._content(mark.size) != mark.content:
            raise BadInput(
                f"{self.path}: is not the file that the checkpoint was made with, or was changed "
                "since. Put the right one back, or start the run anew elsewhere."
            )
        self.frames, self.size = mark.frames, mark.size
        self._marked = (mark.frames, mark.size)
        os.ftruncate(self._handle, self.size)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def _content(self, size: int) -> str:
        head = os.pread(self._handle, min(size, ENDS), 0)
        start = max(0, size - ENDS)
        tail = os.pread(self._handle, size - start, start)
        return digest_bytes(str(size).encode(), head, tail)

    def _failed(self, error: OSError, lost: str) -> CalculationFailed:
        kept = f"frames 0 to {self.frames - 1} are" if self.frames else "no frame is"
        return write_failed(
            self.path,
            error,
            f"{lost} could not be written; {kept} kept ({self.size} bytes).",
            "resume the run from its last checkpoint",
        )


def exists(path: Path) -> BadInput:
    """The error for a trajectory that would be overwritten."""
    return BadInput(f"{path}: exists. Resume that run, move the file, or name another.")


def write_failed(path: Path, error: OSError, what: str, then: str) -> CalculationFailed:
    """The error for a write that failed: which file, why, `what` is kept, what to do."""
    full = error.errno in _FULL
    why = error.strerror or str(error)
    reason = f"the disk is full ({why})" if full else f"cannot be written ({why})"
    advice = "Free space (or raise the limit)" if full else "Check disk and permissions"
    return CalculationFailed(
        f"{path}: {reason}: {what} {advice}, then {then}.",
        kind="disk-full" if full else "write-failed",
    )


def sync_folder(folder: Path) -> None:
    """Bring names that were made or changed in a folder to disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _gathered(pieces: Iterable[bytes]) -> Iterable[bytes]:
    held: list[bytes] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= PIECE:
            yield b"".join(held)
            held, count = [], 0
    if held:
        yield b"".join(held)
