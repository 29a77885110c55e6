"""ASE databases in sqlite (``.db``), row by row, read-only; SchNetPack's too.

Source and checks: see `ase_rows`.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.ase_rows import COLUMNS, Row, atoms_of, decoded, entries_of_rows
from karat.data.readers.guard import reading

MAX_VALUE = 2**27
"""Bytes of one value of the table."""
_NEEDED = ("numbers", "positions", "cell", "pbc")
_TEXTS = ("key_value_pairs", "data")


def read_ase_sqlite(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Every row of the table ``systems``.

    Raises:
        BadInput: not such a database, or see `entries_of_rows`.
    """
    with reading(path, "an ASE database"):
        address = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.text_factory = bytes
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            names = _columns(connection, path)
            metadata = _metadata(connection)
            yield from entries_of_rows(path, _rows(connection, names), metadata, options)


def _columns(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Columns to read; only of a plain table, so that no view or expression runs."""
    found = connection.execute(
        "SELECT type, sql FROM sqlite_master WHERE name = 'systems'"
    ).fetchall()
    plain = len(found) == 1 and found[0][0] == b"table" and isinstance(found[0][1], bytes)
    if not plain or b"VIRTUAL" in found[0][1].upper():
        raise BadInput(f"{path}: has no plain table 'systems', so it is no ASE database.")
    columns = connection.execute("PRAGMA table_xinfo(systems)").fetchall()
    names = {bytes(column[1]).decode(errors="replace") for column in columns if column[6] == 0}
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise BadInput(f"{path}: its table 'systems' has no column '{missing[0]}'.")
    return [name for name in (*_NEEDED, *COLUMNS, *_TEXTS) if name in names]


def _metadata(connection: sqlite3.Connection) -> Mapping[str, Any]:
    found = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE name = 'information' AND type = 'table'"
    ).fetchall()
    if not found:
        return {}
    query = "SELECT value FROM information WHERE name = 'metadata' LIMIT 1"
    rows = connection.execute(query).fetchall()
    value = _json(rows[0][0]) if rows else {}
    return value if isinstance(value, dict) else {}


def _rows(connection: sqlite3.Connection, names: list[str]) -> Iterator[Row]:
    for values in connection.execute(f"SELECT {', '.join(names)} FROM systems"):
        row = dict(zip(names, values))
        pbc = row["pbc"]
        if not isinstance(pbc, int):
            raise BadInput("pbc is no number.")
        pairs = _json(row.get("key_value_pairs"))
        yield Row(
            atoms=atoms_of(
                _numbers(row["numbers"], "<i4"),
                _numbers(row["positions"]),
                _numbers(row["cell"]),
                [bool(pbc & bit) for bit in (1, 2, 4)],
            ),
            columns={
                "energy": row.get("energy"),
                "free_energy": row.get("free_energy"),
                "forces": _vectors(row.get("forces")),
                "stress": _numbers(row.get("stress")),
                "charges": _numbers(row.get("charges")),
                "dipole": _numbers(row.get("dipole")),
            },
            pairs=pairs if isinstance(pairs, dict) else {},
            own=_data(row.get("data")),
        )


def _numbers(blob: Any, dtype: str = "<f8") -> np.ndarray | None:
    if blob is None:
        return None
    if not isinstance(blob, bytes):
        raise BadInput("an array of it is not stored as bytes.")
    if len(blob) % np.dtype(dtype).itemsize:
        raise BadInput(f"an array of it has {len(blob)} bytes, which is no whole number of values.")
    return np.frombuffer(blob, dtype)


def _vectors(blob: Any) -> np.ndarray | None:
    flat = _numbers(blob)
    if flat is not None and flat.size % 3:
        raise BadInput(f"forces of it are {flat.size} numbers, not three for each atom.")
    return None if flat is None else flat.reshape(-1, 3)


def _json(text: Any) -> Any:
    if not isinstance(text, bytes | str):
        return {}
    try:
        return decoded(json.loads(text))
    except RecursionError as error:
        raise BadInput("its JSON is nested too deeply.") from error


def _data(blob: Any) -> Mapping[str, Any]:
    """`data`: a blob whose first eight bytes say where its JSON begins; JSON text of old."""
    if not isinstance(blob, bytes) or len(blob) < 8:
        return {}
    if blob[:1] == b"{":
        value = _json(blob)
    else:
        start = int.from_bytes(blob[:8], "little", signed=True)
        if not 8 <= start < len(blob):
            raise BadInput("its data do not say where they begin.")
        try:
            value = decoded(json.loads(blob[start:]), blob)
        except RecursionError as error:
            raise BadInput("its JSON is nested too deeply.") from error
    return value if isinstance(value, dict) else {}
