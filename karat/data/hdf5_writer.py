"""Entries into karat's HDF5 layout (see `karat.data.readers.hdf5_karat`), a piece at a time.

Checked: tests/data/test_writers.py.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from karat.data.entry import Entry
from karat.data.readers.hdf5_karat import (
    BITS,
    FORMAT,
    LABELS_PER_ATOM,
    LABELS_PER_STRUCTURE,
    PER_ATOM,
    PER_STRUCTURE,
    VERSION,
)
from karat.structures.topology import Topology

if TYPE_CHECKING:
    import h5py

_ATOMS = 2**15
_STRUCTURES = 2**12
_CHUNK = 2**17


def write_hdf5(entries: Iterable[Entry], path: Path) -> None:
    """Write the file; not atomic by itself (see `karat.data.writers.write_entries`)."""
    import h5py

    with h5py.File(path, "w", locking=False) as file:
        writing = _Writing(file)
        for entry in entries:
            writing.add(entry)
        writing.close()


class _Writing:
    """What is not yet on disk, and what must be remembered."""

    def __init__(self, file: "h5py.File") -> None:
        self.file = file
        self.waiting: list[Entry] = []
        self.waiting_atoms = 0
        self.structures = self.atoms = self.origin_bytes = self.topology_bytes = 0
        self.levels: dict[str, int] = {}
        self.level_values: list[dict] = []
        self.topologies: dict[str, int] = {}
        for name, (dtype, shape) in ({**PER_STRUCTURE, **PER_ATOM}).items():
            self._create(name, dtype, shape)
        self._create("origin", "u1", ())

    def add(self, entry: Entry) -> None:
        """Keep an entry; write out once enough are waiting."""
        self.waiting.append(entry)
        self.waiting_atoms += len(entry)
        if self.waiting_atoms >= _ATOMS or len(self.waiting) >= _STRUCTURES:
            self._flush()

    def close(self) -> None:
        """Write out what is left, and what is known only at the end."""
        self._flush()
        for names, size in (
            (LABELS_PER_STRUCTURE, self.structures),
            (LABELS_PER_ATOM, self.atoms),
        ):
            for name in names:
                if name in self.file:
                    self.file[name].resize(size, axis=0)
        text = json.dumps(self.level_values, sort_keys=True).encode()
        self.file.create_dataset("levels", data=np.frombuffer(text, np.uint8))
        self.file.attrs["format"] = FORMAT
        self.file.attrs["version"] = VERSION
        self.file.attrs["units"] = "eV, angstrom, e"

    def _create(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        row = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        packed = not (dtype == "<f8" and name != "cell")
        self.file.create_dataset(
            name,
            shape=(0, *shape),
            maxshape=(None, *shape),
            dtype=dtype,
            chunks=(max(1, _CHUNK // row), *shape),
            compression="gzip" if packed else None,
            compression_opts=1 if packed else None,
            shuffle=packed,
        )

    def _append(self, name: str, start: int, values: np.ndarray) -> None:
        dataset = self.file[name]
        dataset.resize(start + len(values), axis=0)
        dataset[start:] = values

    def _flush(self) -> None:
        entries = self.waiting
        if not entries:
            return
        for name, values in self._columns(entries).items():
            self._append(name, self.structures, values)
        origins = [json.dumps([entry.name, entry.kind, entry.group]).encode() for entry in entries]
        ends = self.origin_bytes + np.cumsum([len(text) for text in origins])
        self._append("origin_end", self.structures, ends)
        self._append("origin", self.origin_bytes, np.frombuffer(b"".join(origins), np.uint8))
        self.origin_bytes = int(ends[-1])
        self._append("numbers", self.atoms, np.concatenate([e.numbers for e in entries]))
        self._append("positions", self.atoms, np.concatenate([e.positions for e in entries]))
        self._labels(entries, LABELS_PER_STRUCTURE, self.structures, [1] * len(entries))
        sizes = [len(entry) for entry in entries]
        self._labels(entries, LABELS_PER_ATOM, self.atoms, sizes)
        self.structures += len(entries)
        self.atoms += self.waiting_atoms
        self.waiting, self.waiting_atoms = [], 0

    def _columns(self, entries: list[Entry]) -> dict[str, np.ndarray]:
        ends = self.atoms + np.cumsum([len(entry) for entry in entries])
        whole: dict[str, Any] = {
            "atoms_end": ends,
            "labels": [
                sum(bit for name, bit in BITS.items() if getattr(entry, name) is not None)
                for entry in entries
            ],
            "cell": np.stack([entry.cell for entry in entries]),
            "periodic": np.stack([entry.periodic for entry in entries]),
            "charge": [entry.charge for entry in entries],
            "multiplicity": [entry.multiplicity or 0 for entry in entries],
            "frame": [entry.frame for entry in entries],
            "level": [self._level(entry) for entry in entries],
            "topology": [self._topology(entry.topology) for entry in entries],
        }
        return {name: np.array(v, dtype=PER_STRUCTURE[name][0]) for name, v in whole.items()}

    def _labels(
        self,
        entries: list[Entry],
        layout: Mapping[str, tuple[str, tuple[int, ...]]],
        start: int,
        sizes: list[int],
    ) -> None:
        """Labels that some of the entries have; zeros for the others."""
        for name, (dtype, shape) in layout.items():
            values = [getattr(entry, name) for entry in entries]
            if all(value is None for value in values):
                continue
            if name not in self.file:
                self._create(name, dtype, shape)
            parts = [
                np.zeros((size, *shape)) if value is None else np.reshape(value, (size, *shape))
                for value, size in zip(values, sizes)
            ]
            self._append(name, start, np.concatenate(parts))

    def _level(self, entry: Entry) -> int:
        if entry.level is None:
            return -1
        digest = entry.level.digest
        if digest not in self.levels:
            self.levels[digest] = len(self.level_values)
            self.level_values.append(entry.level.as_dict())
        return self.levels[digest]

    def _topology(self, topology: Topology | None) -> int:
        if topology is None:
            return -1
        index = self.topologies.get(topology.digest)
        if index is None:
            index = self.topologies[topology.digest] = len(self.topologies)
            if not index:
                self._create("topology_end", "<i8", ())
                self._create("topology_text", "u1", ())
            text = json.dumps(topology_values(topology)).encode()
            self._append("topology_text", self.topology_bytes, np.frombuffer(text, np.uint8))
            self.topology_bytes += len(text)
            self._append("topology_end", index, np.array([self.topology_bytes]))
        return index


def topology_values(topology: Topology) -> dict[str, Any]:
    """JSON-ready values, read back by `karat.structures.extended_xyz.topology_of`."""
    return {
        "bonds": topology.bonds.ravel().tolist(),
        "orders": topology.orders.tolist(),
        "formal_charges": topology.formal_charges.tolist(),
        "residues": list(topology.residues),
        "smiles": topology.smiles,
    }
