"""Mean and variance against a dense Gaussian process made from automatic derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.kernel.geometry import Geometries, pair_permutations
from karat.potentials.kernel.solve import Factor

GROUP = np.array([[0, 1, 2, 3], [0, 2, 1, 3]])
SIGMA, LAMBDA = 1.5, 1e-3


def inverse(r):
    first, second = np.tril_indices(4, -1)
    return 1 / jnp.sqrt(jnp.sum((r[first] - r[second]) ** 2, axis=1))


def kernel(one, other):
    total = 0.0
    for row in GROUP:
        # the shift by 1e-7 keeps the root differentiable where both structures are the same
        d = jnp.sqrt(jnp.sum((inverse(one) - inverse(other[row])) ** 2) + 1e-14)
        total += (1 + jnp.sqrt(5.0) * d / SIGMA + 5 * d**2 / (3 * SIGMA**2)) * jnp.exp(
            -jnp.sqrt(5.0) * d / SIGMA
        )
    return total


@pytest.fixture(scope="module")
def process():
    """Training and test positions, forces, and covariances: (force-force, force-energy, …)."""
    generator = np.random.default_rng(7)
    start = generator.normal(scale=1.2, size=(1, 4, 3))
    positions = start + generator.normal(scale=0.15, size=(9, 4, 3))
    forces = generator.normal(size=(6, 4, 3))
    pairs = [(a, b) for a in positions for b in positions]
    left, right = (jnp.asarray(np.array(side)) for side in zip(*pairs))
    value = jax.jit(jax.vmap(kernel))(left, right).reshape(9, 9)
    slope = -jax.jit(jax.vmap(jax.grad(kernel)))(left, right).reshape(9, 9, 12)
    hessian = jax.jacfwd(jax.grad(kernel), argnums=1)
    both = jax.jit(jax.vmap(hessian))(left, right).reshape(9, 9, 12, 12)
    return positions, forces, np.asarray(value), np.asarray(slope), np.asarray(both)


def test_mean_and_variance_of_forces_and_energies(process):
    positions, forces, value, slope, both = process
    train, test = slice(0, 6), slice(6, 9)
    covariance = both[train, train].transpose(0, 2, 1, 3).reshape(72, 72)
    inverse_covariance = np.linalg.inv(covariance + LAMBDA * np.eye(72))
    weights = inverse_covariance @ forces.ravel()
    # what is asked for: test forces, and test energies minus the mean training energy
    with_forces = both[train, test].transpose(0, 2, 1, 3).reshape(72, 36)
    energies = slope[train].transpose(0, 2, 1).reshape(72, 9)
    with_energies = energies[:, test] - energies[:, train].mean(axis=1, keepdims=True)
    own = np.einsum("iicd->icd", both[test, test])
    explained = with_forces.T @ inverse_covariance @ with_forces
    force_variance = np.einsum("icc->ic", own).ravel() - np.diag(explained)
    prior = (
        np.diag(value[test, test])
        - 2 * value[train, test].mean(axis=0)
        + value[train, train].mean()
    )
    energy_variance = prior - np.einsum(
        "ie,ij,je->e", with_energies, inverse_covariance, with_energies
    )

    factor = Factor.of(Geometries.of(positions[train]), pair_permutations(GROUP), SIGMA, LAMBDA)
    found_energy, found_force = factor.variances(Geometries.of(positions[test]))
    np.testing.assert_allclose(found_force.ravel(), force_variance, atol=1e-5)
    np.testing.assert_allclose(found_energy, energy_variance, atol=2e-6)
    assert force_variance.max() > 1e-2  # the comparison is not of zeros
    assert energy_variance.max() > 1e-4
    # the mean: forces are minus the gradient of E = −Σ g v·c
    coefficients = factor.coefficients(forces)
    predicted = with_forces.T @ weights
    found = mean_forces(positions[test], positions[train], coefficients)
    np.testing.assert_allclose(found.ravel(), predicted, atol=5e-5)


def mean_forces(positions, train, coefficients):
    def energy(r):
        total = 0.0
        for row in pair_permutations(GROUP):
            for other, c in zip(train, coefficients):
                v = inverse(r) - inverse(other)[row]
                d = jnp.sqrt(jnp.sum(v**2))
                scaled = jnp.sqrt(5.0) * d / SIGMA
                g = 5 / (3 * SIGMA**2) * (1 + scaled) * jnp.exp(-scaled)
                total -= g * jnp.dot(v, c[row])
        return total

    gradient = jax.jit(jax.grad(energy))
    return np.stack([-np.asarray(gradient(jnp.asarray(r))) for r in positions])


def test_variance_vanishes_at_training_structures_and_grows_away_from_them(process):
    positions, _, *_ = process
    factor = Factor.of(Geometries.of(positions[:6]), pair_permutations(GROUP), SIGMA, 1e-10)
    scaled = [positions[:1] * scale for scale in (1.0, 1.02, 1.1)]
    energy, force = factor.variances(Geometries.of(np.concatenate(scaled)))
    assert force[0].max() < 1e-8
    assert force[0].max() < force[1].max() < force[2].max()
    assert energy[2] > 2 * energy[0]
