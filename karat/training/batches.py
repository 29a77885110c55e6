"""Graphs and targets on the host, built once, and batches of few fixed shapes.

Checked: tests/training/test_batches.py.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.batch import PADDING_DISTANCE, Batch, pad, round_up, triplet_indices
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure
from karat.training.references import ReferenceEnergies, energies_of

Sizes = tuple[int, int, int, int]
"""Padded numbers of atoms, pairs, triplets and systems."""

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
    """Several graphs as one padded batch with its targets."""
    counts = np.array([graph.counts for graph in graphs])
    n_atoms, n_pairs, n_triplets, n_systems = sizes
    atom_at, pair_at = (np.concatenate([[0], np.cumsum(c)[:-1]]) for c in counts.T[:2])
    last = n_atoms - 1

    def joined(
        parts: list[np.ndarray], size: int, fill: float | int | np.ndarray, kind: str
    ) -> Array:
        return jnp.asarray(pad(np.concatenate(parts).astype(kind), size, fill))

    with_triplets = n_triplets > 0
    system = np.repeat(np.arange(len(graphs), dtype=np.int32), counts[:, 0])
    far = np.array([PADDING_DISTANCE, 0.0, 0.0], dtype)
    batch = Batch(
        numbers=joined([g.numbers for g in graphs], n_atoms, 0, "int32"),
        system=jnp.asarray(pad(system, n_atoms, n_systems - 1)),
        centers=joined([g.centers + a for g, a in zip(graphs, atom_at)], n_pairs, last, "int32"),
        neighbours=joined(
            [g.neighbours + a for g, a in zip(graphs, atom_at)], n_pairs, last, "int32"
        ),
        vectors=joined([g.vectors for g in graphs], n_pairs, far, dtype),
        pair_mask=jnp.asarray(np.arange(n_pairs) < counts[:, 1].sum()),
        triplets=(
            joined(
                [g.triplets + p for g, p in zip(graphs, pair_at)], n_triplets, n_pairs - 1, "int32"
            )
            if with_triplets
            else None
        ),
        triplet_mask=(
            jnp.asarray(np.arange(n_triplets) < counts[:, 2].sum()) if with_triplets else None
        ),
        volume=joined([np.array([g.volume for g in graphs])], n_systems, 1.0, dtype),
    )
    return batch, _targets(graphs, sizes, dtype)


def _targets(graphs: Sequence[Graph], sizes: Sizes, dtype: str) -> Targets:
    n_atoms, _, _, n_systems = sizes
    counts = [len(g.numbers) for g in graphs]
    forces = [np.zeros((n, 3)) if g.forces is None else g.forces for g, n in zip(graphs, counts)]
    stress = np.stack([np.zeros((3, 3)) if g.stress is None else g.stress for g in graphs])
    has_forces = np.repeat([g.forces is not None for g in graphs], counts)
    has_stress = np.array([g.stress is not None for g in graphs])

    def padded(array: np.ndarray, size: int, fill: float | int) -> Array:
        return jnp.asarray(pad(np.asarray(array, dtype), size, fill))

    return Targets(
        energy=padded(np.array([g.energy for g in graphs]), n_systems, 0.0),
        atoms=padded(np.array(counts, float), n_systems, 1.0),
        system_mask=jnp.asarray(np.arange(n_systems) < len(graphs)),
        forces=padded(np.concatenate(forces), n_atoms, 0.0),
        force_mask=jnp.asarray(pad(has_forces, n_atoms, 0)),
        stress=padded(stress, n_systems, 0.0),
        stress_mask=jnp.asarray(pad(has_stress, n_systems, 0)),
    )


def order(seed: int, epoch: int, structures: int, batch_size: int) -> list[np.ndarray]:
    """Indices of each batch of an epoch: shuffled by seed and epoch alone, sizes evened out."""
    shuffled = np.random.default_rng([seed, epoch]).permutation(structures)
    return np.array_split(shuffled, -(-structures // batch_size))


def in_sequence(structures: int, batch_size: int) -> list[np.ndarray]:
    """Indices of batches in the given order."""
    return np.array_split(np.arange(structures), -(-structures // batch_size))


@dataclass(frozen=True)
class Shapes:
    """At most two padded shapes, so that each step is compiled once or twice.

    Attributes:
        small, large: every batch fits into `large`, most into `small`.
    """

    small: Sizes
    large: Sizes

    def of(self, graphs: Sequence[Graph]) -> Sizes:
        """The smaller shape that these graphs fit into."""
        real = _real_sizes(np.array([graph.counts for graph in graphs]).sum(axis=0), len(graphs))
        return self.small if all(r <= s for r, s in zip(real, self.small)) else self.large


def choose_shapes(counts: np.ndarray, batches: Sequence[np.ndarray]) -> Shapes:
    """Shapes for all batches of a run (rows of `counts`: atoms, pairs, triplets of structures).

    A second, smaller one is used where it saves a quarter of the arithmetic or more.
    """
    real = np.array([_real_sizes(counts[batch].sum(axis=0), len(batch)) for batch in batches])
    large = _rounded(real.max(axis=0))
    small = _rounded(np.quantile(real, 0.75, axis=0, method="higher"))
    work = 2 if large[2] else 1  # triplets where there are any, else pairs
    fits = (real <= np.array(small)).all(axis=1)
    mean = fits.mean() * small[work] + (1 - fits.mean()) * large[work]
    return Shapes(small if mean < 0.75 * large[work] else large, large)


def _rounded(sizes: np.ndarray) -> Sizes:
    atoms, pairs, triplets, systems = (int(size) for size in sizes)
    return (
        round_up(atoms, 16),
        round_up(pairs, 16),
        round_up(triplets, 16) if triplets else 0,
        systems,
    )


def _real_sizes(counts: np.ndarray, systems: int) -> Sizes:
    """What a batch needs at least: one atom and one system of padding, one pair."""
    atoms, pairs, triplets = (int(count) for count in counts)
    return atoms + 1, pairs + 1, triplets, systems + 1


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
