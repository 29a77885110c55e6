"""Streams of entries into files: extended XYZ (.xyz, .extxyz, also .gz) and HDF5 (.h5, .hdf5).

A reader of karat gives back every bit. The file appears whole or not at all, and at no time more
than a piece of it is in memory.

Checked: tests/data/test_writers.py.
"""

import contextlib
import gzip
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.core.hashing import canonical_json
from karat.data.entry import Entry
from karat.structures.geometry_files import EXTENDED_XYZ, file_format

HDF5_SUFFIXES = (".h5", ".hdf5")


def write_entries(entries: Iterable[Entry], path: Path | str) -> None:
    """Write entries in karat's units; the suffix chooses the format, ``.gz`` zips extended XYZ.

    Structure, labels (missing ones stay missing), name, kind, group, frame, charge,
    multiplicity, topology and level of theory are kept bit by bit. Extended XYZ has the shortest
    exact form of every float under ``REF_energy``, ``REF_forces``, …; HDF5 is karat's own layout
    (see `karat.data.readers.hdf5_karat`) and is read several times faster.

    Raises:
        BadInput: a suffix that no writer knows, or whatever the entries raise.
    """
    path = Path(path)
    suffix = file_format(path)
    zipped = path.suffix.lower() == ".gz"
    if suffix in HDF5_SUFFIXES and not zipped:
        from karat.data.hdf5_writer import write_hdf5

        with _replacing(path) as temporary:
            write_hdf5(entries, temporary)
    elif suffix in EXTENDED_XYZ:
        with (
            _replacing(path) as temporary,
            temporary.open("wb") as file,
            _zipped(file) if zipped else contextlib.nullcontext(file) as stream,
        ):
            for entry in entries:
                stream.write(entry_text(entry).encode())
    else:
        raise BadInput(
            f"{path}: karat writes {', '.join(EXTENDED_XYZ)} (also .gz) and "
            f"{', '.join(HDF5_SUFFIXES)}. Choose one of these suffixes."
        )


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, flushed to disk and renamed to it at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _zipped(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """A gzip stream without name and time, so that equal data make equal files."""
    return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)


_SAFE_WORD = re.compile(r"[A-Za-z_][\w.:/+-]*")
_KEYWORDS = {"t", "f", "true", "false", "nan", "inf", "infinity"}


def entry_text(entry: Entry) -> str:
    """One frame of extended XYZ, its last line ended."""
    columns: list[np.ndarray] = [entry.positions]
    properties = "pos:R:3"
    if entry.forces is not None:
        columns.append(entry.forces)
        properties += ":REF_forces:R:3"
    if entry.charges is not None:
        columns.append(entry.charges[:, None])
        properties += ":REF_charges:R:1"
    elements, words = _elements(entry.numbers)
    kind = "species:S:1" if words else "Z:I:1"
    comment = [*_comment(entry, f"{kind}:{properties}")]
    table = np.concatenate(columns, axis=1).tolist()
    rows = [f"{element} {' '.join(map(repr, row))}" for element, row in zip(elements, table)]
    return "\n".join([str(len(entry)), " ".join(comment), *rows]) + "\n"


def _elements(numbers: np.ndarray) -> tuple[list[str], bool]:
    """Symbols, or the numbers themselves where one of them is no element."""
    from ase.data import chemical_symbols

    values = numbers.tolist()
    if all(0 < value < len(chemical_symbols) for value in values):
        return [chemical_symbols[value] for value in values], True
    return [str(value) for value in values], False


def _comment(entry: Entry, properties: str) -> Iterator[str]:
    if entry.cell.any():
        yield f'Lattice="{_floats(entry.cell)}"'
    yield f"Properties={properties}"
    yield 'pbc="{}"'.format(" ".join("T" if flag else "F" for flag in entry.periodic))
    if entry.energy is not None:
        yield f"REF_energy={float(entry.energy)!r}"
    if entry.stress is not None:
        yield f'REF_stress="{_floats(entry.stress)}"'
    if entry.dipole is not None:
        yield f'REF_dipole="{_floats(entry.dipole)}"'
    yield f"charge={entry.charge}"
    if entry.multiplicity is not None:
        yield f"multiplicity={entry.multiplicity}"
    for key, text in (("config_type", entry.kind), ("name", entry.name), ("group", entry.group)):
        yield f"{key}={_word(text)}"
    yield f"frame={entry.frame}"
    if entry.level is not None:
        yield f"level={_json(entry.level.as_dict())}"
    if entry.topology is not None:
        topology = entry.topology
        yield "topology=" + _json(
            {
                "bonds": topology.bonds.ravel().tolist(),
                "orders": topology.orders.tolist(),
                "formal_charges": topology.formal_charges.tolist(),
                "residues": list(topology.residues),
                "smiles": topology.smiles,
            }
        )


def _floats(array: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in array.ravel())


def _word(text: str) -> str:
    """`text` so that readers keep it text: as it is where safe, else as JSON."""
    safe = _SAFE_WORD.fullmatch(text) and text.isascii() and text.lower() not in _KEYWORDS
    return text if safe else _json(text)


def _json(value: Any) -> str:
    """ASE's spelling of JSON in a comment line: quoted, with backslashes and quotes escaped."""
    escaped = canonical_json(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"_JSON {escaped}"'
