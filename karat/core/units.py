"""The one place where numbers with units are turned into eV, Å, K, amu, e and fs.

Source: CODATA 2018 as published by `ase.units` (checked in tests/core/test_units.py).
"""

from typing import Final

BOHR: Final = 0.529177210903
"""Å per bohr."""
HARTREE: Final = 27.211386245988
"""eV per hartree."""
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
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
}
"""Energy units a user may name → eV."""
LENGTH_UNITS: Final = {"angstrom": 1.0, "bohr": BOHR, "nm": 10.0}
"""Length units a user may name → Å."""
