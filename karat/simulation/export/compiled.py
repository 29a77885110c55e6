"""A potential called again and again for one list of atoms, as engines do.

Native potentials keep their compiled function, and their neighbour list until an atom has moved
through half of its skin; nothing else is made anew in a call.

Checked: tests/simulation/export/test_compiled.py.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from karat.core.errors import CalculationFailed
from karat.potentials.batch import PADDING_DISTANCE, Batch, pad, round_up, triplet_indices
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, derive
from karat.potentials.protocol import AbstractPotential
from karat.structures.labels import Quantity
from karat.structures.structure import Structure

SKIN = 0.5
"""Å beyond the cut-off."""
ALL_PAIRS = 24
"""Molecules up to this size list every pair once and for all."""
SPARE = 1.1
"""Room in arrays beyond what was needed when they were made: sizes rarely change."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What an engine needs.

    Attributes:
        energy: eV.
        forces: eV/Å.
        virial: Σ r ⊗ ∂E/∂r = volume times stress (tension positive), eV; `None` if not asked for.
    """

    energy: float
    forces: Float[np.ndarray, "atoms 3"]
    virial: Float[np.ndarray, "3 3"] | None


Evaluator = Callable[[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "3 3"]], Answer]
"""Positions (Å) and cell (Å, rows) → answer."""


def make_evaluator(
    potential: AbstractPotential, structure: Structure, virial: bool = False
) -> Evaluator:
    """The fastest way to call `potential` for the atoms of `structure` at other positions."""
    if isinstance(potential, NativePotential):
        return CompiledNative(potential, structure)
    return Predicting(potential, structure, virial)


class Predicting:
    """Any potential, through `predict`."""

    def __init__(self, potential: AbstractPotential, structure: Structure, virial: bool) -> None:
        self._potential, self._structure, self._virial = potential, structure, virial

    def __call__(
        self, positions: Float[np.ndarray, "atoms 3"], cell: Float[np.ndarray, "3 3"]
    ) -> Answer:
        structure = self._structure.replace(positions=positions, cell=cell)
        want: tuple[Quantity, ...] = ("energy", "forces")
        if self._virial:
            want += ("stress",)
        labels = self._potential.predict([structure], want)[0]
        assert labels.energy is not None
        assert labels.forces is not None
        virial = labels.stress * structure.volume if labels.stress is not None else None
        return Answer(float(labels.energy), np.asarray(labels.forces), virial)


@functools.lru_cache(maxsize=32)
def _compiled(tree: Any, static_tree: Any, static_leaves: tuple, dtype: np.dtype) -> Callable:
    """The function of all potentials of one form, so that a second one compiles nothing.

    It takes a module's arrays, a batch whose vectors do not matter, the lattice translation of
    each pair and all positions; energy, forces and virial of system 0 come back.
    """

    def compute(
        parameters: list[Array],
        batch: Batch,
        offsets: Float[Array, "pairs 3"],
        positions: Float[Array, "atoms 3"],
    ) -> tuple[Array, Array, Array]:
        module: AbstractNativePotential = eqx.combine(
            jax.tree.unflatten(tree, parameters), jax.tree.unflatten(static_tree, static_leaves)
        )
        vectors = positions[batch.neighbours] - positions[batch.centers] + offsets
        batch = eqx.tree_at(lambda b: b.vectors, batch, vectors.astype(dtype))
        derived = derive(module, batch)
        return derived.energies[0], derived.forces, derived.stress[0]

    return jax.jit(compute)


class ListKernel:
    """The compiled function of a native potential on a given list of pairs.

    Arrays only grow, so that a function is compiled rarely.

    Args:
        species: atomic numbers of all atoms that may come.
    """

    def __init__(self, potential: NativePotential, species: Sequence[int]) -> None:
        self._dtype = potential.dtype
        self._triplets = potential.module.needs_triplets
        self._gradient = potential.module.conservative
        module = potential.module.prepared(tuple(sorted(set(species))))
        dynamic, static = eqx.partition(module, eqx.is_array)
        self._parameters, tree = jax.tree.flatten(dynamic)
        leaves, static_tree = jax.tree.flatten(static)
        self._compute = _compiled(tree, static_tree, tuple(leaves), self._dtype)
        self._room = (0, 0, 0)

    def set_list(
        self,
        numbers: Int[np.ndarray, "atoms"],
        centers: Int[np.ndarray, "pairs"],
        neighbours: Int[np.ndarray, "pairs"],
        owned: int,
    ) -> None:
        """Use this list: `centers` ascending, all below `owned`; energies of atoms from `owned`
        on (ghosts) are left out of the sum."""
        triplets = triplet_indices(centers) if self._triplets else np.zeros((0, 2), np.int64)
        needed = (len(numbers) + 1, len(centers) + 1, len(triplets))
        if any(new > old for new, old in zip(needed, self._room)):
            spare = [round_up(int(SPARE * new) + 1) for new in needed]
            self._room = (
                max(self._room[0], spare[0]),
                max(self._room[1], spare[1]),
                max(self._room[2], spare[2]),
            )
        atoms, pairs, angles = self._room
        last = atoms - 1
        arrays = {
            "numbers": pad(numbers, atoms, 0).astype(np.int32),
            "system": (np.arange(atoms) >= owned).astype(np.int32),
            "centers": pad(centers, pairs, last).astype(np.int32),
            "neighbours": pad(neighbours, pairs, last).astype(np.int32),
            "vectors": np.zeros((pairs, 3), self._dtype),
            "pair_mask": np.arange(pairs) < len(centers),
            "triplets": None,
            "triplet_mask": None,
            "volume": np.ones(2, self._dtype),
        }
        if self._triplets:
            arrays["triplets"] = pad(triplets, angles, pairs - 1).astype(np.int32)
            arrays["triplet_mask"] = np.arange(angles) < len(triplets)
        self._batch = Batch(**jax.device_put(arrays))
        self._positions = np.zeros((atoms, 3))
        self._atoms, self._pairs = len(numbers), len(centers)

    def set_offsets(self, offsets: Float[np.ndarray, "pairs 3"]) -> None:
        """Lattice translation (Å) of each pair's neighbour."""
        padded = np.zeros((self._room[1], 3))
        padded[: self._pairs] = offsets
        padded[self._pairs :, 0] = PADDING_DISTANCE
        self._offsets = jnp.asarray(padded)

    def __call__(self, positions: Float[np.ndarray, "atoms 3"]) -> Answer:
        """Energy of the owned atoms, forces on all atoms, the virial (`None` where forces are not
        the energy's negative gradient).

        Raises:
            CalculationFailed: kind ``not-finite``.
        """
        self._positions[: self._atoms] = positions
        found = self._compute(self._parameters, self._batch, self._offsets, self._positions)
        energy, forces, virial = (np.asarray(one, np.float64) for one in found)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise CalculationFailed("the potential returned NaN or infinity.", kind="not-finite")
        return Answer(float(energy), forces[: self._atoms], virial if self._gradient else None)


class CompiledNative:
    """A native potential for the atoms of one structure; atoms may be wrapped between calls.

    Attributes:
        builds: how often the neighbour list was made.
    """

    def __init__(self, potential: NativePotential, structure: Structure) -> None:
        self.builds = 0
        self._kernel = ListKernel(potential, structure.numbers.tolist())
        self._cutoff = potential.module.cutoff
        self._numbers = structure.numbers
        self._periodic: Bool[np.ndarray, "3"] = structure.periodic
        self._offset = potential.offset(structure)
        self._all = not structure.periodic.any() and len(structure) <= ALL_PAIRS
        self._cell: Any = None

    def __call__(
        self, positions: Float[np.ndarray, "atoms 3"], cell: Float[np.ndarray, "3 3"]
    ) -> Answer:
        """Energy, forces and virial.

        Raises:
            CalculationFailed: kind ``not-finite``.
        """
        if not np.isfinite(positions).all():
            raise CalculationFailed("positions are not finite: exploded.", kind="not-finite")
        if self._cell is None:
            self._build(positions, cell)
        elif not self._all:
            positions = self._follow(positions, cell)
        answer = self._kernel(positions)
        return Answer(answer.energy + self._offset, answer.forces, answer.virial)

    def _build(self, positions: np.ndarray, cell: np.ndarray) -> None:
        self.builds += 1
        reach = 1e6 if self._all else self._cutoff + SKIN
        centers, neighbours, self._shifts = search(positions, cell, self._periodic, reach)
        self._built_at, self._built_in = np.array(positions), _completed(cell, self._periodic)
        self._built_inverse = np.linalg.inv(self._built_in)
        self._kernel.set_list(self._numbers, centers, neighbours, len(positions))
        self._set_cell(cell)

    def _set_cell(self, cell: np.ndarray) -> None:
        self._cell = np.array(cell)
        self._full = _completed(cell, self._periodic)
        self._back = np.linalg.inv(self._full) @ self._built_in
        self._stretch = float(np.linalg.norm(self._back, 2))
        self._unchanged = bool(np.array_equal(self._full, self._built_in))
        self._kernel.set_offsets(self._shifts @ self._full)

    def _follow(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Positions nearest to those of the last build (lattice translations undone); builds
        anew where the list may miss a pair.

        With the cell C now and C₀ then, a pair within the cut-off r now was within
        r ‖C⁻¹C₀‖ + 2 max |moved| then, displacements being measured in C₀.
        """
        if not np.array_equal(cell, self._cell):
            self._set_cell(cell)
        moved = (positions if self._unchanged else positions @ self._back) - self._built_at
        if self._holds(moved):
            return positions  # not wrapped: a lattice translation is longer than the skin
        if self._periodic.any():
            turns = np.round(moved @ self._built_inverse) * self._periodic
            if turns.any():
                positions, moved = positions - turns @ self._full, moved - turns @ self._built_in
        if not self._holds(moved):
            self._build(positions, cell)
        return positions

    def _holds(self, moved: np.ndarray) -> bool:
        """Whether the list has every pair after these displacements."""
        furthest = float(np.sqrt(np.max(np.einsum("ij,ij->i", moved, moved))))
        return self._cutoff * self._stretch + 2 * furthest <= self._cutoff + SKIN


def search(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    periodic: Bool[np.ndarray, "3"],
    cutoff: float,
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs 3"]]:
    """Centres (ascending), neighbours and lattice translations of all pairs closer than `cutoff`.

    As `karat.structures.neighbours.neighbour_pairs`, but sorted by centre only: sorting by all
    keys takes longer than the search.
    """
    import vesin

    if not periodic.any():  # beyond the molecule, vesin's cells would all be empty
        cutoff = min(cutoff, float(np.linalg.norm(np.ptp(positions, axis=0))) + 1.0)
    box = np.where(periodic[:, None], cell, 0.0)
    centers, neighbours, shifts = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
        points=positions, box=box, periodic=periodic, quantities="ijS"
    )
    centers = np.asarray(centers, np.int64)
    order = np.argsort(centers, kind="stable")
    return (
        centers[order],
        np.asarray(neighbours, np.int64)[order],
        np.asarray(shifts, np.int64)[order],
    )


def _completed(
    cell: Float[np.ndarray, "3 3"], periodic: Bool[np.ndarray, "3"]
) -> Float[np.ndarray, "3 3"]:
    """The cell with unit vectors at right angles along directions that do not repeat."""
    from ase.geometry.cell import complete_cell

    return np.asarray(complete_cell(np.where(periodic[:, None], cell, 0.0)))
