"""Arrays of a file read a few rows at a time: what npz, npy and HDF5 layouts have in common.

Checked: tests/data/readers/test_npz.py.
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from karat.core.errors import BadInput

PIECE = 2**22
"""Bytes of the largest array that are read at once."""
MAX_ROW = 2**27
"""Bytes of one row: positions of one structure of five million atoms."""
MAX_WHOLE = 2**28
"""Bytes of an array that cannot be read by rows (Fortran order)."""

_HEADER = re.compile(
    rb"\{'descr':\s*'(?P<dtype>[<>|=]?[a-zA-Z]\d*)',\s*'fortran_order':\s*(?P<fortran>True|False),"
    rb"\s*'shape':\s*\((?P<shape>[\d,\s]*)\),?\s*\}\s*"
)
_KINDS = {"b": "flags", "i": "integers", "u": "integers", "f": "numbers", "S": "text", "U": "text"}


@runtime_checkable
class Rows(Protocol):
    """An array of which a few rows are read at a time, from the first to the last.

    Attributes:
        name: for messages.
        shape, dtype: of the whole array.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def take(self, count: int) -> np.ndarray:
        """The next `count` rows.

        Raises:
            BadInput: the file ends before.
        """
        ...


class NpyRows:
    """Rows of an array in npy format out of a stream; object arrays (pickle) are refused."""

    def __init__(self, stream: io.BufferedIOBase, name: str, size: int) -> None:
        """`size`: bytes of the whole stream.

        Raises:
            BadInput: not npy, Python objects, or not as long as it says.
        """
        self.name = name
        self._stream = stream
        header = self._header()
        match = _HEADER.fullmatch(header)
        if match is None or match["dtype"].lstrip(b"<>|=")[:1] == b"O":
            raise BadInput(
                f"array '{name}' holds Python objects or mixed columns (or its header is broken). "
                "karat never unpickles; save plain numbers: numpy.savez(..., allow_pickle=False)."
            )
        self.dtype = _checked_dtype(match["dtype"].decode(), name)
        self.shape = tuple(int(word) for word in match["shape"].split(b",") if word.strip())
        if len(self.shape) > 4 or any(side >= 2**48 for side in self.shape):
            raise BadInput(f"array '{name}' has shape {self.shape}, which cannot be.")
        announced = self.dtype.itemsize
        for side in self.shape:
            announced *= side
        held = size - self._header_bytes
        if announced != held:
            raise BadInput(
                f"array '{name}' announces {announced} bytes (shape {self.shape}), holds {held}. "
                "The file is cut or broken."
            )
        if not self.shape:
            # a single value is an array of one row
            self.shape = (1,)
        self._whole = self._fortran(announced) if match["fortran"] == b"True" else None
        self._next = 0

    def _header(self) -> bytes:
        start = self._exactly(8)
        lengths = {b"\x01\x00": 2, b"\x02\x00": 4}
        if not start.startswith(b"\x93NUMPY") or start[6:] not in lengths:
            raise BadInput(f"array '{self.name}' is not in npy format 1 or 2.")
        width = lengths[start[6:]]
        length = int.from_bytes(self._exactly(width), "little")
        if length > 2**16:
            raise BadInput(f"array '{self.name}' has a header of {length} bytes.")
        self._header_bytes = 8 + width + length
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        parts = []
        left = count
        while left:
            part = self._stream.read(left)
            if not part:
                raise BadInput(f"array '{self.name}' ends {left} bytes too early. The file is cut.")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _fortran(self, announced: int) -> np.ndarray | None:
        if len(self.shape) < 2:
            return None
        if announced > MAX_WHOLE:
            raise BadInput(
                f"array '{self.name}' is stored column by column (Fortran order) and larger than "
                f"{MAX_WHOLE} bytes. Save numpy.ascontiguousarray of it."
            )
        flat = np.frombuffer(self._exactly(announced), self.dtype)
        return np.ascontiguousarray(flat.reshape(self.shape, order="F"))

    def take(self, count: int) -> np.ndarray:
        """See `Rows`."""
        start, self._next = self._next, self._next + count
        if self._next > self.shape[0]:
            raise BadInput(f"array '{self.name}' has {self.shape[0]} rows, needs more.")
        if self._whole is not None:
            return self._whole[start : self._next]
        row = row_bytes(self)
        data = np.frombuffer(self._exactly(row * count), self.dtype)
        return data.reshape(count, *self.shape[1:])


def _checked_dtype(text: str, name: str) -> np.dtype:
    try:
        dtype = np.dtype(text)
    except TypeError as error:
        raise BadInput(f"array '{name}' has the unknown dtype '{text}'.") from error
    if dtype.kind not in _KINDS or not 0 < dtype.itemsize <= 2**16:
        raise BadInput(f"array '{name}' has dtype {text}; numbers or text are needed.")
    return dtype


def row_bytes(array: Rows) -> int:
    """Bytes of one row.

    Raises:
        BadInput: more than `MAX_ROW`.
    """
    size = array.dtype.itemsize
    for side in array.shape[1:]:
        size *= side
    if size > MAX_ROW:
        raise BadInput(f"array '{array.name}': one row has {size} bytes, too many.")
    return size


def pieces(count: int, arrays: Mapping[str, Rows]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(index of the first row, rows of every array), until `count` rows are through.

    Raises:
        BadInput: an array with another number of rows, or too short.
    """
    for array in arrays.values():
        if array.shape[:1] != (count,):
            raise BadInput(f"array '{array.name}' has shape {array.shape}, needs {count} rows.")
    step = max(1, PIECE // max(1, *(row_bytes(array) for array in arrays.values())))
    for start in range(0, count, step):
        rows = min(step, count - start)
        yield start, {role: array.take(rows) for role, array in arrays.items()}


def row_of(piece: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """One row of every array, single numbers as arrays without axes."""
    return {role: np.asarray(values[index]) for role, values in piece.items()}


def floats(values: np.ndarray, name: str) -> np.ndarray:
    """The same as float64.

    Raises:
        BadInput: text.
    """
    if values.dtype.kind not in "iuf":
        raise BadInput(f"array '{name}' holds {_KINDS.get(values.dtype.kind, 'no numbers')}.")
    return values.astype(np.float64)


def integers(values: np.ndarray, name: str) -> np.ndarray:
    """The same as int64.

    Raises:
        BadInput: text, NaN or fractions.
    """
    if values.dtype.kind == "f":
        # 2**53: beyond it, floats skip integers
        if not (np.abs(values) < 2.0**53).all() or (values != np.round(values)).any():
            raise BadInput(f"array '{name}' must hold whole numbers.")
    elif values.dtype.kind not in "iu":
        raise BadInput(f"array '{name}' holds {_KINDS.get(values.dtype.kind, 'no numbers')}.")
    return values.astype(np.int64)
