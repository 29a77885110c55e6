"""The linear solve of a gradient-domain kernel model, and its posterior variance.

Source: Chmiela et al., Sci. Adv. 3, e1603015 (2017); Rasmussen and Williams, Gaussian Processes
for Machine Learning (2006), §2.2 and §9.4 (derivative observations).
Checked: tests/potentials/kernel/test_solve.py, against a dense Gaussian process made from
automatic derivatives of the kernel.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from karat.potentials.kernel.geometry import Geometries
from karat.potentials.kernel.matrix import Column, Progress, fill_matrix
from karat.potentials.kernel.packed import PackedMatrix


@dataclass(frozen=True, eq=False)
class Factor:
    """Training structures with the Cholesky factor of the covariance of their forces.

    Attributes:
        geometries: of the training structures.
        pair_permutations: see `geometry.pair_permutations`.
        sigma: width of the kernel, 1/Å.
        matrix: factorised.
    """

    geometries: Geometries
    pair_permutations: Int[np.ndarray, "permutations pairs"]
    sigma: float
    matrix: PackedMatrix

    @classmethod
    def of(
        cls,
        geometries: Geometries,
        pair_permutations: Int[np.ndarray, "permutations pairs"],
        sigma: float,
        regularization: float,
        progress: Progress | None = None,
    ) -> "Factor":
        """Fill the covariance matrix, add `regularization` to its diagonal and factorise it.

        Raises:
            BadInput: more memory needed than there is; before any work.
            CalculationFailed: kind ``not-positive-definite``.
        """
        matrix = fill_matrix(geometries, pair_permutations, sigma, progress)
        matrix.add_to_diagonal(regularization)
        matrix.factorise()
        return cls(geometries, pair_permutations, sigma, matrix)

    def coefficients(
        self, forces: Float[np.ndarray, "frames atoms 3"]
    ) -> Float[np.ndarray, "frames pairs"]:
        """J_i α_i: what predictions are made from."""
        flat = forces.reshape(len(self.geometries), -1)
        right = np.einsum("fci,fc->fi", self.geometries.directions, flat)
        alpha = self.matrix.solve(right.reshape(-1, 1)).reshape(right.shape)
        return np.einsum("fdi,fi->fd", self.geometries.jacobians, alpha)

    def variances(
        self, structures: Geometries, progress: Progress | None = None
    ) -> tuple[Float[np.ndarray, "frames"], Float[np.ndarray, "frames coordinates"]]:
        """Posterior variances of energies and forces of a process of unit amplitude.

        Energies are taken relative to the mean of the training structures, as predictions are
        (their constant is the mean difference over the training structures).
        """
        anchor_variance, anchor_forces = self._anchor
        energies, forces = [], []
        for index in range(len(structures)):
            if progress is not None:
                progress(index, len(structures))
            one = structures[index : index + 1]
            column = Column(one, self.pair_permutations)
            with_energies, mixed = column.energies(self.geometries, self.sigma)
            blocks = column.blocks(self.geometries, self.sigma)
            difference = mixed.reshape(-1, 1) - anchor_forces[:, None]
            right = np.hstack([difference, blocks.reshape(len(anchor_forces), -1)])
            solved = self.matrix.solve(np.asfortranarray(right))
            own_energy = column.energies(one, self.sigma)[0][0]
            prior = own_energy - 2 * with_energies.mean() + anchor_variance
            energies.append(prior - float(right[:, 0] @ solved[:, 0]))
            left = column.blocks(one, self.sigma)[0] - right[:, 1:].T @ solved[:, 1:]
            directions = one.directions[0]
            forces.append(np.einsum("ci,ij,cj->c", directions, left, directions))
        return np.maximum(energies, 0.0), np.maximum(forces, 0.0)

    @cached_property
    def _anchor(self) -> tuple[float, np.ndarray]:
        """Variance of the mean energy of the training structures, and cov(F, that mean)."""
        count = len(self.geometries)
        forces = np.zeros(self.geometries.jacobians.shape[::2])
        variance = 0.0
        for j in range(count):
            column = Column(self.geometries[j : j + 1], self.pair_permutations)
            energies, mixed = column.energies(self.geometries, self.sigma)
            forces += mixed / count
            variance += float(energies.sum()) / count**2
        return variance, forces.ravel()
