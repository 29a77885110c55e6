"""`Recipe`: how published files become a collection; and what recipes share.

Checked: tests/data/collections/test_recipes.py.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.data.collections.collection import Collection, Energy
from karat.data.collections.manifest import Manifest
from karat.structures.geometry_files import structures_and_frames
from karat.structures.structure import Structure


@dataclass(frozen=True)
class Recipe:
    """One collection that files of a known layout become.

    Attributes:
        manifest: of what it makes, without files.
        files: that the folder must have.
        make: folder → collection.
    """

    manifest: Manifest
    files: tuple[str, ...]
    make: Callable[[Path], Collection]

    def fits(self, folder: Path) -> bool:
        """Whether the folder has its files."""
        return all((folder / name).is_file() for name in self.files)

    def read(self, folder: Path) -> Collection:
        """The collection.

        Raises:
            BadInput: a missing file, or content of another layout.
        """
        for name in self.files:
            readable_file(folder / name, f"file of the recipe {self.manifest.name}")
        try:
            return self.make(folder)
        except (KeyError, ValueError, IndexError) as error:
            raise BadInput(
                f"{folder}: not the layout that the recipe {self.manifest.name} reads ({error!r})."
            ) from error


@dataclass(frozen=True, eq=False)
class Found:
    """One structure of a file, with the words of its comment line."""

    structure: Structure
    info: Mapping[str, Any]

    def text(self, key: str) -> str:
        """A word as text; numbers as they were written, up to the zeros at their end."""
        value = self.info[key]
        return f"{value:g}" if isinstance(value, float) else str(value)


def found_in(path: Path) -> Iterator[Found]:
    """Every structure of an extended XYZ file."""
    for structure, frame in structures_and_frames(path):
        yield Found(structure, frame.info)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a heading."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def part(structure: Structure, atoms: slice, charge: int) -> Structure:
    """Some atoms of a structure, not moved, as a singlet or, of odd electrons, a doublet."""
    numbers = structure.numbers[atoms]
    electrons = int(numbers.sum()) - charge
    return Structure(
        numbers=numbers,
        positions=structure.positions[atoms],
        charge=charge,
        multiplicity=1 + electrons % 2,
    )


def interaction(
    name: str, complex_: Structure, atoms_of_first: int, charges: tuple[int, int]
) -> tuple[dict[str, Structure], dict[str, float]]:
    """Complex and both parts as they are in it, and the terms of the interaction energy."""
    whole = part(complex_, slice(None), sum(charges))
    structures = {
        name: whole,
        f"{name} A": part(complex_, slice(None, atoms_of_first), charges[0]),
        f"{name} B": part(complex_, slice(atoms_of_first, None), charges[1]),
    }
    return structures, {name: 1.0, f"{name} A": -1.0, f"{name} B": -1.0}


def relative(
    members: Sequence[tuple[str, float]],
    group: str,
    kind: str = "",
    coordinates: Sequence[float] | None = None,
    base: int | None = None,
) -> list[Energy]:
    """Energies of a group's members relative to one of them, by default the lowest.

    Args:
        members: name of a structure and its energy, eV.
        coordinates: of the members, along a curve.
        base: index of the member that the others are relative to; it has no energy of its own.
    """
    energies = np.array([energy for _, energy in members])
    zero = int(np.argmin(energies)) if base is None else base
    places: Sequence[float | None] = coordinates or [None] * len(members)
    return [
        Energy(
            name=name,
            reference=float(energy - energies[zero]),
            terms={name: 1.0, members[zero][0]: -1.0},
            kind=kind,
            group=group,
            coordinate=place,
        )
        for i, ((name, energy), place) in enumerate(zip(members, places))
        if i != zero
    ]
