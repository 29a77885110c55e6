"""Inputs that no dynamics can start from: atoms on top of each other, a time step that the
frequencies forbid.

Checked: tests/simulation/test_start_checks.py.
"""

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, HBAR, INVERSE_CM
from karat.potentials.protocol import AbstractPotential
from karat.simulation.loop import Dynamics
from karat.simulation.velocities import masses
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

TOO_CLOSE = 0.3
"""Fraction of the sum of covalent radii; H–H in the most compressed hydrogen is above 0.9 of it."""


ITERATIONS = 12
"""Of the power method: within a few per cent of the highest frequency, from below."""
PROBE_ANGSTROM = 0.005
"""Longest displacement of the finite differences."""


def check_overlap(structure: Structure) -> None:
    """Refuse a structure in which two atoms are closer than `TOO_CLOSE`.

    Raises:
        BadInput: naming the closest pair.
    """
    from ase.data import chemical_symbols, covalent_radii

    radii = covalent_radii[structure.numbers]
    pairs = neighbour_pairs(structure, 2 * TOO_CLOSE * float(radii.max()))
    if not len(pairs):
        return
    distance = np.linalg.norm(pairs.vectors, axis=1)
    allowed = TOO_CLOSE * (radii[pairs.centers] + radii[pairs.neighbours])
    worst = int(np.argmin(distance / allowed))
    if distance[worst] < allowed[worst]:
        i, j = int(pairs.centers[worst]), int(pairs.neighbours[worst])
        names = [chemical_symbols[structure.numbers[k]] for k in (i, j)]
        raise BadInput(
            f"{structure.formula}: atoms {i} ({names[0]}) and {j} ({names[1]}) are "
            f"{distance[worst]:.3f} Å apart, closer than {allowed[worst]:.2f} Å: they lie on top "
            "of each other. Remove one (karat check names such structures), or relax first."
        )


def check_timestep(potential: AbstractPotential, structure: Structure, settings: Dynamics) -> None:
    """Refuse a time step at which velocity Verlet is unstable: ω Δt > 2 for the fastest vibration.

    Of r-RESPA the inner step counts.

    Raises:
        BadInput: with the frequency and the longest time step.
    """
    frequency = highest_frequency(potential, structure)
    step = settings.timestep_fs / settings.inner_steps
    if frequency * step <= 2:
        return
    period = 2 * np.pi / frequency
    raise BadInput(
        f"dynamics.timestep_fs is {step:g}{' (inner)' if settings.inner_steps > 1 else ''}, but "
        f"the fastest vibration of {structure.formula} has a period of {period:.1f} fs "
        f"({frequency * HBAR / INVERSE_CM:.0f} cm⁻¹): steps above {2 / frequency:.2f} fs are "
        f"unstable. Use at most {period / 10:.2f} fs, a tenth of the period."
    )


def highest_frequency(potential: AbstractPotential, structure: Structure) -> float:
    """Highest angular frequency in 1/fs, of the mass-weighted Hessian, by the power method.

    The Rayleigh quotient approaches it from below. Where the curvature is largest downwards (a
    structure far from a minimum), the largest value that was seen upwards is returned.
    """
    root = np.sqrt(masses(structure))[:, None]
    vector = np.random.default_rng(0).normal(size=(len(structure), 3))
    highest = 0.0
    for _ in range(ITERATIONS):
        vector = vector / np.linalg.norm(vector)
        product = _times_hessian(potential, structure, vector / root) / root
        highest = max(highest, float(np.sum(vector * product)))
        if not np.linalg.norm(product) > 0:
            break
        vector = product
    return float(np.sqrt(highest * ACCELERATION))


def _times_hessian(
    potential: AbstractPotential, structure: Structure, direction: Float[np.ndarray, "atoms 3"]
) -> Float[np.ndarray, "atoms 3"]:
    """Second derivatives (eV/Å²) times `direction`, by central differences."""
    scale = PROBE_ANGSTROM / np.sqrt(np.max(np.sum(direction * direction, axis=1)))
    moved = [
        structure.replace(positions=structure.positions + sign * scale * direction)
        for sign in (1, -1)
    ]
    ahead, behind = potential.predict(moved)
    assert ahead.forces is not None
    assert behind.forces is not None
    product: np.ndarray = (behind.forces - ahead.forces) / (2 * scale)
    return product
