"""At the cut-off the energy has as many continuous derivatives as declared."""

import itertools

import numpy as np
from jaxtyping import Float

from karat.potentials.conformance.outcome import NotApplicable, Violation
from karat.potentials.conformance.subject import Subject, alone
from karat.structures.structure import Structure

HIGHEST = 3
"""Highest derivative of the energy that differences resolve."""
WIDE, NARROW = (0.02, 0.01), 0.0025
"""Å: steps on both sides of the cut-off; two wide ones, since at one a sum may vanish by chance.
What is continuous falls at least fourfold."""
SHARE = 0.5
"""A jump keeps its size, a continuous derivative falls to 1/4; between them."""
POINTS = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])


def cutoff_continuity(subject: Subject) -> str:
    """Scans of a dimer and a trimer across the cut-off show no jump up to the declared order."""
    traits = subject.potential.traits
    if traits.fixed_atoms:
        raise NotApplicable("declares that it knows fixed atoms only")
    if traits.cutoff is None:
        raise NotApplicable("declares no cut-off")
    if traits.continuity < 0:
        raise NotApplicable("declares that its energy jumps at the cut-off")
    if not traits.conservative or "forces" not in traits.quantities:
        raise NotApplicable("has no forces that are the gradient of its energy")
    species = sorted({int(z) for s in subject.structures for z in s.numbers})
    orders = range(min(traits.continuity, HIGHEST) + 1)
    scans: list[tuple[int, ...]] = [
        numbers
        for first, second in itertools.combinations_with_replacement(species, 2)
        for numbers in ((first, second), (first, second, first))
    ]
    for numbers, wide, narrow in zip(scans, *_all_jumps(subject, scans, traits.cutoff)):
        for order in orders:
            floor = _floor(traits.force_tolerance, order)
            if not narrow[order] <= max(SHARE * wide[order], floor):
                raise Violation(
                    f"derivative {order} of the energy jumps by {narrow[order]:.3g} eV/Å^{order} "
                    f"at {traits.cutoff} Å ({numbers}; {wide[order]:.3g} with longer "
                    f"steps), but continuity {traits.continuity} is declared"
                )
    return f"no jump up to derivative {orders[-1]} in {len(scans)} scans"


def _all_jumps(
    subject: Subject, scans: list[tuple[int, ...]], cutoff: float
) -> tuple[Float[np.ndarray, "scans orders"], Float[np.ndarray, "scans orders"]]:
    """Largest jumps at the wide steps and those at the narrow, of all scans in one prediction."""
    steps = (*WIDE, NARROW)
    structures = [_point(subject, z, cutoff, x) for s in steps for z in scans for x in s * POINTS]
    labels = subject.potential.predict(structures, ("energy", "forces"))
    energies = np.array([label.energy for label in labels], dtype=np.float64)
    forces = np.array([np.asarray(label.forces)[1, 0] for label in labels])
    shape = (len(steps), len(scans), len(POINTS))
    *wide, narrow = (
        np.stack([_jumps(e, f, step) for e, f in zip(es, fs)])
        for es, fs, step in zip(energies.reshape(shape), forces.reshape(shape), steps)
    )
    return np.max(wide, axis=0), narrow


def _point(subject: Subject, numbers: tuple[int, ...], cutoff: float, beyond: float) -> Structure:
    """The second atom `beyond` the cut-off from the first, along x.

    A third atom sits beside the first, within reach of both: it feels angles at the cut-off.
    """
    beside = min(subject.spacing, 0.6 * cutoff) * np.array([0.5, 0.75**0.5, 0.0])
    positions = np.array([np.zeros(3), [cutoff + beyond, 0, 0], beside])[: len(numbers)]
    return alone(subject.potential, Structure(numbers=np.array(numbers), positions=positions))


def _jumps(
    energies: Float[np.ndarray, "points"], forces: Float[np.ndarray, "points"], step: float
) -> Float[np.ndarray, "orders"]:
    """|right - left| of energy, force and the force's one-sided first and second differences."""
    slope = (forces[5] - forces[3]) - (forces[2] - forces[0])
    bend = (forces[5] - 2 * forces[4] + forces[3]) - (forces[2] - 2 * forces[1] + forces[0])
    return np.abs(
        np.array(
            [
                energies[3] - energies[2],
                forces[3] - forces[2],
                slope / (2 * step),
                bend / step**2,
            ]
        )
    )


def _floor(force_tolerance: float, order: int) -> float:
    """Rounding and noise of energies and forces (1e-3 of the tolerance), over the step."""
    return 1e-3 * force_tolerance / NARROW ** max(order - 1, 0)
