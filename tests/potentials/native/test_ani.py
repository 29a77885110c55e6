"""ANI: environment vectors by plain loops, sizes of the published models, derivatives, refusals.

They are compared with torchani's in tests/peers/test_torchani.py.
"""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.potentials.batch import make_batch
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.native.ani import Ani, Ani1x, Ani2x
from karat.structures.structure import Structure

SMALL = {
    "cutoff_angstrom": 3.2,
    "angular_cutoff_angstrom": 2.6,
    "radial_count": 4,
    "angular_count": 2,
    "sections": 3,
    "zeta": 8.0,
    "hidden": (6, 5),
}


def rattled(atoms, seed):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(3)]
CRYSTAL = rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat(2), 1)
CRYSTALLINE = SMALL | {"cutoff_angstrom": 4.0, "angular_cutoff_angstrom": 3.6, "zeta": 7.5}


@pytest.fixture(scope="module")
def molecular():
    return random_potential(Ani(**SMALL), MOLECULES)


def by_loops(aev, structure):
    """Environment vectors of a molecule, term by term as in the paper."""
    x, z = structure.positions, list(structure.numbers)
    n = len(aev.species)
    pairs = [(a, b) for a in range(n) for b in range(a, n)]
    shifts = aev.start + (aev.cutoff - aev.start) / aev.radial_count * np.arange(aev.radial_count)
    steps = (aev.angular_cutoff - aev.start) / aev.angular_count * np.arange(aev.angular_count)
    angles = np.pi / aev.sections * (np.arange(aev.sections) + 0.5)
    rows = []
    for i in range(len(x)):
        radial = np.zeros((n, aev.radial_count))
        angular = np.zeros((len(pairs), aev.angular_count, aev.sections))
        for j in range(len(x)):
            r = np.linalg.norm(x[j] - x[i])
            if j == i or r > aev.cutoff:
                continue
            fade = 0.5 * np.cos(np.pi * r / aev.cutoff) + 0.5
            radial[aev.species.index(z[j])] += (
                0.25 * np.exp(-aev.radial_eta * (r - shifts) ** 2) * fade
            )
            for k in range(j):
                s = np.linalg.norm(x[k] - x[i])
                if k == i or max(r, s) > aev.angular_cutoff:
                    continue
                theta = np.arccos(0.95 * (x[j] - x[i]) @ (x[k] - x[i]) / (r * s))
                fades = np.prod(
                    [0.5 * np.cos(np.pi * d / aev.angular_cutoff) + 0.5 for d in (r, s)]
                )
                gauss = np.exp(-aev.angular_eta * (0.5 * (r + s) - steps - aev.start) ** 2)
                bend = ((1 + np.cos(theta - angles)) / 2) ** aev.zeta
                kind = pairs.index(
                    tuple(sorted((aev.species.index(z[j]), aev.species.index(z[k]))))
                )
                angular[kind] += 2 * fades * np.outer(gauss, bend)
        rows.append(np.concatenate([radial.ravel(), angular.ravel()]))
    return np.array(rows)


@pytest.mark.parametrize("preset", [Ani, Ani2x])
def test_environment_vectors_are_those_of_plain_loops(preset):
    """ζ = 32 and 14.1: whole and broken powers."""
    structure = MOLECULES[0]
    aev = preset(angular_neighbours=6).descriptor((1, 6, 8))
    batch = make_batch([structure], aev.cutoff, np.float64, with_triplets=False)
    found = np.asarray(jax.jit(aev)(batch))
    expected = by_loops(aev, structure)
    assert expected.max() > 0.3
    np.testing.assert_allclose(found[: len(structure)], expected, rtol=0, atol=1e-13)
    assert not found[len(structure) :].any()


def test_published_models_have_vectors_of_384_and_1008_values():
    """H C N O; and with F S Cl."""
    assert Ani1x(angular_neighbours=9).descriptor((1, 6, 7, 8)).size == 384
    assert Ani2x(angular_neighbours=9).descriptor((1, 6, 7, 8, 9, 16, 17)).size == 1008


@pytest.mark.parametrize("room", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_results_do_not_depend_on_the_room_for_neighbours(room, molecular):
    """Carbon has 8 neighbours within 2.6 Å; what has no room is summed in the loop."""
    assert molecular.module.aev.places == 8
    other = random_potential(Ani(**SMALL, angular_neighbours=room), MOLECULES)
    found, known = (p.predict(MOLECULES[:1], ("energy", "forces"))[0] for p in (other, molecular))
    assert abs(found.energy - known.energy) < 1e-9  # energies near 1e5 eV
    np.testing.assert_allclose(found.forces, known.forces, atol=1e-12)


def test_forces_are_the_gradient_of_the_energy(molecular):
    """h = 1e-4 Å: truncation about 1e-7, rounding of energies near 1e5 eV 1e-7 eV/Å."""
    module = molecular.module
    batch = molecular.batch(MOLECULES[:1])
    energy = eqx.filter_jit(lambda b: module.evaluate(b).atom_energies.sum())
    forces = np.asarray(molecular.predict(MOLECULES[:1])[0].forces)
    for atom, axis in ((0, 0), (3, 1), (8, 2)):
        values = []
        for h in (1e-4, -1e-4):
            moved = np.asarray(batch.vectors).copy()
            moved[np.asarray(batch.centers) == atom, axis] -= h
            moved[np.asarray(batch.neighbours) == atom, axis] += h
            values.append(
                float(energy(eqx.tree_at(lambda b: b.vectors, batch, jnp.asarray(moved))))
            )
        assert forces[atom, axis] == pytest.approx((values[1] - values[0]) / 2e-4, abs=1e-6)


def test_too_many_neighbours_are_refused_not_left_out():
    """150 atoms in a ball of 1.3 Å."""
    way = np.random.default_rng(0).normal(size=(150, 3))
    ball = Structure(np.ones(150, int), 1.3 * way / np.linalg.norm(way, axis=1, keepdims=True))
    aev = Ani(**SMALL, angular_neighbours=4).descriptor((1,))
    batch = make_batch([ball], aev.cutoff, np.float64, with_triplets=False)
    assert np.isnan(np.asarray(jax.jit(aev)(batch))[:, aev.radial_count :]).all()


FAST: tuple[str, ...] = ()  # compile too often; their gist stands below


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    outcome = run_check(check, make_subject(random_potential(Ani(**SMALL), MOLECULES, dtype)))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal(check):
    outcome = run_check(check, make_subject(random_potential(Ani(**CRYSTALLINE), [CRYSTAL])))
    assert outcome.status == "passed", outcome


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, Ani(**SMALL), MOLECULES, tmp_path)


def test_standardised_vectors_have_mean_zero_and_spread_one():
    data = random_dataset(MOLECULES)
    architecture = Ani(**SMALL).completed(data)
    module = architecture.initialise(data, jax.random.key(0), "float64")
    batch = make_batch(MOLECULES, module.cutoff, np.float64, with_triplets=False)
    values = np.asarray(jax.jit(module.aev)(batch))[np.asarray(batch.numbers) == 1]
    scaled = (values - np.asarray(module.mean)[[0]]) * np.asarray(module.factor)[[0]]
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-10)
    assert scaled.std(axis=0).max() == pytest.approx(1, abs=1e-10)
    assert architecture.angular_neighbours == 8


def test_a_silent_last_layer_gives_its_bias(molecular):
    module = molecular.module
    quiet = eqx.tree_at(
        lambda m: (m.weights[-1], m.biases[-1], m.scale),
        module,
        (module.weights[-1] * 0, jnp.array([[1.0], [10.0], [100.0]]), jnp.array(2.0)),
    )
    energies = eqx.filter_jit(quiet.evaluate)(molecular.batch(MOLECULES[:1])).atom_energies
    assert float(energies.sum()) == pytest.approx(2 * (6 * 1 + 2 * 10 + 100))


def test_hyperparameters_survive_writing():
    assert parse(Ani, dump(Ani(**SMALL)), "model") == Ani(**SMALL)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "ani.cutoff_angstrom 0"),
        ({"angular_cutoff_angstrom": 6.0}, "ani.angular_cutoff_angstrom 6"),
        ({"start_angstrom": 3.5}, "ani.start_angstrom 3.5"),
        ({"zeta": -1.0}, "ani.zeta -1"),
        ({"sections": 0}, "ani.sections 0"),
        ({"hidden": []}, "ani.hidden"),
        ({"angular_neighbours": 500}, "ani.angular_neighbours 500"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Ani, values, "model")


def test_unfinished_settings_are_refused():
    with pytest.raises(BadInput, match="angular_neighbours is not known"):
        Ani().skeleton((1,), "float64")
