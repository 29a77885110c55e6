"""The energy curve of two atoms: forces against the slope, and how smooth it is.

Checked: tests/simulation/test_diatomic.py, against Morse's and Lennard-Jones' formulas.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.simulation.batched_relax import energy_of
from karat.structures.structure import Structure

FEWEST_DISTANCES = 8
FLAT = 1e-4
"""eV/Å; a force within this of zero has no sign: beyond a cut-off, noise would make many."""


@dataclass(frozen=True, eq=False)
class DiatomicCurve:
    """Energy and force of a dimer over its length.

    Attributes:
        symbols: the two elements.
        distances: Å, ascending.
        energies: eV, as the potential gives them.
        forces: along the bond, positive where it pushes apart, eV/Å.
        force_error: longest difference of force and -dE/dr, eV/Å; dE/dr by central differences
            of `difference_step`, whose own error is of its square.
        sideways_force: longest force across the bond or unbalanced between the atoms, eV/Å.
        force_flips: changes of sign of the force; one for a single well, none for repulsion.
        energy_jump: largest difference between the energy gained from one distance to the next
            and the mean of the forces there times the step, eV: large where energies jump.
        tortuosity: sum of all changes of the energy over those that a single well needs (down to
            the minimum and up again); 1 for a single well.
        minimum: distance of lowest energy between two larger ones, Å, from a parabola through
            three points; `None` where the lowest energy lies at an end.
    """

    symbols: tuple[str, str]
    distances: Float[np.ndarray, "distances"]
    energies: Float[np.ndarray, "distances"]
    forces: Float[np.ndarray, "distances"]
    force_error: float
    sideways_force: float
    force_flips: int
    energy_jump: float
    tortuosity: float
    minimum: float | None


def diatomic_curve(
    potential: AbstractPotential,
    numbers: tuple[int, int],
    distances: Sequence[float],
    difference_step: float = 1e-4,
    charge: int = 0,
    multiplicity: int | None = None,
) -> DiatomicCurve:
    """The curve at the given distances, all dimers in one batched call.

    Args:
        numbers: atomic numbers.
        distances: Å, ascending, all longer than `difference_step`.
        difference_step: Å, of the central differences.
        charge, multiplicity: of the dimer.

    Raises:
        UnsuitableStructure, UnknownElement: see `check_suitable`.
        BadInput: too few distances, not ascending, or not longer than the step.
        CalculationFailed: one of the dimers could not be computed.

    Source: smoothness measures after Chiang et al., MLIP Arena, arXiv:2509.20630 (2025).
    """
    lengths = np.array(distances, dtype=float)
    _check(lengths, difference_step)
    dimers = [
        Structure(
            np.array(numbers),
            np.array([[0.0, 0.0, 0.0], [0.0, 0.0, length + shift]]),
            charge=charge,
            multiplicity=multiplicity,
        )
        for shift in (0.0, difference_step, -difference_step)
        for length in lengths
    ]
    check_suitable(potential, dimers[0], ("energy", "forces"))
    labels = potential.predict(dimers, ("energy", "forces"))
    values = np.array([energy_of(one) for one in labels]).reshape(3, -1)
    vectors = np.array([one.forces for one in labels[: len(lengths)]])
    slope = (values[1] - values[2]) / (2 * difference_step)
    energies, forces = values[0], 0.5 * (vectors[:, 1, 2] - vectors[:, 0, 2])
    across = np.concatenate([vectors[:, :, :2].ravel(), vectors.sum(axis=1).ravel()])
    work = -0.5 * (forces[1:] + forces[:-1]) * np.diff(lengths)
    return DiatomicCurve(
        symbols=(dimers[0].symbols[0], dimers[0].symbols[1]),
        distances=lengths,
        energies=energies,
        forces=forces,
        force_error=float(np.abs(forces + slope).max()),
        sideways_force=float(np.abs(across).max()),
        force_flips=_flips(forces),
        energy_jump=float(np.abs(np.diff(energies) - work).max()),
        tortuosity=_tortuosity(energies),
        minimum=_minimum(lengths, energies),
    )


def _check(lengths: Float[np.ndarray, "distances"], step: float) -> None:
    if len(lengths) < FEWEST_DISTANCES:
        raise BadInput(
            f"diatomic_curve: {len(lengths)} distances say little about smoothness; give "
            f"{FEWEST_DISTANCES} or more."
        )
    if not np.isfinite(lengths).all() or np.any(np.diff(lengths) <= 0):
        raise BadInput("diatomic_curve: distances must be finite and ascending.")
    if not 0 < step < lengths[0]:
        raise BadInput(
            f"diatomic_curve: difference_step {step} Å must lie between zero and the shortest "
            f"distance, {lengths[0]} Å."
        )


def _flips(forces: Float[np.ndarray, "distances"]) -> int:
    """Changes of sign among forces that are not zero."""
    signs = np.sign(forces[np.abs(forces) > FLAT])
    return int(np.sum(signs[1:] != signs[:-1]))


def _tortuosity(energies: Float[np.ndarray, "distances"]) -> float:
    """Length of the way that the energy goes over the shortest way through its lowest point."""
    lowest = energies.min()
    shortest = (energies[0] - lowest) + (energies[-1] - lowest)
    if shortest <= 0:
        raise BadInput("diatomic_curve: the energy is the same at all distances; go nearer.")
    return float(np.abs(np.diff(energies)).sum() / shortest)


def _minimum(
    lengths: Float[np.ndarray, "distances"], energies: Float[np.ndarray, "distances"]
) -> float | None:
    place = int(np.argmin(energies))
    if place in (0, len(lengths) - 1):
        return None
    near = slice(place - 1, place + 2)
    square, linear, _ = np.polyfit(lengths[near] - lengths[place], energies[near], 2)
    return float(lengths[place] - linear / (2 * square))
