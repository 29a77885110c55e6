"""What every format of trajectory files can do: `AbstractFormat` writes, `AbstractReader` reads.

Checked: tests/simulation/trajectory/test_writer.py, test_h5md.py, test_extended_xyz.py.
"""

import abc
from collections.abc import Iterator
from pathlib import Path

from karat.core.errors import BadInput
from karat.simulation.trajectory.frames import FrameBlock, Metadata
from karat.structures.structure import Structure

BLOCK_BYTES = 2**22
"""Of positions, velocities and forces that a reader holds at once, unless told otherwise."""


class AbstractFormat(abc.ABC):
    """How frames become bytes at the end of a growing file, and what is made of it in the end."""

    @abc.abstractmethod
    def running(self, path: Path) -> Path:
        """The file that grows while the run goes on."""

    @abc.abstractmethod
    def begin(self, path: Path) -> None:
        """Prepare `running(path)` of a finished trajectory, if there is only that one."""

    @abc.abstractmethod
    def head(self, metadata: Metadata) -> bytes:
        """What stands before the first frame."""

    @abc.abstractmethod
    def encoded(self, metadata: Metadata, block: FrameBlock) -> Iterator[bytes]:
        """The frames, in pieces of bounded size; the same however frames are cut into blocks."""

    @abc.abstractmethod
    def complete(self, path: Path) -> None:
        """Turn `running(path)`, all on disk, into `path` (atomically where they differ).

        Raises:
            CalculationFailed: the disk is full or broken; the running file is as before.
        """


class AbstractReader(abc.ABC):
    """Frames of a trajectory file, read as they are asked for; `len` is their number.

    The number is taken when the reader is made; a run that goes on adds frames unseen.
    """

    @property
    @abc.abstractmethod
    def metadata(self) -> Metadata:
        """System (coordinates of frame 0), header and storage."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def _stream(self, first: int, stop: int, size: int) -> Iterator[FrameBlock]:
        """Blocks of `size` frames (the last one shorter) from `first` to before `stop`."""

    @property
    def start(self) -> Structure:
        """The structure at frame 0, as stored."""
        return self.metadata.start

    def blocks(self, size: int | None = None) -> Iterator[FrameBlock]:
        """All frames in order, `size` at a time (by default about `BLOCK_BYTES`), all in float64.

        Raises:
            BadInput: a size below 1; frames that cannot be read, with their place.
            CalculationFailed: frames that were damaged since they were written.
        """
        if size is None:
            size = max(1, BLOCK_BYTES // (72 * len(self.start)))
        if size < 1:
            raise BadInput(f"blocks of {size} frames: at least 1 is needed.")
        return self._stream(0, len(self), size)

    def frames(self, first: int, stop: int) -> FrameBlock:
        """Frames from `first` to before `stop`; at once from HDF5, by reading on in text.

        Raises:
            BadInput: no frame, or frames outside the trajectory; see also `blocks`.
            CalculationFailed: see `blocks`.
        """
        if not 0 <= first < stop <= len(self):
            raise BadInput(f"frames {first} to {stop - 1}: the trajectory has {len(self)}.")
        return next(self._stream(first, stop, stop - first))
