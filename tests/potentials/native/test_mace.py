"""MACE: size, exact derivatives, invariances, body order, refusals.

Its energies are compared with mace-torch's in tests/potentials/external/mace_torch/.
"""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnknownElement
from karat.data.dataset import Dataset, Record
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.model import named_arrays
from karat.potentials.native.mace import Mace, MaceMedium, MacePaper
from karat.potentials.native.mace_prepared import prepare
from karat.potentials.native_protocol import NativePotential, derive
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

SMALL = {
    "harmonics_degree": 1,
    "channels": 4,
    "bessel": 4,
    "radial_hidden": (8, 8),
    "cutoff_angstrom": 3.0,
}


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


def dataset(structures):
    generator = np.random.default_rng(5)
    return Dataset(
        tuple(
            Record(s, Labels(energy=-1.0, forces=generator.normal(size=(len(s), 3))))
            for s in structures
        ),
        LevelOfTheory("test"),
    )


def potential(architecture, structures, dtype="float64"):
    data = dataset(structures)
    module = architecture.completed(data).initialise(data, jax.random.key(1), dtype)
    return NativePotential(module, {1: -13.0, 6: -1000.0, 8: -2000.0}, dtype=dtype)


MOLECULE = ase.build.molecule("CH3CH2OH")
CRYSTAL = ase.build.bulk("NaCl", "rocksalt", a=5.0)


@pytest.fixture(scope="module")
def molecular():
    return potential(Mace(**SMALL), [rattled(MOLECULE, seed) for seed in range(3)])


def test_the_benchmarks_model_has_as_many_parameters_as_in_other_codes():
    """72,592 in mace-torch 0.3.16 and mlip 0.2.5 (their own counts)."""
    module = Mace(average_neighbours=10.7).skeleton((1, 6, 8), "float32")
    fixed = (*jax.tree.leaves(module.frequencies), module.scale, module.shift)
    assert (
        sum(leaf.size for leaf in named_arrays(module).values()) - sum(leaf.size for leaf in fixed)
        == 72_592
    )


def test_presets_are_larger_models_of_the_same_kind():
    sizes = []
    for preset in (Mace, MaceMedium, MacePaper):
        module = preset(average_neighbours=10.0).skeleton((1, 6, 8), "float32")
        sizes.append(sum(leaf.size for leaf in named_arrays(module).values()))
    assert sizes == sorted(sizes)
    assert 2.5e6 < sizes[2] < 3.5e6  # the paper counts 2,803,984, see `MacePaper`


FAST = ("forces_are_gradient", "stress_is_strain_derivative", "padding")


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    structures = [rattled(MOLECULE, seed) for seed in range(3)]
    degree = 1 if dtype == "float64" and check in FAST else 2  # compiles faster
    architecture = Mace(**SMALL | {"harmonics_degree": degree})
    outcome = run_check(check, make_subject(potential(architecture, structures, dtype)))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal_and_three_layers(check):
    architecture = Mace(**SMALL | {"layers": 3, "harmonics_degree": 3, "residual_first": True})
    data = dataset([rattled(CRYSTAL.repeat(2), 1)])
    module = architecture.completed(data).initialise(data, jax.random.key(1), "float64")
    outcome = run_check(check, make_subject(NativePotential(module, {})))
    assert outcome.status == "passed", outcome


def test_one_layer_of_correlation_one_is_a_pair_potential():
    """Body order 2: the energy of a trimer is the sum over its dimers (without the readout's
    non-linearity nothing else is left, so a linear readout of two layers' first is looked at)."""
    architecture = Mace(**SMALL | {"correlation": 1, "layers": 2, "average_neighbours": 5.0})
    data = dataset([rattled(MOLECULE, 0)])
    module = architecture.initialise(data, jax.random.key(3), "float64")
    silent = eqx.tree_at(lambda m: m.last_readout[1], module, replace_fn=jnp.zeros_like)
    trimer = Structure(
        numbers=np.array([1, 6, 8]), positions=np.array([[0, 0, 0], [1.1, 0, 0], [0.3, 1.2, 0.2]])
    )

    def energy(atoms):
        part = Structure(numbers=trimer.numbers[atoms], positions=trimer.positions[atoms])
        return NativePotential(silent, {}).predict([part])[0].energy

    dimers = sum(energy(pair) for pair in ([0, 1], [0, 2], [1, 2]))
    assert energy([0, 1, 2]) == pytest.approx(dimers, abs=1e-12)
    assert abs(dimers) > 1e-5
    many = Mace(**SMALL | {"layers": 2, "average_neighbours": 5.0})
    module = many.initialise(data, jax.random.key(3), "float64")
    silent = eqx.tree_at(lambda m: m.last_readout[1], module, replace_fn=jnp.zeros_like)
    dimers = sum(energy(pair) for pair in ([0, 1], [0, 2], [1, 2]))
    assert abs(energy([0, 1, 2]) - dimers) > 1e-6


@pytest.mark.parametrize("case", ["molecule", pytest.param("crystal", marks=pytest.mark.slow)])
def test_the_prepared_module_is_the_same_function(case, molecular):
    if case == "molecule":
        module, structure = molecular.module, rattled(MOLECULE, 8)
    else:
        data = dataset([rattled(CRYSTAL.repeat(2), 1)])
        architecture = Mace(**SMALL | {"residual_first": True, "harmonics_degree": 2}).completed(
            data
        )
        module = architecture.initialise(data, jax.random.key(1), "float64")
        structure = rattled(CRYSTAL.repeat(2), 2)
    batch = NativePotential(module, {}).batch([structure])
    found, expected = derive(prepare(module), batch), derive(module, batch)
    # cubic splines on 8192 intervals: relative error about 1e-9 of the largest functions
    np.testing.assert_allclose(found.energies, expected.energies, atol=1e-8)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-7)


def test_a_module_of_many_elements_is_the_same_restricted_to_those_at_hand():
    """Ten elements take the other way through products by element."""
    structures = [rattled(MOLECULE, 0)]
    species = (1, 3, 6, 7, 8, 9, 11, 14, 16, 17)
    data = dataset([*structures, Structure(np.array(species), 3.0 * np.eye(10, 3))])
    module = Mace(**SMALL).completed(data).initialise(data, jax.random.key(2), "float64")
    whole = NativePotential(module, {}).predict(structures)[0]
    part = NativePotential(module.restricted((1, 6, 8)), {}).predict(structures)[0]
    assert part.energy == pytest.approx(whole.energy, abs=1e-12)
    np.testing.assert_allclose(part.forces, whole.forces, atol=1e-12)
    with pytest.raises(UnknownElement, match="79"):
        module.restricted((1, 79))


def test_interpolated_radial_networks_are_the_networks(molecular):
    module = molecular.module
    distances = jnp.linspace(0.5, 2.999, 200)
    for found, exact in zip(module.radial(distances), module.networks(distances)):
        np.testing.assert_allclose(found, exact, atol=1e-7 * float(jnp.abs(exact).max()))


def test_hyperparameters_survive_writing():
    architecture = Mace(**SMALL)
    assert parse(Mace, dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"correlation": 4}, "mace.correlation 4"),
        ({"hidden_degree": 3}, "above harmonics_degree"),
        ({"cutoff_angstrom": 0.0}, "mace.cutoff_angstrom"),
        ({"radial_hidden": []}, "mace.radial_hidden"),
        ({"average_neighbours": -1.0}, "mace.average_neighbours"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Mace, values, "model")


def test_a_cutoff_without_neighbours_is_refused():
    positions = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    apart = Structure(numbers=np.array([18, 18]), positions=positions)
    with pytest.raises(BadInput, match="No atom of the training data"):
        Mace(**SMALL).completed(dataset([apart]))
