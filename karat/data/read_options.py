"""`ReadOptions`: what a user may say about a file of labelled structures."""

from dataclasses import dataclass

from karat.structures.labels import LevelOfTheory


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file; `None` means: as the file or its format says, else it is asked for.

    Attributes:
        energy_key, forces_key, stress_key, virial_key: where the labels stand, if not under the
            format's usual names.
        energy_unit: of energies (``eV``, ``kcal/mol``, ``kJ/mol``, ``hartree``, ``meV``,
            ``rydberg``).
        length_unit: of positions and cells (``angstrom``, ``bohr``, ``nm``).
        forces_unit: ``ENERGY/LENGTH``; by default energy_unit over length_unit.
        stress_unit: ``eV/angstrom^3``, ``GPa``, ``kbar``, ``bar``; by default energy over volume.
        level: level of theory of all labels.
    """

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    virial_key: str | None = None
    energy_unit: str | None = None
    length_unit: str | None = None
    forces_unit: str | None = None
    stress_unit: str | None = None
    level: LevelOfTheory | None = None
