"""DeepPot-SE: the descriptor by plain loops, derivatives, any number of neighbours, refusals.

It is compared with deepmd-kit's in tests/peers/test_deepmd.py.
"""

import ase.build
import equinox as eqx
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.model import named_arrays
from karat.potentials.native.deeppot import DeepPot, DeepPotPaper
from karat.structures.structure import Structure

SMALL = {
    "cutoff_angstrom": 3.2,
    "embedding": (3, 6, 12),
    "axis": 2,
    "fitting": (8, 8),
}


def rattled(atoms, seed):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(3)]
CRYSTAL = rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat(2), 1)


@pytest.fixture(scope="module")
def molecular():
    return random_potential(DeepPot(**SMALL), MOLECULES)


def network(layers, kind, values):
    for layer in layers:
        weight, bias = np.asarray(layer.weight[kind]), np.asarray(layer.bias[kind])
        found = np.tanh(values @ weight / np.sqrt(sum(weight.shape)) + bias)
        if len(found) == len(values):
            found = found + values
        elif len(found) == 2 * len(values):
            found = found + np.concatenate([values, values])
        values = found
    return values


def by_loops(module, structure):
    """Descriptors of a molecule with every slot written out, empty ones too."""
    x, species = structure.positions, module.species
    environment = module.environment
    rows = []
    for i in range(len(x)):
        c = species.index(structure.numbers[i])
        mean, (radial, angular) = environment.mean[c], environment.spread[c]
        g, r = [], []
        for n, slots in enumerate(environment.slots):
            filled = []
            for j in range(len(x)):
                v = x[j] - x[i]
                d = np.linalg.norm(v)
                if j == i or d >= environment.cutoff or structure.numbers[j] != species[n]:
                    continue
                u = max(0.0, (d - environment.onset) / (environment.cutoff - environment.onset))
                s = (1 + u**3 * (-6 * u**2 + 15 * u - 10)) / d
                filled.append([(s - mean) / radial, *(s * v / d / angular)])
            filled += [[-mean / radial, 0, 0, 0]] * (slots - len(filled))
            for row in filled:
                kind = c * len(species) + n
                g.append(network(module.embedding, kind, np.array(row[:1], float)))
                r.append(row)
        total = np.array(g).T @ np.array(r, float) / sum(environment.slots)
        rows.append((total @ total[: module.axis].T).ravel())
    return np.array(rows)


def test_descriptors_are_those_of_plain_loops(molecular):
    module = molecular.module
    batch = molecular.batch(MOLECULES[:1])
    found = np.asarray(eqx.filter_jit(lambda b: module.descriptor(b))(batch))
    expected = by_loops(module, MOLECULES[0])
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=1e-13)


def test_more_neighbours_than_slots_are_all_seen():
    """Slots set the size of the sums only: with one slot for each element N_c is 2 instead of 20,
    and mean and spread differ; forces stay the gradient (the conformance suite) and finite."""
    potential = random_potential(DeepPot(**SMALL | {"slots": (1, 1)}), [CRYSTAL])
    labels = potential.predict([CRYSTAL], ("energy", "forces"))[0]
    assert np.abs(labels.forces).max() > 1e-3
    moved = CRYSTAL.positions.copy()
    moved[5] += 0.2  # each atom within 3.2 Å of atom 5 feels it
    other = Structure(CRYSTAL.numbers, moved, CRYSTAL.cell, CRYSTAL.periodic)
    change = np.abs(potential.predict([other])[0].forces - labels.forces).max(axis=1)
    assert np.sum(change > 1e-6) >= 7


FAST = ("forces_are_gradient", "cutoff_continuity")


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    outcome = run_check(check, make_subject(random_potential(DeepPot(**SMALL), MOLECULES, dtype)))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal_with_too_few_slots(check):
    architecture = DeepPot(**SMALL | {"slots": (3, 4)})
    outcome = run_check(check, make_subject(random_potential(architecture, [CRYSTAL])))
    assert outcome.status == "passed", outcome


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, DeepPot(**SMALL), MOLECULES, tmp_path)


def test_slots_are_the_most_neighbours_of_each_element():
    """O–Na 6, Na–Cl 6 at 2.5 Å; none of its own kind within 3.2 Å."""
    data = random_dataset([CRYSTAL])
    assert DeepPot(**SMALL).completed(data).slots == (6, 6)


def test_the_paper_preset_has_the_papers_networks():
    """Parameters of one element: embedding, fitting, three time steps of which two are used."""
    module = DeepPotPaper(slots=(46,)).skeleton((14,), "float32")
    sizes = {name: leaf.size for name, leaf in named_arrays(module).items()}
    embedding = 2 * 25 + 25 * 50 + 50 + 50 * 100 + 100
    fitting = 1600 * 240 + 240 + 2 * (240 * 240 + 240 + 240) + 240 + 1
    fixed = 1 + 2 + 1
    assert sum(sizes.values()) == embedding + fitting + fixed


def test_hyperparameters_survive_writing():
    assert parse(DeepPot, dump(DeepPot(**SMALL)), "model") == DeepPot(**SMALL)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "deeppot.cutoff_angstrom 0"),
        ({"onset_angstrom": 5.0}, "deeppot.onset_angstrom 5"),
        ({"embedding": []}, "deeppot.embedding"),
        ({"axis": 33}, "deeppot.axis 33"),
        ({"fitting": [0]}, "deeppot.fitting"),
        ({"embedding": [8], "axis": 2, "fitting": [16]}, "must not be the size"),
        ({"slots": [0]}, "deeppot.slots"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(DeepPot, values, "model")


def test_slots_must_fit_the_elements():
    with pytest.raises(BadInput, match="one for each of the 2 elements"):
        DeepPot(slots=(4,)).skeleton((1, 6), "float64")
    with pytest.raises(BadInput, match="slots are not known"):
        DeepPot().skeleton((1, 6), "float64")


def test_a_cutoff_without_neighbours_is_refused():
    apart = Structure(np.array([18, 18]), np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]))
    with pytest.raises(BadInput, match="No atom of the training data"):
        DeepPot(**SMALL).completed(random_dataset([apart]))
