"""Units: stated, named or asked for."""

import pytest

from karat.core.errors import BadInput
from karat.data.read_options import ReadOptions
from karat.data.readers.scales import EV_ANGSTROM, NO_UNITS, Scales, StatedUnits, scales

HARTREE, BOHR = 27.211386245988, 0.529177210903


def test_stated_units_are_used():
    assert scales(ReadOptions(), EV_ANGSTROM, "x") == Scales(1.0, 1.0, 1.0, 1.0)
    stated = StatedUnits("hartree", "angstrom", forces="hartree/bohr", stress="GPa")
    found = scales(ReadOptions(), stated, "x")
    assert found.forces == pytest.approx(HARTREE / BOHR)
    assert found.stress == pytest.approx(0.006241509074)


def test_named_units_go_first_and_take_forces_and_stress_along():
    stated = StatedUnits("hartree", "bohr", forces="hartree/bohr", stress="GPa")
    found = scales(ReadOptions(energy_unit="eV"), stated, "x")
    assert (found.energy, found.forces) == (1.0, pytest.approx(1 / BOHR))
    assert found.stress == pytest.approx(1 / BOHR**3)
    found = scales(ReadOptions(energy_unit="eV", forces_unit="meV/nm"), stated, "x")
    assert found.forces == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "energy and of length. Name it: --energy-unit ENERGY --length-unit LENGTH. Hint"),
        ({"energy_unit": "eV"}, "unit of length. Name it: --length-unit LENGTH"),
        ({"length_unit": "nm"}, "unit of energy. Name it: --energy-unit ENERGY"),
    ],
)
def test_nothing_is_guessed(options, words):
    with pytest.raises(BadInput, match=f"^place: does not say its .*{words}"):
        scales(ReadOptions(**options), NO_UNITS, "place", "Hint")
