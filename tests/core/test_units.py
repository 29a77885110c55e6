"""The constants against two independent tables: ASE's (CODATA 2018) and SciPy's (2022)."""

import ase.units
import pytest
import scipy.constants as si

from karat.core import units
from karat.core.errors import BadInput, UnknownKey

ASE = ase.units.create_units("2018")
PAIRS = {
    "BOHR": ASE.Bohr,
    "HARTREE": ASE.Hartree,
    "RYDBERG": ASE.Rydberg,
    "KCAL_PER_MOL": ASE.kcal / ASE.mol,
    "KJ_PER_MOL": ASE.kJ / ASE.mol,
    "BOLTZMANN": ASE.kB,
    "GPA": ASE.GPa,
    "INVERSE_CM": ASE.invcm,
    # ASE's time unit is Å √(amu/eV), its square therefore amu Å²/eV
    "ACCELERATION": ASE.fs**2,
    "HBAR": ASE._hbar * ASE.J * ASE.s / ASE.fs,
}


@pytest.mark.parametrize("name", PAIRS)
def test_equals_ase(name):
    assert getattr(units, name) == pytest.approx(PAIRS[name], rel=1e-10)


def test_coulomb_constant():
    expected = si.e / (4 * si.pi * si.epsilon_0) * 1e10
    assert pytest.approx(expected, rel=1e-8) == units.COULOMB
    # e²/(4πε₀) is one hartree bohr
    assert pytest.approx(units.HARTREE * units.BOHR, rel=1e-10) == units.COULOMB


def test_tables_of_units_a_user_may_name():
    assert units.ENERGY_UNITS["hartree"] / units.ENERGY_UNITS["kcal/mol"] == pytest.approx(
        627.5095, abs=1e-4
    )
    assert units.ENERGY_UNITS["kcal/mol"] / units.ENERGY_UNITS["kJ/mol"] == pytest.approx(4.184)
    assert units.LENGTH_UNITS["nm"] / units.LENGTH_UNITS["bohr"] == pytest.approx(18.8973, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eV", 1.0),
        ("meV", 1e-3),
        ("hartree", ASE.Hartree),
        ("Ha", ASE.Hartree),
        ("HARTREE", ASE.Hartree),
        ("rydberg", ASE.Ry),
        ("kcal/mol", ASE.kcal / ASE.mol),
        ("kJ/mol", ASE.kJ / ASE.mol),
    ],
)
def test_energies_by_name(name, expected):
    assert units.energy_in_ev(name) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("angstrom", 1.0), ("Ang", 1.0), ("Å", 1.0), ("bohr", ASE.Bohr), ("nm", 10)],
)
def test_lengths_by_name(name, expected):
    assert units.length_in_angstrom(name) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eV/angstrom", 1.0),
        ("kcal/mol/angstrom", ASE.kcal / ASE.mol),
        ("kcal/mol/Ang", ASE.kcal / ASE.mol),
        ("hartree/bohr", ASE.Hartree / ASE.Bohr),
        ("kJ/mol/nm", ASE.kJ / ASE.mol / 10),
    ],
)
def test_forces_by_name(name, expected):
    assert units.force_in_ev_per_angstrom(name) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eV/angstrom^3", 1.0),
        ("GPa", ASE.GPa),
        ("kbar", 1000 * ASE.bar),
        ("bar", ASE.bar),
        ("hartree/bohr^3", ASE.Hartree / ASE.Bohr**3),
    ],
)
def test_stresses_by_name(name, expected):
    assert units.stress_in_ev_per_cubic_angstrom(name) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("find", "name", "words"),
    [
        (units.energy_in_ev, "hartre", "unit of energy, has no 'hartre'; did you mean 'hartree'"),
        (units.energy_in_ev, "MeV", "has no 'MeV'"),
        (units.energy_in_ev, "mev", "has no 'mev'"),
        (units.energy_in_ev, "bohr", "has no 'bohr'"),
        (units.length_in_angstrom, "angstrm", "did you mean 'angstrom'"),
        (units.stress_in_ev_per_cubic_angstrom, "GPA/2", "unit of stress, has no 'GPA/2'"),
        (units.force_in_ev_per_angstrom, "eV/angstrm", "did you mean 'angstrom'"),
    ],
)
def test_unknown_units(find, name, words):
    with pytest.raises(UnknownKey, match=words):
        find(name)


@pytest.mark.parametrize("name", ["eV", "kcal/mol", ""])
def test_a_force_is_an_energy_over_a_length(name):
    with pytest.raises(BadInput, match="write ENERGY/LENGTH"):
        units.force_in_ev_per_angstrom(name)
