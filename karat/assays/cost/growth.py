"""Larger systems of the same substance: supercells of crystals, far-apart copies of molecules.

Checked: tests/assays/test_cost.py.
"""

import itertools

import numpy as np

from karat.structures.structure import Structure
from karat.structures.topology import Topology

GAP_ANGSTROM = 15.0
"""Between the nearest atoms of two copies of a molecule: beyond common cut-offs."""


def repeats(copies: int, periodic: np.ndarray, lengths: np.ndarray) -> tuple[int, int, int]:
    """Doublings along the shortest usable direction until there are `copies`, a power of two.

    Args:
        lengths: of the box along each direction, Å.
    """
    counts = np.ones(3, dtype=int)
    usable = periodic if periodic.any() else np.ones(3, dtype=bool)
    while counts.prod() < copies:
        extents = np.where(usable, lengths * counts, np.inf)
        counts[int(np.argmin(extents))] *= 2
    return int(counts[0]), int(counts[1]), int(counts[2])


def grow(structure: Structure, copies: int) -> Structure:
    """`copies` (a power of two) of a structure, with its topology; one copy is itself.

    Where it is periodic it becomes a supercell, else copies stand on a grid with
    `GAP_ANGSTROM` between them. Charges add up; the multiplicity is the lowest possible.
    """
    if copies == 1:
        return structure
    periodic = structure.periodic
    if periodic.any():
        vectors = structure.cell
        lengths = np.linalg.norm(vectors, axis=1)
    else:
        lengths = np.ptp(structure.positions, axis=0) + GAP_ANGSTROM
        vectors = np.diag(lengths)
    counts = repeats(copies, periodic, lengths)
    cells = list(itertools.product(*(range(count) for count in counts)))
    shifts = np.array(cells, dtype=float) @ vectors
    positions = np.concatenate([structure.positions + shift for shift in shifts])
    topology = structure.topology
    return structure.replace(
        numbers=np.tile(structure.numbers, len(cells)),
        positions=positions,
        cell=structure.cell * np.array(counts)[:, None],
        charge=structure.charge * len(cells),
        multiplicity=None,
        # bonds may cross the cell's boundary, where copies would be bonded wrongly
        topology=None if topology is None or periodic.any() else _copies(topology, len(cells)),
    )


def _copies(topology: Topology, copies: int) -> Topology:
    atoms = topology.atoms
    return Topology(
        bonds=np.concatenate([topology.bonds + atoms * i for i in range(copies)]),
        orders=np.tile(topology.orders, copies),
        formal_charges=np.tile(topology.formal_charges, copies),
        residues=topology.residues * copies,
        smiles=".".join([topology.smiles] * copies) if topology.smiles else "",
    )
