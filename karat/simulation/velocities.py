"""Masses, kinetic energy, temperature, Maxwell–Boltzmann velocities.

Checked: tests/simulation/test_velocities.py.
"""

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, BOLTZMANN
from karat.structures.structure import Structure


def masses(structure: Structure) -> Float[np.ndarray, "atoms"]:
    """Standard atomic weights in amu (IUPAC, through `ase.data`)."""
    from ase.data import atomic_masses

    return np.array(atomic_masses[structure.numbers], dtype=np.float64)


def kinetic_energy(
    mass: Float[np.ndarray, "atoms"], velocities: Float[np.ndarray, "*frames atoms 3"]
) -> Float[np.ndarray, "*frames"]:
    """Σ ½ m v² in eV; masses in amu, velocities in Å/fs."""
    squared = np.sum(velocities * velocities, axis=-1)
    return np.asarray(np.sum(0.5 * mass * squared, axis=-1) / ACCELERATION, dtype=np.float64)


def kinetic_temperature(energy: float, degrees_of_freedom: int) -> float:
    """2 E / (f k_B) in K; 0 where nothing can move."""
    return 2 * energy / (degrees_of_freedom * BOLTZMANN) if degrees_of_freedom else 0.0


def degrees_of_freedom(structure: Structure) -> int:
    """How many velocity components are left when the overall motion is taken out.

    Periodic structures lose the motion of the centre of mass (3), molecules also the rotation
    (2 for linear ones, else 3). A single atom in vacuum keeps its three.
    """
    atoms = len(structure)
    if structure.periodic.any():
        return 3 * atoms - 3
    return 3 if atoms == 1 else 3 * atoms - 3 - _rotations(structure)


def _centred(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    mass = masses(structure)
    return mass, structure.positions - mass @ structure.positions / mass.sum()


def _inertia(structure: Structure) -> np.ndarray:
    mass, centred = _centred(structure)
    squared: float = np.sum(mass[:, None] * centred * centred)
    tensor: np.ndarray = squared * np.eye(3) - np.einsum("a,ai,aj->ij", mass, centred, centred)
    return tensor


LINEAR = 1e-6
"""Ratio of the smallest to the largest moment of inertia below which a molecule is linear."""


def _rotations(structure: Structure) -> int:
    """Number of independent rotations: 0 for an atom, 2 for linear molecules, else 3."""
    moments = np.linalg.eigvalsh(_inertia(structure))
    return int(np.count_nonzero(moments > LINEAR * max(moments[-1], 1e-12)))


def rigid_motions(structure: Structure) -> Float[np.ndarray, "motions components"]:
    """Orthonormal mass-weighted translations and rotations (rows; 3·atoms components).

    Periodic structures have the three translations only. An atom has 3, a linear molecule 5,
    any other molecule 6.

    Source: Wilson, Decius & Cross, Molecular Vibrations (1955), ch. 2 (Eckart's conditions).
    """
    mass, centred = _centred(structure)
    root = np.sqrt(mass)[:, None]
    rows = [(root * np.eye(3)[k]).ravel() for k in range(3)]
    count = 3
    if not structure.periodic.any():
        _, axes = np.linalg.eigh(_inertia(structure))
        rotations = _rotations(structure)
        count += rotations
        for axis in axes.T[3 - rotations :]:
            rows.append((root * np.cross(axis, centred)).ravel())
    orthonormal = np.linalg.qr(np.array(rows).T)[0]
    return np.ascontiguousarray(orthonormal.T[:count])


def thermal_velocities(
    structure: Structure, temperature_k: float, seed: int
) -> Float[np.ndarray, "atoms 3"]:
    """Maxwell–Boltzmann velocities in Å/fs without overall motion, at exactly this temperature.

    The motion of the centre of mass and, for molecules, the rotation are taken out; then all
    velocities are scaled by one factor, so that the kinetic temperature over
    `degrees_of_freedom` *is* `temperature_k`: different seeds start with the same kinetic
    energy. (A canonical start would scatter around it.) A structure that only has overall
    motion (one atom in a crystal's cell) gets zeros.

    Raises:
        BadInput: a negative temperature or seed.
    """
    if temperature_k < 0 or seed < 0:
        raise BadInput(f"temperature {temperature_k} K and seed {seed} must not be negative.")
    mass = masses(structure)
    free = degrees_of_freedom(structure)
    weighted = np.random.default_rng(seed).normal(size=(len(structure), 3))
    if free < 3 * len(structure):
        motions = rigid_motions(structure)
        flat = weighted.ravel()
        weighted = (flat - motions.T @ (motions @ flat)).reshape(-1, 3)
    velocities: np.ndarray = weighted / np.sqrt(mass)[:, None]
    if free == 0 or temperature_k == 0:
        return np.zeros_like(velocities)
    now = kinetic_temperature(float(kinetic_energy(mass, velocities)), free)
    return velocities * np.sqrt(temperature_k / now)


def without_drift(
    structure: Structure, velocities: Float[np.ndarray, "atoms 3"]
) -> Float[np.ndarray, "atoms 3"]:
    """`velocities` (Å/fs) without the motion of the centre of mass and, of molecules, the rotation.

    A single atom in vacuum keeps its velocity; see `degrees_of_freedom`.
    """
    if degrees_of_freedom(structure) == 3 * len(structure):
        return velocities
    root = np.sqrt(masses(structure))[:, None]
    motions = rigid_motions(structure)
    weighted = (root * velocities).ravel()
    rest: np.ndarray = (weighted - motions.T @ (motions @ weighted)).reshape(-1, 3) / root
    return rest
