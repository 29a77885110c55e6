"""Learned charges: neutral by construction, the energy by hand, Madelung's energy, refusals."""

import functools
import itertools
import math
from dataclasses import replace

import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.core.units import COULOMB
from karat.potentials.batch import make_batch
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.native.bpnn import AngularGrid, RadialGrid
from karat.potentials.native.charges import Charges
from karat.potentials.native.charges_module import TRANSFER_UNIT, ScreenedCoulomb
from karat.potentials.native_protocol import NativePotential, derive_compiled
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

SMALL = Charges(
    cutoff_angstrom=5.0,
    environment_cutoff_angstrom=3.5,
    radial=RadialGrid(count=3),
    angular=AngularGrid(count=0),
    hidden=(4,),
    transfer_functions=3,
)
ANGULAR = replace(SMALL, angular=AngularGrid(count=1, zetas=(1,)))
MADELUNG = 1.7475645946
"""Of rock salt, by the distance of neighbours; Crandall, Delord, J. Phys. A 20, 2279 (1987)."""


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(3)]
CRYSTAL = [rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0), seed) for seed in range(4)]


@functools.cache
def example(
    name: str = "molecule", dtype: str = "float64", model: Charges = SMALL
) -> NativePotential:
    """Of random parameters; made once, which takes most of these tests' time."""
    return random_potential(model, MOLECULES if name == "molecule" else CRYSTAL, dtype)


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, SMALL, MOLECULES, tmp_path)


FAST = ("forces_are_gradient", "stress_is_strain_derivative", "cutoff_continuity")


def conformance_cases():
    for dtype, name in itertools.product(("float64", "float32"), ("molecule", "crystal")):
        for check in CHECKS:
            fast = dtype == "float64" and (check in FAST or check == "rows_as_in_dynamics")
            fast = fast and (name == "crystal") == (check == "stress_is_strain_derivative")
            yield pytest.param(check, dtype, name, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype", "name"), list(conformance_cases()))
def test_conformance(check, dtype, name):
    outcome = run_check(check, make_subject(example(name, dtype)))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_with_angles(check):
    outcome = run_check(check, make_subject(example(model=ANGULAR)))
    assert outcome.status == "passed", outcome


def charges_of(potential, structures):
    """Charges of each structure."""
    batch = potential.batch(structures)
    found = np.asarray(derive_compiled(potential.module, batch).outputs.charges)
    ends = np.cumsum([len(s) for s in structures])
    assert not found[ends[-1] :].any()
    return np.split(found[: ends[-1]], ends[:-1])


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_charges_of_each_system_add_up_to_zero(name):
    found = charges_of(example(name), MOLECULES if name == "molecule" else CRYSTAL)
    for charges in found:
        assert abs(charges.sum()) < 1e-14
    # neither nothing nor nonsense
    assert 0.01 < np.std(np.concatenate(found)) < 1.0


def test_equal_atoms_do_not_charge_each_other():
    """A homonuclear dimer."""
    dimer = Structure(numbers=np.array([6, 6]), positions=np.array([[0, 0, 0], [1.3, 0.2, 0]]))
    np.testing.assert_allclose(charges_of(example(), [dimer])[0], 0.0, atol=1e-15)


def test_energy_by_hand():
    """Charges and energy of one molecule in plain loops, from the x of the networks."""
    structure, potential = MOLECULES[0], example()
    module, numbers = potential.module, structure.numbers
    batch = potential.batch([structure])
    x = np.asarray(derive_compiled(module.environment, batch).outputs.atom_energies)
    order = {
        pair: n for n, pair in enumerate(itertools.combinations_with_replacement((1, 6, 8), 2))
    }
    cutoff, reach, alpha, gamma = 5.0, 3.5, 0.2, 1 / math.sqrt(2)
    spacing = reach / 3
    charges = np.zeros(len(structure))
    for i, j in itertools.permutations(range(len(structure)), 2):
        r = np.linalg.norm(structure.positions[i] - structure.positions[j])
        if r < reach:
            weights = np.asarray(module.transfer)[order[tuple(sorted(numbers[[i, j]].tolist()))]]
            w = sum(
                c * math.exp(-((r - n * spacing) ** 2) / (2 * spacing**2))
                for n, c in enumerate(weights, 1)
            )
            t = r / reach
            charges[i] += TRANSFER_UNIT * w * (1 - 10 * t**3 + 15 * t**4 - 6 * t**5) * (x[i] - x[j])
    np.testing.assert_allclose(charges_of(potential, [structure])[0], charges, atol=1e-14)

    def phi(r):
        return COULOMB * (math.erf(gamma * r) - math.erf(alpha * r)) / r

    h = 1e-5
    slope = (phi(cutoff + h) - phi(cutoff - h)) / (2 * h)
    energy = 0.0
    for i, j in itertools.combinations(range(len(structure)), 2):
        r = np.linalg.norm(structure.positions[i] - structure.positions[j])
        if r < cutoff:
            energy += charges[i] * charges[j] * (phi(r) - phi(cutoff) - slope * (r - cutoff))
    shift = phi(cutoff) - slope * cutoff
    energy -= (COULOMB * alpha / math.sqrt(math.pi) + shift / 2) * np.sum(charges**2)
    found = potential.predict([structure])[0].energy + 1e4 * len(structure)
    # rounding of -1e5 eV
    assert found == pytest.approx(energy, abs=1e-9)
    assert abs(energy) > 1e-3


def energy_of(coulomb: ScreenedCoulomb, structure: Structure, charges: np.ndarray) -> float:
    """With fixed charges, eV."""
    pairs = neighbour_pairs(structure, coulomb.cutoff)
    values = np.asarray(coulomb.pair(jnp.asarray(np.linalg.norm(pairs.vectors, axis=1))))
    both = charges[pairs.centers] * charges[pairs.neighbours]
    return float(0.5 * np.sum(both * values) + coulomb.own() * np.sum(charges**2))


def test_rock_salt_tends_to_madelungs_energy():
    """Rising cut-off at a fixed damping; σ of 0.3 Å is a point charge at 2.8 Å (erfc(6.6))."""
    crystal = Structure.from_ase(ase.build.bulk("NaCl", "rocksalt", a=5.64))
    charges = np.where(crystal.numbers == 11, 1.0, -1.0)
    expected = -MADELUNG * COULOMB / 2.82
    errors = [
        abs(energy_of(ScreenedCoulomb(cutoff, 0.2, 0.3), crystal, charges) / expected - 1)
        for cutoff in (6.0, 9.0, 12.0, 18.0, 24.0)
    ]
    # 1.6, 0.3 and 0.03 % within 6, 9 and 12 Å; the reciprocal part that is left out: exp(-23)
    assert errors[0] < 0.05
    assert max(errors[1:]) < 5e-3
    assert max(errors[2:]) < 5e-4
    assert errors[-1] < 1e-7


def test_a_molecule_within_the_cutoff_has_its_coulomb_energy():
    """Without damping the shift cancels for neutral molecules; what is left falls as 1/R²."""
    structure = Structure.from_ase(ase.build.molecule("H2O"))
    charges = np.array([-0.8, 0.4, 0.4])
    exact = 0.0
    for i, j in itertools.combinations(range(3), 2):
        r = np.linalg.norm(structure.positions[i] - structure.positions[j])
        exact += COULOMB * charges[i] * charges[j] * math.erf(r / math.sqrt(2)) / r
    errors = [
        energy_of(ScreenedCoulomb(cutoff, 0.0, 1.0), structure, charges) - exact
        for cutoff in (10.0, 20.0, 40.0)
    ]
    assert abs(errors[0]) < 0.1 * abs(exact)
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=1e-3)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=1e-3)


def test_it_stays_finite_where_atoms_meet():
    coulomb = ScreenedCoulomb(8.0, 0.2, 1.0)
    values, slopes = jax.vmap(jax.value_and_grad(lambda r: coulomb.pair(r[None])[0]))(
        jnp.array([1e-3, 1e-2, 0.1])
    )
    limit = COULOMB * 2 / math.sqrt(math.pi) * (1 / math.sqrt(2) - 0.2)
    assert np.all(np.abs(np.asarray(values)) < limit)
    assert np.all(np.abs(np.asarray(slopes)) < 5.0)


def test_several_molecules_in_one_batch():
    """Charges of a molecule do not depend on what else is in the batch."""
    together = charges_of(example(), MOLECULES)
    alone = charges_of(example(), MOLECULES[2:])[0]
    np.testing.assert_allclose(together[2], alone, atol=1e-14)
    assert np.abs(together[2] - together[1]).max() > 1e-3


def test_charges_with_a_longer_list():
    potential = example()
    batch = make_batch(MOLECULES, 9.0, np.float64, with_triplets=False)
    found = derive_compiled(potential.module, batch).outputs.charges
    atoms = sum(len(s) for s in MOLECULES)
    expected = np.concatenate(charges_of(potential, MOLECULES))
    np.testing.assert_allclose(found[:atoms], expected, atol=1e-14)


def test_hyperparameters_survive_writing():
    assert parse(Charges, dump(SMALL), "model") == SMALL


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "charges.cutoff_angstrom"),
        ({"cutoff_angstrom": 4.0}, "environment_cutoff_angstrom 5.0"),
        ({"damping_per_angstrom": 0.8}, "damping_per_angstrom 0.8"),
        ({"smearing_angstrom": -1.0}, "smearing_angstrom"),
        ({"hidden": []}, "hidden"),
        ({"transfer_functions": 1}, "transfer_functions"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Charges, values, "model")


def test_charged_training_structures_are_refused():
    data = random_dataset([MOLECULES[0], MOLECULES[1].replace(charge=1, multiplicity=None)])
    with pytest.raises(BadInput, match=r"charge \+1"):
        SMALL.completed(data)


def test_float32_energies():
    """Of the same parameters, to single precision."""
    single = NativePotential(example().module, dtype="float32").predict(MOLECULES)[0].energy
    double = NativePotential(example().module).predict(MOLECULES)[0].energy
    assert single == pytest.approx(double, rel=1e-5)
