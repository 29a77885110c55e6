"""karat's own HDF5 layout: arrays end to end, chunked, random access, every bit kept.

Per structure: `atoms_end`, `labels` (bits of `BITS`: which labels there are), `cell`,
`periodic`, `charge`, `multiplicity` (0: not stated), `frame`, `level` and `topology` (index, −1:
none), `origin_end`, `energy`, `stress`, `dipole`. Per atom: `numbers`, `positions`, `forces`,
`charges`. Texts as bytes of JSON: `origin` (name, kind, group of each structure, ending at
`origin_end`), `levels`, `topology_text` (ending at `topology_end`). eV, Å, e. A data set of
labels that no structure has is left out; rows of missing labels are 0.

Written by `karat.data.hdf5_writer`. Checked: tests/data/test_writers.py.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.frames import agreed_level, level_of
from karat.data.readers.hdf5_guard import H5Rows, datasets_in
from karat.structures.extended_xyz import topology_of
from karat.structures.labels import LevelOfTheory
from karat.structures.topology import Topology

if TYPE_CHECKING:
    import h5py

FORMAT: Final = "karat structures"
VERSION: Final = 1
BITS: Final = {"energy": 1, "forces": 2, "stress": 4, "charges": 8, "dipole": 16}
PER_STRUCTURE: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "atoms_end": ("<i8", ()),
    "labels": ("<u2", ()),
    "cell": ("<f8", (3, 3)),
    "periodic": ("u1", (3,)),
    "charge": ("<i8", ()),
    "multiplicity": ("<i8", ()),
    "frame": ("<i8", ()),
    "level": ("<i8", ()),
    "topology": ("<i8", ()),
    "origin_end": ("<i8", ()),
}
LABELS_PER_STRUCTURE: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "energy": ("<f8", ()),
    "stress": ("<f8", (3, 3)),
    "dipole": ("<f8", (3,)),
}
PER_ATOM: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "numbers": ("<i8", ()),
    "positions": ("<f8", (3,)),
}
LABELS_PER_ATOM: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "forces": ("<f8", (3,)),
    "charges": ("<f8", ()),
}
MAX_ATOMS: Final = 10**6
MAX_TEXT: Final = 2**26
_STRUCTURES = 4096
_ATOMS = 2**15


def entries_of_karat(path: Path, file: "h5py.File", options: ReadOptions) -> Iterator[Entry]:
    """Entries as they were written.

    Raises:
        BadInput: another version, parts that do not fit together, or options about keys and
            units, which this layout settles itself.
    """
    version = file.attrs.get("version")
    if version != VERSION:
        raise BadInput(f"{path}: has version {version!s:.20}, this karat reads {VERSION}.")
    asked = [name for name, value in vars(options).items() if value is not None and name != "level"]
    if asked:
        raise BadInput(
            f"{path}: karat wrote it in eV and Å with one label of each kind; leave "
            f"--{asked[0].replace('_', '-')} out."
        )
    yield from _Reading(path, file, options.level).entries()


class _Reading:
    """One pass through a file."""

    def __init__(self, path: Path, file: "h5py.File", level: LevelOfTheory | None) -> None:
        self.path = path
        self.given = level
        datasets = datasets_in(file)
        self.structures = self._table(datasets, PER_STRUCTURE, None, False)
        count = self.structures["atoms_end"].shape[0]
        self.structures |= self._table(datasets, LABELS_PER_STRUCTURE, count, True)
        self.atoms = self._table(datasets, PER_ATOM, None, False)
        total = self.atoms["positions"].shape[0]
        self.atoms |= self._table(datasets, LABELS_PER_ATOM, total, True)
        for table, size in ((self.structures, count), (self.atoms, total)):
            for name, rows in table.items():
                if rows.shape[0] != size:
                    raise BadInput(f"{path}: '{name}' has {rows.shape[0]} rows, needs {size}.")
        self.count, self.total = count, total
        self.origin = self._required(datasets, "origin", "u1", ())
        self.levels = self._levels(datasets)
        self.topology_end = np.zeros(0, np.int64)
        if "topology_end" in datasets:
            ends = self._required(datasets, "topology_end", "<i8", ())
            # one number each; read whole, as they are looked up in any order
            if ends.shape[0] > max(count, 1):
                raise BadInput(f"{path}: has more topologies than structures.")
            self.topology_end = ends.take(ends.shape[0])
            self._required(datasets, "topology_text", "u1", ())
            self.topology_text = datasets["topology_text"]
        self.topology = lru_cache(maxsize=256)(self._topology)

    def _table(
        self,
        datasets: Mapping[str, "h5py.Dataset"],
        layout: Mapping[str, tuple[str, tuple[int, ...]]],
        size: int | None,
        optional: bool,
    ) -> dict[str, H5Rows]:
        return {
            name: self._required(datasets, name, dtype, shape, sparse=optional)
            for name, (dtype, shape) in layout.items()
            if name in datasets or not optional
        }

    def _required(
        self,
        datasets: Mapping[str, "h5py.Dataset"],
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        sparse: bool = False,
    ) -> H5Rows:
        if name not in datasets:
            raise BadInput(f"{self.path}: lacks the data set '{name}'.")
        rows = H5Rows(datasets[name], sparse)
        if rows.dtype != np.dtype(dtype) or rows.shape[1:] != shape or not datasets[name].shape:
            raise BadInput(
                f"{self.path}: '{name}' has dtype {rows.dtype} and shape {rows.shape}, needs "
                f"{dtype} and (any, {', '.join(map(str, shape))})."
            )
        return rows

    def _levels(self, datasets: Mapping[str, "h5py.Dataset"]) -> list[LevelOfTheory | None]:
        rows = self._required(datasets, "levels", "u1", ())
        if rows.shape[0] > MAX_TEXT:
            raise BadInput(f"{self.path}: 'levels' is too long.")
        values = _parsed(rows.take(rows.shape[0]).tobytes(), "levels")
        if not isinstance(values, list):
            raise BadInput(f"{self.path}: 'levels' is no list.")
        return [agreed_level(level_of(value), self.given) for value in values]

    def _topology(self, index: int) -> Topology | None:
        if index < 0:
            return None
        if index >= len(self.topology_end):
            raise BadInput(f"{self.path}: topology {index} is not there.")
        start = int(self.topology_end[index - 1]) if index else 0
        end = int(self.topology_end[index])
        if not 0 <= start < end <= min(start + MAX_TEXT, self.topology_text.shape[0]):
            raise BadInput(f"{self.path}: topology {index} has no text.")
        return topology_of(_parsed(self.topology_text[start:end].tobytes(), "topology"))

    def entries(self) -> Iterator[Entry]:
        """Every structure, in order."""
        atoms_done = origin_done = done = 0
        while done < self.count:
            size = min(_STRUCTURES, self.count - done)
            rows = {name: table.take(size) for name, table in self.structures.items()}
            ends = rows.pop("atoms_end")
            counts = np.diff(ends, prepend=atoms_done)
            if counts.min() < 1 or counts.max() > MAX_ATOMS or ends[-1] > self.total:
                raise BadInput(f"{self.path}: 'atoms_end' does not count atoms upwards.")
            origin_ends = rows.pop("origin_end")
            texts = np.diff(origin_ends, prepend=origin_done)
            if texts.min() < 0 or origin_ends[-1] - origin_done > MAX_TEXT:
                raise BadInput(f"{self.path}: 'origin_end' does not count bytes upwards.")
            origins = self.origin.take(int(origin_ends[-1]) - origin_done).tobytes()
            cuts = (origin_ends - origin_done).tolist()
            start = 0
            for end in _batches(counts):
                pieces = self._atoms(counts[start:end])
                for index in range(start, end):
                    row = {name: values[index] for name, values in rows.items()}
                    row |= pieces[index - start]
                    row["origin"] = origins[cuts[index] - int(texts[index]) : cuts[index]]
                    yield self._entry(row, done + index)
                start = end
            atoms_done, origin_done = int(ends[-1]), int(origin_ends[-1])
            done += size

    def _atoms(self, counts: np.ndarray) -> list[dict[str, np.ndarray]]:
        total = int(counts.sum())
        arrays = {f"atoms.{name}": rows.take(total) for name, rows in self.atoms.items()}
        ends = np.cumsum(counts).tolist()
        return [
            {name: values[end - count : end].copy() for name, values in arrays.items()}
            for count, end in zip(counts.tolist(), ends)
        ]

    def _entry(self, row: dict[str, Any], index: int) -> Entry:
        place = f"{self.path}, structure {index}"
        bits = int(row["labels"])
        values: dict[str, Any] = {}
        for name, bit in BITS.items():
            key = name if name in LABELS_PER_STRUCTURE else f"atoms.{name}"
            if bits & bit and key not in row:
                raise BadInput(f"{place}: its {name} should be there and is not.")
            values[name] = row[key] if bits & bit else None
        if values["energy"] is not None:
            values["energy"] = float(values["energy"])
        for name in ("stress", "dipole"):
            if values[name] is not None:
                values[name] = values[name].copy()
        level = int(row["level"])
        if not -1 <= level < len(self.levels):
            raise BadInput(f"{place}: level {level} is not there.")
        origin = _parsed(row["origin"], place)
        if not (isinstance(origin, list) and [type(word) for word in origin] == [str] * 3):
            raise BadInput(f"{place}: its name, kind and group are not three texts.")
        multiplicity = int(row["multiplicity"])
        if multiplicity < 0:
            raise BadInput(f"{place}: multiplicity is {multiplicity}.")
        return Entry(
            numbers=row["atoms.numbers"],
            positions=row["atoms.positions"],
            cell=row["cell"].copy(),
            periodic=row["periodic"] != 0,
            place=place,
            charge=int(row["charge"]),
            multiplicity=multiplicity or None,
            topology=self.topology(int(row["topology"])),
            name=origin[0],
            kind=origin[1],
            group=origin[2],
            frame=int(row["frame"]),
            level=self.levels[level] if level >= 0 else self.given,
            **values,
        )


def _batches(counts: np.ndarray) -> Iterator[int]:
    """Ends of runs of structures with at most `_ATOMS` atoms together (one at least)."""
    held = 0
    for index, count in enumerate(counts.tolist()):
        if held and held + count > _ATOMS:
            yield index
            held = 0
        held += count
    yield len(counts)


def _parsed(content: bytes, what: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what}: holds no JSON ({str(error)[:80]}).") from error
