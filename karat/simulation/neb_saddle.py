"""Whether an image of a path is a saddle: the signs of its curvatures.

Checked: tests/simulation/test_neb.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from karat.potentials.protocol import AbstractPotential
from karat.simulation.velocities import masses, rigid_motions
from karat.structures.structure import Structure

MOVING = 0.1
"""Å; atoms that move less along the whole path are held."""
DISPLACEMENT = 0.01
"""Å, of the central differences; their error is O(displacement²)."""
FLAT = 1e-4
"""A curvature below this part of the stiffest counts neither as negative nor as positive."""
ATOMS_PER_CALL = 4096
"""Displaced structures are predicted in portions of about so many atoms."""


@dataclass(frozen=True, eq=False)
class SaddleCheck:
    """Curvatures at the saddle with all atoms held that hardly move along the path.

    Attributes:
        atoms: which may move.
        curvatures: eigenvalues of their Hessian, ascending, eV/Å²; without rigid motions where
            all atoms may move.
        negative: how many are negative. Holding atoms hides negative curvatures but makes none
            (Cauchy's interlacing), so that all atoms together have at least as many.
        first_order: whether exactly one is.
    """

    atoms: Int[np.ndarray, "moving"]
    curvatures: Float[np.ndarray, "components"]
    negative: int

    @property
    def first_order(self) -> bool:
        return self.negative == 1


def check_saddle(
    potential: AbstractPotential, images: Sequence[Structure], saddle: int
) -> SaddleCheck:
    """Count the negative curvatures at one image of a path.

    Raises:
        CalculationFailed: one of the displaced structures could not be computed.
    """
    paths = np.array([image.positions for image in images])
    atoms = np.nonzero(np.linalg.norm(paths - paths[0], axis=2).max(axis=0) > MOVING)[0]
    structure = images[saddle]
    hessian = _hessian(potential, structure, atoms)
    if len(atoms) == len(structure):
        # rigid motions are stored times √m
        rigid = rigid_motions(structure) / np.repeat(np.sqrt(masses(structure)), 3)
        basis = np.linalg.qr(rigid.T, mode="complete")[0][:, len(rigid) :]
        hessian = basis.T @ hessian @ basis
    curvatures = np.linalg.eigvalsh(hessian)
    negative = int(np.count_nonzero(curvatures < -FLAT * np.abs(curvatures).max()))
    return SaddleCheck(atoms, curvatures, negative)


def _hessian(
    potential: AbstractPotential, structure: Structure, atoms: Int[np.ndarray, "moving"]
) -> Float[np.ndarray, "components components"]:
    """∂²E/∂x∂x of these atoms by central differences of forces, eV/Å²."""
    moved = []
    for atom in atoms:
        for axis in range(3):
            for sign in (1.0, -1.0):
                positions = structure.positions.copy()
                positions[atom, axis] += sign * DISPLACEMENT
                moved.append(structure.replace(positions=positions))
    portion = max(1, ATOMS_PER_CALL // len(structure))
    labels = []
    for first in range(0, len(moved), portion):
        labels += potential.predict(moved[first : first + portion], ("energy", "forces"))
    forces = np.array([each.forces[atoms] for each in labels if each.forces is not None])
    pairs = forces.reshape(3 * len(atoms), 2, 3 * len(atoms))
    found = (pairs[:, 1] - pairs[:, 0]) / (2 * DISPLACEMENT)
    return np.asarray(0.5 * (found + found.T))
