"""HDF5 with a group for each molecule: ANI-1x, ANI-1, SPICE.

Each group holds elements ``(atoms,)`` and positions ``(frames, atoms, 3)`` of one molecule.
ANI-1x has a column of several levels of theory, with NaN where one was not computed; frames
without any label of the level that is read are left out. SPICE states units as attributes and
has gradients, not forces. There is no time: frame is −1.

Source: Smith et al., Sci. Data 7, 134 (2020); Eastman et al., Sci. Data 10, 11 (2023).
Checked: tests/data/readers/test_hdf5_published.py.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from karat.core.errors import BadInput, suggestion
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.array_layout import HINT, NUMBERS, POSITIONS
from karat.data.readers.frames import agreed_level, stem
from karat.data.readers.hdf5_guard import H5Rows, attribute, datasets_in, names_in, text_of
from karat.data.readers.rows import Rows, floats, integers, pieces
from karat.data.readers.scales import Scales, StatedUnits, scales
from karat.structures.extended_xyz import element_number
from karat.structures.labels import LevelOfTheory

if TYPE_CHECKING:
    import h5py

MAX_DEPTH = 4
ENERGIES = ("energy", "energies", "E", "dft_total_energy")
FORCES = ("forces", "force", "F")
GRADIENTS = ("dft_total_gradient", "gradient", "gradients")
LEVELS: Mapping[str, tuple[str, str]] = {
    "hf_dz": ("HF", "cc-pVDZ"),
    "hf_tz": ("HF", "cc-pVTZ"),
    "hf_qz": ("HF", "cc-pVQZ"),
    "wb97x_dz": ("wB97X", "6-31G(d)"),
    "wb97x_tz": ("wB97X", "def2-TZVPP"),
    "ccsd(t)_cbs": ("CCSD(T)", "CBS"),
}
"""Columns of ANI-1x → method and basis (Smith et al. 2020, table 1)."""
_CHARGE = re.compile(r"\[[^\]+-]*([+-]+)(\d*)(?::\d+)?\]")


@dataclass(frozen=True)
class _Keys:
    """Names of the label columns, chosen at the first group.

    Attributes:
        energy, forces: "" where there is none.
        sign: −1 where `forces` names a gradient.
        level: of theory, where the name says it.
    """

    energy: str
    forces: str
    sign: float
    level: LevelOfTheory | None


def plain_rows(datasets: Mapping[str, "h5py.Dataset"]) -> dict[str, Rows]:
    """Those data sets that hold plain numbers."""
    return {
        name: H5Rows(dataset)
        for name, dataset in datasets.items()
        if dataset.shape is not None and dataset.dtype.kind in "biuf"
    }


def stated_units(datasets: Mapping[str, "h5py.Dataset"], keys: tuple[str, ...] = ()) -> StatedUnits:
    """Units from the attribute `units` of positions, energies and forces (or of `keys`)."""
    found: dict[str, str] = {}
    for role, names in (
        ("length", POSITIONS),
        ("energy", (*keys, *ENERGIES)),
        ("forces", (*keys, *FORCES, *GRADIENTS)),
    ):
        for name in names:
            unit = attribute(datasets[name], "units") if name in datasets else ""
            if unit and (role == "forces") == (unit.count("/") > unit.count("/mol")):
                found.setdefault(role, unit)
    return StatedUnits(**found)


def entries_of_groups(path: Path, file: "h5py.File", options: ReadOptions) -> Iterator[Entry]:
    """Entries of every group that holds elements and positions, in eV and Å.

    Raises:
        BadInput: links, shapes that do not fit, several levels and none named, no unit.
    """
    if options.stress_key or options.virial_key:
        raise BadInput(f"{path}: karat reads no stress or virial in this layout.")
    keys: _Keys | None = None
    for group, datasets in _molecules(file, set(), 0):
        try:
            keys = keys or _chosen(datasets, options)
            units = stated_units(datasets, (keys.energy, keys.forces))
            factors = scales(options, units, f"{path}, group {group.name}", HINT)
            yield from _group(path, group, datasets, keys, factors, options)
        except BadInput as error:
            text = str(error)
            where = "" if str(path) in text else f"{path}, group {group.name}: "
            raise BadInput(f"{where}{text}") from error
    if keys is not None:
        for key in (options.energy_key, options.forces_key):
            if key and key not in (keys.energy, keys.forces):
                raise BadInput(f"{path}: no group has '{key}'.")


def _molecules(
    group: "h5py.Group", seen: set[int], depth: int
) -> Iterator[tuple["h5py.Group", dict[str, "h5py.Dataset"]]]:
    """Groups with elements and positions, each once, however often it is linked."""
    import h5py
    from h5py import h5o

    for name in names_in(group):
        if group.get(name, getclass=True) is not h5py.Group:
            continue
        child = group[name]
        address = h5o.get_info(child.id).addr
        if address in seen:
            continue
        seen.add(address)
        datasets = datasets_in(child)
        if any(key in datasets for key in POSITIONS):
            yield child, datasets
        elif depth < MAX_DEPTH:
            yield from _molecules(child, seen, depth + 1)


def _chosen(datasets: Mapping[str, "h5py.Dataset"], options: ReadOptions) -> _Keys:
    dotted = [name for name in datasets if name.endswith(".energy")]
    energies = [name for name in ENERGIES if name in datasets] + dotted
    for key in (options.energy_key, options.forces_key):
        if key is not None and key not in datasets:
            raise BadInput(f"has no data set '{key}'; {suggestion(key, datasets)}")
    if options.energy_key is None and options.forces_key is None and len(energies) > 1:
        raise BadInput(
            f"has energies of {len(energies)} levels ({', '.join(energies)}). Name the one to "
            f"read: --energy-key {energies[0]}"
        )
    energy = options.energy_key or (energies[0] if len(energies) == 1 else "")
    prefix = energy.removesuffix(".energy") if energy.endswith(".energy") else ""
    if options.forces_key:
        forces = options.forces_key
    else:
        candidates = [f"{prefix}.forces"] if prefix else [*FORCES, *GRADIENTS]
        forces = next((name for name in candidates if name in datasets), "")
    method, basis = LEVELS.get(prefix, (prefix, ""))
    return _Keys(
        energy,
        forces,
        -1.0 if "gradient" in forces else 1.0,
        LevelOfTheory(method, basis) if method else None,
    )


def _group(
    path: Path,
    group: "h5py.Group",
    datasets: Mapping[str, "h5py.Dataset"],
    keys: _Keys,
    factors: Scales,
    options: ReadOptions,
) -> Iterator[Entry]:
    numbers = _elements(datasets)
    positions = H5Rows(next(datasets[name] for name in POSITIONS if name in datasets))
    atoms = len(numbers)
    if positions.shape[1:] != (atoms, 3) or not atoms:
        raise BadInput(f"positions have shape {positions.shape} for {atoms} elements.")
    roles: dict[str, Rows] = {"positions": positions}
    for role, key in (("energy", keys.energy), ("forces", keys.forces)):
        if key in datasets:
            roles[role] = H5Rows(datasets[key])
    texts = {name: _first(datasets, name) for name in ("smiles", "subset")}
    level = agreed_level(keys.level, options.level)
    label = str(group.name).strip("/")
    for start, piece in pieces(positions.shape[0], roles):
        for index in range(len(piece["positions"])):
            energy, forces = _labels(piece, index, atoms, keys, factors)
            if (keys.energy or keys.forces) and energy is None and forces is None:
                continue
            yield Entry(
                numbers=numbers,
                positions=floats(piece["positions"][index], "positions") * factors.length,
                cell=np.zeros((3, 3)),
                periodic=np.zeros(3, bool),
                place=f"{path}, {label} frame {start + index}",
                energy=energy,
                forces=forces,
                charge=charge_of(texts["smiles"]),
                name=f"{stem(path)}/{label}:{start + index}",
                kind=texts["subset"],
                group=f"{stem(path)}/{label}",
                level=level,
            )


def _elements(datasets: Mapping[str, "h5py.Dataset"]) -> np.ndarray:
    for name in (*NUMBERS, "species"):
        if name in datasets:
            dataset = datasets[name]
            if dataset.dtype.kind in "SO":
                words = [element_number(word) for word in text_of(dataset)]
                return np.array(words, dtype=np.int64)
            rows = H5Rows(dataset)
            if len(rows.shape) != 1 or rows.shape[0] > 10**6:
                raise BadInput(f"elements '{name}' have shape {rows.shape}, need (atoms).")
            return integers(rows.take(rows.shape[0]), name)
    raise BadInput(f"has positions but no elements (one of {', '.join(NUMBERS)}, species).")


def _labels(
    piece: Mapping[str, np.ndarray], index: int, atoms: int, keys: _Keys, factors: Scales
) -> tuple[float | None, np.ndarray | None]:
    """Energy and forces; `None` where the file has NaN for "not computed"."""
    energy, forces = None, None
    if "energy" in piece:
        value = floats(np.asarray(piece["energy"][index]), "energy")
        if value.size != 1:
            raise BadInput(f"energy has {value.size} values in a frame, needs one.")
        energy = None if np.isnan(value).all() else float(value.item()) * factors.energy
    if "forces" in piece:
        values = floats(piece["forces"][index], "forces")
        if values.shape != (atoms, 3):
            raise BadInput(f"forces have shape {values.shape} in a frame, need ({atoms}, 3).")
        forces = None if np.isnan(values).all() else values * (keys.sign * factors.forces)
    return energy, forces


def _first(datasets: Mapping[str, "h5py.Dataset"], name: str) -> str:
    if name not in datasets or datasets[name].dtype.kind not in "SO":
        return ""
    texts = text_of(datasets[name])
    return texts[0] if texts else ""


def charge_of(smiles: str) -> int:
    """Sum of the formal charges of a SMILES string, in e."""
    total = 0
    for signs, digits in _CHARGE.findall(smiles):
        size = int(digits[:3]) if digits else len(signs)
        total += size if signs[0] == "+" else -size
    return total
