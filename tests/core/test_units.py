"""The constants against two independent tables: ASE's (CODATA 2018) and SciPy's (2022)."""

import ase.units
import pytest
import scipy.constants as si

from karat.core import units

ASE = ase.units.create_units("2018")
PAIRS = {
    "BOHR": ASE.Bohr,
    "HARTREE": ASE.Hartree,
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
