"""Equations of a linear fit: rows of the design matrix for energies, forces and stresses.

An energy row holds the mean of an atom's features over a structure, a force row minus their
derivative with respect to a coordinate, a stress row their virial per atom (the stress times the
volume per atom, eV): all rows are of the size of one atom, whatever the size of the structure.

Checked: tests/potentials/linear/test_design.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse import csr_matrix

from karat.potentials.batch import PADDING_DISTANCE, Batch, pad, round_up
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.native_protocol import AbstractNativePotential
from karat.structures.neighbours import Pairs, neighbour_pairs
from karat.structures.structure import Structure

BLOCK_BYTES = 2**24
"""Derivatives that one compiled call returns."""
BLOCK_ATOMS = 256
"""And at most so many atoms: the last block of a group is half empty on average."""
GROUP_BYTES = 2**26
"""Force rows of the structures that are worked on together."""
GROUP_ATOMS = 2048
"""Their atoms: what is reported and saved in one go."""
WASTE = 2.0
"""Rows of pairs may be padded to so many times their length before another shape is compiled."""
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Order of the stress rows: xx, yy, zz, yz, xz, xy."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The design matrix of one structure, and what the repulsion adds to each row's target.

    Attributes:
        atoms: features of each atom.
        forces: rows (x, y, z of the first atom, of the second, …); `None` where not asked for.
        virial: six rows in the order of `VOIGT`; of a structure that is not periodic in three
            directions they mean nothing.
        core_energy: of the repulsion, eV/atom.
        core_forces: of the repulsion, eV/Å.
        core_virial: of the repulsion, eV/atom.
    """

    atoms: Float[np.ndarray, "atoms features"]
    forces: Float[np.ndarray, "rows features"] | None
    virial: Float[np.ndarray, "6 features"] | None
    core_energy: float
    core_forces: Float[np.ndarray, "rows"] | None
    core_virial: Float[np.ndarray, "6"] | None

    @property
    def energy(self) -> Float[np.ndarray, "features"]:
        """The energy row: mean features, eV/atom."""
        mean: np.ndarray = self.atoms.mean(axis=0)
        return mean


class Design:
    """Makes rows, compiled for a few shapes of blocks of atoms, with bounded memory.

    Args:
        module: its features are the columns; coefficients play no part.
        derivatives: whether force and virial rows are made, too.

    Attributes:
        widths: pairs of each atom → atoms of the blocks that were compiled.
    """

    def __init__(self, module: AbstractLinearModule, derivatives: bool = True) -> None:
        self.module = module
        self.derivatives = derivatives
        self.widths: dict[int, int] = {}

    @property
    def features(self) -> int:
        """Number of columns."""
        return int(self.module.coefficients.shape[0])

    def rows(self, structures: Sequence[Structure]) -> Iterator[Rows]:
        """The rows of each structure, in order; those of a few are in memory at a time."""
        group: list[Structure] = []
        limit = min(GROUP_ATOMS, GROUP_BYTES // (24 * self.features))
        for structure in structures:
            if group and sum(map(len, group)) + len(structure) > limit:
                yield from self._group(group)
                group = []
            group.append(structure)
        if group:
            yield from self._group(group)

    def _group(self, structures: list[Structure]) -> list[Rows]:
        """Rows of structures whose force rows fit into memory together."""
        lists = [neighbour_pairs(structure, self.module.cutoff) for structure in structures]
        longest = [int(np.bincount(p.centers).max()) if len(p) else 1 for p in lists]
        found: dict[int, Rows] = {}
        classes: dict[int, list[int]] = {}
        for index in sorted(range(len(longest)), key=lambda i: -longest[i]):
            width = self._width(longest[index], classes)
            classes.setdefault(width, []).append(index)
        for width, members in classes.items():
            members.sort()
            several = _Several([structures[i] for i in members], [lists[i] for i in members])
            found.update(zip(members, self._assemble(several, width)))
        return [found[i] for i in range(len(structures))]

    def _width(self, needed: int, planned: Iterable[int]) -> int:
        """Pairs of each atom in a compiled shape: one that is there already where it will do."""
        known = {*self.widths, *planned}
        fitting = [width for width in known if needed <= width <= WASTE * needed]
        return min(fitting) if fitting else round_up(needed)

    def _block(self, width: int, atoms: int) -> int:
        """Atoms of a compiled block, one of padding included."""
        if width not in self.widths:
            most = max(8, BLOCK_BYTES // (24 * width * self.features))
            # powers of two: fits to more or fewer structures compile the same shapes
            most = min(most, BLOCK_ATOMS)
            self.widths[width] = 2 ** min(most.bit_length() - 1, (atoms - 1).bit_length()) + 1
        return self.widths[width]

    def _assemble(self, several: "_Several", width: int) -> list[Rows]:
        size = self._block(width, several.count) - 1
        sums = _Sums.zeros(several, self.features, self.derivatives)
        for start in range(0, several.count, size):
            stop = min(start + size, several.count)
            batch, pairs = several.block(start, stop, size, width, self._dtype)
            block = _evaluate(self.module, batch, self.derivatives)
            sums.add(several, start, stop, width, pairs, block)
        return sums.rows(several)

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(self.module.coefficients.dtype)


class _Block(eqx.Module):
    """What is computed of a block of atoms: features, slopes, and those of the repulsion."""

    features: Float[Array, "atoms features"]
    slopes: Float[Array, "pairs 3 features"] | None
    core: Float[Array, "atoms"] | None
    core_slopes: Float[Array, "pairs 3"] | None


@eqx.filter_jit
def _evaluate(module: AbstractLinearModule, batch: Batch, derivatives: bool) -> _Block:
    if derivatives:
        features, found = module.features_and_slopes(batch)
        slopes = jnp.swapaxes(found, 1, 2)
    else:
        features, slopes = module.features(batch), None
    core = core_slopes = None
    if module.repulsion is not None:
        core, core_slopes = _repulsion(module.repulsion, batch)
    return _Block(features, slopes, core, core_slopes)


def _repulsion(potential: AbstractNativePotential, batch: Batch) -> tuple[Array, Array]:
    def total(vectors: Float[Array, "pairs 3"]) -> tuple[Array, Array]:
        moved = eqx.tree_at(lambda b: b.vectors, batch, vectors)
        energies = potential.evaluate(moved).atom_energies
        return jnp.sum(energies), energies

    gradient, energies = jax.grad(total, has_aux=True)(batch.vectors)
    return energies, jnp.where(batch.pair_mask[:, None], gradient, 0)


class _Several:
    """Structures side by side: their atoms numbered through, with their neighbour lists."""

    def __init__(self, structures: list[Structure], lists: list[Pairs]) -> None:
        self.structures = structures
        sizes = np.array([len(s) for s in structures])
        self.ends = np.cumsum(sizes)
        self.count = int(self.ends[-1])
        self.numbers = np.concatenate([s.numbers for s in structures]).astype(np.int32)
        offsets = self.ends - sizes
        self.centers = np.concatenate([p.centers + o for p, o in zip(lists, offsets)])
        self.neighbours = np.concatenate([p.neighbours + o for p, o in zip(lists, offsets)])
        self.vectors = np.concatenate([p.vectors for p in lists])
        counts = np.bincount(self.centers, minlength=self.count)
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        place = np.arange(len(self.centers)) - self.starts[self.centers]
        self.place = place  # of each pair in its atom's row

    def block(
        self, start: int, stop: int, size: int, width: int, dtype: np.dtype
    ) -> tuple[Batch, slice]:
        """The batch of some consecutive atoms, in rows of pairs, and which pairs they are."""
        pairs = slice(int(self.starts[start]), int(self.starts[stop]))
        slots = self.slots(start, pairs, width)
        total = (size + 1) * width
        vectors = np.empty((total, 3), dtype)
        vectors[:] = (PADDING_DISTANCE, 0.0, 0.0)
        vectors[slots] = self.vectors[pairs]
        mask = np.zeros(total, bool)
        mask[slots] = True
        elements = np.zeros(total, np.int32)
        elements[slots] = self.numbers[self.neighbours[pairs]]
        arrays = {
            "numbers": pad(self.numbers[start:stop], size + 1, 0),
            "system": pad(np.zeros(stop - start, np.int32), size + 1, 1),
            "centers": np.repeat(np.arange(size + 1, dtype=np.int32), width),
            "neighbours": np.full(total, size, np.int32),  # a block does not hold them
            "vectors": vectors,
            "pair_mask": mask,
            "volume": np.ones(2, dtype),
            "elements": elements,
        }
        placed = jax.device_put(arrays)
        return Batch(triplets=None, triplet_mask=None, width=width, **placed), pairs

    def slots(self, start: int, pairs: slice, width: int) -> np.ndarray:
        """Where each pair stands in the block's rows."""
        slots: np.ndarray = (self.centers[pairs] - start) * width + self.place[pairs]
        return slots


@dataclass(eq=False)
class _Sums:
    """Sums over pairs, filled block by block: gradients by coordinate, virials by structure."""

    atoms: np.ndarray
    gradient: np.ndarray | None
    virial: np.ndarray | None
    core: np.ndarray
    core_gradient: np.ndarray
    core_virial: np.ndarray

    @classmethod
    def zeros(cls, several: _Several, features: int, derivatives: bool) -> "_Sums":
        atoms, systems = several.count, len(several.structures)
        return cls(
            atoms=np.zeros((atoms, features)),
            gradient=np.zeros((atoms, 3 * features)) if derivatives else None,
            virial=np.zeros((systems, 3, 3 * features)) if derivatives else None,
            core=np.zeros(atoms),
            core_gradient=np.zeros((atoms, 3)),
            core_virial=np.zeros((systems, 3, 3)),
        )

    def add(
        self,
        several: _Several,
        start: int,
        stop: int,
        width: int,
        pairs: slice,
        block: _Block,
    ) -> None:
        self.atoms[start:stop] = np.asarray(block.features)[: stop - start]
        if block.core is not None:
            self.core[start:stop] = np.asarray(block.core)[: stop - start]
        if self.gradient is None or self.virial is None or pairs.start == pairs.stop:
            return
        touched, matrix = _incidence(several, start, pairs, width, block.features.shape[0] * width)
        slopes = np.asarray(block.slopes, np.float64)
        flat = slopes.reshape(len(slopes), -1)
        self.gradient[touched] += matrix @ flat
        core = None if block.core_slopes is None else np.asarray(block.core_slopes, np.float64)
        if core is not None:
            self.core_gradient[touched] += matrix @ core
        vectors = np.zeros((len(slopes), 3))
        vectors[several.slots(start, pairs, width)] = several.vectors[pairs]
        edges = np.clip(np.concatenate([[0], several.ends]), start, stop)
        for system in np.flatnonzero(np.diff(edges)):
            part = slice((edges[system] - start) * width, (edges[system + 1] - start) * width)
            self.virial[system] += vectors[part].T @ flat[part]
            if core is not None:
                self.core_virial[system] += vectors[part].T @ core[part]

    def rows(self, several: _Several) -> list[Rows]:
        """Signs, units and symmetry: the rows of each structure."""
        features = self.atoms.shape[1]
        made = []
        for system, (structure, end) in enumerate(zip(several.structures, several.ends)):
            own = slice(int(end) - len(structure), int(end))
            forces = virial = core_forces = core_virial = None
            if self.gradient is not None and self.virial is not None:
                forces = -self.gradient[own].reshape(-1, features)
                virial = _voigt(self.virial[system].reshape(3, 3, features)) / len(structure)
                core_forces = -self.core_gradient[own].reshape(-1)
                core_virial = _voigt(self.core_virial[system][..., None])[:, 0] / len(structure)
            made.append(
                Rows(
                    atoms=self.atoms[own],
                    forces=forces,
                    virial=virial,
                    core_energy=float(self.core[own].mean()),
                    core_forces=core_forces,
                    core_virial=core_virial,
                )
            )
        return made


def _incidence(
    several: _Several, start: int, pairs: slice, width: int, total: int
) -> tuple[np.ndarray, csr_matrix]:
    """The atoms that a block's pairs touch, and what each pair's slope adds to their gradients:
    -1 at its centre, +1 at its neighbour."""
    slots = several.slots(start, pairs, width)
    ends = np.concatenate([several.centers[pairs], several.neighbours[pairs]])
    touched, place = np.unique(ends, return_inverse=True)
    signs = np.repeat([-1.0, 1.0], len(slots))
    entries = (signs, (place.reshape(-1), np.concatenate([slots, slots])))
    return touched, csr_matrix(entries, shape=(len(touched), total))


def _voigt(tensor: np.ndarray) -> np.ndarray:
    """(3, 3, n) → symmetric part, (6, n)."""
    return np.stack([0.5 * (tensor[a, b] + tensor[b, a]) for a, b in VOIGT])


def voigt(stress: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "6"]:
    """A symmetric tensor's components in the order of the stress rows."""
    return np.array([stress[a, b] for a, b in VOIGT])
