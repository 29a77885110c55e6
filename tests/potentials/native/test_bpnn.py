"""The network potential: exact derivatives, invariances, shapes, refusals."""

import ase.build
import equinox as eqx
import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnknownKey
from karat.data.dataset import Dataset, Record
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.model import named_arrays
from karat.potentials.native.acsf import Angular, Radial
from karat.potentials.native.bpnn import AngularGrid, Bpnn, RadialGrid
from karat.potentials.native_protocol import NativePotential
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

SMALL = {"radial": RadialGrid(count=4), "hidden": (6, 5), "cutoff_angstrom": 3.5}


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


def dataset(structures: list[Structure]) -> Dataset:
    generator = np.random.default_rng(5)
    return Dataset(
        tuple(
            Record(s, Labels(energy=-1.0, forces=generator.normal(size=(len(s), 3))))
            for s in structures
        ),
        LevelOfTheory("test"),
    )


def potential(architecture: Bpnn, structures: list[Structure]) -> NativePotential:
    module = architecture.initialise(dataset(structures), jax.random.key(1), "float64")
    return NativePotential(module, {1: -13.0, 6: -1000.0})


MOLECULE = ase.build.molecule("CH3CH2OH")
CRYSTAL = ase.build.bulk("NaCl", "rocksalt", a=5.0)


@pytest.fixture(scope="module")
def molecular():
    coupled = AngularGrid(kind="g4", count=2, zetas=(1, 3)).functions(3.5)
    apart = AngularGrid(kind="g5", count=2, zetas=(2,)).functions(3.5)
    architecture = Bpnn(**SMALL, angular=coupled + apart)
    return potential(architecture, [rattled(MOLECULE, seed) for seed in range(4)])


@pytest.fixture(scope="module")
def crystalline():
    architecture = Bpnn(**SMALL, cutoff_function="polynomial", angular=AngularGrid(count=2))
    return potential(architecture, [rattled(CRYSTAL, seed) for seed in range(4)])


def energies(model: NativePotential, structures: list[Structure]) -> np.ndarray:
    return np.array([label.energy for label in model.predict(structures, ("energy",))])


def test_forces_are_minus_the_gradient(molecular):
    structure = rattled(MOLECULE, 11)
    forces = molecular.predict([structure])[0].forces
    h = 1e-4  # truncation ~1e-8, rounding of energies near -10³ eV ~1e-13/h
    moved = []
    for i in range(len(structure)):
        for axis in range(3):
            for sign in (1, -1):
                positions = structure.positions.copy()
                positions[i, axis] += sign * h
                moved.append(structure.replace(positions=positions))
    found = energies(molecular, moved).reshape(len(structure), 3, 2)
    expected = -(found[..., 0] - found[..., 1]) / (2 * h)
    np.testing.assert_allclose(forces, expected, rtol=0, atol=1e-6)
    assert np.abs(forces).max() > 0.1


def test_stress_is_the_derivative_in_strain(crystalline):
    structure = rattled(CRYSTAL, 11)
    label = crystalline.predict([structure], ("energy", "forces", "stress"))[0]
    h = 1e-5
    expected = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            strain = np.zeros((3, 3))
            strain[i, j] += h / 2
            strain[j, i] += h / 2
            pair = [
                structure.replace(positions=structure.positions @ d, cell=structure.cell @ d)
                for d in (np.eye(3) + strain, np.eye(3) - strain)
            ]
            up, down = energies(crystalline, pair)
            expected[i, j] = (up - down) / (2 * h) / structure.volume
    np.testing.assert_allclose(label.stress, expected, rtol=0, atol=1e-6)
    assert np.abs(label.stress).max() > 1e-3


def test_energy_is_invariant_and_forces_turn_along(molecular):
    structure = rattled(MOLECULE, 12)
    order = np.random.default_rng(0).permutation(len(structure))
    turn = -Rotation.random(rng=3).as_matrix()  # with a reflection
    changed = structure.replace(
        numbers=structure.numbers[order], positions=(structure.positions @ turn.T + 7.0)[order]
    )
    a, b = (molecular.predict([s])[0] for s in (structure, changed))
    assert abs(a.energy - b.energy) < 1e-9  # sums in another order
    np.testing.assert_allclose((a.forces @ turn.T)[order], b.forces, rtol=0, atol=1e-10)
    together = molecular.predict([structure, changed])[1]
    np.testing.assert_allclose(together.forces, b.forces, rtol=0, atol=1e-12)


def test_a_supercell_has_as_many_times_the_energy(crystalline):
    atoms = rattled(CRYSTAL, 13).to_ase()
    a, b = energies(crystalline, [Structure.from_ase(atoms), Structure.from_ase(atoms * (3, 1, 2))])
    assert abs(6 * a - b) < 1e-9


def test_a_lone_atom_has_its_networks_constant_and_no_force(molecular):
    lone = Structure(numbers=np.array([6]), positions=np.zeros((1, 3)))
    apart = np.array([[0.0, 0.0, 0.0], [3.6, 0.0, 0.0]])  # beyond the cut-off
    far = Structure(numbers=np.array([6, 6]), positions=apart)
    one, two = molecular.predict([lone, far])  # a batch without any pair
    assert (one.forces == 0).all()
    assert (two.forces == 0).all()
    assert abs(2 * one.energy - two.energy) < 1e-10


def test_the_order_of_continuity_at_the_cutoff_is_declared(molecular, crystalline):
    assert molecular.traits.continuity == 1
    assert crystalline.traits.continuity == 2


def test_descriptors_are_standardised_and_only_networks_are_trainable():
    structures = [rattled(MOLECULE, seed) for seed in range(6)]
    architecture = Bpnn(**SMALL, angular=AngularGrid(count=2))
    module = architecture.initialise(dataset(structures), jax.random.key(0), "float64")
    batch = NativePotential(module).batch(structures)
    values = np.asarray(jax.jit(module.acsf)(batch))
    numbers = np.asarray(batch.numbers)
    for s, z in enumerate(module.species):
        mean, factor = np.asarray(module.mean[s]), np.asarray(module.factor[s])
        scaled = (values[numbers == z] - mean) * factor
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-9)
        spread = scaled.std(axis=0)
        assert (spread < 1 + 1e-9).all()
        assert np.isclose(spread, 1).sum() > 3
    spec = architecture.trainable(module)
    trainable = named_arrays(eqx.filter(module, spec))
    assert set(trainable) == {f"{kind}.{i}" for kind in ("weights", "biases") for i in range(3)}


def test_the_skeleton_has_the_shapes_and_allocates_nothing():
    architecture = Bpnn(hidden=(4096, 4096, 4096))  # 200 MB per element if allocated
    skeleton = named_arrays(architecture.skeleton(tuple(range(1, 90)), "float32"))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in skeleton.values())
    small = Bpnn(**SMALL)
    data = dataset([rattled(MOLECULE, 0)])
    real = named_arrays(small.initialise(data, jax.random.key(0), "float32"))
    shapes = named_arrays(small.skeleton(data.species, "float32"))
    assert {n: (a.shape, a.dtype) for n, a in real.items()} == {
        n: (a.shape, a.dtype) for n, a in shapes.items()
    }


def test_each_element_has_its_own_network_and_the_key_decides():
    data = dataset([rattled(MOLECULE, 0)])
    a, b, c = (
        named_arrays(Bpnn(**SMALL).initialise(data, jax.random.key(k), "float64"))["weights.0"]
        for k in (0, 0, 1)
    )
    assert (a == b).all()
    assert not np.allclose(a, c)
    assert not np.allclose(a[0], a[1])


def test_grids_follow_their_definition():
    radial = RadialGrid(count=4, start_angstrom=1.0).functions(5.0)
    assert [f.shift_angstrom for f in radial] == [1.0, 2.0, 3.0, 4.0]
    assert all(f.eta == 0.5 for f in radial)
    grid = AngularGrid(kind="g4", count=3, start_angstrom=1.0, zetas=(1, 2), lambdas=(1,))
    angular = grid.functions(5.0)
    assert [(f.eta, f.zeta, f.lam) for f in angular] == [
        (0.5 / r**2, z, 1) for r in (1.0, 3.0, 5.0) for z in (1, 2)
    ]


def test_the_component_survives_json():
    architecture = Bpnn(
        radial=(Radial(0.5, 1.0), Radial(1.5)),
        angular=(Angular("g4", 0.1, 4, -1),),
        hidden=(7,),
        activation="tanh",
    )
    assert parse(Bpnn, dump(architecture), "model") == architecture
    assert parse(Bpnn, dump(Bpnn()), "model") == Bpnn()
    assert parse(Bpnn, {"angular": {"kind": "g4"}}, "model").angular == AngularGrid(kind="g4")


@pytest.mark.parametrize(
    "values",
    [
        {"hidden": []},
        {"hidden": [0]},
        {"hidden": [10**9]},
        {"cutoff_angstrom": 0},
        {"cutoff_angstrom": "far"},
        {"activation": "relu"},
        {"radial": {"count": 1}},
        {"radial": {"start_angstrom": 9.0}},
        {"angular": {"start_angstrom": 0.0}},
        {"angular": {"count": 10**9}},
        {"radial": {"count": 10**9}},
        {"angular": {"zetas": [0]}},
    ],
)
def test_senseless_hyperparameters_are_refused(values):
    with pytest.raises(BadInput, match="bpnn|symmetry|model"):
        parse(Bpnn, values, "model")


def test_a_misspelt_key_gets_a_suggestion():
    with pytest.raises(UnknownKey, match="did you mean 'hidden'"):
        parse(Bpnn, {"hiden": [4]}, "model")


def test_a_cutoff_without_neighbours_is_refused():
    positions = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    apart = Structure(numbers=np.array([18, 18]), positions=positions)
    with pytest.raises(BadInput, match="no atom of the training data|No atom"):
        Bpnn(**SMALL).initialise(dataset([apart]), jax.random.key(0), "float64")


CONFORMING = ("forces_are_gradient", "stress_is_strain_derivative", "small_cells", "padding")


def conformance_cases():
    for function in ("cosine", "polynomial"):
        for check in CHECKS:
            fast = function == "polynomial" and check in CONFORMING
            yield pytest.param(check, function, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "cutoff_function"), list(conformance_cases()))
def test_conformance(check, cutoff_function):
    """The exported suite, float64: forces equal the gradient to 1e-6 eV/Å and so on."""
    structures = [rattled(MOLECULE, seed) for seed in range(4)]
    architecture = Bpnn(**SMALL, cutoff_function=cutoff_function, angular=AngularGrid(count=2))
    outcome = run_check(check, make_subject(potential(architecture, structures)))
    assert outcome.status == "passed", outcome
