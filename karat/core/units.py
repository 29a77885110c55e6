"""The one place where numbers with units are turned into eV, Å, K, amu, e and fs.

Source: CODATA 2018 as published by `ase.units` (checked in tests/core/test_units.py).
"""

from collections.abc import Mapping
from typing import Final

from karat.core.errors import BadInput, unknown_key

BOHR: Final = 0.529177210903
"""Å per bohr."""
HARTREE: Final = 27.211386245988
"""eV per hartree."""
RYDBERG: Final = HARTREE / 2
"""eV per rydberg."""
KCAL_PER_MOL: Final = 0.043364104241800934
"""eV per kcal/mol (thermochemical calorie)."""
KJ_PER_MOL: Final = 0.010364269656262175
"""eV per kJ/mol."""
BOLTZMANN: Final = 8.617333262145179e-05
"""eV per K."""
GPA: Final = 0.006241509074460763
"""eV/Å³ per GPa."""
ACCELERATION: Final = 0.00964853321566533
"""Å/fs² per (eV/Å/amu): the one constant that joins fs with eV, Å and amu."""
COULOMB: Final = 14.399645478425668
"""e²/(4 π ε₀) in eV Å."""
INVERSE_CM: Final = 0.00012398419843320025
"""eV per cm⁻¹ (h c)."""
HBAR: Final = 0.6582119569509066
"""ħ in eV fs."""

ENERGY_UNITS: Final = {
    "eV": 1.0,
    "meV": 1e-3,
    "hartree": HARTREE,
    "rydberg": RYDBERG,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
}
"""Energy units a user may name → eV."""
LENGTH_UNITS: Final = {"angstrom": 1.0, "bohr": BOHR, "nm": 10.0}
"""Length units a user may name → Å."""
STRESS_UNITS: Final = {
    "eV/angstrom^3": 1.0,
    "hartree/bohr^3": HARTREE / BOHR**3,
    "GPa": GPA,
    "kbar": GPA / 10,
    "bar": GPA / 1e4,
}
"""Units of stress a user may name → eV/Å³."""

_OTHER_SPELLINGS: Final = {
    "ev": "eV",
    "ha": "hartree",
    "hartrees": "hartree",
    "eh": "hartree",
    "ry": "rydberg",
    "kcal/mole": "kcal/mol",
    "kj/mole": "kJ/mol",
    "ang": "angstrom",
    "angstroms": "angstrom",
    "a": "angstrom",
    "å": "angstrom",
    "bohrs": "bohr",
    "a0": "bohr",
    "nanometer": "nm",
}


def energy_in_ev(unit: str) -> float:
    """eV per `unit`.

    Raises:
        UnknownKey: no such unit, with a suggestion.
    """
    return _factor("unit of energy", unit, ENERGY_UNITS)


def length_in_angstrom(unit: str) -> float:
    """Å per `unit`.

    Raises:
        UnknownKey: no such unit, with a suggestion.
    """
    return _factor("unit of length", unit, LENGTH_UNITS)


def force_in_ev_per_angstrom(unit: str) -> float:
    """eV/Å per `unit`, which is ENERGY/LENGTH: ``kcal/mol/angstrom``, ``hartree/bohr``.

    Raises:
        BadInput: not ENERGY/LENGTH.
        UnknownKey: no such energy or length, with a suggestion.
    """
    energy, slash, length = unit.rpartition("/")
    if not slash or unit in ENERGY_UNITS:
        raise BadInput(f"unit of force '{unit}': write ENERGY/LENGTH, e.g. kcal/mol/angstrom.")
    return energy_in_ev(energy) / length_in_angstrom(length)


def stress_in_ev_per_cubic_angstrom(unit: str) -> float:
    """eV/Å³ per `unit`.

    Raises:
        UnknownKey: no such unit, with a suggestion.
    """
    return _factor("unit of stress", unit, STRESS_UNITS)


def _factor(what: str, unit: str, table: Mapping[str, float]) -> float:
    if unit in table:
        return table[unit]
    # only "meV" differs from another unit by its capitals
    folded = {name.casefold(): name for name in table if name != "meV"}
    key = unit.strip().casefold()
    name = folded.get(key, _OTHER_SPELLINGS.get(key, ""))
    if name not in table:
        raise unknown_key(f"karat, as {what},", unit[:40], table)
    return table[name]
