"""Strained crystals, Voigt's notation, and what a crystal's symmetry leaves of vectors and tensors.

Checked: tests/simulation/test_batched_relax.py and tests/simulation/test_elastic.py.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import BadInput, MissingDependency, UnsuitableStructure
from karat.structures.structure import Structure

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""xx, yy, zz, yz, xz, xy."""


def strained(structure: Structure, strain: Float[np.ndarray, "3 3"]) -> Structure:
    """The crystal with r → (1 + ε) r: lattice vectors and atoms alike.

    Raises:
        UnsuitableStructure: not periodic in three directions.
    """
    require_crystal(structure, "a strain")
    gradient = (np.eye(3) + strain).T
    return structure.replace(
        positions=structure.positions @ gradient, cell=structure.cell @ gradient
    )


def scaled_to_volume(structure: Structure, volume: float) -> Structure:
    """The crystal stretched evenly to `volume` (Å³); fractional coordinates stay.

    Raises:
        UnsuitableStructure: not periodic in three directions.
    """
    require_crystal(structure, "a volume")
    return strained(structure, ((volume / structure.volume) ** (1 / 3) - 1) * np.eye(3))


def require_crystal(structure: Structure, what: str) -> None:
    """Refuse what is not periodic in three directions.

    Raises:
        UnsuitableStructure: naming the structure.
    """
    if not structure.periodic.all():
        raise UnsuitableStructure(
            f"{structure.formula}: {what} needs a crystal, periodic in three directions; "
            f"this one repeats in {int(structure.periodic.sum())}."
        )


def voigt_strain(component: int, size: float) -> Float[np.ndarray, "3 3"]:
    """Symmetric strain with one Voigt component; a shear of `size` is γ = 2 ε."""
    row, column = VOIGT[component]
    strain = np.zeros((3, 3))
    strain[row, column] += size / 2
    strain[column, row] += size / 2
    return strain


def to_voigt(stress: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "6"]:
    """xx, yy, zz, yz, xz, xy of a symmetric tensor, unchanged in size (a stress, no strain)."""
    return np.array([0.5 * (stress[i, j] + stress[j, i]) for i, j in VOIGT])


@dataclass(frozen=True, eq=False)
class CrystalSymmetry:
    """The operations of a crystal's space group as they act on vectors in space.

    Attributes:
        rotations: orthogonal matrices R.
        images: atom onto which each operation carries each atom.
        shifts: what must be added to R r_a to reach the atom r_images[a], Å; lattice
            translations included.
        number: of the space group, 1 to 230.
        symbol: Hermann and Mauguin's, short.
    """

    rotations: Float[np.ndarray, "operations 3 3"]
    images: Int[np.ndarray, "operations atoms"]
    shifts: Float[np.ndarray, "operations atoms 3"]
    number: int
    symbol: str

    def symmetric_vectors(
        self, vectors: Float[np.ndarray, "atoms 3"]
    ) -> Float[np.ndarray, "atoms 3"]:
        """The invariant part of one vector per atom (forces)."""
        turned = np.einsum("gij,aj->gai", self.rotations, vectors)
        total = np.zeros_like(vectors)
        np.add.at(total, self.images.ravel(), turned.reshape(-1, 3))
        return total / len(self.rotations)

    def symmetric_positions(
        self, positions: Float[np.ndarray, "atoms 3"]
    ) -> Float[np.ndarray, "atoms 3"]:
        """Positions with the noise that breaks the symmetry averaged out, Å."""
        turned = np.einsum("gij,aj->gai", self.rotations, positions) + self.shifts
        total = np.zeros_like(positions)
        np.add.at(total, self.images.ravel(), turned.reshape(-1, 3))
        return total / len(self.rotations)

    def symmetric_tensor(self, tensor: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
        """The invariant part of a tensor of rank two (stress)."""
        turned = np.einsum("gij,jk,glk->gil", self.rotations, tensor, self.rotations)
        return np.asarray(turned.mean(axis=0))


def crystal_symmetry(structure: Structure, tolerance: float = 1e-4) -> CrystalSymmetry:
    """The space group's operations, pure translations of a supercell included.

    Args:
        tolerance: Å; how far an atom may lie from where the symmetry wants it.

    Raises:
        UnsuitableStructure: not periodic in three directions, or spglib finds no group.
        MissingDependency: spglib is not installed.

    Source: Togo, Shinohara & Tanaka, Sci. Technol. Adv. Mater. Methods 4, 2384822 (2024).
    """
    from scipy.spatial import cKDTree

    require_crystal(structure, "a space group")
    if not tolerance > 0:
        raise BadInput(f"symmetry tolerance {tolerance} Å must be positive.")
    cell = structure.cell
    fractional = structure.positions @ np.linalg.inv(cell)
    found = _spglib_dataset(structure, fractional, tolerance)
    # r = cellᵀ f, so that the matrix W of fractional coordinates f is R = cellᵀ W cell⁻ᵀ in space
    rotations = np.einsum("ki,gkl,jl->gij", cell, found.rotations, np.linalg.inv(cell))
    carried = np.einsum("gij,aj->gai", found.rotations, fractional) + found.translations[:, None]
    # the tree wants [0, 1): rounding may leave 1.0
    tree = cKDTree(_wrapped(fractional), boxsize=1.0)
    images = tree.query(_wrapped(carried))[1].reshape(len(rotations), len(structure))
    whole = np.round(fractional[images] - carried)
    turned = np.einsum("gij,aj->gai", rotations, structure.positions)
    shifts = (carried + whole) @ cell - turned
    return CrystalSymmetry(
        rotations=rotations,
        images=images,
        shifts=shifts,
        number=int(found.number),
        symbol=str(found.international),
    )


def _wrapped(fractional: np.ndarray) -> np.ndarray:
    inside = fractional - np.floor(fractional)
    return np.where(inside >= 1.0, 0.0, inside)


def _spglib_dataset(structure: Structure, fractional: np.ndarray, tolerance: float):
    try:
        import spglib
    except ImportError as error:
        raise MissingDependency(
            "Crystal symmetry needs spglib: pip install 'spglib>=2.8'."
        ) from error
    crystal = (structure.cell.tolist(), fractional.tolist(), structure.numbers.tolist())
    with warnings.catch_warnings():
        # spglib 2.8 announces how its errors will change in version 3; both ways are met here
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            found = spglib.get_symmetry_dataset(crystal, symprec=tolerance)
        except spglib.SpglibError as error:
            raise _no_group(structure, tolerance, str(error)) from error
    if found is None:
        raise _no_group(structure, tolerance, "no group found")
    return found


def _no_group(structure: Structure, tolerance: float, reason: str) -> UnsuitableStructure:
    return UnsuitableStructure(
        f"spglib finds no space group of {structure.formula} at {tolerance:g} Å: {reason}. "
        "Look for atoms on top of each other, or change the tolerance."
    )
