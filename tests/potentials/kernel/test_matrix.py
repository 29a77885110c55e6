"""Descriptors by central differences; covariances against automatic derivatives of the kernel."""

import jax
import jax.numpy as jnp
import numpy as np

from karat.potentials.kernel.geometry import (
    Geometries,
    internal_directions,
    inverse_distances,
    pair_permutations,
)
from karat.potentials.kernel.matrix import Column, fill_matrix
from karat.potentials.kernel.packed import PackedMatrix

GROUP = np.array([[0, 1, 2, 3, 4], [0, 2, 1, 3, 4], [0, 1, 2, 4, 3], [0, 2, 1, 4, 3]])
SIGMA = 1.7  # as wide as these structures are apart: no term is negligible


def frames(count):
    return np.random.default_rng(4).normal(scale=1.3, size=(count, 5, 3))


def kernel(one, other):
    """Sum over the group of the Matérn kernel (its textbook form) on inverse distances."""

    def inverse(r):
        first, second = np.tril_indices(5, -1)
        return 1 / jnp.sqrt(jnp.sum((r[first] - r[second]) ** 2, axis=1))

    total = 0.0
    for row in GROUP:
        d = jnp.sqrt(jnp.sum((inverse(one) - inverse(other[row])) ** 2) + 1e-300)
        scaled = jnp.sqrt(5.0) * d / SIGMA
        total += (1 + scaled + 5 * d**2 / (3 * SIGMA**2)) * jnp.exp(-scaled)
    return total


def test_jacobian_and_internal_directions():
    positions = frames(3)
    inverse, jacobians = inverse_distances(positions)
    step = 1e-5
    for coordinate in range(15):
        moved = positions.reshape(3, 15).copy()
        moved[:, coordinate] += step
        up = inverse_distances(moved.reshape(3, 5, 3))[0]
        moved[:, coordinate] -= 2 * step
        down = inverse_distances(moved.reshape(3, 5, 3))[0]
        np.testing.assert_allclose((up - down) / (2 * step), jacobians[:, :, coordinate], atol=1e-8)
    found = Geometries.of(positions)
    assert found.jacobians.shape == (3, 10, 9)
    for full, reduced, directions in zip(jacobians, found.jacobians, found.directions):
        np.testing.assert_allclose(directions.T @ directions, np.eye(9), atol=1e-12)
        # nothing is lost: the full Jacobian is that of the internal directions
        np.testing.assert_allclose(reduced @ directions.T, full, atol=1e-11)
    np.testing.assert_array_equal(found.descriptors, inverse)
    assert [internal_directions(n) for n in (2, 3, 15)] == [1, 3, 39]


def test_permuted_descriptors_are_descriptors_of_permuted_molecules():
    positions = frames(1)[0]
    inverse = inverse_distances(positions[None])[0][0]
    for row, pairs in zip(GROUP, pair_permutations(GROUP)):
        moved = inverse_distances(positions[row][None])[0][0]
        np.testing.assert_allclose(inverse[pairs], moved, rtol=1e-14)


def test_covariances_are_derivatives_of_the_kernel():
    positions = frames(3)
    geometries = Geometries.of(positions)
    pairs = pair_permutations(GROUP)
    second = jax.jit(jax.jacfwd(jax.grad(kernel, argnums=1), argnums=0))
    first = jax.jit(jax.grad(kernel, argnums=0))
    for j in range(3):
        column = Column(geometries[j : j + 1], pairs)
        blocks = column.blocks(geometries, SIGMA)
        energies, mixed = column.energies(geometries, SIGMA)
        for i in range(3):
            # the root at zero distance has no automatic derivative
            shifted = positions[i] + (1e-7 if i == j else 0.0) * frames(2)[1]
            # rows of j, columns of i: ∂/∂r_j ∂/∂r_i k
            expected = np.asarray(second(shifted, positions[j])).reshape(15, 15).T
            left, right = geometries.directions[i], geometries.directions[j]
            np.testing.assert_allclose(blocks[i], left.T @ expected @ right, atol=2e-6)
            # cov(F_i, E_j) = −∂k/∂r_i
            slope = -np.asarray(first(shifted, positions[j])).ravel()
            np.testing.assert_allclose(mixed[i], left.T @ slope, atol=2e-6)
            np.testing.assert_allclose(energies[i], kernel(shifted, positions[j]), atol=1e-6)


def test_the_filled_matrix_holds_the_blocks():
    geometries = Geometries.of(frames(60))  # more than are made at once
    pairs = pair_permutations(GROUP)
    seen = []
    matrix = fill_matrix(geometries, pairs, SIGMA, lambda done, total: seen.append((done, total)))
    dense = np.zeros((540, 540))
    for j in range(60):
        blocks = Column(geometries[j : j + 1], pairs).blocks(geometries, SIGMA)
        dense[:, 9 * j : 9 * j + 9] = blocks.reshape(540, 9)
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)
    by_hand = PackedMatrix(540)
    by_hand.fill(0, dense)
    np.testing.assert_allclose(matrix._numbers, by_hand._numbers, atol=1e-13)
    assert seen == [(j, 60) for j in range(60)]
    assert np.linalg.eigvalsh(dense).min() > -1e-10
