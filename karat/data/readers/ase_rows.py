"""Rows of ASE databases (sqlite or JSON) → entries; ASE itself is not asked, nothing is executed.

Units: eV and Å by ASE's definition. Labels that are not ASE's own columns but stand among
`key_value_pairs` or `data` are in the units that the database states for them (SchNetPack's
`_property_unit_dict` and `_distance_unit`), else in what the user names.

Source: ASE's `ase.db` (columns of the table ``systems``, version 9 of its layout).
Checked: tests/data/readers/test_ase_database.py, against what ASE writes.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.frames import agreed_level, labelled, stem, tensor
from karat.data.readers.origins import Origins
from karat.data.readers.scales import EV_ANGSTROM, Scales, StatedUnits, scales
from karat.structures.extended_xyz import whole_number

COLUMNS = ("energy", "free_energy", "forces", "stress", "charges", "dipole")


class Row:
    """One row, decoded: `atoms` (numbers, positions, cell, pbc), ASE's `columns`, and `own`."""

    def __init__(
        self,
        atoms: Mapping[str, np.ndarray],
        columns: Mapping[str, Any],
        pairs: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> None:
        self.atoms = atoms
        self.columns = columns
        self.pairs = pairs
        self.own = {**own, **pairs}


def entries_of_rows(
    path: Path, rows: Iterable[Row], metadata: Mapping[str, Any], options: ReadOptions
) -> Iterator[Entry]:
    """Entries in eV and Å.

    Raises:
        BadInput: shapes that do not fit, a key that no row has, no unit.
    """
    if options.virial_key is not None:
        raise BadInput(f"{path}: ASE databases hold a stress, not a virial. Use --stress-key.")
    origins = Origins(stem(path))
    used: set[str] = set()
    for index, row in enumerate(rows):
        place = f"{path}, row {index + 1}"
        try:
            yield _entry(row, metadata, options, origins, place, used)
        except BadInput as error:
            text = str(error)
            raise BadInput(text if text.startswith(place) else f"{place}: {text}") from error
    for key in (options.energy_key, options.forces_key, options.stress_key):
        if key is not None and key not in used:
            raise BadInput(f"{path}: no row has '{key}'. Check the names of its keys.")


def _entry(
    row: Row,
    metadata: Mapping[str, Any],
    options: ReadOptions,
    origins: Origins,
    place: str,
    used: set[str],
) -> Entry:
    numbers = row.atoms["numbers"]
    atoms = len(numbers)
    pairs = row.pairs
    kind = str(pairs.get("config_type", ""))
    charge = whole_number(pairs.get("charge"), "charge") or 0
    multiplicity = whole_number(pairs.get("multiplicity"), "multiplicity")
    if multiplicity is not None and multiplicity < 1:
        raise BadInput(f"multiplicity is {multiplicity}, needs 1 or more.")
    name, group, frame = origins.next(
        numbers,
        charge,
        kind,
        str(pairs["name"]) if "name" in pairs else None,
        str(pairs["group"]) if "group" in pairs else None,
        whole_number(pairs.get("frame"), "frame"),
    )
    values: dict[str, Any] = {}
    length = scales(options, EV_ANGSTROM, place).length
    for role, shape in (("energy", ()), ("forces", (atoms, 3)), ("stress", None)):
        key = getattr(options, f"{role}_key") or role
        value, factors = _found(row, key, metadata, options, place)
        if value is None:
            continue
        used.add(key)
        if shape is None:
            values[role] = tensor(value, role, factors.stress)
        else:
            values[role] = labelled(value, role, shape, getattr(factors, role))
    if "energy" in values:
        values["energy"] = float(values["energy"])
    return Entry(
        numbers=numbers,
        positions=row.atoms["positions"] * length,
        cell=row.atoms["cell"] * length,
        periodic=row.atoms["pbc"],
        place=place,
        charges=labelled(row.columns.get("charges"), "charges", (atoms,), 1.0),
        dipole=labelled(row.columns.get("dipole"), "dipole", (3,), 1.0),
        charge=charge,
        multiplicity=multiplicity,
        name=name,
        kind=kind,
        group=group,
        frame=frame,
        level=agreed_level(None, options.level),
        **values,
    )


def _found(
    row: Row, key: str, metadata: Mapping[str, Any], options: ReadOptions, place: str
) -> tuple[Any, Scales]:
    """The value of a key and the factors for it."""
    if row.columns.get(key) is not None:
        return row.columns[key], scales(options, EV_ANGSTROM, place)
    if key not in row.own:
        return None, Scales(1.0, 1.0, 1.0, 1.0)
    units = metadata.get("_property_unit_dict")
    unit = str(units.get(key) or "") if isinstance(units, Mapping) else ""
    length = str(metadata.get("_distance_unit") or "angstrom")
    if unit.count("/") > unit.count("/mol"):
        energy, _, _ = unit.rpartition("/")
        stated = StatedUnits(energy, length, forces=unit)
    else:
        stated = StatedUnits(unit, length)
    return row.own[key], scales(options, stated, f"{place}, key '{key}'")


def atoms_of(numbers: Any, positions: Any, cell: Any, pbc: Any) -> dict[str, np.ndarray]:
    """Arrays of a row, with shapes that fit.

    Raises:
        BadInput: they do not.
    """
    try:
        found = {
            "numbers": np.array(numbers, dtype=np.int64).reshape(-1),
            "positions": np.array(positions, dtype=np.float64).reshape(-1, 3),
            "cell": np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64),
            "pbc": np.array(pbc, dtype=bool).reshape(-1),
        }
        found["cell"] = found["cell"].reshape(3, 3)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"its atoms cannot be read ({str(error)[:100]}).") from error
    atoms = len(found["numbers"])
    if not atoms or len(found["positions"]) != atoms or len(found["pbc"]) != 3:
        raise BadInput(
            f"{atoms} elements, {len(found['positions'])} positions, {len(found['pbc'])} periodic "
            "flags do not fit together."
        )
    return found


def decoded(value: Any, buffer: bytes | None = None) -> Any:
    """JSON of ASE with its marked arrays made arrays of numbers; other marks stay dictionaries.

    Args:
        buffer: the blob that arrays of ``data`` point into; without it they hold their numbers.

    Raises:
        BadInput: an array that does not fit its shape.
    """
    if isinstance(value, list):
        return [decoded(item, buffer) for item in value]
    if not isinstance(value, dict):
        return value
    if "__ndarray__" in value:
        return _array(value["__ndarray__"], buffer)
    if value.get("__ase_objtype__") == "cell":
        return decoded(value.get("array"), buffer)
    return {key: decoded(item, buffer) for key, item in value.items()}


def _array(parts: Any, buffer: bytes | None) -> np.ndarray:
    try:
        shape, name, content = parts
        dtype = np.dtype(str(name))
        if dtype.kind not in "biuf" or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"dtype {name} and shape {shape} are no numbers")
        count = 1
        for side in shape:
            count *= side
        if buffer is None:
            array = np.array(content, dtype=dtype)
        else:
            array = np.frombuffer(buffer, dtype.newbyteorder("<"), count, content)
        return array.reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"an array of it cannot be read ({str(error)[:100]}).") from error
