"""ASE databases as JSON (``.json``), read whole; for more than `MAX_BYTES`, use ``.db``.

Source and checks: see `ase_rows`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.ase_rows import COLUMNS, Row, atoms_of, decoded, entries_of_rows
from karat.data.readers.guard import reading
from karat.structures.geometry_files import text_stream

MAX_BYTES = 2**28
"""Bytes of a file; its values take several times as many in memory."""


def read_ase_json(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Every row, in the order of its ids.

    Raises:
        BadInput: too large, not such a database, or see `entries_of_rows`.
    """
    with reading(path, "an ASE database"):
        with text_stream(path) as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise BadInput(
                f"{path}: is larger than {MAX_BYTES} bytes, and JSON must be read whole. "
                f"Convert it: ase db {path} --insert-into data.db"
            )
        values = _parsed(content, path)
        ids = values.get("ids")
        if not isinstance(ids, list) or not all(str(number) in values for number in ids):
            raise BadInput(f"{path}: has no list 'ids' of its rows, so it is no ASE database.")
        metadata = values.get("metadata")
        rows = (_row(values.pop(str(number), None)) for number in ids)
        yield from entries_of_rows(
            path, rows, metadata if isinstance(metadata, dict) else {}, options
        )


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except RecursionError as error:
        raise BadInput(f"{path}: its JSON is nested too deeply.") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}: is no ASE database: its JSON is no object.")
    return values


def _row(raw: Any) -> Row:
    value = decoded(raw)
    if not isinstance(value, Mapping):
        raise BadInput("its row is no object, or stands twice among the ids.")
    pairs, own = value.get("key_value_pairs"), value.get("data")
    return Row(
        atoms=atoms_of(
            value.get("numbers"),
            value.get("positions"),
            value.get("cell"),
            value.get("pbc", [False] * 3),
        ),
        columns={name: value.get(name) for name in COLUMNS},
        pairs=pairs if isinstance(pairs, dict) else {},
        own=own if isinstance(own, dict) else {},
    )
