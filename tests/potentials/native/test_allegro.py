"""Allegro: a plain sum over pairs, locality, body order, size, invariances, refusals."""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.potentials.batch import in_rows
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_potential,
    run_architecture_check,
)
from karat.potentials.model import named_arrays
from karat.potentials.native.allegro import Allegro, AllegroPaper
from karat.potentials.native_protocol import NativePotential, derive_compiled
from karat.structures.structure import Structure

SMALL = {
    "scalars": 6,
    "tensors": 4,
    "bessel": 4,
    "two_body_hidden": (8,),
    "latent_hidden": (8,),
    "cutoff_angstrom": 3.0,
}
MOLECULE = ase.build.molecule("CH3CH2OH")
WATER = ase.build.molecule("H2O")
CRYSTAL = ase.build.bulk("NaCl", "rocksalt", a=5.0)


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    architecture = Allegro(**SMALL, bessel_trainable=True)
    run_architecture_check(check, architecture, [rattled(WATER, 0)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("parity", [True, False])
def test_every_array_of_three_layers_with_tensors_is_live(parity, tmp_path):
    architecture = Allegro(**SMALL, layers=3, degree=2, parity=parity)
    run_architecture_check("parameters_are_live", architecture, [rattled(MOLECULE, 0)], tmp_path)


FAST = ("stress_is_strain_derivative", "padding")


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    structures = [rattled(MOLECULE, seed) for seed in range(3)]
    potential = random_potential(Allegro(**SMALL), structures, dtype=dtype)
    outcome = run_check(check, make_subject(potential))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal_with_tensors_of_both_parities(check):
    architecture = Allegro(**SMALL, layers=3, degree=2)
    potential = random_potential(architecture, [rattled(CRYSTAL.repeat(2), 1)])
    outcome = run_check(check, make_subject(potential))
    assert outcome.status == "passed", outcome


def network(values, weights):
    """Layers without biases; SiLU such that its mean square is 1 for normal x, as in e3nn."""
    for number, weight in enumerate(weights):
        values = values @ weight / weight.shape[0] ** 0.5
        if number < len(weights) - 1:
            values = 1.6791767923989418 * values / (1 + np.exp(-values))
    return values


def plain_energy(module, structure):
    """Layers of degree 1 with scalars, vectors and axial vectors, by dot and cross products."""
    parts = jax.tree.map(np.asarray, module)
    kinds = np.eye(len(module.species))[[module.species.index(z) for z in structure.numbers]]
    arrows, ends, scalars = {}, {}, {}
    for a, start in enumerate(structure.positions):
        for b, stop in enumerate(structure.positions):
            r = np.linalg.norm(stop - start)
            if a == b or r >= module.cutoff:
                continue
            x, p = r / module.cutoff, module.envelope_power
            u = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1)
            ends[a, b] = u - p * (p + 1) / 2 * x ** (p + 2)
            arrows[a, b] = (3**0.5 * (stop - start) / r)[:, None]  # mean square 1 a component
            basis = (2 / module.cutoff) ** 0.5 * np.sin(np.pi * parts.frequencies * x) / r
            given = np.concatenate([kinds[a], kinds[b], basis])
            scalars[a, b] = network(given, parts.two_body) * ends[a, b]

    def pictures(weight):
        found = {}
        for pair, x in scalars.items():
            s, v = np.split(network(x, [weight]), 2)
            found[pair] = {(0, 1): s[None], (1, -1): v * arrows[pair]}
        return found

    tensors = pictures(parts.embedding)
    for layer in parts.layers:
        near = pictures(layer.environment)
        updated = {}
        for a, b in tensors:
            around = {
                kind: sum(near[c, d][kind] for c, d in near if c == a)
                / module.average_neighbours**0.5
                for kind in ((0, 1), (1, -1))
            }
            updated[a, b] = product(layer, tensors[a, b], around)
        tensors = updated
        for pair, x in scalars.items():
            given = np.concatenate([x, tensors[pair][0, 1][0]])
            change = network(given, layer.latent) * ends[pair]
            scalars[pair] = (x + 0.5 * change) / 1.25**0.5
    total = 0.0
    for (a, b), x in scalars.items():
        total += kinds[a] @ parts.scale @ kinds[b] * network(x, [parts.readout])[0]
    return float(total / module.average_neighbours**0.5)


def product(layer, tensors, around):
    s, v = around[0, 1], around[1, -1]
    found = {kind: [] for kind in layer.outputs}
    for kind in layer.inputs:
        t = tensors[kind]
        made = {kind: t * s}
        if kind[0] == 0:
            made[1, -kind[1]] = t * v
        else:
            # the coupling of two vectors to a scalar is minus the dot product, as ⟨10 10|00⟩
            made[0, -kind[1]] = -np.sum(t * v, axis=0, keepdims=True) / 3**0.5
            made[1, -kind[1]] = np.cross(t, v, axis=0) / 2**0.5
        for other, value in made.items():
            if other in found:
                found[other].append(value)
    return {
        kind: network(np.concatenate(found[kind], axis=1), [weight])
        for kind, weight in zip(layer.outputs, layer.mix)
    }


def test_energy_is_the_plain_sum_over_pairs():
    structure = rattled(MOLECULE, 3)
    module = random_potential(Allegro(**SMALL, layers=3), [structure]).module
    assert (1, 1) in module.layers[0].outputs  # axial vectors are tried too
    found = NativePotential(module).predict([structure])[0].energy
    expected = plain_energy(module, structure)
    assert found == pytest.approx(expected, rel=1e-11)
    assert abs(expected) > 1e-3


def test_rows_of_pairs_as_in_dynamics_give_the_same_forces():
    structure = rattled(MOLECULE, 2)
    potential = random_potential(Allegro(**SMALL), [structure])
    batch = potential.batch([structure])
    found = derive_compiled(potential.module, in_rows(batch))
    expected = derive_compiled(potential.module, batch)
    np.testing.assert_allclose(found.energies, expected.energies, atol=1e-11)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-11)


def test_an_atom_beyond_the_cutoff_changes_nothing_whatever_the_layers():
    """A chain with spacing 2.5 Å, cut-off 3 Å: atom 0 sees atom 1, also through three layers."""
    chain = np.zeros((4, 3))
    chain[:, 0] = 2.5 * np.arange(4)
    module = random_potential(Allegro(**SMALL, layers=3), [Structure(np.full(4, 18), chain)]).module
    energies = eqx.filter_jit(lambda batch: module.evaluate(batch).atom_energies)

    def first(moved):
        positions = chain.copy()
        positions[moved, 1] += 0.3
        batch = NativePotential(module).batch([Structure(np.full(4, 18), positions)])
        return float(energies(batch)[0])

    assert first(2) == first(3)
    assert abs(first(1) - first(3)) > 1e-9


def test_pairs_do_not_see_each_other_where_the_environment_is_silent():
    """Without environments two-body energies are left: the sum over dimers is the trimer."""
    trimer = Structure(
        numbers=np.array([1, 6, 8]), positions=np.array([[0, 0, 0], [1.1, 0, 0], [0.3, 1.2, 0.2]])
    )
    module = random_potential(Allegro(**SMALL), [trimer]).module

    def excess(one):
        def energy(atoms):
            part = Structure(numbers=trimer.numbers[atoms], positions=trimer.positions[atoms])
            return NativePotential(one).predict([part])[0].energy

        dimers = sum(energy(pair) for pair in ([0, 1], [0, 2], [1, 2]))
        return energy([0, 1, 2]) - dimers

    silent = eqx.tree_at(
        lambda m: [layer.environment for layer in m.layers], module, replace_fn=jnp.zeros_like
    )
    assert excess(silent) == pytest.approx(0.0, abs=1e-12)
    assert abs(excess(module)) > 1e-6


def test_tensors_that_cannot_reach_the_energy_are_left_out():
    scalar, vector, axial = (0, 1), (1, -1), (1, 1)
    assert Allegro(layers=1).kinds == ((scalar, vector), (scalar,))
    assert Allegro(layers=2).kinds[1] == (scalar, vector)
    assert Allegro(layers=3).kinds[1] == (scalar, vector, axial)
    assert Allegro(layers=3, parity=False).kinds[1] == (scalar, vector)


def test_presets_are_larger_models_of_the_same_kind():
    sizes = []
    for preset in (Allegro, AllegroPaper):
        module = preset(average_neighbours=10.0).skeleton((1, 6, 8), "float32")
        sizes.append(sum(leaf.size for leaf in named_arrays(module).values()))
    assert sizes[0] < 1e5 < 5e6 < sizes[1] < 2e7


def test_hyperparameters_survive_writing():
    architecture = Allegro(**SMALL)
    assert parse(Allegro, dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"degree": 5}, "allegro.degree 5"),
        ({"layers": 0}, "allegro.layers 0"),
        ({"cutoff_angstrom": 0.0}, "allegro.cutoff_angstrom"),
        ({"two_body_hidden": []}, "allegro.two_body_hidden"),
        ({"latent_hidden": [0]}, "allegro.latent_hidden"),
        ({"average_neighbours": -1.0}, "allegro.average_neighbours"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Allegro, values, "model")
