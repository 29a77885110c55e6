"""Nudged elastic band with climbing image: the barrier between two minima, all images at once.

Checked: tests/simulation/test_neb.py, against exact saddles and ASE's band with matscipy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed, KaratError
from karat.potentials.native_protocol import MAX_PAIRS_PER_BATCH
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.simulation.batched_call import BatchedCall
from karat.simulation.batched_relax import (
    RelaxedStructure,
    RelaxSettings,
    energy_of,
    relax_batch,
)
from karat.simulation.fire import fire_start, fire_step
from karat.simulation.neb_path import PathKind, first_path, matched_end
from karat.simulation.neb_saddle import SaddleCheck, check_saddle
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

BandProgress = Callable[[int, float], None]
"""Called after each step with (steps done, longest force on the band before it in eV/Å)."""

FLAT = 1e-4
"""eV; energies nearer than this are not told apart."""
STRETCHED = 5.0
"""A band that grew this many times longer than it began has coiled up and is given up."""


@dataclass(frozen=True)
class NebSettings:
    """How a path is searched.

    Attributes:
        images: both ends included.
        force_tolerance: eV/Å; no force across the path, and none on the climbing image, may be
            longer.
        max_steps: after these the path has failed.
        spring: eV/Å² between neighbouring images; it only spaces them.
        climb: whether the highest image climbs to the saddle.
        climb_below: eV/Å; it begins to climb once no force across the path is longer.
        first_path: straight lines, or `"idpp"`, which keeps atoms apart.
        relax_ends: how both ends are relaxed before; `None` takes them as they are.
        align: a molecule's end is shifted and turned onto its start.
        check_order: crystals whose like atoms seem to stand in different orders are refused.
        check_saddle: whether the negative curvatures at the saddle are counted.

    Raises:
        BadInput: fewer than three images, a number that is not positive, or ends that are to be
            relaxed with their cell.
    """

    images: int = 7
    force_tolerance: float = 0.02
    max_steps: int = 500
    spring: float = 0.1
    climb: bool = True
    climb_below: float = 0.3
    first_path: PathKind = "idpp"
    relax_ends: RelaxSettings | None = None
    align: bool = True
    check_order: bool = True
    check_saddle: bool = False

    def __post_init__(self) -> None:
        if self.images < 3:
            raise BadInput(
                f"neb: images is {self.images}; it counts both ends, so at least 3 are needed."
            )
        for name in ("force_tolerance", "max_steps", "spring", "climb_below"):
            value = getattr(self, name)
            if not (value > 0 and np.isfinite(value)):
                raise BadInput(f"neb: {name} is {value}; it must be positive and finite.")
        if self.first_path not in ("linear", "idpp"):
            raise BadInput(f"neb: first_path is '{self.first_path}'; use linear or idpp.")
        if self.relax_ends is not None and self.relax_ends.cell != "fixed":
            raise BadInput(
                f"neb: relax_ends.cell is '{self.relax_ends.cell}'; the cell is fixed along a "
                "path. Relax it before, the same for both ends."
            )
        if self.check_saddle and not self.climb:
            raise BadInput("neb: check_saddle needs climb, which takes an image to the saddle.")


@dataclass(frozen=True, eq=False)
class NebPath:
    """A converged path of least energy.

    Attributes:
        images: from start to end; atoms move continuously (across periodic boundaries too).
        energies: eV.
        arc_length: along the path in all coordinates of the atoms, from 0, Å.
        barrier_forward, barrier_backward: highest image minus start, and minus end, eV.
        saddle: which image is the highest and climbed to the saddle; `None` where no image
            between the ends is higher than both by `FLAT`, or none was to climb.
        max_perpendicular_force: longest force across the path, eV/Å.
        max_end_force: longest force on an atom of either end, eV/Å: where it is not small, the
            ends are no minima and the barriers are not those between minima.
        energy_misfit: by how much at most the energies of two neighbouring images differ otherwise
            than the forces on both say (trapezoidal rule), eV: where it is like the barriers,
            images are too few to see what lies between them (of three, nothing can be said).
        intermediate_minima: images between the ends that are lower than both their neighbours,
            by more than `FLAT`: the path passes other minima there, so that barriers between two
            images may be hidden. Relax these and search each piece for itself.
        steps: how many were made.
        saddle_check: curvatures at the saddle, where asked for.
    """

    images: tuple[Structure, ...]
    energies: Float[np.ndarray, "images"]
    arc_length: Float[np.ndarray, "images"]
    barrier_forward: float
    barrier_backward: float
    saddle: int | None
    max_perpendicular_force: float
    max_end_force: float
    energy_misfit: float
    intermediate_minima: tuple[int, ...]
    steps: int
    saddle_check: SaddleCheck | None = None


@dataclass(frozen=True, eq=False)
class _Band:
    """All images as they stand, and what drives the inner ones.

    Attributes:
        forces: eV/Å.
        climber: which image climbs, if any does.
        pull: of the inner images, eV/Å.
        across: longest force across the path on each inner image, eV/Å.
        unrest: longest force that must vanish: across the path, or on the climbing image.
    """

    positions: Float[np.ndarray, "images atoms 3"]
    energies: Float[np.ndarray, "images"]
    forces: Float[np.ndarray, "images atoms 3"]
    climber: int | None
    pull: Float[np.ndarray, "inner atoms 3"]
    across: Float[np.ndarray, "inner"]
    unrest: float


def neb(
    potential: AbstractPotential,
    start: Structure,
    end: Structure,
    settings: NebSettings | None = None,
    progress: BandProgress | None = None,
) -> NebPath:
    """The path of least energy from `start` to `end`, cell fixed, and its barrier.

    The band is moved by FIRE: its forces are no gradient, and L-BFGS (`lbfgs.py`), tried too, was
    faster in silicon but lost the path of a cluster of four atoms with most settings.
    Atoms are taken to their nearest periodic images; both structures need the same atoms in the
    same order. All inner images are evaluated in one batch per step by native potentials.

    Args:
        progress: called after each step.

    Raises:
        BadInput: naming what differs between the ends, or that nothing does.
        UnknownElement, UnsuitableStructure: see `check_suitable`.
        CalculationFailed: kind ``not-converged``; ``bad-ends`` where both ends relax to one
            structure; or what the potential or the relaxation of an end raised.

    Source: Henkelman & Jónsson, J. Chem. Phys. 113, 9978 (2000) (tangents); Henkelman,
    Uberuaga & Jónsson, ibid. 9901 (climbing image).
    """
    settings = settings or NebSettings()
    start, end = _ends(potential, start, end, settings)
    positions = first_path(start, end, settings.images, settings.first_path)
    evaluate = _Evaluator(potential, start, positions)
    band, steps = _descended(evaluate, positions, settings, progress)
    images = tuple(start.replace(positions=rows) for rows in band.positions)
    moves = np.diff(band.positions, axis=0)
    rises = -0.5 * np.sum((band.forces[1:] + band.forces[:-1]) * moves, axis=(1, 2))
    highest = int(np.argmax(band.energies))
    found = None
    if settings.check_saddle and band.climber is not None:
        found = check_saddle(potential, images, band.climber)
    return NebPath(
        images=images,
        energies=band.energies,
        arc_length=np.concatenate([[0.0], np.cumsum(np.linalg.norm(moves, axis=(1, 2)))]),
        barrier_forward=float(band.energies[highest] - band.energies[0]),
        barrier_backward=float(band.energies[highest] - band.energies[-1]),
        saddle=band.climber,
        max_perpendicular_force=float(band.across.max()),
        max_end_force=float(np.linalg.norm(band.forces[[0, -1]], axis=2).max()),
        energy_misfit=float(np.abs(np.diff(band.energies) - rises).max()),
        intermediate_minima=_minima(band.energies),
        steps=steps,
        saddle_check=found,
    )


def _ends(
    potential: AbstractPotential, start: Structure, end: Structure, settings: NebSettings
) -> tuple[Structure, Structure]:
    """Both ends, checked, relaxed where asked for, atoms of the second next to the first's."""
    end = matched_end(start, end, settings.align, settings.check_order)
    for structure in (start, end):
        check_suitable(potential, structure, ("energy", "forces"))
    if settings.relax_ends is None:
        return start, end
    found: list[RelaxedStructure] = []
    outcomes = relax_batch(potential, (start, end), settings.relax_ends)
    for name, outcome in zip(("start", "end"), outcomes):
        if isinstance(outcome, CalculationFailed):
            raise CalculationFailed(f"neb: {name}: {outcome}", outcome.kind) from outcome
        if isinstance(outcome, KaratError):
            raise outcome
        found.append(outcome)
    start, end = found[0].structure, found[1].structure
    try:
        return start, matched_end(start, end, settings.align, settings.check_order)
    except BadInput as error:
        raise CalculationFailed(f"After both ends were relaxed: {error}", "bad-ends") from error


def _minima(energies: Float[np.ndarray, "images"]) -> tuple[int, ...]:
    """Inner images that are lower than both their neighbours."""
    steps = np.diff(energies)
    return tuple(int(k) + 1 for k in np.nonzero((steps[:-1] < -FLAT) & (steps[1:] > FLAT))[0])


class _Evaluator:
    """Energies and forces of the inner images: in one call, or in few where pairs are many."""

    def __init__(
        self,
        potential: AbstractPotential,
        start: Structure,
        positions: Float[np.ndarray, "images atoms 3"],
    ) -> None:
        self.start = start
        ends = [start.replace(positions=positions[place]) for place in (0, -1)]
        self.ends = potential.predict(ends, ("energy", "forces"))
        cutoff, last = potential.traits.cutoff, len(positions) - 1
        pairs = 0
        if potential.traits.native and cutoff:
            pairs = max(
                len(neighbour_pairs(start.replace(positions=rows), cutoff)) for rows in positions
            )
        together = max(1, MAX_PAIRS_PER_BATCH // max(pairs, 1))
        self.parts = [range(k, min(k + together, last)) for k in range(1, last, together)]
        self.calls = [BatchedCall(potential, ("energy", "forces")) for _ in self.parts]

    def __call__(
        self, positions: Float[np.ndarray, "images atoms 3"], step: int
    ) -> tuple[Float[np.ndarray, "images"], Float[np.ndarray, "images atoms 3"]]:
        """eV and eV/Å; of the ends as they were before, for they never move.

        Raises:
            CalculationFailed: what the potential raised, with the image and step where it failed.
        """
        found = [self.ends[0]]
        for places, call in zip(self.parts, self.calls):
            structures = [self.start.replace(positions=positions[place]) for place in places]
            for place, labels in zip(places, call.labels(list(places), structures)):
                if isinstance(labels, KaratError):
                    raise CalculationFailed(
                        f"neb: image {place} at step {step}: {labels}",
                        getattr(labels, "kind", "error"),
                    ) from labels
                found.append(labels)
        found.append(self.ends[1])
        energies = np.array([energy_of(labels) for labels in found])
        return energies, np.array([labels.forces for labels in found])


def _descended(
    evaluate: _Evaluator,
    positions: Float[np.ndarray, "images atoms 3"],
    settings: NebSettings,
    progress: BandProgress | None,
) -> tuple[_Band, int]:
    """The band at rest, and after how many steps."""
    inner = positions[1:-1]
    rows = np.array([inner.shape[0] * inner.shape[1]])
    state = fire_start(rows)
    climbing, climber, longest = False, None, STRETCHED * _length(positions)
    for step in range(settings.max_steps + 1):
        energies, forces = evaluate(positions, step)
        band = _band(positions, energies, forces, settings.spring, climbing)
        if settings.climb and not climbing and band.unrest <= settings.climb_below:
            climbing = True
            band = _band(positions, energies, forces, settings.spring, climbing)
        if band.unrest <= settings.force_tolerance:
            return band, step
        if step == settings.max_steps or _length(positions) > longest:
            break
        if band.climber != climber:  # other forces, another way
            state, climber = fire_start(rows), band.climber
        state, moves = fire_step(state, band.pull.reshape(-1, 3))
        positions = positions.copy()
        positions[1:-1] += moves.reshape(inner.shape)
        if progress is not None:
            progress(step + 1, band.unrest)
    coiled = (
        f"it is {STRETCHED:g} times longer than it began; " if step < settings.max_steps else ""
    )
    raise CalculationFailed(
        f"neb: the path of {evaluate.start.formula} has a force of {band.unrest:.3g} eV/Å "
        f"({settings.force_tolerance:g} was asked for) after {step} steps; {coiled}"
        f"{'its highest image climbs' if climbing else 'no image climbs yet'}. Raise max_steps, "
        "take more images or another first_path, or look for minima between the ends.",
        kind="not-converged",
    )


def _length(positions: Float[np.ndarray, "images atoms 3"]) -> float:
    """Of the whole path, Å."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=(1, 2)).sum())


def _band(
    positions: Float[np.ndarray, "images atoms 3"],
    energies: Float[np.ndarray, "images"],
    forces: Float[np.ndarray, "images atoms 3"],
    spring: float,
    climbing: bool,
) -> _Band:
    """The forces of the band: true ones across the path, springs along it."""
    after, before = np.diff(positions, axis=0)[1:], np.diff(positions, axis=0)[:-1]
    tangents = _tangents(after, before, energies)
    along = np.sum(forces[1:-1] * tangents, axis=(1, 2))[:, None, None]
    across = forces[1:-1] - along * tangents
    gaps = np.linalg.norm(after, axis=(1, 2)) - np.linalg.norm(before, axis=(1, 2))
    pull = across + spring * gaps[:, None, None] * tangents
    unrest = np.linalg.norm(across, axis=2).max(axis=1)
    climber = int(np.argmax(energies))
    if not climbing or energies[climber] < max(energies[0], energies[-1]) + FLAT:
        return _Band(positions, energies, forces, None, pull, unrest, float(unrest.max()))
    place = climber - 1
    pull[place] = across[place] - along[place] * tangents[place]
    still = max(float(np.linalg.norm(pull[place], axis=1).max()), float(unrest.max()))
    return _Band(positions, energies, forces, climber, pull, unrest, still)


def _tangents(
    after: Float[np.ndarray, "inner atoms 3"],
    before: Float[np.ndarray, "inner atoms 3"],
    energies: Float[np.ndarray, "images"],
) -> Float[np.ndarray, "inner atoms 3"]:
    """Unit vectors towards the higher neighbour, both mixed by height at extrema.

    Source: Henkelman & Jónsson (2000), eqs. 8 to 11.
    """
    here, up, down = energies[1:-1], energies[2:], energies[:-2]
    rise, fall = np.abs(up - here), np.abs(down - here)
    large, small = np.maximum(rise, fall), np.minimum(rise, fall)
    higher = up > down
    forward = np.where(higher, large, small)
    backward = np.where(higher, small, large)
    forward = np.where((up > here) & (here > down), 1.0, forward)
    backward = np.where((up > here) & (here > down), 0.0, backward)
    forward = np.where((up < here) & (here < down), 0.0, forward)
    backward = np.where((up < here) & (here < down), 1.0, backward)
    level = forward + backward == 0  # three images of one energy
    forward, backward = forward + level, backward + level
    tangents = forward[:, None, None] * after + backward[:, None, None] * before
    return tangents / np.linalg.norm(tangents, axis=(1, 2))[:, None, None]
