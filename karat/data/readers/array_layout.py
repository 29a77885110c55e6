"""Entries of arrays side by side, as MD17, rMD17, sGDML and QM9 come, in npz or HDF5.

Three layouts: one molecule (numbers ``(atoms,)``, positions ``(frames, atoms, 3)``); molecules
padded with element 0 (numbers ``(frames, atoms)``); molecules end to end (numbers ``(all,)``,
positions ``(all, 3)``, atoms of each molecule in `N`). The last two have no time: frame is −1.

Source: Chmiela et al., Sci. Adv. 3, e1603015 (2017); Christensen and von Lilienfeld, Mach.
Learn.: Sci. Technol. 1, 045018 (2020); Ramakrishnan et al., Sci. Data 1, 140022 (2014).
Checked: tests/data/readers/test_npz.py, test_hdf5_published.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karat.core.errors import BadInput, suggestion
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.frames import agreed_level, stem
from karat.data.readers.origins import Origins
from karat.data.readers.rows import Rows, floats, integers, pieces, row_of
from karat.data.readers.scales import NO_UNITS, Scales, StatedUnits, scales
from karat.structures.labels import LevelOfTheory

NUMBERS = ("z", "nuclear_charges", "atomic_numbers", "numbers", "Z", "charges")
POSITIONS = ("R", "coords", "coordinates", "positions", "conformations")
ENERGY = ("E", "energies", "energy", "U0")
THERMOCHEMISTRY = ("U", "H", "G")
FORCES = ("F", "forces", "force")
COUNTS = ("N", "num_atoms", "n_atoms")
FRAMES = ("old_indices",)
HINT = (
    "The published files: MD17 and rMD17 kcal/mol and angstrom; QM9 hartree (some copies eV) and "
    "angstrom; ANI-1x hartree and angstrom."
)
MAX_ATOMS = 10**6


@dataclass(frozen=True)
class Stated:
    """What a file says about all its structures.

    Attributes:
        units: of its numbers.
        level: of theory.
        cell: Å or the file's unit of length, rows; `None` where there is none.
    """

    units: StatedUnits = NO_UNITS
    level: LevelOfTheory | None = None
    cell: np.ndarray | None = None


def is_array_layout(names: Mapping[str, object]) -> bool:
    """Whether elements and positions are among the names."""
    return any(name in names for name in NUMBERS) and any(name in names for name in POSITIONS)


def entries_of_arrays(
    path: Path, arrays: Mapping[str, Rows], options: ReadOptions, stated: Stated
) -> Iterator[Entry]:
    """Entries in eV and Å.

    Raises:
        BadInput: shapes that do not fit, no unit, or a key that is not there.
    """
    numbers = _one_of(path, arrays, NUMBERS, "elements")
    positions = _one_of(path, arrays, POSITIONS, "positions")
    roles = {"positions": positions} | _labels(path, arrays, options)
    factors = scales(options, stated.units, str(path), HINT)
    frames = [arrays[name] for name in FRAMES if name in arrays]
    if frames and positions.shape[:1] == frames[0].shape[:1] and len(frames[0].shape) == 1:
        roles["frame"] = frames[0]
    shape, kind = positions.shape, numbers.shape
    if len(shape) == 3 and shape[2] == 3 and kind == (shape[1],) and shape[1]:
        fixed = integers(numbers.take(shape[1]), numbers.name)
        rows = _fixed(fixed, roles)
    elif len(shape) == 3 and shape[2] == 3 and kind == shape[:2]:
        rows = _padded(roles | {"numbers": numbers})
    elif len(shape) == 2 and shape[1] == 3 and kind == shape[:1]:
        counts = _one_of(path, arrays, COUNTS, "numbers of atoms of each molecule")
        rows = _end_to_end(roles, numbers, counts)
    else:
        raise BadInput(
            f"{path}: positions '{positions.name}' have shape {shape} and elements "
            f"'{numbers.name}' {kind}; needs (frames, atoms, 3) with (atoms) or (frames, atoms), "
            "or (all, 3) with (all)."
        )
    yield from _entries(path, rows, factors, stated, options)


def _one_of(path: Path, arrays: Mapping[str, Rows], names: tuple[str, ...], what: str) -> Rows:
    for name in names:
        if name in arrays:
            return arrays[name]
    raise BadInput(
        f"{path}: has no {what} (one of {', '.join(names)}); it holds "
        f"{', '.join(sorted(arrays)[:12]) or 'nothing'}."
    )


def _labels(path: Path, arrays: Mapping[str, Rows], options: ReadOptions) -> dict[str, Rows]:
    if options.stress_key or options.virial_key:
        raise BadInput(f"{path}: karat reads no stress or virial in this layout.")
    energies = [name for name in ENERGY if name in arrays]
    if "U0" in energies:
        energies += [name for name in THERMOCHEMISTRY if name in arrays]
    found = {}
    for role, key, candidates in (
        ("energy", options.energy_key, energies),
        ("forces", options.forces_key, [name for name in FORCES if name in arrays]),
    ):
        if key and key not in arrays:
            raise BadInput(f"{path}: has no array '{key}'; {suggestion(key, arrays)}")
        if key is None and len(candidates) > 1:
            raise BadInput(
                f"{path}: has {len(candidates)} kinds of {role} ({', '.join(candidates)}). Name "
                f"the one to read: --{role}-key {candidates[0]}."
            )
        if key is not None or candidates:
            found[role] = arrays[key or candidates[0]]
    return found


Row = tuple[np.ndarray, dict[str, np.ndarray]]


def _fixed(numbers: np.ndarray, roles: Mapping[str, Rows]) -> Iterator[Row]:
    for start, piece in pieces(roles["positions"].shape[0], roles):
        for index in range(len(piece["positions"])):
            yield numbers, {"frame": np.array(start + index)} | row_of(piece, index)


def _padded(roles: Mapping[str, Rows]) -> Iterator[Row]:
    for _, piece in pieces(roles["positions"].shape[0], roles):
        numbers = integers(piece.pop("numbers"), roles["numbers"].name)
        for index, row in enumerate(numbers):
            real = row != 0
            if not real.any():
                raise BadInput("a molecule without atoms (all its elements are 0).")
            values = row_of(piece, index)
            values.pop("frame", None)
            for role in ("positions", "forces"):
                if role in values:
                    if values[role].shape != (len(row), 3):
                        raise BadInput(f"{role} have shape {values[role].shape} in a frame.")
                    values[role] = values[role][real]
            yield row[real], values


def _end_to_end(roles: dict[str, Rows], numbers: Rows, counts: Rows) -> Iterator[Row]:
    each = {role: roles.pop(role) for role in ("positions", "forces") if role in roles}
    roles.pop("frame", None)
    left = numbers.shape[0]
    for _, piece in pieces(counts.shape[0] if counts.shape else 0, roles | {"counts": counts}):
        atoms = integers(piece.pop("counts"), counts.name)
        for index, count in enumerate(atoms.ravel().tolist()):
            if not 0 < count <= min(left, MAX_ATOMS):
                raise BadInput(f"array '{counts.name}': a molecule of {count} atoms, {left} left.")
            left -= count
            values = row_of(piece, index)
            values |= {role: rows.take(count) for role, rows in each.items()}
            yield integers(numbers.take(count), numbers.name), values
    if left:
        raise BadInput(f"array '{counts.name}': {left} atoms belong to no molecule.")


def _entries(
    path: Path, rows: Iterator[Row], factors: Scales, stated: Stated, options: ReadOptions
) -> Iterator[Entry]:
    origins = Origins(stem(path))
    level = agreed_level(stated.level, options.level)
    cell = np.zeros((3, 3)) if stated.cell is None else stated.cell * factors.length
    index = 0
    try:
        for index, (numbers, row) in enumerate(rows):
            frame = int(integers(row["frame"], "frame")) if "frame" in row else -1
            name, group, frame = origins.next(numbers, frame=frame)
            yield Entry(
                numbers=numbers,
                positions=floats(row["positions"], "positions") * factors.length,
                cell=cell.copy(),
                periodic=np.full(3, stated.cell is not None),
                place=f"{path}, frame {index}",
                energy=_energy(row, factors),
                forces=_forces(row, len(numbers), factors),
                name=name,
                group=group,
                frame=frame,
                level=level,
            )
    except BadInput as error:
        raise BadInput(f"{path}, after {index} frames: {error}") from error


def _energy(row: Mapping[str, np.ndarray], factors: Scales) -> float | None:
    if "energy" not in row:
        return None
    if row["energy"].size != 1:
        raise BadInput(f"energy has {row['energy'].size} values in a frame, needs one.")
    return float(floats(row["energy"], "energy").item()) * factors.energy


def _forces(row: Mapping[str, np.ndarray], atoms: int, factors: Scales) -> np.ndarray | None:
    if "forces" not in row:
        return None
    if row["forces"].shape != (atoms, 3):
        raise BadInput(f"forces have shape {row['forces'].shape} in a frame, need ({atoms}, 3).")
    return floats(row["forces"], "forces") * factors.forces
