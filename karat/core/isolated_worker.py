"""The other end of `karat.core.isolated.Worker`; runs inside an isolated environment.

Usage: isolated_worker.py SCRIPT ARGUMENTS. The script defines `start(arguments)`, which returns a
function of a message (JSON) and arrays that returns a message and arrays. This file needs nothing
but NumPy, and knows nothing of karat, so that any environment can run it.

A frame is: 8 bytes, the length of the header, little-endian; the header, JSON with `message` and a
list `arrays` of (name, dtype, shape); the arrays' bytes one after the other, little-endian, in C
order. Nothing is ever pickled.

Checked: tests/core/test_isolated.py.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

LARGEST_HEADER = 1 << 26
LARGEST_ARRAY = 1 << 36
KINDS = "biuf"
"""Kinds of dtypes that may travel: no objects, no texts."""

Message = dict[str, Any]
Arrays = dict[str, np.ndarray]


def write_frame(stream: IO[bytes], message: Message, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one frame and flush."""
    blocks, described = [], []
    for name, values in arrays.items():
        array = np.asarray(values)
        if array.dtype.kind not in KINDS:
            raise TypeError(f"array {name}: dtype {array.dtype} cannot be sent")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        blocks.append(array.tobytes())
        described.append([name, array.dtype.str, list(array.shape)])
    header = json.dumps({"message": message, "arrays": described}, allow_nan=False).encode()
    stream.write(len(header).to_bytes(8, "little"))
    stream.write(header)
    for block in blocks:
        stream.write(block)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[Message, Arrays] | None:
    """The next frame, or `None` where the stream ends between frames.

    Raises:
        ValueError: the stream ends inside a frame, or what arrived is not a frame.
    """
    start = stream.read(8)
    if not start:
        return None
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > LARGEST_HEADER:
        raise ValueError("not a frame")
    header = json.loads(_exactly(stream, size))
    arrays: Arrays = {}
    for name, kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        count = 1
        for length in shape:
            count *= int(length)
        if dtype.kind not in KINDS or not 0 <= count * dtype.itemsize <= LARGEST_ARRAY:
            raise ValueError(f"array {name}: {kind} {shape} is not allowed")
        data = _exactly(stream, count * dtype.itemsize)
        array = np.frombuffer(data, dtype).reshape(shape)
        arrays[str(name)] = array.astype(dtype.newbyteorder("="))  # a copy that may be written
    return header["message"], arrays


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ValueError(f"the stream ended after {len(data)} of {size} bytes")
    return data


def serve(script: str, arguments: list[str]) -> None:
    """Answer frames from standard input on standard output until the input ends.

    What the script or its packages print goes to standard error, so that it cannot spoil a frame.
    """
    import runpy

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    handle = runpy.run_path(script)["start"](arguments)
    write_frame(answers, {"ready": True}, {})
    while (frame := read_frame(requests)) is not None:
        try:
            message, arrays = handle(*frame)
        except Exception as error:
            kind = str(getattr(error, "kind", "error"))
            failure = {"kind": kind, "text": f"{type(error).__name__}: {error}"}
            write_frame(answers, {"failure": failure}, {})
        else:
            write_frame(answers, {"answer": message}, arrays)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
