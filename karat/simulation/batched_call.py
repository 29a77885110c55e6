"""Labels of many structures, step after step, from one compiled call whose shape lives long.

`NativePotential.predict` finds neighbours anew for each structure and pads each list anew: while
atoms move, the numbers of pairs and triplets wander, and every new shape is compiled, which costs
more than hundreds of evaluations. Here neighbours are found with a skin and filtered, for all
structures together, and the padding stays.

Checked: tests/simulation/test_batched_relax.py.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import jax
import numpy as np
from jaxtyping import Int

from karat.core.errors import KaratError
from karat.potentials.batch import PADDING_DISTANCE, Batch, pad, round_up
from karat.potentials.native_protocol import NativePotential, derive_compiled
from karat.potentials.protocol import AbstractPotential, predict_each, require_finite
from karat.structures.labels import Labels, Quantity
from karat.structures.neighbours import Pairs, neighbour_pairs
from karat.structures.structure import Structure

SKIN = 0.6
"""Å beyond the cut-off up to which pairs are remembered."""
HEADROOM = 1.3
"""How much more room for pairs and triplets is taken than is needed when it must grow."""
TOO_LARGE = 8
"""A room that was this many times larger than needed for so long …"""
PATIENCE = 50
"""… calls is given up: about what compiling another costs."""


@dataclass(frozen=True)
class Room:
    """Padded sizes of a batch: the shape that was compiled."""

    atoms: int = 0
    pairs: int = 0
    triplets: int = 0
    systems: int = 0

    def holding(self, need: "Room") -> "Room":
        """This room, or a larger one where something does not fit."""
        return Room(
            atoms=self.atoms if self.atoms >= need.atoms else round_up(need.atoms),
            pairs=_grown(self.pairs, need.pairs),
            triplets=_grown(self.triplets, need.triplets),
            systems=self.systems if self.systems >= need.systems else round_up(need.systems),
        )


def _grown(size: int, need: int) -> int:
    return size if size >= need else round_up(int(HEADROOM * need))


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Pairs of a structure within cut-off plus skin, and where they were found."""

    structure: Structure
    pairs: Pairs

    def hold(self, here: Structure, cutoff: float) -> bool:
        """Whether no pair can have come into the cut-off from outside the list.

        The cell's strain E and what each atom moves beyond it change a distance d by at most
        |E| d + 2 max|u|.
        """
        old, strain = self.structure, 0.0
        moved = here.positions - old.positions
        if not np.array_equal(old.cell, here.cell):
            if not old.periodic.all():
                return False
            gradient = np.linalg.solve(old.cell, here.cell)
            strain = float(np.linalg.norm(gradient - np.eye(3)))
            moved = here.positions - old.positions @ gradient
        farthest = float(np.sqrt(np.max(np.sum(moved * moved, axis=1))))
        return 2 * farthest + strain * (cutoff + SKIN) < SKIN


class BatchedCall:
    """Evaluates structures that move little from call to call; remembers pairs and shape.

    Native potentials evaluate all in one call (the caller bounds their number and has checked
    that they suit), others one by one; one failure costs no other.
    """

    def __init__(self, potential: AbstractPotential, want: Sequence[Quantity]) -> None:
        self.potential = potential
        self.want = tuple(want)
        self._known: dict[int, _Candidates] = {}
        self._room = Room()
        self._spacious = 0

    def labels(
        self, keys: Sequence[int], structures: Sequence[Structure]
    ) -> list[Labels | KaratError]:
        """Labels or the error of each structure; a key names the same atoms in every call."""
        if not structures:
            return []
        if not isinstance(self.potential, NativePotential):
            return [predict_each(self.potential, [each], self.want)[0] for each in structures]
        module = self.potential.module
        lists = self._pairs(keys, structures, module.cutoff)
        batch = self._batch(structures, lists, module.cutoff, module.needs_triplets)
        derived = derive_compiled(module, batch)
        energies, stress = np.asarray(derived.energies, float), np.asarray(derived.stress, float)
        ends = np.cumsum([len(structure) for structure in structures])
        forces = np.split(np.asarray(derived.forces, float), ends)
        found: list[Labels | KaratError] = []
        for place, structure in enumerate(structures):
            labels = Labels(
                energy=energies[place] + self.potential.offset(structure),
                forces=forces[place],
                stress=stress[place] if "stress" in self.want else None,
            )
            try:
                found.append(require_finite(labels, type(module).__name__))
            except KaratError as error:
                found.append(error)
        return found

    def _pairs(
        self, keys: Sequence[int], structures: Sequence[Structure], cutoff: float
    ) -> list[Pairs]:
        """Candidate pairs of each, found anew where they may not hold any longer."""
        known = {}
        for key, structure in zip(keys, structures):
            old = self._known.get(key)
            if old is None or not old.hold(structure, cutoff):
                old = _Candidates(structure, neighbour_pairs(structure, cutoff + SKIN))
            known[key] = old
        self._known = known
        return [known[key].pairs for key in keys]

    def _batch(
        self,
        structures: Sequence[Structure],
        lists: Sequence[Pairs],
        cutoff: float,
        with_triplets: bool,
    ) -> Batch:
        """What `make_batch` would build, in the room that was taken before."""
        atoms = np.array([len(structure) for structure in structures])
        system = np.repeat(np.arange(len(structures)), [len(pairs) for pairs in lists])
        offsets = (np.cumsum(atoms) - atoms)[system]
        centers = np.concatenate([pairs.centers for pairs in lists]) + offsets
        neighbours = np.concatenate([pairs.neighbours for pairs in lists]) + offsets
        shifts = np.concatenate([pairs.shifts for pairs in lists])
        positions = np.concatenate([structure.positions for structure in structures])
        cells = np.stack([structure.cell for structure in structures])
        vectors = positions[neighbours] - positions[centers]
        vectors += np.einsum("pi,pij->pj", shifts, cells[system])
        near = np.sum(vectors * vectors, axis=1) < cutoff * cutoff
        centers, neighbours, vectors = centers[near], neighbours[near], vectors[near]
        triplets = _triplets(centers) if with_triplets else np.zeros((0, 2), int)
        room = self._take(
            Room(len(positions) + 1, max(1, len(centers)), len(triplets), len(structures) + 1)
        )
        dtype = vectors.dtype
        if isinstance(self.potential, NativePotential):
            dtype = self.potential.dtype
        far = np.array([PADDING_DISTANCE, 0.0, 0.0], dtype)
        numbers = np.concatenate([structure.numbers for structure in structures])
        volumes = np.array([one.volume if one.periodic.all() else 1.0 for one in structures])
        last, owner = room.atoms - 1, np.repeat(np.arange(len(structures)), atoms)
        arrays = {
            "numbers": pad(numbers, room.atoms, 0).astype(np.int32),
            "system": pad(owner, room.atoms, room.systems - 1).astype(np.int32),
            "centers": pad(centers, room.pairs, last).astype(np.int32),
            "neighbours": pad(neighbours, room.pairs, last).astype(np.int32),
            "vectors": pad(vectors.astype(dtype), room.pairs, far),
            "pair_mask": np.arange(room.pairs) < len(centers),
            "triplets": None,
            "triplet_mask": None,
            "volume": pad(volumes, room.systems, 1.0).astype(dtype),
        }
        if with_triplets:
            arrays["triplets"] = pad(triplets, room.triplets, room.pairs - 1).astype(np.int32)
            arrays["triplet_mask"] = np.arange(room.triplets) < len(triplets)
        return Batch(**jax.device_put(arrays))

    def _take(self, need: Room) -> Room:
        """The room that is there if it fits and has not been far too large for long."""
        enough = all(
            TOO_LARGE * part <= size for part, size in zip(astuple(need)[:2], astuple(self._room))
        )
        self._spacious = self._spacious + 1 if enough else 0
        if self._spacious > PATIENCE:
            self._room, self._spacious = Room(), 0
        self._room = self._room.holding(need)
        return self._room


def _triplets(centers: Int[np.ndarray, "pairs"]) -> Int[np.ndarray, "triplets 2"]:
    """All (a, b), a < b, of pairs with one centre; `centers` is sorted."""
    ends = np.searchsorted(centers, centers, side="right")
    first = np.arange(len(centers))
    partners = ends - first - 1
    a = np.repeat(first, partners)
    within = np.arange(len(a)) - np.repeat(np.cumsum(partners) - partners, partners)
    return np.stack([a, a + 1 + within], axis=1)
