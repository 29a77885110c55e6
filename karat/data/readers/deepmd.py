"""DeePMD folders: ``type.raw``, ``type_map.raw``, ``nopbc``, ``set.*/*.npy``; mixed types too.

Units by the format: eV, Å. Virial in eV, −V σ. Folders of such folders are read one after
another; each is a group, frames count through its sets in order.

Source: DeePMD-kit's documentation, "System" and "Data conversion" (units, order of box and
virial); the sign as in dpdata, which stores the virial of an ASE calculation as −V σ.
Checked: tests/data/readers/test_deepmd.py.
"""

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.frames import stress_of_virial
from karat.data.readers.guard import reading
from karat.data.readers.rows import NpyRows, Rows, floats, integers, pieces, row_of
from karat.data.readers.scales import EV_ANGSTROM, Scales, scales
from karat.structures.extended_xyz import element_number

MAX_TEXT = 2**26
"""Bytes of type.raw and type_map.raw."""
_LABELS = {"energy": "energy.npy", "forces": "force.npy", "virial": "virial.npy"}
_OTHERS = {"positions": "coord.npy", "box": "box.npy", "types": "real_atom_types.npy"}


def systems_in(folder: Path) -> list[Path]:
    """The folder itself or those under it that hold a ``type.raw``, in order."""
    return sorted(file.parent for file in folder.rglob("type.raw") if file.is_file())


def read_deepmd(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Every frame of every system of the folder.

    Raises:
        BadInput: files that are missing or do not fit together, atom types without a name.
    """
    factors = scales(options, EV_ANGSTROM, str(path))
    labels = dict(_LABELS)
    for role, key in (
        ("energy", options.energy_key),
        ("forces", options.forces_key),
        ("virial", options.virial_key),
    ):
        if key is not None:
            labels[role] = key if key.endswith(".npy") else f"{key}.npy"
    if options.stress_key is not None:
        raise BadInput(f"{path}: DeePMD folders hold a virial, not a stress. Use --virial-key.")
    if any(Path(name).name != name for name in labels.values()):
        raise BadInput(f"{path}: a key must be the name of a file in set.*: energy, force, …")
    for system in systems_in(path):
        with reading(system, "DeePMD folder"):
            label = "/".join((path.resolve().name, *system.relative_to(path).parts))
            yield from _system(system, label, labels, factors, options)


def _system(
    folder: Path, group: str, labels: dict[str, str], factors: Scales, options: ReadOptions
) -> Iterator[Entry]:
    types, elements = _types(folder), _elements(folder)
    periodic = not (folder / "nopbc").exists()
    sets = sorted(item for item in folder.glob("set.*") if item.is_dir())
    if not sets:
        raise BadInput(f"{folder}: has no folder set.000. Raw text must be converted to npy first.")
    for role, name in labels.items():
        own = name != _LABELS[role]
        if own and not any((item / name).is_file() for item in sets):
            raise BadInput(f"{folder}: no set holds '{name}'.")
    frame = 0
    for item in sets:
        with ExitStack() as stack:
            arrays = _arrays(item, stack, labels, periodic)
            count = arrays["positions"].shape[0]
            for start, piece in pieces(count, arrays):
                for index in range(len(piece["positions"])):
                    row = row_of(piece, index)
                    place = f"{item}, frame {start + index}"
                    try:
                        entry = _entry(row, types, elements, periodic, factors, place)
                    except BadInput as error:
                        raise BadInput(f"{place}: {error}") from error
                    yield _named(entry, group, frame, options)
                    frame += 1


def _arrays(
    folder: Path, stack: ExitStack, labels: dict[str, str], periodic: bool
) -> dict[str, Rows]:
    arrays: dict[str, Rows] = {}
    for role, name in (_OTHERS | labels).items():
        file = folder / name
        if role == "box" and not periodic:
            continue
        if not file.is_file():
            if role in ("positions", "box"):
                raise BadInput(
                    f"{file}: is missing. Periodic systems need it, others a file nopbc."
                )
            continue
        stream: io.BufferedIOBase = stack.enter_context(file.open("rb"))
        arrays[role] = NpyRows(stream, str(file), file.stat().st_size)
    return arrays


def _entry(
    row: dict[str, np.ndarray],
    types: np.ndarray,
    elements: np.ndarray,
    periodic: bool,
    factors: Scales,
    place: str,
) -> Entry:
    own = integers(row["types"], "real_atom_types").ravel() if "types" in row else types
    atoms = len(own)
    # mixed types: virtual atoms, which fill the array up, have type -1
    real = own >= 0 if "types" in row else np.ones(atoms, bool)
    if own[real].size == 0 or own[real].min() < 0 or own[real].max() >= len(elements):
        raise BadInput(f"atom types {np.unique(own).tolist()[:8]} are not all in type_map.raw.")
    cell = np.zeros((3, 3))
    if periodic:
        cell = _shaped(row["box"], (3, 3), "box") * factors.length
    flags = np.full(3, periodic)
    stress = None
    if "virial" in row:
        virial = _shaped(row["virial"], (3, 3), "virial") * factors.energy
        stress = stress_of_virial(virial, cell, flags)
    forces = None
    if "forces" in row:
        forces = _shaped(row["forces"], (atoms, 3), "force")[real] * factors.forces
    energy = None
    if "energy" in row:
        energy = float(_shaped(row["energy"], (), "energy")) * factors.energy
    return Entry(
        numbers=elements[own[real]],
        positions=_shaped(row["positions"], (atoms, 3), "coord")[real] * factors.length,
        cell=cell,
        periodic=flags,
        place=place,
        energy=energy,
        forces=forces,
        stress=stress,
    )


def _named(entry: Entry, group: str, frame: int, options: ReadOptions) -> Entry:
    return replace(entry, name=f"{group}:{frame}", group=group, frame=frame, level=options.level)


def _shaped(values: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    if values.size != int(np.prod(shape)):
        raise BadInput(f"{name} has {values.size} numbers in a frame, needs {shape}.")
    return floats(values, name).reshape(shape)


def _words(file: Path) -> list[str]:
    if not file.is_file():
        raise BadInput(f"{file}: is missing; it says which atom is which element.")
    if file.stat().st_size > MAX_TEXT:
        raise BadInput(f"{file}: has more than {MAX_TEXT} bytes.")
    return file.read_text().split()


def _types(folder: Path) -> np.ndarray:
    words = _words(folder / "type.raw")
    if not words:
        raise BadInput(f"{folder / 'type.raw'}: is empty.")
    return np.array([int(word) for word in words], dtype=np.int64)


def _elements(folder: Path) -> np.ndarray:
    names = _words(folder / "type_map.raw")
    return np.array([element_number(name) for name in names], dtype=np.int64)
