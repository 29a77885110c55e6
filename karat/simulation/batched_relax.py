"""Relaxation of many structures at once: atoms, or atoms and cell, one batched call per step.

Checked: tests/simulation/test_batched_relax.py and test_lbfgs.py, against ASE's optimisers with
matscipy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.core.errors import BadInput, CalculationFailed, KaratError
from karat.core.units import GPA
from karat.potentials.native_protocol import MAX_PAIRS_PER_BATCH
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.simulation.batched_call import BatchedCall
from karat.simulation.fire import Fire, fire_start, fire_step
from karat.simulation.lbfgs import Lbfgs, lbfgs_start, lbfgs_step
from karat.simulation.strain import CrystalSymmetry, crystal_symmetry, require_crystal
from karat.structures.labels import Labels, Quantity
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

CellFreedom = Literal["fixed", "shape", "free"]
"""Nothing of the cell, its shape at constant volume, or all of it."""

OptimiserName = Literal["fire", "lbfgs"]
"""Damped motion, or a quasi-Newton method that remembers curvatures."""

ATOMS_PER_BATCH = 512
"""Enough to share the cost of a call; few enough that a batch fits into a processor's cache."""
VOLUME_RATIO = 8.0
"""A crystal whose volume grew or shrank by more than this is given up."""


@dataclass(frozen=True)
class RelaxSettings:
    """What may move, and when it is at rest.

    Attributes:
        force_tolerance: eV/Å; no force may be longer.
        max_steps: after these, a structure has failed.
        cell: what of the cell is relaxed; "shape" keeps the volume.
        stress_tolerance_gpa: no component of what the cell feels may be larger.
        pressure_gpa: from outside; only with a cell that is "free".
        keep_symmetry: the space group found at the start is kept.
        symmetry_tolerance: Å; for finding it.
        optimiser: how structures are moved (`fire.py`, `lbfgs.py`); L-BFGS needs a third to a
            sixth of FIRE's steps.

    Raises:
        BadInput: a number that is not positive where it must be, or settings that do not fit.
    """

    force_tolerance: float = 0.01
    max_steps: int = 500
    cell: CellFreedom = "fixed"
    stress_tolerance_gpa: float = 0.05
    pressure_gpa: float = 0.0
    keep_symmetry: bool = False
    symmetry_tolerance: float = 1e-4
    optimiser: OptimiserName = "lbfgs"

    def __post_init__(self) -> None:
        for name in ("force_tolerance", "max_steps", "stress_tolerance_gpa", "symmetry_tolerance"):
            value = getattr(self, name)
            if not (value > 0 and np.isfinite(value)):
                raise BadInput(f"relax_batch: {name} is {value}; it must be positive and finite.")
        if self.cell not in ("fixed", "shape", "free"):
            raise BadInput(f"relax_batch: cell is '{self.cell}'; use fixed, shape or free.")
        if self.optimiser not in ("fire", "lbfgs"):
            raise BadInput(f"relax_batch: optimiser is '{self.optimiser}'; use fire or lbfgs.")
        if self.pressure_gpa and self.cell != "free":
            raise BadInput(
                f"relax_batch: a pressure of {self.pressure_gpa} GPa moves nothing while the cell "
                f"is '{self.cell}'; set cell to 'free'."
            )

    @property
    def want(self) -> tuple[Quantity, ...]:
        """What the potential must predict."""
        if self.cell == "fixed":
            return ("energy", "forces")
        return ("energy", "forces", "stress")


@dataclass(frozen=True, eq=False)
class RelaxedStructure:
    """A structure at rest.

    Attributes:
        structure: at the minimum.
        energy: eV; of the potential alone, without pressure times volume.
        max_force: length of the longest force, eV/Å (of its invariant part, with symmetry kept).
        max_stress_gpa: largest component of the stress that the cell feels (pressure
            included; without its trace where the volume is kept); `None` with a fixed cell.
        steps: how many were made.
    """

    structure: Structure
    energy: float
    max_force: float
    max_stress_gpa: float | None
    steps: int


@dataclass(frozen=True, eq=False)
class _Task:
    """One structure: where it began and what of it may move."""

    index: int
    start: Structure
    pairs: int
    scale: float  # Å of cell coordinate per unit of logarithmic strain; 0 with a fixed cell
    symmetry: CrystalSymmetry | None

    def at(self, rows: Float[np.ndarray, "rows 3"]) -> Structure:
        """The structure at these coordinates."""
        if self.scale == 0:
            return self.start.replace(positions=rows[:-3])
        values, vectors = np.linalg.eigh(rows[-3:] / self.scale)
        if abs(values.sum()) > np.log(VOLUME_RATIO):
            raise CalculationFailed(
                f"Relaxation of {self.start.formula}: the volume changed by a factor of "
                f"{np.exp(values.sum()):.3g}. The potential does not hold this crystal together, "
                "or it started far from rest.",
                kind="ran-away",
            )
        gradient = (vectors * np.exp(values)) @ vectors.T
        return self.start.replace(positions=rows[:-3] @ gradient, cell=self.start.cell @ gradient)


@dataclass(frozen=True, eq=False)
class _Pull:
    """What drives a structure, and how far it is from rest."""

    rows: Float[np.ndarray, "rows 3"]
    max_force: float
    max_stress: float | None

    def at_rest(self, settings: RelaxSettings) -> bool:
        if self.max_force > settings.force_tolerance:
            return False
        return self.max_stress is None or self.max_stress <= settings.stress_tolerance_gpa * GPA


@dataclass(frozen=True, eq=False)
class _Walk:
    """Structures under way: their coordinates one below the other, three rows of cell after each.

    Attributes:
        steps: how many each has made.
    """

    tasks: tuple[_Task, ...]
    steps: Int[np.ndarray, "systems"]
    coordinates: Float[np.ndarray, "rows 3"]
    optimiser: Fire | Lbfgs

    def parts(self) -> list[np.ndarray]:
        """Coordinates of each system."""
        return np.split(self.coordinates, np.cumsum(self.optimiser.sizes)[:-1])

    def keep(self, chosen: Bool[np.ndarray, "systems"]) -> "_Walk":
        """Only the chosen systems."""
        return _Walk(
            tasks=tuple(task for task, stays in zip(self.tasks, chosen) if stays),
            steps=self.steps[chosen],
            coordinates=self.coordinates[np.repeat(chosen, self.optimiser.sizes)],
            optimiser=self.optimiser.keep(chosen),
        )

    def join(self, tasks: Sequence[_Task]) -> "_Walk":
        """With new structures, standing still, behind the others."""
        rows = [np.concatenate([task.start.positions, np.zeros((3, 3))]) for task in tasks]
        return _Walk(
            tasks=(*self.tasks, *tasks),
            steps=np.concatenate([self.steps, np.zeros(len(tasks), int)]),
            coordinates=np.concatenate([self.coordinates, *rows]),
            optimiser=self.optimiser.join(np.array([len(part) for part in rows], dtype=int)),
        )


def relax_batch(
    potential: AbstractPotential,
    structures: Sequence[Structure],
    settings: RelaxSettings | None = None,
) -> list[RelaxedStructure | KaratError]:
    """Relax every structure; in order, each result or the error that it ended with.

    One that fails (unsuitable, not converged, run away, refused by the potential) costs no
    other. Native potentials see all structures in one batch per step, others one by one. The
    cell moves by a symmetric logarithmic strain U (cell = cell₀ exp U), so that it never turns,
    and the gradient with respect to U is exact; U is measured in units of √N·(V/N)^⅓/2, which
    makes a cell about as stiff as a bond whatever its size.

    Raises:
        BadInput: no structures. All else is in the list.

    Source: FIRE: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), symplectic Euler; L-BFGS:
    Liu & Nocedal, Math. Program. 45, 503 (1989); cell: the logarithmic strain of ASE's
    `FrechetCellFilter` (Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017)).
    """
    settings = settings or RelaxSettings()
    if not structures:
        raise BadInput("relax_batch: there are no structures.")
    outcome: dict[int, RelaxedStructure | KaratError] = {}
    waiting: list[_Task] = []
    for index, structure in enumerate(structures):
        try:
            waiting.append(_task(potential, index, structure, settings))
        except KaratError as error:
            outcome[index] = error
    walk, call = _empty(settings), BatchedCall(potential, settings.want)
    while walk.tasks or waiting:
        walk, waiting = _refilled(walk, waiting)
        walk, pulls = _measure(call, walk, settings, outcome)
        if walk.tasks:
            walk = _moved(walk, np.concatenate([pull.rows for pull in pulls]))
    return [outcome[index] for index in range(len(structures))]


def _task(
    potential: AbstractPotential, index: int, structure: Structure, settings: RelaxSettings
) -> _Task:
    """Check a structure and find its symmetry."""
    check_suitable(potential, structure, settings.want)
    scale, symmetry = 0.0, None
    if settings.cell != "fixed":
        require_crystal(structure, "relaxing the cell")
        atoms = len(structure)
        scale = 0.5 * atoms**0.5 * (structure.volume / atoms) ** (1 / 3)
    if settings.keep_symmetry:
        symmetry = crystal_symmetry(structure, settings.symmetry_tolerance)
        tidy = symmetry.symmetric_positions(structure.positions)
        structure = structure.replace(positions=tidy)
    cutoff = potential.traits.cutoff
    native = potential.traits.native and cutoff is not None
    pairs = len(neighbour_pairs(structure, cutoff)) if native and cutoff else len(structure) ** 2
    return _Task(index, structure, pairs, scale, symmetry)


def _empty(settings: RelaxSettings) -> _Walk:
    """No structure under way yet."""
    none = np.zeros(0, int)
    start = fire_start(none) if settings.optimiser == "fire" else lbfgs_start(none)
    return _Walk(tasks=(), steps=none, coordinates=np.zeros((0, 3)), optimiser=start)


def _moved(walk: _Walk, pulls: Float[np.ndarray, "rows 3"]) -> _Walk:
    """One step on."""
    state = walk.optimiser
    after: Fire | Lbfgs
    if isinstance(state, Fire):
        after, moves = fire_step(state, pulls)
    else:
        after, moves = lbfgs_step(state, pulls)
    return replace(
        walk, optimiser=after, coordinates=walk.coordinates + moves, steps=walk.steps + 1
    )


def _refilled(walk: _Walk, waiting: list[_Task]) -> tuple[_Walk, list[_Task]]:
    """Free places given to those that wait, so that the batch keeps its shape."""
    atoms = sum(len(task.start) for task in walk.tasks)
    pairs = sum(task.pairs for task in walk.tasks)
    taken = 0
    for task in waiting:
        atoms, pairs = atoms + len(task.start), pairs + task.pairs
        full = atoms > ATOMS_PER_BATCH or pairs > MAX_PAIRS_PER_BATCH
        if full and (taken or walk.tasks):
            break
        taken += 1
    return (walk.join(waiting[:taken]) if taken else walk), waiting[taken:]


def _measure(
    call: BatchedCall,
    walk: _Walk,
    settings: RelaxSettings,
    outcome: dict[int, RelaxedStructure | KaratError],
) -> tuple[_Walk, list[_Pull]]:
    """Evaluate all systems; those that came to rest or failed are written down and dropped."""
    walk, found = _structures(walk, outcome)
    answers = call.labels([task.index for task in walk.tasks], found)
    pulls, stays = [], np.zeros(len(found), bool)
    for place, (task, rows, structure, labels) in enumerate(
        zip(walk.tasks, walk.parts(), found, answers)
    ):
        if isinstance(labels, KaratError):
            outcome[task.index] = labels
            continue
        pull, steps = _pull(task, rows, structure, labels, settings), int(walk.steps[place])
        if pull.at_rest(settings):
            stress = None if pull.max_stress is None else pull.max_stress / GPA
            outcome[task.index] = RelaxedStructure(
                structure, energy_of(labels), pull.max_force, stress, steps
            )
        elif steps >= settings.max_steps:
            outcome[task.index] = _not_at_rest(task, pull, settings)
        else:
            stays[place] = True
            pulls.append(pull)
    return (walk if stays.all() else walk.keep(stays)), pulls


def energy_of(labels: Labels) -> float:
    """eV.

    Raises:
        CalculationFailed: the potential left it out.
    """
    if labels.energy is None:
        raise CalculationFailed("The potential returned no energy.", kind="no-energy")
    return labels.energy


def _structures(
    walk: _Walk, outcome: dict[int, RelaxedStructure | KaratError]
) -> tuple[_Walk, list[Structure]]:
    """The structure of each system; those that ran away are written down and dropped."""
    stays = np.ones(len(walk.tasks), bool)
    found = []
    for place, (task, rows) in enumerate(zip(walk.tasks, walk.parts())):
        try:
            found.append(task.at(rows))
        except KaratError as error:
            stays[place] = False
            outcome[task.index] = error
    return walk.keep(stays), found


def _pull(
    task: _Task,
    rows: Float[np.ndarray, "rows 3"],
    structure: Structure,
    labels: Labels,
    settings: RelaxSettings,
) -> _Pull:
    """Minus the gradient with respect to the coordinates.

    With cell = cell₀ F, r = x F, F = exp U symmetric: -∂E/∂x = f F, ∂E/∂F = V σ F⁻¹, and the
    derivative of the exponential is (exp λᵢ - exp λⱼ)/(λᵢ - λⱼ) between eigenvectors of U.
    """
    assert labels.forces is not None
    forces = labels.forces
    if task.symmetry is not None:
        forces = task.symmetry.symmetric_vectors(forces)
    max_force = float(np.linalg.norm(forces, axis=1).max())
    if task.scale == 0:
        return _Pull(np.concatenate([forces, np.zeros((3, 3))]), max_force, None)
    assert labels.stress is not None
    stress = labels.stress + settings.pressure_gpa * GPA * np.eye(3)
    if task.symmetry is not None:
        stress = task.symmetry.symmetric_tensor(stress)
    if settings.cell == "shape":
        stress = stress - np.trace(stress) / 3 * np.eye(3)
    values, vectors = np.linalg.eigh(rows[-3:] / task.scale)
    factors = np.exp(values)
    gap = values[:, None] - values[None, :]
    near = np.abs(gap) < 1e-6  # the mean is right to gap²/24
    slope = (factors[:, None] - factors[None, :]) / np.where(near, 1.0, gap)
    slope = np.where(near, 0.5 * (factors[:, None] + factors[None, :]), slope)
    by_gradient = (vectors.T @ stress @ vectors) * structure.volume / factors[None, :]
    by_strain = vectors @ (slope * 0.5 * (by_gradient + by_gradient.T)) @ vectors.T
    moved = forces @ ((vectors * factors) @ vectors.T)
    return _Pull(
        np.concatenate([moved, -by_strain / task.scale]), max_force, float(np.abs(stress).max())
    )


def _not_at_rest(task: _Task, pull: _Pull, settings: RelaxSettings) -> CalculationFailed:
    stress = (
        ""
        if pull.max_stress is None
        else f" and a stress of {pull.max_stress / GPA:.3g} GPa "
        f"({settings.stress_tolerance_gpa:g} was asked for)"
    )
    return CalculationFailed(
        f"Relaxation of {task.start.formula} has a force of {pull.max_force:.3g} eV/Å "
        f"({settings.force_tolerance:g} was asked for){stress} after {settings.max_steps} "
        "steps. Raise max_steps, or start from a better structure.",
        kind="not-converged",
    )
