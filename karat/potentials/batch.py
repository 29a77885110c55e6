"""`Batch`: several structures as one padded graph; what a native potential sees.

A native potential sees edge vectors, never positions: forces, stress and per-atom virials are
derived from them once, for all (`native_protocol.py`).

Checked: tests/potentials/test_batch.py.
"""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from karat.structures.neighbours import Pairs, neighbour_pairs
from karat.structures.structure import Structure


class Batch(eqx.Module):
    """A padded graph of one or more systems.

    The last atom and the last system are always padding: padding pairs start and end at the
    last atom, padding atoms belong to the last system and have atomic number 0. Pairs are
    sorted by centre (padding last). Padding vectors have length `PADDING_DISTANCE`, beyond any
    cut-off, so that no potential divides by zero; potentials must give exactly zero energy to
    pairs beyond their cut-off and to padding atoms.

    In dynamics pairs come in rows instead: `width` of them for each atom, in the order of atoms,
    with padding at the end of each row (its neighbour is the last atom).

    Attributes:
        numbers: atomic numbers, 0 on padding.
        system: index of each atom's system.
        centers, neighbours: atom indices of each pair.
        vectors: r_neighbour - r_center (image shift included), Å.
        pair_mask: False on padding.
        triplets: pairs of indices into the pair list, (a, b) with a < b of one centre, each
            unordered triplet once; or `None` where the potential needs none; padded with the
            last pair.
        triplet_mask: False on padding.
        volume: Å³, 1 where a system is not periodic in three directions.
        width: pairs of each atom where they come in rows.
        elements: atomic number of each pair's neighbour, where `neighbours` are atoms of a larger
            system that is evaluated in blocks; only strictly local potentials see such batches.
    """

    numbers: Int[Array, "atoms"]
    system: Int[Array, "atoms"]
    centers: Int[Array, "pairs"]
    neighbours: Int[Array, "pairs"]
    vectors: Float[Array, "pairs 3"]
    pair_mask: Bool[Array, "pairs"]
    triplets: Int[Array, "triplets 2"] | None
    triplet_mask: Bool[Array, "triplets"] | None
    volume: Float[Array, "systems"]
    width: int | None = eqx.field(static=True, default=None)
    elements: Int[Array, "pairs"] | None = None

    @property
    def atoms(self) -> int:
        """Number of atoms, padding included."""
        return self.numbers.shape[0]

    @property
    def systems(self) -> int:
        """Number of systems, the padding one included."""
        return self.volume.shape[0]

    @property
    def atom_mask(self) -> Bool[Array, "atoms"]:
        """False on padding."""
        return self.numbers > 0

    @property
    def neighbour_numbers(self) -> Int[Array, "pairs"]:
        """Atomic number of each pair's neighbour."""
        return self.numbers[self.neighbours] if self.elements is None else self.elements

    def sum_pairs(self, values: Num[Array, "pairs *shape"]) -> Num[Array, "atoms *shape"]:
        """Each atom's sum over its pairs."""
        if self.width is not None:
            return jnp.sum(values.reshape(self.atoms, self.width, *values.shape[1:]), axis=1)
        return jax.ops.segment_sum(
            values, self.centers, num_segments=self.atoms, indices_are_sorted=True
        )

    def spread(self, values: Num[Array, "atoms *shape"]) -> Num[Array, "pairs *shape"]:
        """The value of each pair's centre."""
        if self.width is not None:
            return jnp.repeat(values, self.width, axis=0)
        return values[self.centers]


PADDING_DISTANCE = 1.0e3
"""Å; length of padding vectors."""


def round_up(size: int, steps_per_octave: int = 4) -> int:
    """The next of a geometric series of sizes: few distinct shapes, at most 25 % waste."""
    if size <= steps_per_octave:
        return max(size, 1)
    step = 2 ** (int(np.floor(np.log2(size))) - int(np.log2(steps_per_octave)))
    return int(-(-size // step) * step)


def triplet_indices(centers: np.ndarray) -> np.ndarray:
    """All (a, b), a < b, of pairs with one centre; `centers` is sorted. Shape (triplets, 2)."""
    counts = np.bincount(centers) if len(centers) else np.zeros(0, int)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
    blocks = [
        np.stack(np.triu_indices(count, 1), axis=1) + start
        for start, count in zip(starts, counts)
        if count > 1
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, 2), int)


def pad(array: np.ndarray, size: int, fill: float | int | np.ndarray) -> np.ndarray:
    """`array` with rows of `fill` appended up to `size` rows."""
    padded = np.empty((size, *array.shape[1:]), dtype=array.dtype)
    padded[: len(array)] = array
    padded[len(array) :] = fill
    return padded


def make_batch(
    structures: Sequence[Structure],
    cutoff: float,
    dtype: np.dtype | type,
    with_triplets: bool,
    pair_lists: Sequence[Pairs] | None = None,
    sizes: tuple[int, int, int, int] | None = None,
) -> Batch:
    """Build a batch on the host and put it on the device.

    Args:
        structures: at least one.
        cutoff: Å.
        dtype: of the vectors.
        with_triplets: whether the potential needs triplets.
        pair_lists: neighbour lists, where they are known already.
        sizes: padded numbers of (atoms, pairs, triplets, systems), larger than the real ones
            for atoms and systems; by default each is rounded up.
    """
    lists = pair_lists or [neighbour_pairs(structure, cutoff) for structure in structures]
    atoms = np.array([len(structure) for structure in structures])
    offsets = np.concatenate([[0], np.cumsum(atoms)[:-1]])
    centers = np.concatenate([p.centers + o for p, o in zip(lists, offsets)])
    neighbours = np.concatenate([p.neighbours + o for p, o in zip(lists, offsets)])
    vectors = np.concatenate([p.vectors for p in lists]).astype(dtype)
    triplets = triplet_indices(centers) if with_triplets else np.zeros((0, 2), int)
    real = (int(atoms.sum()), len(centers), len(triplets), len(structures))
    n_atoms, n_pairs, n_triplets, n_systems = sizes or (
        round_up(real[0] + 1),
        round_up(real[1]),
        round_up(real[2]),
        round_up(real[3] + 1),
    )
    last = n_atoms - 1
    volumes = np.array([s.volume if s.periodic.all() else 1.0 for s in structures])
    far = np.array([PADDING_DISTANCE, 0.0, 0.0], dtype)
    numbers = np.concatenate([s.numbers for s in structures])
    owner = np.repeat(np.arange(len(structures)), atoms)
    arrays = {
        "numbers": pad(numbers, n_atoms, 0).astype(np.int32),
        "system": pad(owner, n_atoms, n_systems - 1).astype(np.int32),
        "centers": pad(centers, n_pairs, last).astype(np.int32),
        "neighbours": pad(neighbours, n_pairs, last).astype(np.int32),
        "vectors": pad(vectors, n_pairs, far),
        "pair_mask": np.arange(n_pairs) < real[1],
        "triplets": None,
        "triplet_mask": None,
        "volume": pad(volumes, n_systems, 1.0).astype(dtype),
    }
    if with_triplets:
        arrays["triplets"] = pad(triplets, n_triplets, n_pairs - 1).astype(np.int32)
        arrays["triplet_mask"] = np.arange(n_triplets) < real[2]
    return Batch(**jax.device_put(arrays))  # one transfer: single ones cost more than the rest


def in_rows(batch: Batch) -> Batch:
    """The same pairs in rows (`Batch.width`), as dynamics has them: as long as the longest and one
    place more, so that each ends with padding. Works on the host."""
    real = np.asarray(batch.pair_mask)
    centers = np.asarray(batch.centers)[real]
    counts = np.bincount(centers, minlength=batch.atoms)
    width = int(counts.max()) + 1
    starts = np.cumsum(counts) - counts
    place = np.arange(len(centers)) - starts[centers] + centers * width
    neighbours = np.full(batch.atoms * width, batch.atoms - 1, np.int32)
    neighbours[place] = np.asarray(batch.neighbours)[real]
    vectors = np.zeros((batch.atoms * width, 3), batch.vectors.dtype)
    vectors[:, 0] = PADDING_DISTANCE
    vectors[place] = np.asarray(batch.vectors)[real]
    mask = np.zeros(batch.atoms * width, bool)
    mask[place] = True
    triplets, triplet_mask = batch.triplets, batch.triplet_mask
    if triplets is not None:
        pairs = np.stack(np.triu_indices(width, 1), axis=1)
        first = width * np.arange(batch.atoms)
        every = (first[:, None, None] + pairs[None]).reshape(-1, 2).astype(np.int32)
        triplets, triplet_mask = jnp.asarray(every), jnp.asarray(mask[every].all(axis=1))
    return dataclasses.replace(
        batch,
        centers=jnp.asarray(np.repeat(np.arange(batch.atoms, dtype=np.int32), width)),
        neighbours=jnp.asarray(neighbours),
        vectors=jnp.asarray(vectors),
        pair_mask=jnp.asarray(mask),
        triplets=triplets,
        triplet_mask=triplet_mask,
        width=width,
    )
