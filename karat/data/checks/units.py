"""Are energies in eV? Judged by all-electron totals, which every element fixes.

Checked: tests/data/test_doctor_faults.py.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from karat.core.units import HARTREE, KCAL_PER_MOL, KJ_PER_MOL
from karat.data.finding import Finding, counted
from karat.data.survey import Survey

LIGHT = 36
"""Heavier elements are often computed with effective cores, and need relativity."""

CLOSE = 0.06
"""The estimate of totals is right to 4 %."""

UNITS = (
    (1 / HARTREE, "hartree"),
    (2 / HARTREE, "rydberg"),
    (1 / KCAL_PER_MOL, "kcal/mol"),
    (1 / KJ_PER_MOL, "kJ/mol"),
    (1000.0, "meV"),
)


def all_electron_totals() -> Float[np.ndarray, "elements"]:
    """Energies of neutral atoms in eV by atomic number, to 4 % (without relativity).

    Source: expansion in Z^(-1/3) by Scott, Schwinger and Englert (Phys. Rev. A 32, 26 (1985)):
    −0.768745 Z^(7/3) + Z²/2 − 0.269900 Z^(5/3) hartree; hydrogen and helium exact.
    Checked: tests/data/test_doctor_faults.py, against published atoms.
    """
    z = np.arange(119, dtype=np.float64)
    energies = -0.768745 * z ** (7 / 3) + z**2 / 2 - 0.269900 * z ** (5 / 3)
    energies[:3] = (0.0, -0.5, -2.904)
    return energies * HARTREE


def energy_unit(survey: Survey) -> Iterator[Finding]:
    """All-electron totals in another unit."""
    columns = survey.columns
    heavy = columns.composition[:, LIGHT + 1 :].any(axis=1) | (columns.composition[:, 0] > 0)
    rows = np.flatnonzero(columns.has_energy & np.isfinite(columns.energy) & ~heavy)
    if len(rows) == 0:
        return
    estimate = columns.composition[rows] @ all_electron_totals()
    ratio = columns.energy[rows] / estimate
    for factor, word in UNITS:
        fits = np.abs(ratio / factor - 1) < CLOSE
        # hydrogen alone, or one structure, may fall on a factor by chance
        if fits.mean() > 0.8 and columns.composition[rows[fits]][:, 3:].any():
            yield Finding(
                "error",
                "energy-unit",
                f"energies are in {word}, not eV: {counted(int(fits.sum()), len(survey))} are at "
                f"{np.median(ratio):.4g} of the all-electron total in eV, {word} would be at "
                f"{factor:.4g}. Read them with --energy-unit {word}.",
            )
            return


UNIT_CHECKS = (energy_unit,)
