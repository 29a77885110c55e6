import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.morse import MorsePotential

from karat.core.errors import BadInput
from karat.potentials.analytic.morse import Morse
from karat.structures.structure import Structure


def copper(cutoff, onset):
    return Morse(
        depth_ev={"Cu": 0.3429},
        width_per_angstrom={"Cu": 1.3588},
        distance_angstrom={"Cu": 2.866},
        cutoff_angstrom=cutoff,
        onset_angstrom=onset,
    ).load()


def test_dimer_is_exact():
    positions = np.array([[0.0, 0, 0], [2.866, 0, 0]])
    at_well, stretched = copper(6.0, 5.0).predict(
        [Structure(numbers=np.array([29, 29]), positions=positions * s) for s in (1.0, 1.5)]
    )
    assert at_well.energy == pytest.approx(-0.3429, abs=1e-15)
    np.testing.assert_allclose(at_well.forces, 0, atol=1e-15)
    decay = np.exp(-1.3588 * 0.5 * 2.866)
    assert stretched.energy == pytest.approx(0.3429 * (decay**2 - 2 * decay), rel=1e-13)


def test_agrees_with_ase_within_the_switch():
    """ASE's MorsePotential has the same switch, between rcut1 and rcut2 (in units of r₀)."""
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=3)
    calculator = MorsePotential(
        epsilon=0.3429, r0=2.866, rho0=1.3588 * 2.866, rcut1=4.0 / 2.866, rcut2=5.5 / 2.866
    )
    atoms.calc = calculator
    labels = copper(5.5, 4.0).predict([Structure.from_ase(atoms)], ("forces", "stress"))[0]
    assert labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-11)
    np.testing.assert_allclose(labels.forces, atoms.get_forces(), atol=1e-11)
    np.testing.assert_allclose(labels.stress, atoms.get_stress(voigt=False), atol=1e-12)


def test_agrees_with_lammps(lammps_case):
    structure, expected = lammps_case("morse")
    labels = copper(5.0, 4.9999999).predict([structure], ("forces", "stress"))[0]
    assert labels.energy == pytest.approx(expected.energy, abs=1e-11)
    np.testing.assert_allclose(labels.forces, expected.forces, atol=1e-11)
    np.testing.assert_allclose(labels.stress, expected.stress, atol=1e-12)


def test_pairs_are_never_mixed():
    values = {"Cu": 1.0, "Ni": 1.0}
    with pytest.raises(BadInput, match="28-29"):
        Morse(values, values, values, 5.0, 4.0).load()
