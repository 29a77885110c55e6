"""Radial distribution functions, coordination numbers, distances within molecules.

Checked: tests/simulation/analysis/test_structure_functions.py, against the ideal gas, shells of
crystals, ASE, and sums over explicit images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import BadInput, UnknownElement, UnsuitableStructure
from karat.results.statistics import MIN_CASES, Interval
from karat.simulation.analysis.correlated import quantile, series_mean
from karat.simulation.dynamics import Trajectory
from karat.structures.structure import Structure

Frames = Trajectory | Sequence[Structure]
"""A run, or structures with the same atoms in the same order (cells may differ)."""
Elements = tuple[str, str]
"""Symbols of two elements."""


@dataclass(frozen=True, eq=False)
class RadialDistribution:
    """g(r) of one pair of elements, averaged over frames.

    Attributes:
        elements: centre and neighbour; g is the same the other way round.
        edges_angstrom: of the bins.
        g: mean over each bin; 1 where neighbours are spread evenly.
        g_low, g_high: 95 % interval from blocks of frames, bin by bin; `None` with a reason.
        coordination: neighbours of one centre up to the upper edge of each bin.
        coordination_low, coordination_high: the same.
        frames: how many were averaged.
        why_no_interval: reason where the intervals are `None`.
    """

    elements: Elements
    edges_angstrom: Float[np.ndarray, "edges"]
    g: Float[np.ndarray, "bins"]
    g_low: Float[np.ndarray, "bins"] | None
    g_high: Float[np.ndarray, "bins"] | None
    coordination: Float[np.ndarray, "bins"]
    coordination_low: Float[np.ndarray, "bins"] | None
    coordination_high: Float[np.ndarray, "bins"] | None
    frames: int
    why_no_interval: str = ""

    @property
    def centres_angstrom(self) -> Float[np.ndarray, "bins"]:
        """Middle of each bin, Å."""
        return 0.5 * (self.edges_angstrom[1:] + self.edges_angstrom[:-1])


@dataclass(frozen=True, eq=False)
class CoordinationNumber:
    """How many atoms of one element are nearer than a cut-off to an atom of another.

    Attributes:
        elements: centre and neighbour.
        cutoff_angstrom: distances below it count.
        mean: over centres and frames, 95 % interval from blocks of frames.
        per_frame: mean over centres.
    """

    elements: Elements
    cutoff_angstrom: float
    mean: Interval
    per_frame: Float[np.ndarray, "frames"]


@dataclass(frozen=True, eq=False)
class PairDistances:
    """How the distances between two elements of a molecule are distributed.

    Attributes:
        elements: of the two atoms.
        edges_angstrom: of the bins.
        density_per_angstrom: share of all such pairs per Å; sums to 1 times the bin width where
            no pair is further apart than the last edge.
        low, high: its 95 % interval from blocks of frames, bin by bin; `None` with a reason.
        frames: how many were averaged.
        why_no_interval: reason where the intervals are `None`.
    """

    elements: Elements
    edges_angstrom: Float[np.ndarray, "edges"]
    density_per_angstrom: Float[np.ndarray, "bins"]
    low: Float[np.ndarray, "bins"] | None
    high: Float[np.ndarray, "bins"] | None
    frames: int
    why_no_interval: str = ""


def radial_distributions(
    frames: Frames,
    maximum_angstrom: float,
    bins: int = 200,
    elements: Sequence[Elements] | None = None,
    blocks: int = 10,
) -> tuple[RadialDistribution, ...]:
    """g(r) = (pairs a-b in the shell) V / (N_a N_b · volume of the shell), by pair of elements.

    Any cell, and distances beyond half of it: every image counts, an atom's own too. An ideal
    gas of N atoms gives 1 for unlike and 1 - 1/N for like elements (below the cell's width). With
    cells that change, each frame has its own volume.

    Args:
        elements: by default all pairs of elements, in order of atomic number.
        blocks: consecutive parts of the run; each must be long against the time in which the
            structure forgets itself, or the intervals are too narrow. At least 8.

    Raises:
        UnsuitableStructure: not periodic in three directions (see `pair_distances`).
        UnknownElement: an element that no atom has.
        BadInput: no frames, other atoms in some frame, a distance or number of bins that is not
            positive.

    Source: Allen & Tildesley, Computer Simulation of Liquids (2017).
    Checked: tests/simulation/analysis/test_structure_functions.py, ASE's `get_rdf` among others.
    """
    first = _check(frames, maximum_angstrom, bins)
    if not first.periodic.all():
        raise UnsuitableStructure(
            f"{first.formula} is not periodic in three directions, so it has no density to "
            "compare with; use pair_distances."
        )
    chosen = _chosen(first, elements)
    edges = np.linspace(0.0, maximum_angstrom, bins + 1)
    shells = 4 * np.pi / 3 * np.diff(edges**3)
    sums = _BlockSums.empty(blocks, len(frames), (len(chosen), 2, bins))
    for index, structure in enumerate(_each(frames, first)):
        counts = _histogram(structure, chosen, maximum_angstrom, bins)
        centres = np.array([np.count_nonzero(structure.numbers == a) for a, _ in chosen])[:, None]
        others = np.array([np.count_nonzero(structure.numbers == b) for _, b in chosen])[:, None]
        g = counts * structure.volume / (centres * others * shells)
        sums.add(index, np.stack([g, np.cumsum(counts, axis=1) / centres], axis=1))
    mean, half, why = sums.mean()
    return tuple(
        _radial(pair, edges, mean[place], None if half is None else half[place], len(frames), why)
        for place, pair in enumerate(chosen)
    )


def _radial(
    pair: tuple[int, int],
    edges: np.ndarray,
    mean: np.ndarray,
    half: np.ndarray | None,
    frames: int,
    why: str,
) -> RadialDistribution:
    """From the two rows (g, coordination) of means and of half-widths."""
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return RadialDistribution(
        elements=_symbols(pair),
        edges_angstrom=edges,
        g=mean[0],
        g_low=None if low is None else low[0],
        g_high=None if high is None else high[0],
        coordination=mean[1],
        coordination_low=None if low is None else low[1],
        coordination_high=None if high is None else high[1],
        frames=frames,
        why_no_interval=why,
    )


def coordination_number(
    frames: Frames, elements: Elements, cutoff_angstrom: float
) -> CoordinationNumber:
    """Neighbours of the second element nearer than the cut-off to an atom of the first.

    Periodic directions count their images, so any periodicity is allowed.

    Raises:
        UnknownElement, BadInput: as in `radial_distributions`.
    """
    first = _check(frames, cutoff_angstrom, 1)
    pair = _numbers(first, elements)
    centres = np.count_nonzero(first.numbers == pair[0])
    series = np.array(
        [
            float(_histogram(structure, [pair], cutoff_angstrom, 1)[0, 0]) / centres
            for structure in _each(frames, first)
        ]
    )
    if len(series) == 1:
        mean = Interval(float(series[0]), None, None, 1, "one frame")
    else:
        mean = series_mean(series, discard_transient=False).mean
    return CoordinationNumber(elements, cutoff_angstrom, mean, series)


def pair_distances(
    frames: Frames,
    maximum_angstrom: float,
    bins: int = 200,
    elements: Sequence[Elements] | None = None,
    blocks: int = 10,
) -> tuple[PairDistances, ...]:
    """Distribution of all distances within a molecule, by pair of elements.

    Pairs of elements that have no two atoms are left out, unless asked for.

    Raises:
        UnsuitableStructure: a periodic structure (see `radial_distributions`), or a pair of
            elements asked for of which there are not two atoms.
        UnknownElement, BadInput: as in `radial_distributions`.

    Checked: tests/simulation/analysis/test_structure_functions.py, an exact molecule.
    """
    first = _check(frames, maximum_angstrom, bins)
    if first.periodic.any():
        raise UnsuitableStructure(
            f"{first.formula} is periodic: use radial_distributions, which counts images."
        )
    chosen, totals = [], []
    for a, b in _chosen(first, elements):
        of_a, of_b = np.count_nonzero(first.numbers == a), np.count_nonzero(first.numbers == b)
        total = of_a * (of_a - 1) // 2 if a == b else of_a * of_b
        if total:
            chosen.append((a, b))
            totals.append(total)
        elif elements is not None:
            raise UnsuitableStructure(
                f"{first.formula} has one atom of {_symbols((a, b))[0]}: no pair of two."
            )
    edges = np.linspace(0.0, maximum_angstrom, bins + 1)
    sums = _BlockSums.empty(blocks, len(frames), (len(chosen), bins))
    ordered = np.array([2 if a == b else 1 for a, b in chosen])
    scale = (ordered * np.array(totals))[:, None] * (maximum_angstrom / bins)
    for index, structure in enumerate(_each(frames, first)):
        sums.add(index, _histogram(structure, chosen, maximum_angstrom, bins) / scale)
    mean, half, why = sums.mean()
    return tuple(
        PairDistances(
            elements=_symbols(pair),
            edges_angstrom=edges,
            density_per_angstrom=mean[place],
            low=None if half is None else mean[place] - half[place],
            high=None if half is None else mean[place] + half[place],
            frames=len(frames),
            why_no_interval=why,
        )
        for place, pair in enumerate(chosen)
    )


@dataclass(frozen=True, eq=False)
class _BlockSums:
    """Sums of frames by block: memory does not grow with the run."""

    sums: np.ndarray  # (blocks, ...)
    counts: np.ndarray  # (blocks,)
    frames: int

    @classmethod
    def empty(cls, blocks: int, frames: int, shape: tuple[int, ...]) -> "_BlockSums":
        if blocks < 1:
            raise BadInput(f"{blocks} blocks; at least 1, and {MIN_CASES} for an interval.")
        used = min(blocks, frames)
        return cls(np.zeros((used, *shape)), np.zeros(used, np.int64), frames)

    def add(self, frame: int, values: np.ndarray) -> None:
        block = frame * len(self.sums) // self.frames
        self.sums[block] += values
        self.counts[block] += 1

    def mean(self) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Mean over frames, half-width of its interval, and the reason where there is none."""
        mean = self.sums.sum(axis=0) / self.frames
        blocks = len(self.sums)
        if blocks < MIN_CASES:
            return mean, None, f"{blocks} blocks of frames, at least {MIN_CASES} needed"
        each = self.sums / self.counts.reshape(-1, *[1] * mean.ndim)
        return mean, quantile(blocks - 1) * each.std(axis=0, ddof=1) / np.sqrt(blocks), ""


def _histogram(
    structure: Structure, pairs: Sequence[tuple[int, int]], maximum: float, bins: int
) -> Int[np.ndarray, "pairs bins"]:
    """Ordered pairs (centre of the first, neighbour of the second element) in each bin."""
    centres, neighbours, distances = _half_list(structure, maximum)
    place = np.minimum((distances * (bins / maximum)).astype(np.int64), bins - 1)
    of_centre, of_neighbour = structure.numbers[centres], structure.numbers[neighbours]
    counts = np.zeros((len(pairs), bins), np.int64)
    for row, (a, b) in enumerate(pairs):
        forward = (of_centre == a) & (of_neighbour == b)
        backward = (of_centre == b) & (of_neighbour == a)
        counts[row] = np.bincount(place[forward], minlength=bins)
        counts[row] += np.bincount(place[backward], minlength=bins)
    return counts


def _half_list(structure: Structure, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair nearer than the cut-off once: two atoms, distance in Å."""
    import vesin

    if not structure.periodic.any():
        # vesin's cells grow with the cut-off: beyond the molecule they would all be empty
        extent = np.linalg.norm(np.ptp(structure.positions, axis=0))
        cutoff = min(cutoff, float(extent) + 1.0)
    box = np.where(structure.periodic[:, None], structure.cell, 0.0)
    calculator = vesin.NeighborList(cutoff=float(cutoff), full_list=False)
    centres, neighbours, distances = calculator.compute(
        points=structure.positions, box=box, periodic=structure.periodic, quantities="ijd"
    )
    return np.asarray(centres, np.int64), np.asarray(neighbours, np.int64), np.asarray(distances)


def _each(frames: Frames, first: Structure) -> Iterator[Structure]:
    for index in range(len(frames)):
        structure = frames.structure(index) if isinstance(frames, Trajectory) else frames[index]
        if not np.array_equal(structure.numbers, first.numbers) or not np.array_equal(
            structure.periodic, first.periodic
        ):
            raise BadInput(
                f"frame {index} ({structure.formula}) has other atoms, another order or other "
                f"periodicity than frame 0 ({first.formula}); give one system at a time."
            )
        yield structure


def _check(frames: Frames, maximum: float, bins: int) -> Structure:
    if len(frames) == 0:
        raise BadInput("no frames to average over.")
    if not maximum > 0 or not np.isfinite(maximum) or bins < 1:
        raise BadInput(f"maximum {maximum} Å and {bins} bins; both must be positive.")
    return frames.structure(0) if isinstance(frames, Trajectory) else frames[0]


def _chosen(structure: Structure, elements: Sequence[Elements] | None) -> list[tuple[int, int]]:
    if elements is not None:
        return [_numbers(structure, pair) for pair in elements]
    present = [int(z) for z in np.unique(structure.numbers)]
    return list(combinations_with_replacement(present, 2))


def _numbers(structure: Structure, pair: Elements) -> tuple[int, int]:
    numbers = []
    for symbol in pair:
        if symbol not in structure.symbols:
            raise UnknownElement(
                f"{structure.formula} has no atom of '{symbol}'; it has "
                f"{', '.join(sorted(set(structure.symbols)))}."
            )
        numbers.append(int(structure.numbers[structure.symbols.index(symbol)]))
    return numbers[0], numbers[1]


def _symbols(pair: tuple[int, int]) -> Elements:
    from ase.data import chemical_symbols

    return chemical_symbols[pair[0]], chemical_symbols[pair[1]]
