"""Extended XYZ text → frames, fast and with the number of a bad frame in the message.

Checked: tests/structures/test_geometry_files.py, against ASE's reader.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.structures.structure import Structure
from karat.structures.topology import Topology

_PLAIN = "species:S:1:pos:R:3"
_NINE = re.compile(r"(^|\s)(stress|virial)(?=\s*=)")
_DTYPES: Mapping[str, Any] = {"R": np.float64, "I": np.int64, "S": str, "L": str}


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
                charge=_whole(self.info.get("charge", 0), "charge") or 0,
                multiplicity=_whole(self.info.get("multiplicity"), "multiplicity"),
                topology=_topology(self.info.get("topology")),
            )
        except BadInput as error:
            raise BadInput(f"{place}: {error}") from error


def _whole(value: Any, name: str) -> int | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} is {value!r}, needs a whole number.") from error
    if number != round(number):
        raise BadInput(f"{name} is {value}, needs a whole number.")
    return round(number)


def _topology(values: Any) -> Topology | None:
    """From the mapping that karat writes (see karat.data.files), or `None`."""
    if not isinstance(values, Mapping):
        return None
    try:
        return Topology(
            bonds=np.array(values["bonds"], dtype=np.int64).reshape(-1, 2),
            orders=np.array(values["orders"], dtype=np.float64),
            formal_charges=np.array(values["formal_charges"], dtype=np.int64),
            residues=tuple(values.get("residues", ())),
            smiles=values.get("smiles", ""),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise BadInput(f"topology in the comment line is not one ({error!r}).") from error


def parse_frames(text: str, place: str) -> Iterator[Frame]:
    """Frames of (extended) XYZ text; blank lines at the end are allowed.

    Raises:
        BadInput: `place`, the frame (counted from 0) and what is wrong with it.
    """
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    position = index = 0
    while position < len(lines):
        where = f"{place}, frame {index} (line {position + 1})"
        try:
            atoms = int(lines[position])
        except ValueError as error:
            raise BadInput(
                f"{where}: starts with {lines[position][:40]!r}, needs a number of atoms."
            ) from error
        rows = lines[position + 2 : position + 2 + atoms]
        if atoms < 1 or len(rows) < atoms:
            raise BadInput(f"{where}: {atoms} atoms announced, {len(rows)} lines follow.")
        try:
            yield _frame(lines[position + 1], rows)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BadInput(f"{where}: cannot be read ({error}).") from error
        position += 2 + atoms
        index += 1


def _frame(comment: str, rows: list[str]) -> Frame:
    info = _info(comment)
    properties = str(info.pop("Properties", info.pop("properties", _PLAIN)))
    lattice = info.pop("Lattice", info.pop("lattice", None))
    cell = np.zeros((3, 3))
    if lattice is not None:
        # ASE's parser stores nine numbers column by column; three are a box's edges.
        array = np.array(lattice, dtype=np.float64)
        cell = array.T if array.shape == (3, 3) else np.diag(array)
    pbc = info.pop("pbc", None)
    periodic = np.full(3, lattice is not None) if pbc is None else np.array(pbc, dtype=bool)
    arrays = _columns(properties, rows)
    positions = arrays.pop("pos")
    return Frame(
        numbers=_numbers(arrays),
        positions=positions,
        cell=cell,
        periodic=np.broadcast_to(periodic, 3),
        arrays=arrays,
        info=info,
    )


def _info(comment: str) -> dict[str, Any]:
    """Key and value pairs; ASE's parser insists on nine numbers of `stress` and `virial`."""
    from ase.io.extxyz import key_val_str_to_dict

    if "=" not in comment:
        return {}
    renamed = _NINE.sub(r"\1karat_\2", comment)
    info: dict[str, Any] = key_val_str_to_dict(renamed)
    return {key.removeprefix("karat_"): value for key, value in info.items()}


def _columns(properties: str, rows: list[str]) -> dict[str, np.ndarray]:
    words = properties.split(":")
    names, kinds, widths = words[0::3], words[1::3], [int(width) for width in words[2::3]]
    total = sum(widths)
    split = [row.split() for row in rows]
    for number, row in enumerate(split):
        if len(row) < total or (len(row) > total and properties != _PLAIN):
            raise BadInput(f"atom {number}: {len(row)} columns, Properties names {total}.")
    tokens = np.array([row[:total] for row in split], dtype=str).reshape(len(rows), total)
    arrays, start = {}, 0
    for name, kind, width in zip(names, kinds, widths):
        column = tokens[:, start : start + width]
        column = column if kind in "SL" else column.astype(_DTYPES[kind])
        arrays[name] = column[:, 0] if width == 1 else column
        start += width
    return arrays


def _numbers(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Atomic numbers from a column of symbols or numbers; the columns are taken out."""
    from ase.data import atomic_numbers

    symbols = arrays.pop("species", None)
    numbers = arrays.pop("Z", arrays.pop("numbers", None))
    if symbols is None:
        if numbers is None:
            raise BadInput("no column of elements (species or Z).")
        return np.asarray(numbers, dtype=np.int64)
    found = []
    for symbol in symbols.tolist():
        number = int(symbol) if symbol.isdigit() else atomic_numbers.get(symbol.capitalize(), 0)
        if number < 1:
            raise BadInput(f"unknown element '{symbol}'.")
        found.append(number)
    return np.array(found, dtype=np.int64)
