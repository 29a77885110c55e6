"""Moment tensor potentials: energies from the definition, a start that is exact where it can be.

Counts of the basis: test_mtp_basis.py; other code: tests/peers/test_motep.py.
"""

import dataclasses
import functools

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.potentials.batch import in_rows
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.model import named_arrays
from karat.potentials.native.mtp import Mtp, MtpPaper
from karat.potentials.native_protocol import NativePotential, derive_compiled
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

SMALL = Mtp(cutoff_angstrom=3.0, level=8, radial_size=4)
TINY = Mtp(cutoff_angstrom=3.0, level=6, radial_size=3)


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(2)]
CRYSTAL = rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat((2, 1, 1)), 1)
SILICON = [rattled(ase.build.bulk("Si", cubic=True), seed) for seed in range(3)]


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, TINY, MOLECULES, tmp_path)


@functools.cache
def small(dtype="float64"):
    return random_potential(SMALL, MOLECULES, dtype)


FAST = ("cutoff_continuity",)


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    outcome = run_check(check, make_subject(small(dtype)))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal_at_level_14(check):
    architecture = dataclasses.replace(SMALL, level=14)
    outcome = run_check(check, make_subject(random_potential(architecture, [CRYSTAL]), [CRYSTAL]))
    # no molecule is among the structures that were given
    assert outcome.status == "passed" or outcome.detail == "no molecule was given", outcome


def moments(module, structure, atom):
    """M00, M10, M01 and M02 of an atom as full tensors, from the definition."""
    near, cutoff = module.nearest, module.cutoff
    found = {(0, 0): 0.0, (1, 0): 0.0, (0, 1): np.zeros(3), (0, 2): np.zeros((3, 3))}
    kind = [module.species.index(z) for z in structure.numbers]
    for other in set(range(len(structure))) - {atom}:
        vector = structure.positions[other] - structure.positions[atom]
        r = np.linalg.norm(vector)
        if r >= cutoff:
            continue
        x = (2 * r - near - cutoff) / (cutoff - near)
        c = np.asarray(module.radial)[kind[atom], kind[other]]
        f = [
            sum(c[mu, beta] * np.cos(beta * np.arccos(x)) for beta in range(c.shape[1]))
            * ((cutoff - r) / (cutoff - near)) ** 2
            for mu in range(2)
        ]
        u = vector / r
        found[0, 0] += f[0]
        found[1, 0] += f[1]
        found[0, 1] = found[0, 1] + f[0] * u
        found[0, 2] = found[0, 2] + f[0] * np.outer(u, u)
    return found


def test_the_energy_of_level_8_is_the_papers_by_hand():
    structure = MOLECULES[0]
    potential = small()
    module = potential.module
    xi = np.asarray(module.mixing) @ np.asarray(module.linear)
    assert np.abs(xi).min() > 0
    expected = []
    for atom, number in enumerate(structure.numbers):
        m = moments(module, structure, atom)
        a, b = m[0, 0], m[1, 0]
        square = np.einsum("i,i", m[0, 1], m[0, 1])
        # by number of moments, then level, then μ
        last = np.einsum("ij,ij", m[0, 2], m[0, 2])
        basis = np.array([a, b, a * a, square, last, a * b, a**3, a * square, a**4])
        own = np.asarray(module.elements)[module.species.index(number)]
        expected.append(float(module.scale) * (own + basis @ xi))
    found = np.asarray(module.evaluate(potential.batch([structure])).atom_energies)
    np.testing.assert_allclose(found[: len(structure)], expected, rtol=1e-11)


def test_a_pair_potential_at_level_2():
    """Body order 2: B is M00 alone, and the energy of a trimer the sum over its dimers."""
    architecture = Mtp(cutoff_angstrom=3.0, level=2, radial_size=4)
    module = random_potential(architecture, MOLECULES).module
    silent = eqx.tree_at(lambda m: m.elements, module, jnp.zeros(3))
    place = np.array([[0, 0, 0], [1.1, 0, 0], [0.3, 1.2, 0.2]])

    def energy(atoms, module):
        part = Structure(numbers=np.array([1, 6, 8])[atoms], positions=place[atoms])
        return NativePotential(module).predict([part])[0].energy

    dimers = sum(energy(pair, silent) for pair in ([0, 1], [0, 2], [1, 2]))
    assert energy([0, 1, 2], silent) == pytest.approx(dimers, abs=1e-12)
    assert abs(dimers) > 1e-3


def test_the_sizes_are_those_of_the_definition():
    """Radial coefficients: elements² × (μ from 0 to 3) × 8; linear ones: MLIP-2's 52."""
    module = Mtp(level=14, nearest_angstrom=1.0).skeleton((1, 6, 8), "float32")
    sizes = {name: leaf.shape for name, leaf in named_arrays(module).items()}
    assert sizes["radial"] == (3, 3, 4, 8)
    assert sizes["linear"] == (52,)
    assert sizes["elements"] == (3,)


def labelled(potential, structures):
    found = potential.predict(structures)
    records = (
        Record(s, Labels(energy=one.energy - 1e3 * len(s), forces=one.forces))
        for s, one in zip(structures, found)
    )
    return Dataset(tuple(records), LevelOfTheory("test"))


def test_the_start_is_exact_where_the_radial_functions_are():
    """Labels of a potential with the same radial functions: least squares finds it again."""
    molecules = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(6)]
    module = random_potential(TINY, molecules, seed=4).module
    coefficients = jnp.asarray([1.0, 1.0, 0.1, 0.1, 0.01])  # M00, M10, M00², M01·M01, M00³
    numbers = (jnp.eye(5), coefficients, jnp.zeros(3))
    module = eqx.tree_at(lambda m: (m.mixing, m.linear, m.elements), module, numbers)
    teacher = NativePotential(module)
    data = labelled(teacher, molecules)
    architecture = TINY.completed(data)
    found = architecture.initialise(data, jax.random.key(4), "float64")
    np.testing.assert_array_equal(found.radial, teacher.module.radial)
    other = rattled(ase.build.molecule("CH3CH2OH"), 50)
    expected = teacher.predict([other])[0].forces
    forces = NativePotential(found).predict([other])[0].forces
    # damping takes a part of what hardly matters to the two structures that are used
    size = np.sqrt(np.mean(expected**2))
    assert np.sqrt(np.mean((forces - expected) ** 2)) < 1e-2 * size
    different = architecture.initialise(data, jax.random.key(5), "float64")
    forces = NativePotential(different).predict([other])[0].forces
    assert np.sqrt(np.mean((forces - expected) ** 2)) > 5e-2 * size


@pytest.mark.parametrize("missing", ["forces", "energy"])
def test_labels_of_one_kind_are_enough_to_start(missing):
    data = random_dataset(SILICON)
    some = tuple(
        Record(one.structure, dataclasses.replace(one.labels, **{missing: None})) for one in data
    )
    data = Dataset(some, data.level)
    module = TINY.completed(data).initialise(data, jax.random.key(0), "float32")
    assert np.all(np.isfinite(module.linear))
    assert np.any(np.asarray(module.linear) != 0)


def test_rare_elements_take_part_in_the_start():
    many = [rattled(ase.build.molecule("CH4"), seed) for seed in range(40)]
    data = random_dataset([*many, rattled(ase.build.molecule("NH3"), 1), *many])
    module = TINY.completed(data).initialise(data, jax.random.key(0), "float32")
    assert module.species == (1, 6, 7)
    assert np.all(np.isfinite(module.linear))


@pytest.mark.parametrize("structure", [MOLECULES[0], pytest.param(CRYSTAL, marks=pytest.mark.slow)])
def test_rows_give_the_same(structure):
    potential = small() if structure is MOLECULES[0] else random_potential(TINY, [structure])
    batch = potential.batch([structure])
    expected = derive_compiled(potential.module, batch)
    found = derive_compiled(potential.module, in_rows(batch))
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-11)
    np.testing.assert_allclose(found.energies, expected.energies, atol=1e-11)


def test_the_polynomials_begin_at_the_shortest_distance():
    data = random_dataset(SILICON)
    distances = [s.to_ase().get_all_distances(mic=True) for s in SILICON]
    shortest = min(one[one > 0].min() for one in distances)
    found = SMALL.completed(data).nearest_angstrom
    assert found == pytest.approx(shortest, abs=0.01)
    assert found <= shortest
    assert dataclasses.replace(SMALL, nearest_angstrom=1.5).completed(data).nearest_angstrom == 1.5
    apart = random_dataset([Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [9, 0, 0]]))])
    with pytest.raises(BadInput, match="Raise cutoff_angstrom"):
        SMALL.completed(apart)
    with pytest.raises(BadInput, match="completed"):
        SMALL.skeleton((14,), "float32")


def test_hyperparameters_survive_writing():
    for architecture in (SMALL, MtpPaper(nearest_angstrom=1.2)):
        assert parse(type(architecture), dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "mtp.cutoff_angstrom"),
        ({"level": 0}, "mtp.level 0"),
        ({"level": 26}, "mtp.level 26"),
        ({"level": 9}, "mtp.level 9: levels of contractions are even"),
        ({"radial_size": 1}, "mtp.radial_size 1"),
        ({"nearest_angstrom": 5.0}, "mtp.nearest_angstrom 5.0"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Mtp, values, "model")
