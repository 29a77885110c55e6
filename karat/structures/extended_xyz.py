"""Extended XYZ, line by line → frames, fast, with the number of a bad frame in the message.

A file may be larger than memory and need not be honest: no line, frame or string is kept beyond
the limits below, and nothing is set aside for atoms that are only announced.

Checked: tests/structures/test_geometry_files.py, against ASE's reader;
tests/data/test_fuzz_readers.py.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.structures.comment_line import comment_values
from karat.structures.structure import Structure
from karat.structures.topology import Topology

MAX_COMMENT = 2**24
"""Bytes of a comment line: a topology of 100,000 atoms has about 4 million."""
MAX_ROW = 2**16
"""Bytes of an atom's line."""
MAX_FRAME = 2**27
"""Bytes of all atoms' lines of a frame."""
MAX_WORDS = 2**23
"""Numbers and words of a frame: columns times atoms."""
MAX_BLANKS = 1000
"""Blank lines at the end of a file."""

_PLAIN = "species:S:1:pos:R:3"
_BLOCK = 2**14
"""Words that are held before they become arrays."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One entry of a file before anything is made of it.

    Attributes:
        numbers, positions, cell, periodic: as in `Structure`.
        arrays: further columns, one row per atom.
        info: the comment line's (or the format's) other words.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def structure(self, place: str) -> Structure:
        """The structure; `charge`, `multiplicity` and `topology` are taken from `info`.

        Raises:
            BadInput: `place` and what is wrong.
        """
        try:
            return Structure(
                numbers=self.numbers,
                positions=self.positions,
                cell=self.cell if self.periodic.any() else np.zeros((3, 3)),
                periodic=self.periodic,
                charge=whole_number(self.info.get("charge", 0), "charge") or 0,
                multiplicity=whole_number(self.info.get("multiplicity"), "multiplicity"),
                topology=topology_of(self.info.get("topology")),
            )
        except BadInput as error:
            raise BadInput(f"{place}: {error}") from error


def whole_number(value: Any, name: str) -> int | None:
    """A whole number of at most 2**62, or `None` for `None`.

    Raises:
        BadInput: not one.
    """
    if value is None:
        return None
    try:
        number = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name} is {str(value)[:60]!r}, needs a whole number.") from error
    if not abs(number) <= 2**62 or number != round(number):
        raise BadInput(f"{name} is {str(value)[:60]}, needs a whole number.")
    return round(number)


def topology_of(values: Any) -> Topology | None:
    """From the mapping that karat writes (see karat.data.writers), or `None`.

    Raises:
        BadInput: a mapping that is no topology.
    """
    if not isinstance(values, Mapping):
        return None
    try:
        residues, smiles = values.get("residues", ()), values.get("smiles", "")
        if not (isinstance(smiles, str) and all(isinstance(word, str) for word in residues)):
            raise ValueError("residues and smiles are text")
        return Topology(
            bonds=np.array(values["bonds"], dtype=np.int64).reshape(-1, 2),
            orders=np.array(values["orders"], dtype=np.float64).reshape(-1),
            formal_charges=np.array(values["formal_charges"], dtype=np.int64).reshape(-1),
            residues=tuple(residues),
            smiles=smiles,
        )
    except (KeyError, ValueError, TypeError, OverflowError, BadInput) as error:
        raise BadInput(f"topology in the comment line is not one ({error}).") from error


def parse_frames(stream: io.BufferedIOBase, place: str) -> Iterator[Frame]:
    """Frames of an (extended) XYZ stream; blank lines at the end are allowed.

    Raises:
        BadInput: `place`, the frame (counted from 0), its line (from 1) and what is wrong.
    """
    line = index = 0
    while True:
        first, blanks = _first_line(stream, place)
        if not first:
            return
        where = f"{place}, frame {index} (line {line + 1})"
        if blanks:
            raise BadInput(f"{where}: starts with '', needs a number of atoms.")
        try:
            atoms = int(first if len(first) < 256 else b"")
        except ValueError as error:
            shown = first[:40].decode(errors="replace").rstrip("\r\n")
            raise BadInput(f"{where}: starts with {shown!r}, needs a number of atoms.") from error
        try:
            yield _frame(stream, atoms)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
        except UnicodeDecodeError as error:
            raise BadInput(f"{where}: cannot be read as text ({error.reason}).") from error
        except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            raise BadInput(f"{where}: cannot be read ({str(error)[:200]}).") from error
        line += 2 + atoms
        index += 1


def _first_line(stream: io.BufferedIOBase, place: str) -> tuple[bytes, int]:
    """The next line that is not blank (empty at the end), and how many blank ones came first."""
    for blanks in range(MAX_BLANKS):
        line = stream.readline(256)
        if not line or not line.isspace():
            return line, blanks
    raise BadInput(f"{place}: holds {MAX_BLANKS} blank lines in a row. Remove them.")


def _frame(stream: io.BufferedIOBase, atoms: int) -> Frame:
    if atoms < 1:
        raise BadInput(f"{atoms} atoms announced, needs at least one.")
    comment = stream.readline(MAX_COMMENT)
    if len(comment) == MAX_COMMENT and not comment.endswith(b"\n"):
        raise BadInput(f"comment line is longer than {MAX_COMMENT} bytes.")
    info = comment_values(comment.decode()) if b"=" in comment else {}
    properties = str(info.pop("Properties", info.pop("properties", _PLAIN)))
    lattice = info.pop("Lattice", info.pop("lattice", None))
    cell = np.zeros((3, 3))
    if lattice is not None:
        # nine numbers are the rows one after another; three are a box's edges
        array = np.array(lattice, dtype=np.float64)
        cell = np.diag(array) if array.size == 3 else array.reshape(3, 3)
    pbc = info.pop("pbc", None)
    periodic = np.full(3, lattice is not None) if pbc is None else _flags(pbc)
    arrays = _columns(stream, atoms, properties)
    positions = arrays.pop("pos")
    if positions.shape != (atoms, 3) or positions.dtype != np.float64:
        raise BadInput("Properties names no column pos:R:3 of positions.")
    return Frame(
        numbers=_numbers(arrays),
        positions=positions,
        cell=cell,
        periodic=periodic,
        arrays=arrays,
        info=info,
    )


def _flags(value: Any) -> np.ndarray:
    array = np.atleast_1d(np.array(value))
    if array.dtype.kind not in "bi" or array.shape not in ((1,), (3,)):
        raise BadInput(f"pbc is {str(value)[:60]!r}, needs three of T or F.")
    return np.broadcast_to(array.astype(bool), 3).copy()


@lru_cache(maxsize=64)
def _layout(properties: str) -> tuple[tuple[tuple[str, str, int, int], ...], int]:
    """(name, kind, first column, last column + 1) of each property, and the number of columns."""
    words = properties.split(":")
    if len(words) % 3:
        raise BadInput("Properties is not NAME:TYPE:COLUMNS, repeated.")
    start, found = 0, []
    for name, kind, width in zip(words[0::3], words[1::3], words[2::3]):
        if kind not in ("R", "I", "S", "L") or not 1 <= int(width) <= MAX_ROW:
            shown = f"{name}:{kind}:{width}"[:60]
            raise BadInput(f"Properties: '{shown}' is unknown (types are R I S L).")
        found.append((name, kind, start, start + int(width)))
        start += int(width)
    return tuple(found), start


def _columns(stream: io.BufferedIOBase, atoms: int, properties: str) -> dict[str, np.ndarray]:
    layout, total = (_layout if len(properties) < 1024 else _layout.__wrapped__)(properties)
    if atoms * total > MAX_WORDS:
        raise BadInput(
            f"{atoms} atoms announced with {total} columns; more than {MAX_WORDS} numbers in one "
            "frame are not read."
        )
    loose = properties == _PLAIN
    blocks: list[list[np.ndarray]] = [[] for _ in layout]
    done = used = 0
    while done < atoms:
        rows: list[list[bytes]] = []
        held = 0
        while held < _BLOCK and done + len(rows) < atoms:
            row = stream.readline(MAX_ROW)
            words = row.split()
            count = len(words)
            if (count != total and not (loose and count > total)) or len(row) == MAX_ROW:
                _bad_row(row, words, atoms, done + len(rows), total)
            rows.append(words)
            held += count
            used += len(row)
        if used > MAX_FRAME:
            raise BadInput(f"its lines are longer than {MAX_FRAME} bytes together.")
        for (_, kind, start, end), found in zip(layout, blocks):
            found.append(_converted(rows, kind, start, end))
        done += len(rows)
    return {
        name: parts[0] if len(parts) == 1 else np.concatenate(parts)
        for (name, *_), parts in zip(layout, blocks)
    }


def _bad_row(row: bytes, words: list[bytes], atoms: int, number: int, total: int) -> None:
    if len(row) == MAX_ROW:
        raise BadInput(f"atom {number}: its line is longer than {MAX_ROW} bytes.")
    if not row:
        raise BadInput(f"{atoms} atoms announced, {number} lines follow.")
    raise BadInput(f"atom {number}: {len(words)} columns, Properties names {total}.")


def _converted(rows: list[list[bytes]], kind: str, start: int, end: int) -> np.ndarray:
    """(rows, width) of one property, (rows,) where it has one column; words as `object`."""
    width = end - start
    if width == 1:
        words = list(map(itemgetter(start), rows))
    else:
        words = list(chain.from_iterable(row[start:end] for row in rows))
    if kind == "R":
        array = np.array(list(map(float, words)), dtype=np.float64)
    elif kind == "I":
        array = np.array(list(map(int, words)), dtype=np.int64)
    else:
        array = np.array([word.decode() for word in words], dtype=object)
    return array if width == 1 else array.reshape(len(rows), width)


@lru_cache(maxsize=1)
def _elements() -> Mapping[str, int]:
    from ase.data import atomic_numbers

    return {symbol: number for symbol, number in atomic_numbers.items() if number > 0}


def _numbers(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Atomic numbers from a column of symbols or numbers; the columns are taken out."""
    symbols = arrays.pop("species", None)
    numbers = arrays.pop("Z", arrays.pop("numbers", None))
    if symbols is None:
        if numbers is None or numbers.dtype != np.int64 or numbers.ndim != 1:
            raise BadInput("no column of elements (species:S:1 or Z:I:1).")
        return numbers
    if symbols.ndim != 1:
        raise BadInput("no column of elements (species:S:1 or Z:I:1).")
    known = _elements()
    try:
        return np.array([known[symbol] for symbol in symbols.tolist()], dtype=np.int64)
    except (KeyError, TypeError):
        words = [str(symbol) for symbol in symbols.tolist()]
        return np.array([element_number(word) for word in words], dtype=np.int64)


def element_number(symbol: str) -> int:
    """Atomic number of a symbol in any case, or of a number in words.

    Raises:
        BadInput: unknown.
    """
    number = _elements().get(symbol.capitalize(), 0)
    if symbol.isascii() and symbol.isdigit() and len(symbol) < 4:
        number = int(symbol)
    if number < 1:
        raise BadInput(f"unknown element '{symbol[:20]}'.")
    return number
