"""Which structures share a batch, and the one or two padded shapes of all batches.

A batch's cost is that of its padded pairs (triplets where the potential needs them). Structures
are spread over the batches of an epoch so that all have nearly the same number of pairs: in a
random order in which large ones tend to come first, each goes into the emptiest batch (Graham,
SIAM J. Appl. Math. 17, 416 (1969)). No batch is left half full at the end of an epoch, as filling
one batch after the other would.

Checked: tests/training/test_packing.py.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

Sizes = tuple[int, int, int, int]
"""Padded numbers of atoms, pairs, triplets and systems."""

Counts = Int[np.ndarray, "structures 3"]
"""Atoms, pairs, triplets of each structure."""

MOST_WASTE = 0.15
"""Padding, as part of all pairs that are computed, that may not be exceeded."""
ONE_SHAPE = 0.10
"""Up to so much padding with one shape a second one is not worth its compilation."""
GROWTH = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0)
"""Factors by which batches may hold more structures than asked for."""
TRIED_BATCHES = 200
"""Shapes are chosen from so many batches or more, of whole epochs, at most 32."""
STEPS_PER_OCTAVE = 16
"""Shapes are rounded up by at most 6 %, so that other seeds and similar data share compiled
code."""


@dataclass(frozen=True)
class Shapes:
    """At most two padded shapes, so that each step is compiled once or twice.

    Attributes:
        small, large: every batch fits into `large`, most into `small`.
    """

    small: Sizes
    large: Sizes

    @property
    def number(self) -> int:
        """One or two."""
        return 1 if self.small == self.large else 2

    def of(self, real: Sizes) -> Sizes:
        """The smaller shape that this fits into."""
        return self.small if fits(real, self.small) else self.large


@dataclass(frozen=True, eq=False)
class Packing:
    """How the structures of a run are put into batches.

    Attributes:
        counts: of all structures.
        shapes: of the batches.
        batches: of an epoch; some epochs may have one or two more.
        seed: of the shuffling.
        waste: part of the computed pairs (triplets) that is padding, over the epochs tried.
        note: why that is more than 15 %, "" where it is not.
    """

    counts: Counts
    shapes: Shapes
    batches: int
    seed: int
    waste: float
    note: str

    @property
    def structures_per_batch(self) -> float:
        """Mean over an epoch."""
        return len(self.counts) / self.batches

    def summary(self) -> dict[str, Any]:
        """JSON-ready, for people."""
        shapes = dict.fromkeys((self.shapes.small, self.shapes.large))
        return {
            "structures_per_batch": self.structures_per_batch,
            "shapes": [list(shape) for shape in shapes],
            "padding": self.waste,
            "note": self.note,
        }

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Indices of each batch: each structure once; from seed and epoch alone."""
        return _repaired(
            spread(self.counts, self.batches, self.seed, epoch), self.counts, self.shapes
        )

    @property
    def unit(self) -> int:
        """The column of `counts` that costs: triplets where there are any, else pairs."""
        return _unit(self.counts)

    def size(self, batch: np.ndarray) -> Sizes:
        """The shape of a batch."""
        return self.shapes.of(real_sizes(self.counts, batch))

    def size_of_all(self, batches: Sequence[np.ndarray]) -> Sizes:
        """The shape that all of these fit into."""
        sizes = {self.size(batch) for batch in batches}
        return self.shapes.large if self.shapes.large in sizes else self.shapes.small


def pack(counts: Counts, batch_size: int, seed: int) -> Packing:
    """Batches of about `batch_size` times the mean number of pairs, at most 15 % padding.

    Where padding would be more with one or two shapes, batches hold up to four times as many
    structures; where that does not help either (a few structures of very different sizes), the
    way with the least padding is taken and `note` says so.
    """
    best: Packing | None = None
    fewest = math.ceil(len(counts) / batch_size)
    for batches in dict.fromkeys(max(1, round(fewest / growth)) for growth in GROWTH):
        epochs = range(min(math.ceil(TRIED_BATCHES / batches), 32))
        tried = [spread(counts, batches, seed, epoch) for epoch in epochs]
        shapes = choose_shapes(counts, [batch for epoch in tried for batch in epoch])
        packing = Packing(counts, shapes, batches, seed, 0.0, "")
        waste = measured_waste(packing, epochs)
        if best is None or waste < best.waste:
            best = Packing(counts, shapes, batches, seed, waste, "")
        if best.waste <= MOST_WASTE:
            return best
    assert best is not None
    note = (
        f"{100 * best.waste:.0f} % of the computed pairs are padding: {len(counts)} structures of "
        "very different sizes do not fill batches evenly; a larger batch_size may help"
    )
    return Packing(counts, best.shapes, best.batches, seed, best.waste, note)


def spread(counts: Counts, batches: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Each structure once in `batches` batches with nearly equal numbers of pairs (and of
    structures, where all are of one size), in random order."""
    generator = np.random.default_rng([seed, epoch])
    load = counts[:, 0] + counts[:, _unit(counts)]
    order = np.argsort(-load * generator.uniform(1.0, 2.0, len(counts)), kind="stable")
    heap = [(0, place, i) for i, place in enumerate(generator.permutation(batches).tolist())]
    heapq.heapify(heap)
    members: list[list[int]] = [[] for _ in range(batches)]
    loads = load.tolist()
    for index in order.tolist():
        filled, place, batch = heap[0]
        members[batch].append(index)
        heapq.heapreplace(heap, (filled + loads[index], place, batch))
    return [np.array(batch) for batch in members if batch]


def measured_waste(packing: Packing, epochs: Sequence[int]) -> float:
    """Part of the computed pairs (triplets, where there are any) that is padding."""
    unit = _unit(packing.counts)
    padded = sum(packing.size(batch)[unit] for epoch in epochs for batch in packing.epoch(epoch))
    return 1.0 - len(epochs) * int(packing.counts[:, unit].sum()) / max(padded, 1)


def choose_shapes(counts: Counts, batches: Sequence[np.ndarray]) -> Shapes:
    """Shapes for these batches, and for each structure alone: one, or where that would be more
    than 10 % padding the two with the least."""
    real = np.array([real_sizes(counts, batch) for batch in batches])
    alone = np.append(counts.max(axis=0) + np.array([1, 1, 0]), 2)
    large = rounded(np.maximum(real.max(axis=0), alone))
    unit = _unit(counts)
    ordered = np.sort(real[:, unit])
    if 1 - ordered.mean() / large[unit] <= ONE_SHAPE:
        return Shapes(large, large)
    below = np.arange(1, len(ordered) + 1)  # batches in the small shape, by its size
    cost = below * ordered + (len(ordered) - below) * large[unit]
    limit = ordered[int(np.argmin(cost))]
    small = rounded(real[real[:, unit] <= limit].max(axis=0))
    if small[unit] >= large[unit]:
        return Shapes(large, large)
    a, b, c, d = (min(pair) for pair in zip(small, large))
    return Shapes((a, b, c, d), large)


def real_sizes(counts: Counts, batch: np.ndarray) -> Sizes:
    """What a batch needs at least: one atom, one pair and one system of padding."""
    atoms, pairs, triplets = counts[batch].sum(axis=0).tolist()
    return atoms + 1, pairs + 1, triplets, len(batch) + 1


def fits(real: Sizes, shape: Sizes) -> bool:
    """Whether a batch fits into a shape."""
    return all(need <= has for need, has in zip(real, shape))


def rounded(sizes: np.ndarray) -> Sizes:
    """The next shape of a geometric series."""
    atoms, pairs, triplets, systems = (_round_up(int(size)) for size in sizes)
    return atoms, pairs, triplets, systems


def _round_up(size: int) -> int:
    if size <= STEPS_PER_OCTAVE:
        return size
    step = 2 ** (size.bit_length() - 1) // STEPS_PER_OCTAVE
    return -(-size // step) * step


def _unit(counts: Counts) -> int:
    """The column that costs: triplets where there are any, else pairs."""
    return 2 if counts[:, 2].any() else 1


def _repaired(batches: list[np.ndarray], counts: Counts, shapes: Shapes) -> list[np.ndarray]:
    """The same batches with what does not fit into the large shape moved to others, or to new
    ones (rare: shapes were chosen from other epochs of the same structures)."""
    large = shapes.large
    if all(fits(real_sizes(counts, batch), large) for batch in batches):
        return batches
    members = [batch.tolist() for batch in batches]
    moved: list[int] = []
    for batch in members:
        while not fits(real_sizes(counts, np.array(batch)), large):
            moved.append(batch.pop())  # the last one came when the batch was fullest
    for index in moved:
        for batch in members:
            if fits(real_sizes(counts, np.array([*batch, index])), large):
                batch.append(index)
                break
        else:
            members.append([index])
    return [np.array(batch) for batch in members]
