"""Digests: short names for contents, the same on every machine and every run."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks; floats by their shortest exact form; NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_bytes(*parts: bytes) -> str:
    """SHA-256 (hex, 64 characters) over parts, each preceded by its length."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of `canonical_json(value)`."""
    return digest_bytes(canonical_json(value).encode())


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, dtypes, shapes and little-endian contents, in order of the names."""
    parts: list[bytes] = []
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        parts += [name.encode(), f"{array.dtype.str}{array.shape}".encode(), array.tobytes()]
    return digest_bytes(*parts)
