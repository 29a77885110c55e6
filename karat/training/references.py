"""Reference energies: one per element, subtracted before training and added after prediction.

Checked: tests/training/test_references.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from karat.core.errors import BadInput, UnknownElement
from karat.data.dataset import Dataset
from karat.potentials.native.scales import regressed_energies


@dataclass(frozen=True)
class ReferenceEnergies:
    """eV by atomic number, and how they were found, for people."""

    values: Mapping[int, float]
    note: str

    def of(self, numbers: np.ndarray) -> float:
        """Their sum over a structure, eV."""
        return float(sum(self.values[int(z)] for z in numbers))


def given(energies: Mapping[str, float], species: tuple[int, ...]) -> ReferenceEnergies:
    """Energies given by element symbol.

    Raises:
        UnknownElement: no element, or an element of the data is missing.
    """
    from ase.data import atomic_numbers, chemical_symbols

    for symbol in energies:
        if symbol not in atomic_numbers or symbol == "X":
            raise UnknownElement(f"training.reference_energies: '{symbol}' is not an element.")
    values = {atomic_numbers[symbol]: float(value) for symbol, value in energies.items()}
    missing = [chemical_symbols[z] for z in species if z not in values]
    if missing:
        raise UnknownElement(
            f"training.reference_energies has no value for {', '.join(missing)}, which the "
            "training data contain. Add it, or say 'regress'."
        )
    return ReferenceEnergies({z: values[z] for z in species}, "given")


def regress(dataset: Dataset) -> ReferenceEnergies:
    """Least squares of energies on compositions, in float64.

    Where the compositions do not determine all elements (one molecule's trajectory determines
    none) the energies per atom that are nearest to the mean energy per atom are taken, and the
    note says so; no prediction on such compositions depends on the choice.

    Raises:
        BadInput: a structure without an energy.
    """
    species = dataset.species
    found, rank = regressed_energies(dataset.structures, energies_of(dataset), species)
    values = {z: float(energy) for z, energy in zip(species, found)}
    note = f"least squares on the composition of {len(dataset)} structures"
    if rank < len(species):
        note += (
            f"; the compositions determine {rank} of {len(species)} elements, the rest is as near "
            "as possible to the mean energy per atom (isolated atoms cannot be predicted)"
        )
    return ReferenceEnergies(values, note)


def energies_of(dataset: Dataset) -> np.ndarray:
    """Total energies, eV.

    Raises:
        BadInput: one is missing.
    """
    for index, record in enumerate(dataset):
        if record.labels.energy is None:
            raise BadInput(
                f"Structure {record.name or index} ({record.structure.formula}) has no energy; "
                "training needs one for each. Label it or leave it out."
            )
    return np.array([record.labels.energy for record in dataset], dtype=float)
