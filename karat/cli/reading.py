"""Options that every command which reads labelled files has in common."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from karat.data.read_options import ReadOptions
    from karat.structures.labels import LevelOfTheory

_PANEL = "How to read the data"

EnergyKey = Annotated[
    str | None,
    typer.Option("--energy-key", help="Where energies stand.", rich_help_panel=_PANEL),
]
ForcesKey = Annotated[
    str | None,
    typer.Option("--forces-key", help="Where forces stand.", rich_help_panel=_PANEL),
]
StressKey = Annotated[
    str | None,
    typer.Option(
        "--stress-key", help="Where stresses stand (tension positive).", rich_help_panel=_PANEL
    ),
]
VirialKey = Annotated[
    str | None,
    typer.Option(
        "--virial-key", help="Where virials stand (-V times stress).", rich_help_panel=_PANEL
    ),
]
EnergyUnit = Annotated[
    str | None,
    typer.Option(
        "--energy-unit",
        help="eV, meV, hartree, rydberg, kcal/mol or kJ/mol.",
        rich_help_panel=_PANEL,
    ),
]
LengthUnit = Annotated[
    str | None,
    typer.Option("--length-unit", help="angstrom, bohr or nm.", rich_help_panel=_PANEL),
]
ForcesUnit = Annotated[
    str | None,
    typer.Option(
        "--forces-unit",
        help="ENERGY/LENGTH, e.g. hartree/bohr; by default energy unit over length unit.",
        rich_help_panel=_PANEL,
    ),
]
StressUnit = Annotated[
    str | None,
    typer.Option(
        "--stress-unit",
        help="eV/angstrom^3, hartree/bohr^3, GPa, kbar or bar; by default energy over volume.",
        rich_help_panel=_PANEL,
    ),
]
Level = Annotated[
    str | None,
    typer.Option(
        "--level",
        help="Level of theory of the labels, METHOD or METHOD/BASIS.",
        rich_help_panel=_PANEL,
    ),
]


def read_options(
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    virial_key: str | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    forces_unit: str | None = None,
    stress_unit: str | None = None,
    level: str | None = None,
) -> "ReadOptions":
    """`ReadOptions` from what stands on the command line.

    Raises:
        UnknownKey: a unit that is not known, with a suggestion.
        BadInput: a level without a method.
    """
    from karat.core import units
    from karat.data.read_options import ReadOptions

    for unit, check in (
        (energy_unit, units.energy_in_ev),
        (length_unit, units.length_in_angstrom),
        (forces_unit, units.force_in_ev_per_angstrom),
        (stress_unit, units.stress_in_ev_per_cubic_angstrom),
    ):
        if unit is not None:
            check(unit)
    return ReadOptions(
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        virial_key=virial_key,
        energy_unit=energy_unit,
        length_unit=length_unit,
        forces_unit=forces_unit,
        stress_unit=stress_unit,
        level=level_of(level),
    )


def level_of(text: str | None) -> "LevelOfTheory | None":
    """What ``--level`` names.

    Raises:
        BadInput: no method.
    """
    if text is None:
        return None
    from karat.core.errors import BadInput
    from karat.structures.labels import LevelOfTheory

    method, _, basis = text.partition("/")
    if not method.strip():
        raise BadInput(f"--level '{text}' names no method. Write METHOD or METHOD/BASIS.")
    return LevelOfTheory(method=method.strip(), basis=basis.strip())
