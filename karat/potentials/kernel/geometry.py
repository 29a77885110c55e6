"""Inverse distances of one molecule, their Jacobians, and what permutations do to them.

Checked: tests/potentials/kernel/test_matrix.py, by central differences.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Geometries:
    """Structures of one molecule as a kernel sees them; D = N (N − 1) / 2 pairs of atoms.

    Attributes:
        descriptors: 1/r of each pair, 1/Å.
        jacobians: ∂(1/r)/∂q along the internal directions q of `directions`, 1/Å².
        directions: orthonormal columns that span all displacements which change a distance;
            3N − 6 of 3N (translations and rotations change none).
    """

    descriptors: Float[np.ndarray, "frames pairs"]
    jacobians: Float[np.ndarray, "frames pairs internal"]
    directions: Float[np.ndarray, "frames coordinates internal"]

    @classmethod
    def of(cls, positions: Float[np.ndarray, "frames atoms 3"]) -> "Geometries":
        """From positions in Å."""
        descriptors, jacobians = inverse_distances(positions)
        atoms = positions.shape[1]
        internal = internal_directions(atoms)
        # right singular vectors: the row space of the Jacobian is the space of internal motions
        directions = np.linalg.svd(jacobians, full_matrices=False)[2][:, :internal]
        directions = np.ascontiguousarray(directions.transpose(0, 2, 1))
        return cls(descriptors, jacobians @ directions, directions)

    def __len__(self) -> int:
        return len(self.descriptors)

    def __getitem__(self, chosen: slice) -> "Geometries":
        return Geometries(self.descriptors[chosen], self.jacobians[chosen], self.directions[chosen])


def internal_directions(atoms: int) -> int:
    """How many directions change distances: 3N − 6, 1 for two atoms."""
    return max(3 * atoms - 6, 1)


def pair_indices(atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Atoms (a, b), a > b, of each pair in the order of the descriptor."""
    first, second = np.tril_indices(atoms, -1)
    return first, second


def inverse_distances(
    positions: Float[np.ndarray, "frames atoms 3"],
) -> tuple[Float[np.ndarray, "frames pairs"], Float[np.ndarray, "frames pairs coordinates"]]:
    """1/r of each pair, and its derivative with respect to all coordinates."""
    frames, atoms = positions.shape[:2]
    first, second = pair_indices(atoms)
    vectors = positions[:, first] - positions[:, second]
    inverse = 1.0 / np.linalg.norm(vectors, axis=-1)
    slopes = -vectors * inverse[:, :, None] ** 3
    jacobians = np.zeros((frames, len(first), atoms, 3))
    pairs = np.arange(len(first))
    jacobians[:, pairs, first] = slopes
    jacobians[:, pairs, second] = -slopes
    return inverse, jacobians.reshape(frames, len(first), 3 * atoms)


def pair_permutations(
    permutations: Int[np.ndarray, "permutations atoms"],
) -> Int[np.ndarray, "permutations pairs"]:
    """Rows π with (P x)_d = x_π(d) on descriptors, from permutations of atoms."""
    first, second = pair_indices(permutations.shape[1])
    left, right = permutations[:, first], permutations[:, second]
    high, low = np.maximum(left, right), np.minimum(left, right)
    return high * (high - 1) // 2 + low
