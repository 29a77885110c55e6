"""Graphs and targets on the host, built once, and padded batches of them.

Checked: tests/training/test_batches.py.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.batch import PADDING_DISTANCE, Batch, pad, triplet_indices
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure
from karat.training.packing import Sizes
from karat.training.references import ReferenceEnergies, energies_of

Fields = dict[str, Any]
"""The fields of a `Batch` or of `Targets` as NumPy arrays: handed over to compiled functions as
they are, which costs less than single transfers."""

BYTES_PER_PAIR = 48
BYTES_PER_TRIPLET = 16
SHARE_OF_MEMORY = 0.5
"""Part of the machine's memory that neighbour lists may take."""


class Targets(eqx.Module):
    """What a batch should give. Masks are False on padding and where a label is missing.

    Attributes:
        energy: eV, relative to the reference energies.
        atoms: number of atoms of each system, 1 on padding.
        forces: eV/Å.
        stress: eV/Å³.
    """

    energy: Float[Array, "systems"]
    atoms: Float[Array, "systems"]
    system_mask: Bool[Array, "systems"]
    forces: Float[Array, "atoms 3"]
    force_mask: Bool[Array, "atoms"]
    stress: Float[Array, "systems 3 3"]
    stress_mask: Bool[Array, "systems"]


@dataclass(frozen=True, eq=False)
class Graph:
    """One structure's neighbour list, triplets and targets (indices within the structure)."""

    numbers: np.ndarray
    centers: np.ndarray
    neighbours: np.ndarray
    vectors: np.ndarray
    triplets: np.ndarray
    volume: float
    energy: float
    forces: np.ndarray | None
    stress: np.ndarray | None

    @property
    def counts(self) -> tuple[int, int, int]:
        """Atoms, pairs, triplets."""
        return len(self.numbers), len(self.centers), len(self.triplets)


def build_graphs(
    dataset: Dataset,
    references: ReferenceEnergies,
    cutoff: float,
    with_triplets: bool,
    dtype: str,
) -> list[Graph]:
    """All graphs of a dataset; energies are made relative in float64 before they are rounded.

    Raises:
        BadInput: a cut-off for which the neighbour lists do not fit into memory.
    """
    energies = energies_of(dataset)
    check_memory(dataset, cutoff, with_triplets)
    graphs = []
    for record, energy in zip(dataset, energies):
        structure, labels = record.structure, record.labels
        pairs = neighbour_pairs(structure, cutoff)
        triplets = triplet_indices(pairs.centers) if with_triplets else np.zeros((0, 2), int)
        graphs.append(
            Graph(
                numbers=structure.numbers.astype(np.int32),
                centers=pairs.centers.astype(np.int32),
                neighbours=pairs.neighbours.astype(np.int32),
                vectors=pairs.vectors.astype(dtype),
                triplets=triplets.astype(np.int32),
                volume=structure.volume if structure.periodic.all() else 1.0,
                energy=float(energy - references.of(structure.numbers)),
                forces=labels.forces,
                stress=labels.stress,
            )
        )
    return graphs


def assemble(graphs: Sequence[Graph], sizes: Sizes, dtype: str) -> tuple[Batch, Targets]:
    """Several graphs as one padded batch with its targets, on the default device."""
    batch, targets = jax.device_put(assemble_on_host(graphs, sizes, dtype))  # one transfer
    return Batch(**batch), Targets(**targets)


def assemble_on_host(graphs: Sequence[Graph], sizes: Sizes, dtype: str) -> tuple[Fields, Fields]:
    """The fields of a `Batch` and of its `Targets`.

    Without graphs: a batch of padding only, from which no gradient comes.
    """
    n_atoms, n_pairs, n_triplets, n_systems = sizes
    atoms = np.array([len(g.numbers) for g in graphs], np.int64)
    pairs = np.array([len(g.centers) for g in graphs], np.int64)
    triplets = sum(len(g.triplets) for g in graphs)
    owners = np.arange(len(graphs), dtype=np.int32)
    atom_at = np.repeat((np.cumsum(atoms) - atoms).astype(np.int32), pairs)
    last = n_atoms - 1
    batch: Fields = {
        "numbers": _joined([g.numbers for g in graphs], n_atoms, 0, "int32"),
        "system": pad(np.repeat(owners, atoms), n_atoms, n_systems - 1),
        "centers": _joined([g.centers for g in graphs], n_pairs, last, "int32"),
        "neighbours": _joined([g.neighbours for g in graphs], n_pairs, last, "int32"),
        "vectors": _joined([g.vectors for g in graphs], n_pairs, FAR, dtype, (3,)),
        "pair_mask": np.arange(n_pairs) < len(atom_at),
        "triplets": None,
        "triplet_mask": None,
        "volume": pad(np.array([g.volume for g in graphs], dtype), n_systems, 1.0),
    }
    for name in ("centers", "neighbours"):
        batch[name][: len(atom_at)] += atom_at
    if n_triplets:
        pair_at = np.cumsum(pairs) - pairs
        parts = [g.triplets + np.int32(p) for g, p in zip(graphs, pair_at)]
        batch["triplets"] = _joined(parts, n_triplets, n_pairs - 1, "int32", (2,))
        batch["triplet_mask"] = np.arange(n_triplets) < triplets
    return batch, _targets(graphs, sizes, dtype)


FAR = np.array([PADDING_DISTANCE, 0.0, 0.0])


def _joined(
    parts: list[np.ndarray],
    size: int,
    fill: float | int | np.ndarray,
    dtype: str,
    shape: tuple[int, ...] = (),
) -> np.ndarray:
    """The parts one after the other, then rows of `fill`."""
    joined = np.empty((size, *shape), dtype)
    end = 0
    for part in parts:
        joined[end : end + len(part)] = part
        end += len(part)
    joined[end:] = fill
    return joined


def _targets(graphs: Sequence[Graph], sizes: Sizes, dtype: str) -> Fields:
    n_atoms, _, _, n_systems = sizes
    forces = np.zeros((n_atoms, 3), dtype)
    force_mask = np.zeros(n_atoms, bool)
    stress = np.zeros((n_systems, 3, 3), dtype)
    stress_mask = np.zeros(n_systems, bool)
    start = 0
    for index, graph in enumerate(graphs):
        end = start + len(graph.numbers)
        if graph.forces is not None:
            forces[start:end], force_mask[start:end] = graph.forces, True
        if graph.stress is not None:
            stress[index], stress_mask[index] = graph.stress, True
        start = end
    return {
        "energy": pad(np.array([g.energy for g in graphs], dtype), n_systems, 0.0),
        "atoms": pad(np.array([len(g.numbers) for g in graphs], dtype), n_systems, 1.0),
        "system_mask": np.arange(n_systems) < len(graphs),
        "forces": forces,
        "force_mask": force_mask,
        "stress": stress,
        "stress_mask": stress_mask,
    }


def label_numbers(graphs: Sequence[Graph]) -> tuple[int, int, int]:
    """Number of energies, force components and stress components of these graphs."""
    return (
        len(graphs),
        sum(g.forces.size for g in graphs if g.forces is not None),
        sum(g.stress.size for g in graphs if g.stress is not None),
    )


def _expected_pairs(structure: Structure, cutoff: float) -> float:
    """Number of pairs within the cut-off, roughly, before they are made."""
    atoms = len(structure)
    if not structure.periodic.any():
        return float(atoms * (atoms - 1))
    rows = structure.cell[structure.periodic]
    content = float(np.sqrt(np.linalg.det(rows @ rows.T)))  # length, area or volume
    ball = {1: 2 * cutoff, 2: np.pi * cutoff**2, 3: 4 / 3 * np.pi * cutoff**3}[len(rows)]
    return atoms * atoms * ball / content


def check_memory(dataset: Dataset, cutoff: float, with_triplets: bool) -> None:
    """Estimate the neighbour lists from densities, before they are made.

    Raises:
        BadInput: they would not fit into the memory that may be used.
    """
    limit = SHARE_OF_MEMORY * _memory_bytes()
    total = 0.0
    for index, record in enumerate(dataset):
        structure = record.structure
        pairs = _expected_pairs(structure, cutoff)
        triplets = 0.5 * pairs * (pairs / len(structure)) if with_triplets else 0.0
        total += pairs * BYTES_PER_PAIR + triplets * BYTES_PER_TRIPLET
        if total > limit:
            more = f" and {triplets:.2g} triplets" if with_triplets else ""
            raise BadInput(
                f"cutoff_angstrom {cutoff} is larger than the data allow: structure "
                f"{record.name or index} ({structure.formula}) has about {pairs:.2g} pairs{more}, "
                f"and the neighbour lists up to it need {total / 2**30:.2g} GiB; at most "
                f"{limit / 2**30:.2g} GiB may be used here. Lower cutoff_angstrom, or train on "
                "fewer or smaller structures."
            )


def _memory_bytes() -> float:
    return float(os.sysconf("SC_PAGE_SIZE")) * float(os.sysconf("SC_PHYS_PAGES"))
