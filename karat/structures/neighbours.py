"""Neighbour lists on the host, by vesin (any cell shape, small cells with several images)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from karat.structures.structure import Structure


@dataclass(frozen=True, eq=False)
class Pairs:
    """A full neighbour list: every pair (i, j) and (j, i) with |r_ij| < cutoff, by centre.

    Attributes:
        centers, neighbours: atom indices; sorted by centre, then neighbour, then shift.
        shifts: lattice translations of the neighbour, integers.
        vectors: r_neighbour + shift·cell - r_center, Å.
    """

    centers: Int[np.ndarray, "pairs"]
    neighbours: Int[np.ndarray, "pairs"]
    shifts: Int[np.ndarray, "pairs 3"]
    vectors: Float[np.ndarray, "pairs 3"]

    def __len__(self) -> int:
        return len(self.centers)


def neighbour_pairs(structure: Structure, cutoff: float) -> Pairs:
    """All pairs closer than `cutoff` (Å), an atom's own images included.

    Source: vesin (Luthaf). Checked: tests/structures/test_neighbours.py, against a brute-force
    sum over images and ASE's list.
    """
    import vesin

    if not structure.periodic.any():
        # vesin's cells grow with the cut-off: beyond the molecule they would all be empty
        extent = np.linalg.norm(np.ptp(structure.positions, axis=0))
        cutoff = min(cutoff, float(extent) + 1.0)
    box = np.where(structure.periodic[:, None], structure.cell, 0.0)
    calculator = vesin.NeighborList(cutoff=float(cutoff), full_list=True)
    centers, neighbours, shifts, vectors = calculator.compute(
        points=structure.positions, box=box, periodic=structure.periodic, quantities="ijSD"
    )
    order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], neighbours, centers))
    return Pairs(
        centers=np.asarray(centers, np.int64)[order],
        neighbours=np.asarray(neighbours, np.int64)[order],
        shifts=np.asarray(shifts, np.int64)[order],
        vectors=np.asarray(vectors, np.float64)[order],
    )
