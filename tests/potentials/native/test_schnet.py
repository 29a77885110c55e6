"""SchNet: a hand computation, exact derivatives, invariances, what distances cannot tell apart.

Its energies and forces are compared with schnetpack's in tests/peers/test_schnetpack.py.
"""

import dataclasses

import ase.build
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
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.model import named_arrays
from karat.potentials.native.schnet import Schnet, SchnetPaper
from karat.potentials.native_protocol import derive_compiled
from karat.structures.structure import Structure

SMALL = Schnet(cutoff_angstrom=3.0, channels=6, interactions=2, gaussians=5)
AS_IN_THE_PAPER = dataclasses.replace(SMALL, gamma_per_square_angstrom=10.0, activated_filters=True)


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(2)]
CRYSTAL = rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat((2, 1, 1)), 1)


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, AS_IN_THE_PAPER, MOLECULES, tmp_path)


FAST = ("forces_are_gradient", "stress_is_strain_derivative", "cutoff_continuity", "padding")


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    outcome = run_check(check, make_subject(random_potential(SMALL, MOLECULES, dtype)))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal_with_the_papers_filters(check):
    potential = random_potential(AS_IN_THE_PAPER, [CRYSTAL])
    outcome = run_check(check, make_subject(potential, [CRYSTAL]))
    # no molecule is among the structures that were given
    assert outcome.status == "passed" or outcome.detail == "no molecule was given", outcome


def softplus(x):
    return np.log(0.5 * np.exp(x) + 0.5)


def layers(x, weights):
    for i, one in enumerate(weights):
        matrix = np.asarray(one.weight)
        x = x @ matrix / np.sqrt(len(matrix)) + np.asarray(one.bias)
        x = softplus(x) if i + 1 < len(weights) else x
    return x


@pytest.mark.parametrize("architecture", [SMALL, AS_IN_THE_PAPER])
def test_the_energy_is_the_papers_by_hand(architecture):
    """Eqs. 1 to 3 of the paper in loops over atoms; biases are drawn too."""
    structure = MOLECULES[0]
    module = random_potential(architecture, [structure]).module
    leaves, tree = jax.tree.flatten(module)
    random = np.random.default_rng(3)
    some = [x + jnp.asarray(random.normal(scale=0.3, size=x.shape)) for x in leaves]
    module = jax.tree.unflatten(tree, some)
    atoms, cutoff = len(structure), architecture.cutoff_angstrom
    x = np.stack([np.asarray(module.embedding)[module.species.index(z)] for z in structure.numbers])
    gamma = architecture.gamma_per_square_angstrom or 0.5 / (cutoff / 4) ** 2
    for block in module.interactions:
        message = np.zeros_like(x)
        for i in range(atoms):
            for j in set(range(atoms)) - {i}:
                r = np.linalg.norm(structure.positions[i] - structure.positions[j])
                if r >= cutoff:
                    continue
                w = layers(np.exp(-gamma * (r - np.asarray(module.centres)) ** 2), block.filter)
                w = softplus(w) if architecture.activated_filters else w
                sent = x[j] @ np.asarray(block.send) / np.sqrt(x.shape[1])
                message[i] += sent * w * 0.5 * (1 + np.cos(np.pi * r / cutoff))
        x = x + layers(message, block.receive)
    expected = np.asarray(module.scale) * layers(x, module.output)[:, 0]
    batch = random_potential(architecture, [structure]).batch([structure])
    found = np.asarray(module.evaluate(batch).atom_energies)
    np.testing.assert_allclose(found[:atoms], expected, rtol=1e-12)


def test_the_size_is_schnetpacks():
    """Its own count, with an embedding of 100 elements instead of 3; see tests/peers."""
    module = Schnet(channels=64, interactions=3, gaussians=20).skeleton((1, 6, 8), "float32")
    count = sum(leaf.size for leaf in named_arrays(module).values())
    block = (20 * 64 + 64) + (64 * 64 + 64) + 64 * 64 + 2 * (64 * 64 + 64)
    # 20 centres and the scale are fixed
    assert count == 3 * 64 + 3 * block + (64 * 32 + 32) + (32 + 1) + 20 + 1


def test_messages_are_functions_of_distances_only():
    """An angle matters by the distance between its ends only, however many interactions."""

    def bent(degrees):
        turn = np.radians(degrees)
        place = np.array([[0.0, 0, 0], [1.4, 0, 0], [1.4 * np.cos(turn), 1.4 * np.sin(turn), 0]])
        return Structure(np.array([8, 1, 1]), place)

    near = Schnet(cutoff_angstrom=1.5, channels=6, gaussians=5)  # hydrogens do not see another
    potential = random_potential(near, [bent(90)])
    first, second = (potential.predict([bent(angle)])[0].energy for angle in (100, 160))
    assert first == pytest.approx(second, abs=1e-9)
    potential = random_potential(dataclasses.replace(near, cutoff_angstrom=3.0), [bent(90)])
    first, second = (potential.predict([bent(angle)])[0].energy for angle in (100, 160))
    assert abs(first - second) > 1e-3


def test_the_prepared_module_is_the_same_function_in_rows_too():
    potential = random_potential(AS_IN_THE_PAPER, [CRYSTAL])
    batch = potential.batch([CRYSTAL])
    expected = derive_compiled(potential.module, batch)
    for module in (potential.module, potential.module.prepared((11, 17))):
        found = derive_compiled(module, in_rows(batch))
        # cubic splines on 8192 intervals: relative error about 1e-9 of the largest functions
        np.testing.assert_allclose(found.energies, expected.energies, atol=1e-8)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-7)
        np.testing.assert_allclose(found.stress[0], expected.stress[0], atol=1e-8)


def test_hyperparameters_survive_writing():
    for architecture in (SMALL, AS_IN_THE_PAPER, SchnetPaper()):
        assert parse(type(architecture), dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "schnet.cutoff_angstrom"),
        ({"channels": 1}, "schnet.channels 1"),
        ({"interactions": 0}, "schnet.interactions 0"),
        ({"gaussians": 1}, "schnet.gaussians 1"),
        ({"gamma_per_square_angstrom": -1.0}, "schnet.gamma_per_square_angstrom -1.0"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Schnet, values, "model")


def test_the_scale_is_that_of_the_forces():
    data = random_dataset(MOLECULES)
    assert float(SMALL.initialise(data, jax.random.key(0), "float64").scale) == pytest.approx(
        np.sqrt(np.mean(np.concatenate([x.forces.ravel() for x in data.labels]) ** 2))
    )
