"""Records as arrays and JSON, and back, bit by bit; nothing is pickled.

Checked: tests/data/test_storage.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.data.dataset import Record
from karat.structures.labels import Labels, Uncertainty
from karat.structures.structure import Structure
from karat.structures.topology import Topology

SCHEMA_VERSION = 1
_LABELS = ("energy", "forces", "stress", "charges", "dipole")
_UNCERTAINTY = ("energy", "forces", "member_energies", "member_forces", "grade", "structure_grade")
_TOPOLOGY = ("bonds", "orders", "formal_charges")
_RANKS = {
    **{"energy": 0, "forces": 2, "stress": 2, "charges": 1, "dipole": 1},
    **{"uncertainty.energy": 0, "uncertainty.forces": 2, "uncertainty.member_energies": 1},
    **{"uncertainty.member_forces": 3, "uncertainty.grade": 1, "uncertainty.structure_grade": 0},
}


def dataset_to_parts(records: Sequence[Record]) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays (concatenated, with shapes beside them) and a JSON-ready payload."""
    structures = [record.structure for record in records]
    arrays = {
        "atoms": np.array([len(structure) for structure in structures], dtype=np.int64),
        "numbers": _joined([structure.numbers for structure in structures], np.int64),
        "positions": _joined([structure.positions for structure in structures], np.float64),
        "cells": np.array([s.cell for s in structures], dtype=np.float64).reshape(-1, 3, 3),
        "periodic": np.array([s.periodic for s in structures], dtype=np.bool_).reshape(-1, 3),
        "charge": np.array([structure.charge for structure in structures], dtype=np.int64),
        # 0 stands for None
        "multiplicity": np.array([s.multiplicity or 0 for s in structures], dtype=np.int64),
    }
    for name in _LABELS:
        _put(arrays, name, [getattr(record.labels, name) for record in records])
    for name in _UNCERTAINTY:
        values = [getattr(record.labels.uncertainty, name, None) for record in records]
        _put(arrays, f"uncertainty.{name}", values)
    arrays["uncertain"] = np.array(
        [record.labels.uncertainty is not None for record in records], dtype=np.bool_
    )
    topologies, arrays["topology"] = _unique_topologies(structures)
    for name, dtype in zip(_TOPOLOGY, (np.int64, np.float64, np.int64)):
        parts = [getattr(topology, name) for topology in topologies]
        arrays[f"topology.{name}"] = _joined(parts, dtype)
        arrays[f"topology.{name}.count"] = np.array([len(part) for part in parts], dtype=np.int64)
    payload = {
        "schema": SCHEMA_VERSION,
        **{key: [getattr(r, key) for r in records] for key in ("name", "kind", "group", "frame")},
        "residues": [list(topology.residues) for topology in topologies],
        "smiles": [topology.smiles for topology in topologies],
    }
    return arrays, payload


def dataset_from_parts(
    arrays: Mapping[str, np.ndarray], payload: Mapping[str, Any]
) -> tuple[Record, ...]:
    """The inverse of `dataset_to_parts`.

    Raises:
        BadInput: of another schema, or parts that do not fit together.
    """
    if payload.get("schema") != SCHEMA_VERSION:
        raise BadInput(
            f"stored records have schema {payload.get('schema')}; this karat reads "
            f"{SCHEMA_VERSION}. Run the campaign again with this version."
        )
    try:
        return _records(arrays, payload)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise BadInput(f"stored records do not fit together ({error!r}).") from error


def _records(arrays: Mapping[str, np.ndarray], payload: Mapping[str, Any]) -> tuple[Record, ...]:
    topologies = _topologies(arrays, payload)
    ends = np.cumsum(arrays["atoms"])
    labels = {name: _take(arrays, name) for name in _RANKS}
    records = []
    for index, (end, atoms) in enumerate(zip(ends, arrays["atoms"])):
        which = int(arrays["topology"][index])
        structure = Structure(
            numbers=arrays["numbers"][end - atoms : end],
            positions=arrays["positions"][end - atoms : end],
            cell=arrays["cells"][index],
            periodic=arrays["periodic"][index],
            charge=int(arrays["charge"][index]),
            multiplicity=int(arrays["multiplicity"][index]) or None,
            topology=None if which < 0 else topologies[which],
        )
        uncertainty = None
        if arrays["uncertain"][index]:
            uncertainty = Uncertainty(
                **{name: labels[f"uncertainty.{name}"][index] for name in _UNCERTAINTY}
            )
        records.append(
            Record(
                structure=structure,
                labels=Labels(
                    **{name: labels[name][index] for name in _LABELS}, uncertainty=uncertainty
                ),
                name=payload["name"][index],
                kind=payload["kind"][index],
                group=payload["group"][index],
                frame=int(payload["frame"][index]),
            )
        )
    return tuple(records)


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    if not parts:
        return np.zeros(0, dtype=dtype)
    return np.concatenate([np.asarray(part, dtype=dtype) for part in parts])


def _put(arrays: dict[str, np.ndarray], name: str, values: Sequence[Any]) -> None:
    """Ragged values end to end, with their shapes; -1 where a value is `None`."""
    rank = _RANKS[name]
    shapes = np.full((len(values), rank + 1), -1, dtype=np.int64)
    for row, value in zip(shapes, values):
        if value is not None:
            row[0], row[1:] = rank, np.shape(value)
    present = [np.ravel(value) for value in values if value is not None]
    arrays[name] = _joined(present, np.float64)
    arrays[f"{name}.shape"] = shapes


def _take(arrays: Mapping[str, np.ndarray], name: str) -> list[Any]:
    if f"{name}.shape" not in arrays and name == "uncertainty.structure_grade":
        return [None] * len(arrays["atoms"])  # stores older than grades of structures
    values: list[Any] = []
    start = 0
    for row in arrays[f"{name}.shape"]:
        if row[0] < 0:
            values.append(None)
            continue
        shape = tuple(int(size) for size in row[1:])
        size = int(np.prod(shape, dtype=np.int64))
        piece = arrays[name][start : start + size].reshape(shape)
        values.append(piece.item() if not shape else piece.copy())
        start += size
    if start != len(arrays[name]):
        raise ValueError(f"{name}: {len(arrays[name])} numbers, {start} used")
    return values


def _unique_topologies(structures: Sequence[Structure]) -> tuple[list[Topology], np.ndarray]:
    """Distinct topologies and, for each structure, which (−1 for none)."""
    places: dict[str, int] = {}
    topologies: list[Topology] = []
    which = np.full(len(structures), -1, dtype=np.int64)
    for index, structure in enumerate(structures):
        if structure.topology is None:
            continue
        digest = structure.topology.digest
        if digest not in places:
            places[digest] = len(topologies)
            topologies.append(structure.topology)
        which[index] = places[digest]
    return topologies, which


def _topologies(arrays: Mapping[str, np.ndarray], payload: Mapping[str, Any]) -> list[Topology]:
    ends = {name: np.cumsum(arrays[f"topology.{name}.count"]) for name in _TOPOLOGY}
    found = []
    for index, (residues, smiles) in enumerate(zip(payload["residues"], payload["smiles"])):
        pieces = {
            name: arrays[f"topology.{name}"][
                ends[name][index] - arrays[f"topology.{name}.count"][index] : ends[name][index]
            ]
            for name in _TOPOLOGY
        }
        found.append(Topology(**pieces, residues=tuple(residues), smiles=smiles))
    return found
