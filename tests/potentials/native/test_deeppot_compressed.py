"""Tables of DeepPot-SE: the original's energies and forces, smooth joints, two forms of pairs."""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.batch import in_rows
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.deeppot import DeepPot
from karat.potentials.native.deeppot_compressed import NEAREST_ANGSTROM, compressed
from karat.potentials.native_protocol import NativePotential, derive
from karat.structures.structure import Structure

SMALL = {"cutoff_angstrom": 3.2, "embedding": (3, 6, 12), "axis": 2, "fitting": (8, 8)}


def rattled(atoms, seed):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(2)]


@pytest.fixture(scope="module")
def pair():
    original = random_potential(DeepPot(**SMALL), MOLECULES)
    return original, compressed(original.module)


def test_energies_and_forces_are_the_originals(pair):
    original, small = pair
    batch = original.batch(MOLECULES)
    found, expected = (eqx.filter_jit(derive)(m, batch) for m in (small, original.module))
    assert small.empty.shape[0] < 9 * 12  # fewer functions than networks have outputs
    # tolerance of the tables 2e-10 of values near 1
    np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-8)
    assert np.abs(expected.forces).max() > 0.1


def test_pairs_in_rows_give_the_same(pair):
    original, small = pair
    batch = original.batch(MOLECULES)
    rows = in_rows(batch)
    for module in (original.module, small):
        found, expected = (eqx.filter_jit(derive)(module, b) for b in (rows, batch))
        np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-12)


def test_tables_are_twice_continuously_differentiable(pair):
    small = pair[1]
    width = 1 / (NEAREST_ANGSTROM * small.table.shape[0])
    knots = width * np.arange(5, 20)
    value = lambda s: small.functions(s[None])[0]  # noqa: E731
    slope = jax.jacfwd(value)
    both = jax.jit(jax.vmap(lambda s: (value(s), slope(s), jax.jacfwd(slope)(s))))
    below, above = (both(jnp.asarray(knots + shift)) for shift in (-1e-12, 1e-12))
    for left, right in zip(below, above):
        size = float(jnp.abs(left).max())
        assert size > 0
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-7 * size)


def test_atoms_nearer_than_the_tables_reach_are_refused_not_extrapolated(pair):
    values = pair[1].functions(jnp.array([0.99, 1.01]) / NEAREST_ANGSTROM)
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1]).all()


def test_dynamics_uses_tables(pair):
    original, small = pair
    ready = original.module.prepared(original.module.species)
    assert type(ready) is type(small)


def test_networks_too_rough_for_tables_are_refused(pair):
    module = pair[0].module
    rough = eqx.tree_at(
        lambda m: m.embedding[0].weight, module, module.embedding[0].weight * 3000.0
    )
    with pytest.raises(BadInput, match="vary too fast"):
        compressed(rough)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_the_compressed(check, pair):
    outcome = run_check(check, make_subject(NativePotential(pair[1], {})))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
def test_single_precision(pair):
    original = random_potential(DeepPot(**SMALL), MOLECULES, "float32")
    small = NativePotential(
        compressed(original.module), original.reference_energies, None, "float32"
    )
    found, expected = (p.predict(MOLECULES)[0].forces for p in (small, original))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
