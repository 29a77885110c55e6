"""Which atoms are bonded at the start of a run, and how far these bonds stretch.

Checked: tests/assays/test_dynamics_assay.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

COVALENT_FACTOR = 1.25
"""Atoms closer than this times the sum of their covalent radii are bonded (Cordero et al.,
Dalton Trans. 2832 (2008), as in `ase.data.covalent_radii`), where no topology says so."""


@dataclass(frozen=True, eq=False)
class Bonds:
    """Pairs of atoms with the translation of the second, and their lengths at the start.

    Attributes:
        pairs: atom indices.
        offsets: lattice translation added to the second atom, Å.
        lengths: Å.
    """

    pairs: Int[np.ndarray, "bonds 2"]
    offsets: Float[np.ndarray, "bonds 3"]
    lengths: Float[np.ndarray, "bonds"]


def bonds_at(structure: Structure) -> Bonds:
    """Bonds of the topology, else those that distances and covalent radii suggest."""
    if structure.topology is not None and not structure.periodic.any():
        pairs = structure.topology.bonds
        offsets = np.zeros((len(pairs), 3))
    else:
        pairs, offsets = _close_pairs(structure)
    first, second = structure.positions[pairs[:, 0]], structure.positions[pairs[:, 1]]
    lengths = np.linalg.norm(second + offsets - first, axis=1)
    return Bonds(pairs=pairs, offsets=offsets, lengths=lengths)


def _close_pairs(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Pairs within reach of a bond, each once, with their translations."""
    from ase.data import covalent_radii

    radii = covalent_radii[structure.numbers]
    found = neighbour_pairs(structure, 2 * COVALENT_FACTOR * float(radii.max()))
    reach = COVALENT_FACTOR * (radii[found.centers] + radii[found.neighbours])
    shifts = found.shifts
    # of (i, j, shift) and (j, i, -shift) keep the first
    leading = np.where(
        shifts[:, 0] != 0, shifts[:, 0], np.where(shifts[:, 1] != 0, shifts[:, 1], shifts[:, 2])
    )
    once = (found.centers < found.neighbours) | (
        (found.centers == found.neighbours) & (leading > 0)
    )
    keep = once & (np.linalg.norm(found.vectors, axis=1) < reach)
    pairs = np.stack([found.centers[keep], found.neighbours[keep]], axis=1)
    return pairs, shifts[keep] @ structure.cell


def longest_stretch(
    bonds: Bonds, positions: Float[np.ndarray, "frames atoms 3"]
) -> Float[np.ndarray, "frames"]:
    """Largest ratio of a bond's length to that at the start, in each frame; NaN without bonds.

    Positions are not wrapped into the cell.
    """
    if not len(bonds.pairs):
        return np.full(len(positions), np.nan)
    vectors = positions[:, bonds.pairs[:, 1]] + bonds.offsets - positions[:, bonds.pairs[:, 0]]
    stretch: np.ndarray = (np.linalg.norm(vectors, axis=-1) / bonds.lengths).max(axis=1)
    return stretch
