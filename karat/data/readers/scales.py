"""From the units of a file to eV and Å: stated by the format, the file or the user; not guessed.

Checked: tests/data/readers/test_scales.py.
"""

from dataclasses import dataclass

from karat.core.errors import BadInput
from karat.core.units import (
    energy_in_ev,
    force_in_ev_per_angstrom,
    length_in_angstrom,
    stress_in_ev_per_cubic_angstrom,
)
from karat.data.read_options import ReadOptions


@dataclass(frozen=True)
class StatedUnits:
    """Units that a format or a file states; "" where it states none.

    Attributes:
        energy, length, forces, stress: names as in `karat.core.units`.
    """

    energy: str = ""
    length: str = ""
    forces: str = ""
    stress: str = ""


NO_UNITS = StatedUnits()
EV_ANGSTROM = StatedUnits("eV", "angstrom")


@dataclass(frozen=True)
class Scales:
    """Factors to karat's units.

    Attributes:
        energy: eV per unit (also of virials).
        length: Å per unit.
        forces: eV/Å per unit.
        stress: eV/Å³ per unit.
    """

    energy: float
    length: float
    forces: float
    stress: float


def scales(options: ReadOptions, stated: StatedUnits, place: str, hint: str = "") -> Scales:
    """The user's units, else those stated.

    Where energy or length is the user's, forces and stress follow it, unless they are named too.

    Args:
        hint: what the published set of this layout uses, for the message.

    Raises:
        BadInput: nobody says what the unit of energy or length is.
        UnknownKey: a unit that is not known, with a suggestion.
    """
    missing = [
        name
        for name in ("energy", "length")
        if not (getattr(options, f"{name}_unit") or getattr(stated, name))
    ]
    if missing:
        flags = " ".join(f"--{name}-unit {name.upper()}" for name in missing)
        known = f" {hint}" if hint else ""
        raise BadInput(
            f"{place}: does not say its unit of {' and of '.join(missing)}. "
            f"Name it: {flags}.{known}"
        )
    own = options.energy_unit is None and options.length_unit is None
    energy = energy_in_ev(options.energy_unit or stated.energy)
    length = length_in_angstrom(options.length_unit or stated.length)
    forces = options.forces_unit or (stated.forces if own else "")
    stress = options.stress_unit or (stated.stress if own else "")
    return Scales(
        energy=energy,
        length=length,
        forces=force_in_ev_per_angstrom(forces) if forces else energy / length,
        stress=stress_in_ev_per_cubic_angstrom(stress) if stress else energy / length**3,
    )
