"""Forces and stress are derivatives of the energy; dynamics keeps the energy."""

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float

from karat.core.units import ACCELERATION, BOLTZMANN
from karat.potentials.conformance.outcome import Deviations, NotApplicable, Violation, name_of
from karat.potentials.conformance.subject import Subject
from karat.structures.structure import Structure

FINE_STEP, COARSE_STEP = 5e-4, 2e-3
"""Å (and strain): five-point differences err by step⁴/30 of the fifth derivative (1e-9 eV/Å for
the stiffest bonds with the fine step); the coarse one is for energies with noise."""
NOISY = 1e-4
"""eV/Å: from this declared tolerance on the coarse step is taken."""
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
MAX_COMPONENTS = 15
TEMPERATURE_K = 300.0
STEPS, HALVINGS = 12, 3


def _conservative(subject: Subject) -> None:
    traits = subject.potential.traits
    if not traits.conservative:
        raise NotApplicable("declares that its forces are not the gradient of the energy")
    if "forces" not in traits.quantities:
        raise NotApplicable("predicts no forces")


def _step(subject: Subject) -> float:
    return COARSE_STEP if subject.potential.traits.force_tolerance >= NOISY else FINE_STEP


def _differences(subject: Subject, moved: list[list[Structure]]) -> Float[np.ndarray, "slopes"]:
    """One slope for each list of structures at the points of `STENCIL`."""
    energies = subject.energies([s for points in moved for s in points])
    weights = np.array([weight for _, weight in STENCIL])
    return energies.reshape(len(moved), len(STENCIL)) @ weights / _step(subject)


def forces_are_gradient(subject: Subject) -> str:
    """Forces equal central differences of the energy to the declared tolerance."""
    _conservative(subject)
    rng = subject.random("forces_are_gradient")
    chosen, moved = [], []
    for structure in subject.structures:
        size = 3 * len(structure)
        components = np.sort(rng.choice(size, min(MAX_COMPONENTS, size), replace=False))
        chosen.append(components)
        for component in components:
            direction = np.zeros((len(structure), 3))
            direction.flat[component] = _step(subject)
            moved.append(
                [
                    structure.replace(positions=structure.positions + k * direction)
                    for k, _ in STENCIL
                ]
            )
    slopes = np.split(_differences(subject, moved), np.cumsum([len(c) for c in chosen])[:-1])
    worst = Deviations()
    for structure, components, slope in zip(subject.structures, chosen, slopes):
        forces = subject.predict(structure).forces
        assert forces is not None
        worst.compare(
            f"forces against differences, {name_of(structure)}, eV/Å",
            forces.ravel()[components],
            -slope,
            subject.potential.traits.force_tolerance,
        )
    return worst.text


def strained(structure: Structure, strain: Float[np.ndarray, "3 3"]) -> Structure:
    """Positions and cell under a homogeneous strain."""
    change = np.eye(3) + strain
    return structure.replace(positions=structure.positions @ change, cell=structure.cell @ change)


def stress_is_strain_derivative(subject: Subject) -> str:
    """Stress equals (1/V) ∂E/∂ε by central differences, tension positive, symmetric."""
    _conservative(subject)
    if "stress" not in subject.potential.traits.quantities:
        raise NotApplicable("predicts no stress")
    worst = Deviations()
    for structure in subject.need_crystals():
        if not structure.periodic.all():
            continue
        stress = subject.predict(structure).stress
        assert stress is not None
        moved = []
        for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
            strain = np.zeros((3, 3))
            strain[i, j] += _step(subject) / 2
            strain[j, i] += _step(subject) / 2
            moved.append([strained(structure, k * strain) for k, _ in STENCIL])
        xx, yy, zz, yz, xz, xy = _differences(subject, moved) / structure.volume
        expected = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        worst.compare(
            f"stress against differences, {name_of(structure)}, eV/Å³",
            stress,
            expected,
            subject.stress_tolerance,
        )
    if not worst.text:
        raise NotApplicable("no structure repeats in three directions")
    return worst.text


def nve_keeps_energy(subject: Subject) -> str:
    """In velocity Verlet the energy error falls fourfold when the time step is halved.

    Steps are halved up to `HALVINGS` times until it does: far from minima the first are too long.
    """
    _conservative(subject)
    if subject.potential.traits.continuity < 1:
        raise NotApplicable("declares that its forces jump at the cut-off")
    structure = max(subject.structures, key=len)
    energy = float(subject.energies([structure])[0])
    floor = subject.energy_tolerance(structure, energy)
    duration = STEPS * 0.25 * np.sqrt(atomic_masses[structure.numbers].min())
    steps, coarse = STEPS, _energy_error(subject, structure, duration / STEPS, STEPS)
    for _ in range(HALVINGS):
        steps *= 2
        fine = _energy_error(subject, structure, duration / steps, steps)
        text = (
            f"energy error of {name_of(structure)} over {duration:.1f} fs: {coarse:.3g} eV in "
            f"{steps // 2} steps, {fine:.3g} eV in {steps} (floor {floor:.2g} eV)"
        )
        # exactly 1/4 in the limit; a third leaves room for the next order
        if fine <= max(coarse / 3, floor):
            return text
        coarse = fine
    raise Violation(text)


def _energy_error(subject: Subject, structure: Structure, timestep: float, steps: int) -> float:
    """Largest |E(t) - E(0)| in eV of velocity Verlet from 300 K."""
    masses = atomic_masses[structure.numbers][:, None]
    rng = subject.random("nve_keeps_energy")
    spread = np.sqrt(ACCELERATION * BOLTZMANN * TEMPERATURE_K / masses)
    velocities = spread * rng.standard_normal(structure.positions.shape)
    positions = np.array(structure.positions)

    def evaluate() -> tuple[float, np.ndarray]:
        labels = subject.predict(structure.replace(positions=positions))
        assert labels.energy is not None
        return labels.energy, ACCELERATION * np.asarray(labels.forces) / masses

    def total(potential: float) -> float:
        return potential + 0.5 * float((masses * velocities**2).sum()) / ACCELERATION

    energy, acceleration = evaluate()
    start, worst = total(energy), 0.0
    for _ in range(steps):
        velocities = velocities + 0.5 * timestep * acceleration
        positions = positions + timestep * velocities
        energy, acceleration = evaluate()
        velocities = velocities + 0.5 * timestep * acceleration
        worst = max(worst, abs(total(energy) - start))
    return worst
