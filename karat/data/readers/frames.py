"""From a `Frame` (what a file says of one structure) to an `Entry`.

Checked: tests/data/readers/test_extended_xyz_reader.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.origins import Origins
from karat.data.readers.scales import EV_ANGSTROM, Scales, StatedUnits, scales
from karat.structures.extended_xyz import Frame, topology_of, whole_number
from karat.structures.geometry_files import file_format
from karat.structures.labels import LevelOfTheory
from karat.structures.topology import Topology

_LEVEL_KEYS = {"method", "basis", "dispersion", "program"}


def stem(path: Path) -> str:
    """The file's name without ``.gz`` and its suffix."""
    return path.name.removesuffix(".gz").removesuffix(file_format(path)) or path.name


def entries_of_frames(
    path: Path,
    frames: Iterable[tuple[Frame, Topology | None]],
    options: ReadOptions,
    stated: StatedUnits = EV_ANGSTROM,
) -> Iterator[Entry]:
    """Entries of frames in the units stated (or in what the options name).

    Raises:
        BadInput: the file's place, the frame and what is wrong; a key named in the options
            that no frame has.
    """
    factors = scales(options, stated, str(path))
    origins = Origins(stem(path))
    named = [key for key in _named_keys(options) if key]
    found: set[str] = set()
    for index, (frame, topology) in enumerate(frames):
        place = f"{path}, frame {index}"
        if len(found) < len(named):
            found.update(key for key in named if key in frame.arrays or key in frame.info)
        try:
            yield _entry(frame, topology, options, factors, origins, place)
        except BadInput as error:
            raise BadInput(f"{place}: {error}") from error
    missing = [key for key in named if key not in found]
    if missing:
        raise BadInput(f"{path}: no frame has the key '{missing[0]}'. Check the names of its keys.")


def _named_keys(options: ReadOptions) -> tuple[str | None, ...]:
    return options.energy_key, options.forces_key, options.stress_key, options.virial_key


def _entry(
    frame: Frame,
    topology: Topology | None,
    options: ReadOptions,
    factors: Scales,
    origins: Origins,
    place: str,
) -> Entry:
    info = frame.info
    atoms = len(frame.numbers)
    kind = str(info.get("config_type", ""))
    charge = whole_number(info.get("charge"), "charge") or 0
    multiplicity = whole_number(info.get("multiplicity"), "multiplicity")
    if multiplicity is not None and multiplicity < 1:
        raise BadInput(f"multiplicity is {multiplicity}, needs 1 or more.")
    name, group, number = origins.next(
        frame.numbers,
        charge,
        kind,
        str(info["name"]) if "name" in info else None,
        str(info["group"]) if "group" in info else None,
        whole_number(info.get("frame"), "frame"),
    )
    energy = labelled(find(frame, "energy", options.energy_key), "energy", (), factors.energy)
    return Entry(
        numbers=frame.numbers,
        positions=frame.positions * factors.length,
        cell=frame.cell * factors.length,
        periodic=frame.periodic,
        place=place,
        energy=None if energy is None else float(energy),
        forces=labelled(
            find(frame, "forces", options.forces_key), "forces", (atoms, 3), factors.forces
        ),
        stress=_stress(frame, options, factors),
        charges=labelled(find(frame, "charges", None), "charges", (atoms,), 1.0),
        dipole=labelled(find(frame, "dipole", None), "dipole", (3,), 1.0),
        charge=charge,
        multiplicity=multiplicity,
        topology=topology or topology_of(info.get("topology")),
        name=name,
        kind=kind,
        group=group,
        frame=number,
        level=agreed_level(level_of(info.get("level")), options.level),
    )


def find(frame: Frame, name: str, own_key: str | None) -> Any:
    """The value under the user's key, else under ``REF_name``, else under ``name``, or `None`."""
    for key in (own_key,) if own_key else (f"REF_{name}", name):
        for place in (frame.arrays, frame.info):
            if key in place:
                return place[key]
    return None


def labelled(value: Any, name: str, shape: tuple[int, ...], factor: float) -> np.ndarray | None:
    """Numbers of that shape times the factor, NaN allowed; `None` stays.

    Raises:
        BadInput: not numbers, or another shape.
    """
    if value is None:
        return None
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name} is {str(value)[:60]!r}, needs numbers.") from error
    if shape == () and array.size != 1:
        raise BadInput(f"{name} has {array.size} values, needs one.")
    if shape == ():
        array = array.reshape(())
    if array.shape != shape:
        raise BadInput(f"{name} has shape {array.shape}, needs {shape}.")
    return np.asarray(array * factor) if factor != 1.0 else array


def _stress(frame: Frame, options: ReadOptions, factors: Scales) -> np.ndarray | None:
    """(3, 3) eV/Å³, tension positive; from a virial (−V σ) where there is no stress."""
    value = None
    if options.stress_key or not options.virial_key:
        value = find(frame, "stress", options.stress_key)
    if value is not None:
        return tensor(value, "stress", factors.stress)
    virial = find(frame, "virial", options.virial_key)
    if virial is None:
        return None
    cell = frame.cell * factors.length
    return stress_of_virial(tensor(virial, "virial", factors.energy), cell, frame.periodic)


def tensor(value: Any, name: str, factor: float) -> np.ndarray:
    """(3, 3) of nine numbers or of six in the order xx yy zz yz xz xy, times the factor.

    Raises:
        BadInput: not six or nine numbers.
    """
    array = labelled(value, name, np.shape(value), factor)
    if array is not None and array.size == 6:
        xx, yy, zz, yz, xz, xy = array.ravel()
        array = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if array is None or array.size != 9:
        size = 0 if array is None else array.size
        raise BadInput(f"{name} has {size} numbers, needs 9 or 6.")
    return array.reshape(3, 3)


def stress_of_virial(virial: np.ndarray, cell: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """−virial/V in eV/Å³ from eV and Å.

    Raises:
        BadInput: the cell has no volume.
    """
    if not periodic.all():
        raise BadInput("has a virial but is not periodic in three directions.")
    with np.errstate(all="ignore"):
        volume = float(abs(np.linalg.det(cell)))
    if not 0.0 < volume < np.inf:
        raise BadInput("has a virial but its cell has no volume.")
    return virial / -volume


def level_of(value: Any) -> LevelOfTheory | None:
    """The level that karat wrote into a file, or `None` for anything that is no mapping.

    Raises:
        BadInput: a mapping that is no level.
    """
    if not isinstance(value, Mapping):
        return None
    settings = value.get("settings", {})
    good = (
        isinstance(value.get("method"), str)
        and set(value) <= _LEVEL_KEYS | {"settings"}
        and all(isinstance(text, str) for key, text in value.items() if key != "settings")
        and isinstance(settings, Mapping)
        and all(isinstance(word, str) for pair in settings.items() for word in pair)
    )
    if not good:
        raise BadInput(f"level is {str(value)[:80]}.")
    return LevelOfTheory.from_dict(value)


def agreed_level(
    written: LevelOfTheory | None, given: LevelOfTheory | None
) -> LevelOfTheory | None:
    """What the file states, else what the user states.

    Raises:
        BadInput: they contradict each other.
    """
    if given is None or written is None or written.method.lower() == "unknown":
        return given or written
    if not given.same_as(written):
        raise BadInput(
            f"was labelled with {written.label}, but {given.label} was named. "
            "Leave the level out, or name the right file."
        )
    return written
