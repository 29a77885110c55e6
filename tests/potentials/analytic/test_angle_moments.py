"""Angle energies from moments: the sum over triplets, and derivatives of every kind."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from karat.potentials.analytic.angle_moments import angle_energies
from karat.potentials.batch import make_batch, triplet_indices
from karat.structures.structure import Structure


@pytest.fixture(scope="module")
def case():
    """Two species, tables that differ for every triple of them, a random crystal."""
    atoms = bulk("NaCl", "rocksalt", a=4.0) * (2, 1, 1)
    atoms.rattle(0.3, seed=1)
    batch = make_batch([Structure.from_ase(atoms)], 3.1, np.float64, with_triplets=False)
    random = np.random.default_rng(0)
    strength, cosine = random.normal(size=(2, 2, 2, 2))
    tables = tuple(jnp.asarray(0.5 * (t + t.transpose(0, 2, 1))) for t in (strength, cosine))
    index = (np.asarray(batch.numbers) == 17).astype(np.int32)
    species = tuple(
        jnp.asarray(index[np.asarray(pairs)]) for pairs in (batch.centers, batch.neighbours)
    )
    unit = np.asarray(batch.vectors)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    decay = random.uniform(size=len(unit)) * np.asarray(batch.pair_mask)
    geometry = tuple(jnp.asarray(column) for column in (decay, *unit.T))
    return geometry, tables, batch, species


def by_triplets(geometry, tables, batch, species):
    h, unit = geometry[0], jnp.stack(geometry[1:], axis=1)
    first, second = triplet_indices(np.asarray(batch.centers)).T
    key = (species[0][first], species[1][first], species[1][second])
    excess = jnp.sum(unit[first] * unit[second], axis=1) - tables[1][key]
    terms = tables[0][key] * excess**2 * h[first] * h[second]
    return jax.ops.segment_sum(terms, batch.centers[first], num_segments=batch.atoms)


def energy_of(function, batch, species):
    weights = jnp.asarray(np.random.default_rng(2).normal(size=batch.atoms))

    def energy(geometry, tables):
        # unit vectors are taken here: off the sphere the two functions go different ways
        length = jnp.sqrt(geometry[1] ** 2 + geometry[2] ** 2 + geometry[3] ** 2)
        unit = (geometry[0], *(axis / length for axis in geometry[1:]))
        return jnp.sum(weights * function(unit, tables, batch, species))

    return energy


def test_moments_are_the_sum_over_triplets(case):
    # sums of ~500 terms of order 1
    np.testing.assert_allclose(angle_energies(*case), by_triplets(*case), rtol=0, atol=1e-12)


def test_first_derivatives_of_geometry_and_tables(case):
    geometry, tables, batch, species = case
    found, expected = (
        jax.grad(energy_of(f, batch, species), argnums=(0, 1))(geometry, tables)
        for f in (angle_energies, by_triplets)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        if one.shape == tables[0].shape:  # which of two mirrored entries is read does not matter
            one, other = (0.5 * (a + jnp.swapaxes(a, 1, 2)) for a in (one, other))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


def test_second_derivatives(case):
    geometry, tables, batch, species = case
    random = np.random.default_rng(3)
    change = tuple(jnp.asarray(random.normal(size=g.shape)) for g in geometry)
    one = energy_of(angle_energies, batch, species)
    other = energy_of(by_triplets, batch, species)
    for first in (jax.grad, jax.jacfwd):
        found, expected = (
            jax.jvp(partial(slope, tables=tables), (geometry,), (change,))
            for slope in (first(one), first(other))
        )
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
