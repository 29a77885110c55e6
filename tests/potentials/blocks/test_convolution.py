"""Convolutions against a plain sum over pairs and Gaunt coefficients from quadrature."""

import ase.build
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.batch import in_rows, make_batch
from karat.potentials.blocks.convolution import Convolution, convolution_paths
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.linear.coupling import real_coupling
from karat.structures.structure import Structure

RNG = np.random.default_rng(2)


def batch_of(molecule):
    atoms = ase.build.molecule(molecule)
    return make_batch([Structure.from_ase(atoms)], 2.5, np.float64, with_triplets=False)


@pytest.mark.parametrize(("inputs", "highest"), [((0,), 2), ((0, 1), 2), ((0, 1, 2), 3)])
def test_list_and_rows_are_the_plain_sum(inputs, highest):
    batch = batch_of("CH3CH2OH")
    convolution = Convolution(inputs, highest)
    channels, components = 2, sum(2 * d + 1 for d in inputs)
    distances = jnp.linalg.norm(batch.vectors, axis=1)
    harmonics = pair_harmonics(batch.vectors, distances, highest)
    radial = RNG.normal(size=(len(distances), len(convolution.paths), channels))
    radial[~np.asarray(batch.pair_mask)] = 0
    features = RNG.normal(size=(batch.atoms, components, channels))
    bounds = np.cumsum([2 * d + 1 for d in inputs])[:-1]
    sent = [jnp.asarray(part) for part in np.split(features, bounds, axis=1)]
    found = convolution(batch, harmonics, jnp.asarray(radial.reshape(len(distances), -1)), sent)
    start = dict(zip(inputs, np.cumsum([0] + [2 * d + 1 for d in inputs])))
    seen = dict.fromkeys(range(highest + 1), 0)
    for path, (first, second, third) in enumerate(convolution.paths):
        near = features[np.asarray(batch.neighbours), start[first] : start[first] + 2 * first + 1]
        angular = np.asarray(harmonics)[second * second : (second + 1) ** 2]
        message = np.einsum(
            "abc,pak,bp,pk->pck",
            real_coupling(first, second, third),
            near,
            angular,
            radial[:, path],
        )
        expected = np.zeros((batch.atoms, 2 * third + 1, channels))
        np.add.at(expected, np.asarray(batch.centers), message)
        column = slice(seen[third] * channels, (seen[third] + 1) * channels)
        np.testing.assert_allclose(found[third][..., column], expected, atol=1e-10)
        seen[third] += 1
    rows = in_rows(batch)
    spread = np.zeros((rows.vectors.shape[0], radial[0].size))
    real = np.asarray(batch.pair_mask)  # in the same order there
    spread[np.asarray(rows.pair_mask)] = radial.reshape(len(distances), -1)[real]
    row_distances = jnp.linalg.norm(rows.vectors, axis=1)
    row_harmonics = pair_harmonics(rows.vectors, row_distances, highest)
    again = convolution(rows, row_harmonics, jnp.asarray(spread), sent)
    for one, other in zip(found, again):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_paths_are_those_of_mace_with_scalars_and_vectors():
    assert convolution_paths((0, 1), 2) == (
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 2),
        (1, 0, 1),
        (1, 1, 0),
        (1, 1, 2),
        (1, 2, 1),
    )


@pytest.mark.parametrize("degrees", [(1, 1, 0), (1, 1, 2), (1, 2, 1), (2, 2, 2), (1, 2, 3)])
def test_couplings_are_integrals_of_three_harmonics(degrees):
    """Up to a factor, by Gauss quadrature over the sphere, exact for these degrees."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    angles = 2 * np.pi * (np.arange(16) + 0.5) / 16
    z, angle = (grid.ravel() for grid in np.meshgrid(nodes, angles, indexing="ij"))
    weight = np.repeat(weights, 16) / 32
    s = np.sqrt(1 - z * z)
    points = jnp.asarray(np.stack([s * np.cos(angle), s * np.sin(angle), z], axis=1))
    values = np.asarray(pair_harmonics(points, jnp.ones(len(z)), 3))
    parts = [values[d * d : (d + 1) ** 2] for d in degrees]
    gaunt = np.einsum("ap,bp,cp,p->abc", *parts, weight)
    coupling = real_coupling(*degrees)
    factor = np.sum(gaunt * coupling) / np.sum(coupling**2)
    np.testing.assert_allclose(gaunt, factor * coupling, atol=1e-12)
    assert abs(factor) > 0.1
