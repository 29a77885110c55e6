"""Labelled datasets and named structures from files, and back.

Units of the files: eV, eV/Å, stress in eV/Å³ with tension positive, virial in eV (−V σ).
Checked: tests/data/test_files.py.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.data.dataset import Dataset, Record
from karat.structures.extended_xyz import Frame
from karat.structures.geometry_files import file_format, structures_and_frames
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

FORMATS_WITHOUT_LABELS = (".sdf", ".sd", ".mol", ".pdb", ".ent", ".cif", ".mol2")


@dataclass(frozen=True, eq=False)
class NamedStructure:
    """A structure with what a `Record` keeps about its origin."""

    structure: Structure
    name: str
    kind: str
    group: str
    frame: int


def read_structures(path: Path | str) -> list[NamedStructure]:
    """Every structure of a file (extended XYZ, SDF, PDB, anything ASE reads; also .gz).

    Names, kinds (`config_type`), groups and frames are the file's own where it says them. Else a
    name is ``file:number``, and structures of one file with the same atoms in the same order
    (and the same kind) are taken for one trajectory: they share a group and count its frames.

    Raises:
        BadInput: missing, empty or unreadable, with the frame (counted from 0).
    """
    return [item for item, _ in _named(Path(path))]


def read_dataset(
    path: Path | str,
    level: LevelOfTheory | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
) -> Dataset:
    """A labelled dataset from one file.

    Labels are read from `REF_energy`, `REF_forces`, `REF_stress` (`REF_virial`), else from
    `energy`, `forces`, `stress` (`virial`), else from the keys given. Stress may have nine numbers
    or six (xx yy zz yz xz xy). The level of theory is the argument's, else what karat wrote
    into the file, else `unknown`.

    Raises:
        BadInput: missing or empty file, a frame without any label, NaN, shapes that do not
            fit, two levels of theory in one file, or a level other than the file's; with the
            frame's number (counted from 0).
    """
    path = Path(path)
    named = _named(path)
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key}
    if not any(_has_labels(frame, keys) for _, frame in named):
        asked = ", ".join(key for key in keys.values() if key)
        raise BadInput(
            f"{path}: none of its {len(named)} structures has labels "
            f"({asked or 'REF_energy, REF_forces, energy, forces'}). "
            f"Compute them first: karat label {path} --engine gfn2_xtb -o labelled.xyz"
        )
    records = []
    for index, (item, frame) in enumerate(named):
        labels = _labels(frame, item.structure, keys, f"{path}, frame {index}")
        records.append(Record(item.structure, labels, item.name, item.kind, item.group, item.frame))
    return Dataset(tuple(records), _level(path, [frame for _, frame in named], level))


def _named(path: Path) -> list[tuple[NamedStructure, Frame]]:
    readable_file(path, "structure file")
    pairs = list(structures_and_frames(path))
    if not pairs:
        raise BadInput(f"{path}: holds no structure.")
    stem = path.name.removesuffix(".gz").removesuffix(file_format(path)) or path.name
    kinds = [str(frame.info.get("config_type", "")) for _, frame in pairs]
    groups = _groups(stem, [structure for structure, _ in pairs], kinds)
    counts: Counter[str] = Counter()
    names: Counter[str] = Counter()
    found = []
    for index, ((structure, frame), kind, own) in enumerate(zip(pairs, kinds, groups)):
        group = str(frame.info.get("group", own))
        number = int(frame.info.get("frame", counts[group]))
        counts[group] += 1
        name = str(frame.info.get("name", f"{stem}:{index}"))
        names[name] += 1
        if names[name] > 1:
            name = f"{name}#{names[name]}"
        found.append((NamedStructure(structure, name, kind, group, number), frame))
    return found


def _groups(stem: str, structures: list[Structure], kinds: list[str]) -> list[str]:
    """One group per run of alike structures; the file's name alone where all are alike."""
    alike = [
        (kind, structure.numbers.tobytes(), structure.charge)
        for kind, structure in zip(kinds, structures)
    ]
    if len(set(alike)) == 1:
        return [stem] * len(structures)
    labels: dict[tuple, str] = {}
    for key, structure in zip(alike, structures):
        if key not in labels:
            words = "/".join(word for word in (stem, key[0], structure.formula) if word)
            taken = sum(
                label == words or label.startswith(f"{words} (") for label in labels.values()
            )
            labels[key] = f"{words} ({taken + 1})" if taken else words
    return [labels[key] for key in alike]


def _find(frame: Frame, name: str, own_key: str | None) -> Any:
    """The value under the user's key, `REF_name` or `name`, or `None`."""
    for key in (own_key,) if own_key else (f"REF_{name}", name):
        for place in (frame.arrays, frame.info):
            if key in place:
                return place[key]
    return None


def _has_labels(frame: Frame, keys: Mapping[str, str | None]) -> bool:
    return any(_find(frame, name, keys[name]) is not None for name in ("energy", "forces"))


def _labels(
    frame: Frame, structure: Structure, keys: Mapping[str, str | None], place: str
) -> Labels:
    if not _has_labels(frame, keys):
        raise BadInput(
            f"{place}: has neither energy nor forces, as other frames of the file do. "
            "Remove this structure or label it."
        )
    values = {name: _find(frame, name, keys.get(name)) for name in ("energy", "forces")}
    values["charges"] = _find(frame, "charges", "REF_charges")
    values["dipole"] = _find(frame, "dipole", "REF_dipole")
    numbers: dict[str, np.ndarray] = {}
    for name, value in values.items():
        if value is not None:
            numbers[name] = _numbers(value, name, place)
    if "energy" in numbers and numbers["energy"].size != 1:
        raise BadInput(f"{place}: energy has {numbers['energy'].size} values, needs one.")
    for name, shape in (("forces", (len(structure), 3)), ("charges", (len(structure),))):
        if name in numbers and numbers[name].shape != shape:
            raise BadInput(f"{place}: {name} has shape {numbers[name].shape}, needs {shape}.")
    return Labels(
        energy=float(numbers["energy"].item()) if "energy" in numbers else None,
        forces=numbers.get("forces"),
        stress=_stress(frame, structure, keys["stress"], place),
        charges=numbers.get("charges"),
        dipole=numbers.get("dipole"),
    )


def _numbers(value: Any, name: str, place: str) -> np.ndarray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{place}: {name} is {value!r}, needs numbers.") from error
    if not np.isfinite(array).all():
        raise BadInput(
            f"{place}: {name} holds NaN or infinity. Label this structure again or remove it."
        )
    return array


def _stress(frame: Frame, structure: Structure, key: str | None, place: str) -> np.ndarray | None:
    """(3, 3) eV/Å³, tension positive; from a virial (eV, −V σ) where there is no stress."""
    value, scale, name = _find(frame, "stress", key), 1.0, "stress"
    if value is None:
        value, name = _find(frame, "virial", None), "virial"
        if value is None:
            return None
        if not structure.periodic.all():
            raise BadInput(f"{place}: has a virial but is not periodic in three directions.")
        scale = -1.0 / structure.volume
    array = _numbers(value, name, place)
    if array.size == 6:
        xx, yy, zz, yz, xz, xy = array.ravel()
        array = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if array.size != 9:
        raise BadInput(f"{place}: {name} has {array.size} numbers, needs 9 or 6.")
    array = array.reshape(3, 3)
    # rounded files and codes leave 1e-4 of the largest component between xy and yx
    if np.abs(array - array.T).max() > 1e-3 * max(np.abs(array).max(), 1e-6):
        raise BadInput(f"{place}: {name} is not symmetric: {array.tolist()}.")
    if (array != array.T).any():
        array = (array + array.T) / 2
    return array if name == "stress" else array * scale


def _level(path: Path, frames: list[Frame], given: LevelOfTheory | None) -> LevelOfTheory:
    own: dict[str, LevelOfTheory] = {}
    for index, frame in enumerate(frames):
        values = frame.info.get("level")
        if isinstance(values, Mapping):
            try:
                level = LevelOfTheory.from_dict(values)
            except TypeError as error:
                raise BadInput(f"{path}, frame {index}: level is {values!r}.") from error
            own.setdefault(level.digest, level)
    if len(own) > 1:
        labels = ", ".join(sorted(level.label for level in own.values()))
        raise BadInput(
            f"{path}: holds labels of {len(own)} levels of theory ({labels}), which are never "
            "mixed. Write one file for each."
        )
    written = next(iter(own.values()), None)
    if given is None:
        return written or LevelOfTheory(method="unknown")
    if written is not None and not given.same_as(written):
        raise BadInput(
            f"{path}: was labelled with {written.label}, but {given.label} was named. "
            "Leave the level out, or name the right file."
        )
    return given if written is None else written


_SAFE_WORD = re.compile(r"[A-Za-z_][\w.:/+-]*")
_KEYWORDS = {"t", "f", "true", "false", "nan", "inf", "infinity"}


def write_dataset(dataset: Dataset, path: Path | str) -> None:
    """Write extended XYZ (gzip where the name ends in .gz) that `read_dataset` reads bit by bit.

    Every float has its shortest exact form. Name, kind (`config_type`), group, frame, charge,
    multiplicity, topology and level of theory go into the comment line. Uncertainties are not
    written: they are a model's, not a reference's.
    """
    import gzip

    from karat.core.files import write_atomic

    text = "".join(_record_text(record, dataset.level) for record in dataset)
    content = text.encode()
    path = Path(path)
    write_atomic(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _record_text(record: Record, level: LevelOfTheory) -> str:
    structure, labels = record.structure, record.labels
    columns: list[np.ndarray] = [structure.positions]
    properties = "species:S:1:pos:R:3"
    if labels.forces is not None:
        columns.append(labels.forces)
        properties += ":REF_forces:R:3"
    if labels.charges is not None:
        columns.append(labels.charges[:, None])
        properties += ":REF_charges:R:1"
    words = []
    if structure.cell.any():
        words.append(f'Lattice="{_floats(structure.cell)}"')
    words.append(f"Properties={properties}")
    words.append('pbc="{}"'.format(" ".join("T" if flag else "F" for flag in structure.periodic)))
    if labels.energy is not None:
        words.append(f"REF_energy={labels.energy!r}")
    if labels.stress is not None:
        words.append(f'REF_stress="{_floats(labels.stress)}"')
    if labels.dipole is not None:
        words.append(f'REF_dipole="{_floats(labels.dipole)}"')
    words.append(f"charge={structure.charge}")
    if structure.multiplicity is not None:
        words.append(f"multiplicity={structure.multiplicity}")
    for key, text in (
        ("config_type", record.kind),
        ("name", record.name),
        ("group", record.group),
    ):
        words.append(f"{key}={_word(text)}")
    words.append(f"frame={record.frame}")
    words.append(f"level={_json(level.as_dict())}")
    if structure.topology is not None:
        topology = structure.topology
        words.append(
            "topology="
            + _json(
                {
                    "bonds": topology.bonds.ravel().tolist(),
                    "orders": topology.orders.tolist(),
                    "formal_charges": topology.formal_charges.tolist(),
                    "residues": list(topology.residues),
                    "smiles": topology.smiles,
                }
            )
        )
    table = np.concatenate(columns, axis=1).tolist()
    rows = [f"{symbol} {' '.join(map(repr, row))}" for symbol, row in zip(structure.symbols, table)]
    return "\n".join([str(len(structure)), " ".join(words), *rows]) + "\n"


def _floats(array: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in array.ravel())


def _word(text: str) -> str:
    """`text` so that readers keep it text: as it is where safe, else as JSON."""
    safe = _SAFE_WORD.fullmatch(text) and text.lower() not in _KEYWORDS
    return text if safe else _json(text)


def _json(value: Any) -> str:
    """ASE's spelling of JSON in a comment line: quoted, with backslashes and quotes escaped."""
    from karat.core.hashing import canonical_json

    escaped = canonical_json(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"_JSON {escaped}"'
