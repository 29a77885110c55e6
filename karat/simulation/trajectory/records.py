"""The running form of an HDF5 trajectory: a head, then one record of fixed size per frame.

HDF5 itself keeps its tables in memory and rewrites them in place: a process that is killed, or a
disk that fills, in the middle leaves a file that nobody can open. So a run appends plain records
to ``NAME.h5.running``; an end that was torn off is cut at the last mark, any frame is found by its
number, and `finish` turns the whole into HDF5 at once.

Checked: tests/simulation/trajectory/test_writer.py, test_h5md.py.
"""

import json
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from karat.core.errors import BadInput, CalculationFailed
from karat.simulation.trajectory.frames import (
    FrameBlock,
    Metadata,
    Quantity,
    metadata_from_json,
    stored_quantities,
)
from karat.simulation.trajectory.protocol import AbstractReader

MAGIC: Final = b"karat trajectory, running\n"
SLAB: Final = 2**22
"""Bytes of records that are made at once."""
_MAX_HEAD: Final = 2**28


def record_type(atoms: int, precision: str, quantities: Sequence[Quantity]) -> np.dtype:
    """Of one frame: its number, its time, the quantities."""
    precise = {"float64": "<f8", "float32": "<f4"}[precision]
    fields: list[tuple[str, str, tuple[int, ...]]] = [("frame", "<i8", ()), ("time", "<f8", ())]
    for quantity in quantities:
        dtype = precise if quantity.kind == "atoms" else "<f8"
        fields.append((quantity.name, dtype, quantity.shape(atoms)))
    return np.dtype(fields)


def head(metadata: Metadata) -> bytes:
    """What stands before the first record."""
    text = metadata.to_json().encode()
    return MAGIC + struct.pack("<q", len(text)) + text


def encoded(metadata: Metadata, block: FrameBlock) -> Iterator[bytes]:
    """Records of the frames, some at a time."""
    dtype = record_type(len(metadata.start), metadata.storage.precision, metadata.quantities)
    count = max(1, SLAB // dtype.itemsize)
    for start in range(0, len(block), count):
        part = slice(start, min(start + count, len(block)))
        records = np.empty(part.stop - part.start, dtype)
        records["frame"] = block.first + np.arange(part.start, part.stop)
        records["time"] = block.times_fs[part]
        for quantity in metadata.quantities:
            records[quantity.name] = getattr(block, quantity.name)[part]
        yield records.tobytes()


class RecordReader(AbstractReader):
    """Frames of an unfinished HDF5 trajectory, in any order.

    Raises:
        BadInput: the file holds no frame yet, or is no trajectory of karat.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as stream:
                self._open(stream)
        except (struct.error, ValueError, KeyError, TypeError, BadInput) as error:
            raise BadInput(f"{path}: holds no frame of an unfinished run ({error}).") from error

    def _open(self, stream: BinaryIO) -> None:
        begin = stream.read(len(MAGIC) + 8)
        if not begin:
            raise ValueError("nothing was written yet")
        if not begin.startswith(MAGIC):
            raise ValueError("it does not begin like one")
        length = struct.unpack("<q", begin[len(MAGIC) :])[0]
        if not 0 < length < _MAX_HEAD:
            raise ValueError("its head is damaged")
        text = stream.read(length)
        found = json.loads(text)
        quantities = stored_quantities(found["optional"], found["boxed"])
        atoms, precision = len(found["numbers"]), found["storage"]["precision"]
        self._dtype = record_type(atoms, precision, quantities)
        self._offset = stream.tell()
        self._count = (os.fstat(stream.fileno()).st_size - self._offset) // self._dtype.itemsize
        if self._count < 1:
            raise ValueError("the first was not written to its end yet")
        frame = np.frombuffer(stream.read(self._dtype.itemsize), self._dtype)[0]
        cell = frame["cells"] if found["boxed"] else np.zeros((3, 3))
        self._metadata = metadata_from_json(text, frame["positions"], cell)

    @property
    def metadata(self) -> Metadata:
        return self._metadata

    def __len__(self) -> int:
        return self._count

    def _stream(self, first: int, stop: int, size: int) -> Iterator[FrameBlock]:
        with self._path.open("rb") as stream:
            for start in range(first, stop, size):
                count = min(size, stop - start)
                stream.seek(self._offset + start * self._dtype.itemsize)
                content = stream.read(count * self._dtype.itemsize)
                yield self._block(content, start, count)

    def _block(self, content: bytes, first: int, count: int) -> FrameBlock:
        if len(content) < count * self._dtype.itemsize:
            raise CalculationFailed(
                f"{self._path}: became shorter while it was read. Read it again.", "changed"
            )
        records = np.frombuffer(content, self._dtype)
        wrong = np.flatnonzero(records["frame"] != first + np.arange(count))
        if len(wrong):
            raise CalculationFailed(
                f"{self._path}: frame {first + wrong[0]} is damaged (the machine went down?); the "
                "frames before are whole. Resume the run from its checkpoint, which cuts the rest.",
                "damaged",
            )
        found = {
            quantity.name: records[quantity.name].astype(np.float64)
            for quantity in self._metadata.quantities
        }
        found.setdefault("cells", np.zeros((count, 3, 3)))
        return FrameBlock(first=first, times_fs=records["time"].astype(np.float64), **found)
