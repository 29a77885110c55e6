"""Neighbour lists with a skin for the compiled loop, built on the host.

Checked: tests/simulation/test_native_loop.py.
"""

import numpy as np
from jaxtyping import Float

from karat.potentials.batch import PADDING_DISTANCE, Batch, make_batch, round_up, triplet_indices
from karat.potentials.native_protocol import NativePotential
from karat.simulation.loop import MAX_STEP_ANGSTROM
from karat.structures.neighbours import Pairs, neighbour_pairs
from karat.structures.structure import Structure

ALL_PAIRS = 24
"""Molecules up to this size list every pair once and for all."""
SKIN = 0.5
"""Å beyond the cut-off, at first; doubled, up to `WIDEST`, when one single step outruns it."""
WIDEST = 2.02 * MAX_STEP_ANGSTROM
"""Å; the widest skin: no step that is allowed outruns half of it."""
SPARE = 1.1
"""Room in a list beyond what its first build needs."""


class MeshBuilder:
    """Makes batches of one structure with fixed numbers of pairs, so that nothing recompiles.

    Attributes:
        dtype: of the potential.
        atoms: padded number of atoms.
    """

    def __init__(self, potential: NativePotential, structure: Structure) -> None:
        self.dtype = potential.dtype
        self.atoms = len(structure) + 1
        self._structure = structure
        self._cutoff = potential.module.cutoff
        self._triplets = potential.module.needs_triplets
        self._all = not structure.periodic.any() and len(structure) <= ALL_PAIRS
        self._skin = SKIN
        self._last_build: int | None = None
        self._room = (0, 0)

    def build(
        self, positions: Float[np.ndarray, "atoms 3"], since: int | None = None
    ) -> tuple[Batch, Float[np.ndarray, "pairs 3"], float]:
        """Batch, lattice translation of each pair's neighbour, and how far an atom may move.

        Args:
            positions: Å.
            since: the step that was made last; when the list was already built there, one step
                outran the skin, which then grows.
        """
        if since is not None and since == self._last_build:
            self._skin = min(2 * self._skin, WIDEST)
        self._last_build = since
        structure = self._structure.replace(positions=positions)
        pairs = every_pair(structure) if self._all else self._near(structure)
        triplets = len(triplet_indices(pairs.centers)) if self._triplets else 0
        needed = (len(pairs), triplets)
        if needed[0] > self._room[0] or needed[1] > self._room[1]:
            spare = 1.0 if self._all else SPARE
            pairs_room, triplets_room = (
                max(old, round_up(int(spare * new) + 1)) for old, new in zip(self._room, needed)
            )
            self._room = (pairs_room, triplets_room)
        batch = make_batch(
            [structure],
            self._cutoff,
            self.dtype,
            self._triplets,
            pair_lists=[pairs],
            sizes=(self.atoms, self._room[0] + 1, self._room[1], 2),
        )
        offsets = np.zeros((self._room[0] + 1, 3))
        offsets[: len(pairs)] = pairs.shifts @ structure.cell
        offsets[len(pairs) :, 0] = PADDING_DISTANCE
        return batch, offsets, np.inf if self._all else 0.5 * self._skin

    def _near(self, structure: Structure) -> Pairs:
        return neighbour_pairs(structure, self._cutoff + self._skin)


def every_pair(structure: Structure) -> Pairs:
    """Each pair of atoms of a molecule in both directions, however far apart."""
    atoms = len(structure)
    centers, neighbours = np.nonzero(~np.eye(atoms, dtype=bool))
    return Pairs(
        centers=centers,
        neighbours=neighbours,
        shifts=np.zeros((len(centers), 3), np.int64),
        vectors=structure.positions[neighbours] - structure.positions[centers],
    )
