"""`open_writer`: frames of a run to disk while it goes on.

A `Mark` belongs into the checkpoint; a run that was killed opens its file again with the mark and
goes on, and its file then equals that of an undisturbed run byte for byte.

Checked: tests/simulation/trajectory/test_writer.py, test_kill.py, test_full_disk.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

from karat.core.errors import BadInput
from karat.simulation.trajectory.append_file import AppendFile, Mark, exists
from karat.simulation.trajectory.extended_xyz import ExtendedXyz, ExtendedXyzReader
from karat.simulation.trajectory.frames import (
    FrameBlock,
    Metadata,
    Storage,
    check_block,
    metadata_of,
    optional_of,
)
from karat.simulation.trajectory.h5md import H5md, H5mdReader
from karat.simulation.trajectory.protocol import AbstractFormat, AbstractReader
from karat.simulation.trajectory.records import RecordReader
from karat.structures.structure import Structure

FORMATS: Final[Mapping[str, AbstractFormat]] = {
    ".xyz": ExtendedXyz(),
    ".extxyz": ExtendedXyz(),
    ".h5": H5md(),
    ".hdf5": H5md(),
}


class TrajectoryWriter:
    """An open trajectory; leaving its `with` block closes it, whether it is finished or not."""

    def __init__(self, path: Path, form: AbstractFormat, file: AppendFile, about: Metadata) -> None:
        """Use `open_writer`."""
        self.path = path
        self._format, self._file, self._metadata = form, file, about

    @property
    def frames(self) -> int:
        """Frames in it, the start included."""
        return self._file.frames

    def append(self, block: FrameBlock) -> None:
        """Write frames; from then on they survive the death of this process.

        They survive that of the machine from the next `mark` on. Where it fails, the file is as
        before and stays open: the same block may be appended again.

        Raises:
            BadInput: not the next frame, other quantities or shapes than before.
            CalculationFailed: the disk is full (kind ``disk-full``) or broken (``write-failed``).
        """
        metadata = self._metadata
        if self.frames == 0:
            metadata = replace(metadata, optional=optional_of(block))
        check_block(block, metadata, self.frames)
        if len(block) == 0:
            return
        pieces = self._format.encoded(metadata, block)
        if self.frames == 0:
            pieces = chain([self._format.head(metadata)], pieces)
        self._file.append(pieces, len(block))
        self._metadata = metadata

    def mark(self) -> Mark:
        """Bring all frames to disk; the place to which the file can be put back.

        Raises:
            CalculationFailed: the disk is full or broken; frames since the last mark are gone.
        """
        return self._file.mark(self._metadata.identity, self._metadata.optional)

    def truncate(self, mark: Mark) -> None:
        """Drop all frames behind the mark.

        Raises:
            BadInput: a mark of another system or storage, or of another file.
        """
        if mark.identity != self._metadata.identity:
            raise BadInput(
                f"{self.path}: the checkpoint is of another system, or of a trajectory that is "
                "stored in another way (interval, precision, compression). Resume with the "
                "settings that the run was begun with."
            )
        self._file.truncate(mark)
        self._metadata = replace(self._metadata, optional=mark.optional)

    def finish(self) -> Path:
        """Make the file what it shall be in the end, and close it; the path of the file.

        Raises:
            BadInput: there is no frame in it.
            CalculationFailed: the disk is full or broken; all frames are kept, and a writer opened
                again with the last mark can finish.
        """
        if self.frames == 0:
            raise BadInput(f"{self.path}: no frame was written; there is nothing to finish.")
        self.mark()
        self._format.complete(self.path)
        self.close()
        return self.path

    def close(self) -> None:
        """Close the file as it is; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> "TrajectoryWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_writer(
    path: str | Path,
    start: Structure,
    header: Mapping[str, Any],
    storage: Storage | None = None,
    mark: Mark | None = None,
) -> TrajectoryWriter:
    """A writer of frames of `start`, in the format that the ending names (`FORMATS`).

    Args:
        header: anything in JSON's types; stored in the file when it is begun, not when it is
            opened again.
        storage: how to store; by default every step, in float64, not compressed.
        mark: without it the file must not exist (or be empty: a run that died before its first
            frame); with it the file (unfinished or finished) is opened and put back to the mark.

    Raises:
        BadInput: an unknown ending; a file that exists, or, with `mark`, one that is missing or
            not the marked one; another process writes it; a header that is no JSON.
    """
    path = Path(path)
    form = _format(path)
    storage = storage or Storage()
    if storage.compression != "none" and not isinstance(form, H5md):
        raise BadInput(f"{path}: only HDF5 is compressed. Name a file .h5, or compress it later.")
    metadata = metadata_of(start, header, storage)
    running = form.running(path)
    if mark is None:
        if path != running and path.exists():
            raise exists(path)
        return TrajectoryWriter(path, form, AppendFile(running, new=True), metadata)
    form.begin(path)
    writer = TrajectoryWriter(path, form, AppendFile(running, new=False), metadata)
    try:
        writer.truncate(mark)
    except BaseException:
        writer.close()
        raise
    return writer


def read_trajectory(path: str | Path) -> AbstractReader:
    """The frames of a trajectory, finished or not, read as they are asked for.

    Raises:
        BadInput: an unknown ending, no such file, no frame in it yet, or not written by karat.
    """
    path = Path(path)
    form = _format(path)
    running = form.running(path)
    if not (running.is_file() or path.is_file()):
        raise BadInput(f"{path}: no such trajectory (working folder: {Path.cwd()}).")
    if isinstance(form, ExtendedXyz):
        return ExtendedXyzReader(path)
    return RecordReader(running) if running.is_file() else H5mdReader(path)


def _format(path: Path) -> AbstractFormat:
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise BadInput(
            f"{path}: a trajectory's ending is one of {', '.join(FORMATS)}, not '{path.suffix}'."
        )
    return found
