"""Normal modes from central differences of forces.

Checked: tests/simulation/test_modes.py, against Morse's curvature and ASE's `Vibrations`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, HBAR, INVERSE_CM
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.simulation.relax import relax
from karat.simulation.velocities import masses, rigid_motions
from karat.structures.structure import Structure

TIGHT = 1e-3
"""eV/Å; to which a structure is relaxed before its modes are taken."""
TIGHT_STEPS = 2000


@dataclass(frozen=True, eq=False)
class Modes:
    """Harmonic vibrations, translations and rotations taken out.

    Attributes:
        structure: where they were taken (relaxed if that was asked for).
        frequencies_cm: cm⁻¹, ascending; imaginary ones negative. 3N-6 of a molecule, 3N-5 of a
            linear one, 3N-3 (at Γ) of a periodic structure, none of one atom.
        vectors: mass-weighted (√m·displacement), orthonormal; `vectors[k] / √m` is the motion.
        hessian: ∂²E/∂x∂x in eV/Å², symmetric, not mass-weighted, nothing projected out.
    """

    structure: Structure
    frequencies_cm: Float[np.ndarray, "modes"]
    vectors: Float[np.ndarray, "modes atoms 3"]
    hessian: Float[np.ndarray, "components components"]


def hessian(
    potential: AbstractPotential, structure: Structure, displacement: float = 0.01
) -> Float[np.ndarray, "components components"]:
    """∂²E/∂x∂x in eV/Å² by central differences of forces; error O(displacement²).

    All 6·atoms displaced structures are predicted in one call.

    Raises:
        BadInput: a displacement that is not positive.
        CalculationFailed: one of the displaced structures could not be computed.
    """
    if not displacement > 0:
        raise BadInput(f"displacement {displacement} Å must be positive.")
    check_suitable(potential, structure, ("energy", "forces"))
    atoms = len(structure)
    shifts = displacement * np.eye(3 * atoms).reshape(-1, atoms, 3)
    moved = [
        structure.replace(positions=structure.positions + sign * shift)
        for shift in shifts
        for sign in (1, -1)
    ]
    labels = potential.predict(moved, ("energy", "forces"))
    forces = np.array([label.forces for label in labels]).reshape(3 * atoms, 2, 3 * atoms)
    found = (forces[:, 1] - forces[:, 0]) / (2 * displacement)
    return np.asarray(0.5 * (found + found.T), dtype=np.float64)


def normal_modes(
    potential: AbstractPotential,
    structure: Structure,
    displacement: float = 0.01,
    relax_first: bool = True,
) -> Modes:
    """Frequencies and motions of the vibrations; fixed cell, Γ point.

    Args:
        displacement: Å, of the central differences.
        relax_first: relax to `TIGHT` before; else the modes are those of the given structure,
            with the rotations projected out as if it were stationary.

    Raises:
        CalculationFailed: the relaxation or a displaced structure failed.

    Source: Wilson, Decius & Cross, Molecular Vibrations (1955).
    """
    if relax_first:
        structure = relax(potential, structure, TIGHT, TIGHT_STEPS).structure
    matrix = hessian(potential, structure, displacement)
    root = np.repeat(np.sqrt(masses(structure)), 3)
    rigid = rigid_motions(structure)
    # columns of q beyond the rigid motions span all vibrations
    basis = np.linalg.qr(rigid.T, mode="complete")[0][:, len(rigid) :]
    weighted = basis.T @ (matrix / np.outer(root, root)) @ basis
    curvatures, inner = np.linalg.eigh(0.5 * (weighted + weighted.T))
    return Modes(
        structure=structure,
        frequencies_cm=wavenumbers(curvatures),
        vectors=np.ascontiguousarray((basis @ inner).T).reshape(-1, len(structure), 3),
        hessian=matrix,
    )


def wavenumbers(curvatures: Float[np.ndarray, "modes"]) -> Float[np.ndarray, "modes"]:
    """cm⁻¹ from mass-weighted curvatures in eV/Å²/amu; negative where imaginary."""
    angular = np.sqrt(np.abs(curvatures) * ACCELERATION)
    return np.sign(curvatures) * angular * (HBAR / INVERSE_CM)
