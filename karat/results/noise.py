"""Noise floors: below which an error says nothing, each with its source.

Same level: the label noise of that level, from its convergence settings. Different levels: the
reference's own uncertainty. Every number of this file is printed by `benchmarks/noise_floors.py`
(measured 2026-11 with tblite 0.8.0 and the published sets it names). Where no sourced figure is
known there is no floor, hence no karats.

Checked: tests/results/test_noise.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from karat.core.errors import BadInput
from karat.structures.labels import LevelOfTheory


@dataclass(frozen=True)
class Floor:
    """A noise floor.

    Attributes:
        value: positive, in `unit`.
        unit: eV/atom, eV/Å, eV, cm⁻¹ or Å.
        source: what it was taken from.
    """

    value: float
    unit: str
    source: str


UNITS: Final[Mapping[str, str]] = {
    "energy_mae_per_atom": "eV/atom",
    "energy_rmse_per_atom": "eV/atom",
    "force_mae": "eV/Å",
    "force_rmse": "eV/Å",
    "torsion_rmse": "eV",
    "barrier_mae": "eV",
    "frequency_mae": "cm⁻¹",
    "geometry_rmsd": "Å",
}
"""Quantities that may have a floor."""

ALIASES: Final[Mapping[str, str]] = {
    "energy_per_atom_mae": "energy_mae_per_atom",
    "energy_per_atom_rmse": "energy_rmse_per_atom",
}

_QUANTITIES: Final = tuple(UNITS)

# Method → tblite accuracy → label noise, against accuracy 1e-4, in the order of UNITS. Energies
# and forces: 32 rattled structures (0.05 Å) of 8 organic molecules, two of them charged or
# zwitterionic; torsion_rmse is the RMS of total energies, barrier_mae √2 of it; frequencies
# (93 modes) and minima: 3 molecules relaxed to 1e-4 eV/Å.
_XTB_NOISE: Final[Mapping[str, Mapping[float, tuple[float, ...]]]] = {
    "GFN2-XTB": {
        1.0: (1.3e-9, 1.7e-9, 2.7e-5, 5.6e-5, 2.7e-8, 3.9e-8, 4.9e-3, 1.4e-5),
        0.1: (8.8e-12, 1.3e-11, 2.5e-6, 5.2e-6, 2.5e-10, 3.6e-10, 1.2e-3, 3.4e-6),
        0.01: (1.4e-13, 2.2e-13, 2.7e-7, 5.9e-7, 3.2e-12, 4.5e-12, 8.7e-4, 3.5e-6),
    },
    "GFN1-XTB": {
        1.0: (4.1e-10, 6.1e-10, 1.2e-5, 2.6e-5, 8.4e-9, 1.2e-8, 5.8e-3, 3.4e-6),
        0.1: (6.2e-12, 1.0e-11, 1.2e-6, 2.5e-6, 1.7e-10, 2.5e-10, 7.3e-4, 7.1e-7),
        0.01: (5.7e-14, 8.9e-14, 1.1e-7, 2.4e-7, 1.2e-12, 1.7e-12, 6.3e-5, 1.9e-7),
    },
}

_ACAC: Final = (
    "karat, measured 2026-11: {method} against PBE-D3/def2-SVP on 130 structures of "
    "acetylacetone dynamics at 300 K (BOTNet datasets, arXiv:2205.06643)"
)
_TORSIONS: Final = (
    "karat, measured 2026-11: {method} against CCSD(T)-level energies on 31 torsion scans of 24 "
    "points (Behara et al., J. Phys. Chem. B 128, 7888 (2024))"
)

_MODES: Final = (
    "karat, measured 2026-11: {method} against PBE-D3(BJ)/def2-SVP, harmonic frequencies (52 "
    "modes) of 7 small molecules, each at its own minimum"
)

# Method → quantity → (value, source): uncertainty of the method itself.
_UNCERTAINTY: Final[Mapping[str, Mapping[str, tuple[float, str]]]] = {
    "GFN2-XTB": {
        "energy_mae_per_atom": (5.2e-3, _ACAC),
        "energy_rmse_per_atom": (6.7e-3, _ACAC),
        "force_mae": (0.39, _ACAC),
        "force_rmse": (0.48, _ACAC),
        "torsion_rmse": (0.041, _TORSIONS),
        "barrier_mae": (0.056, _TORSIONS),
        "frequency_mae": (39.7, _MODES),
        "geometry_rmsd": (0.0244, _MODES),
    },
    "GFN1-XTB": {
        "energy_mae_per_atom": (4.6e-3, _ACAC),
        "energy_rmse_per_atom": (5.8e-3, _ACAC),
        "force_mae": (0.39, _ACAC),
        "force_rmse": (0.51, _ACAC),
        "torsion_rmse": (0.048, _TORSIONS),
        "barrier_mae": (0.087, _TORSIONS),
        "frequency_mae": (40.9, _MODES),
        "geometry_rmsd": (0.0234, _MODES),
    },
}


def floor(
    quantity: str, reference: LevelOfTheory, contestant: LevelOfTheory | None
) -> Floor | None:
    """The noise floor of an error in `quantity` against `reference`, or `None` if none is known.

    Args:
        quantity: a key of `UNITS`.
        reference: level of theory of the labels.
        contestant: level that a contestant is of or was trained to; `None` where it has none.

    Raises:
        BadInput: an unknown quantity.
    """
    name = ALIASES.get(quantity, quantity)
    if name not in UNITS:
        raise BadInput(f"noise floor: unknown quantity '{quantity}'; known: {', '.join(UNITS)}.")
    if contestant is not None and reference.same_as(contestant):
        return _label_noise(name, reference)
    found = _UNCERTAINTY.get(reference.method.upper(), {}).get(name)
    if found is None:
        return None
    value, source = found
    return Floor(value, UNITS[name], source.format(method=reference.method))


def _label_noise(quantity: str, level: LevelOfTheory) -> Floor | None:
    """Of the accuracy that the level names, else of the next looser one that was measured."""
    table = _XTB_NOISE.get(level.method.upper())
    if table is None:
        return None
    try:
        accuracy = float(level.settings.get("accuracy", "1.0"))
    except ValueError:
        accuracy = 1.0
    looser = [measured for measured in sorted(table) if measured >= accuracy * (1 - 1e-9)]
    if not looser:  # looser than anything that was measured
        return None
    value = table[looser[0]][_QUANTITIES.index(quantity)]
    source = (
        f"label noise; karat, measured 2026-11: {level.method} at tblite accuracy {looser[0]:g} "
        "against 0.0001 on rattled organic molecules"
    )
    return Floor(value, UNITS[quantity], source)
