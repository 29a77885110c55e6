"""The file below HDF5: a failed write is remembered instead of told to the library.

HDF5 cannot close a file whose writes fail: h5py 3.16 (HDF5 from its wheel) ends the process with
a segmentation fault on a full disk, and also if Python raises inside a call from the library. So
after the first failure everything goes to memory, the library closes its file in peace, and then
the failure is raised.

Checked: tests/simulation/trajectory/test_full_disk.py.
"""

import os
from pathlib import Path
from typing import Any


class CarefulFile:
    """What `h5py.File` needs of a file object; `finish` raises what went wrong."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._place = self._end = 0
        self._kept: list[tuple[int, bytes]] = []
        self.failure: BaseException | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._end}[whence]
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        """The place."""
        return self._place

    def write(self, content: Any) -> int:
        """Write at the place and move on; never fails."""
        data = bytes(content)
        if self.failure is None:
            try:
                self._put(data, self._place)
            except BaseException as error:
                self.failure = error
        if self.failure is not None:
            self._kept.append((self._place, data))
        self._place += len(data)
        self._end = max(self._end, self._place)
        return len(data)

    def _put(self, data: bytes, place: int) -> None:
        view = memoryview(data)
        while len(view):
            written = os.pwrite(self._handle, view, place)
            view, place = view[written:], place + written

    def readinto(self, buffer: Any) -> int:
        """Read at the place what was written, and move on; never fails."""
        target = memoryview(buffer)
        begin, count = self._place, len(target)
        try:
            found = os.pread(self._handle, count, begin)
        except BaseException as error:
            self.failure = self.failure or error
            found = b""
        target[:] = found + bytes(count - len(found))
        for place, data in self._kept:
            low, high = max(place, begin), min(place + len(data), begin + count)
            if low < high:
                target[low - begin : high - begin] = data[low - place : high - place]
        self._place += count
        return count

    def read(self, count: int) -> bytes:
        """As `readinto`, into new bytes."""
        buffer = bytearray(count)
        self.readinto(buffer)
        return bytes(buffer)

    def truncate(self, size: int) -> int:
        """Set the size; never fails."""
        self._end = size
        if self.failure is None:
            try:
                os.ftruncate(self._handle, size)
            except BaseException as error:
                self.failure = error
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Bring the file to disk.

        Raises:
            OSError: a write failed, now or before; the file is worth nothing then.
        """
        if self.failure is not None:
            raise self.failure
        os.fsync(self._handle)

    def close(self) -> None:
        """Close; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
