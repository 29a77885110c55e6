"""`Entry`: one structure with its labels as a file has them, in karat's units, not yet judged.

Readers yield entries one by one, so that files may be larger than memory; the doctor looks at
entries, faults included; `Entry.record` makes the validated `Record` that all else uses.

Checked: tests/data/test_entry.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.structures.topology import Topology

ASYMMETRY = 1e-3
"""Largest |σ_xy - σ_yx| over the largest component; rounded files and codes leave 1e-4."""


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """One structure of a file. Shapes hold; numbers may be NaN, absurd or contradictory.

    Attributes:
        numbers: atomic numbers as written.
        positions: Å.
        cell: Å, rows; zero where there is none.
        periodic: which directions repeat.
        place: where it stands, for messages: ``train.xyz, frame 3``.
        energy: eV.
        forces: eV/Å.
        stress: eV/Å³, tension positive (from a virial: −virial/V).
        charges: e.
        dipole: e Å.
        charge, multiplicity, topology: as in `Structure`.
        name, kind, group, frame: as in `Record`.
        level: level of theory that the file states for it, or `None`.
    """

    numbers: Int[np.ndarray, "atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    periodic: Bool[np.ndarray, "3"]
    place: str
    energy: float | None = None
    forces: Float[np.ndarray, "atoms 3"] | None = None
    stress: Float[np.ndarray, "3 3"] | None = None
    charges: Float[np.ndarray, "atoms"] | None = None
    dipole: Float[np.ndarray, "3"] | None = None
    charge: int = 0
    multiplicity: int | None = None
    topology: Topology | None = None
    name: str = ""
    kind: str = ""
    group: str = ""
    frame: int = -1
    level: LevelOfTheory | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def structure(self) -> Structure:
        """The validated structure.

        Raises:
            BadInput: `place` and what is wrong: unknown element, NaN, a singular cell, …
        """
        try:
            return Structure(
                numbers=self.numbers,
                positions=self.positions,
                cell=self.cell if self.periodic.any() else np.zeros((3, 3)),
                periodic=self.periodic,
                charge=self.charge,
                multiplicity=self.multiplicity,
                topology=self.topology,
            )
        except BadInput as error:
            raise BadInput(f"{self.place}: {error}") from error

    def record(self) -> Record:
        """Structure and labels, validated; the stress is symmetrised.

        Raises:
            BadInput: `place` and what is wrong: neither energy nor forces, NaN, a stress that
                is not symmetric, or see `structure`.
        """
        structure = self.structure()
        if self.energy is None and self.forces is None:
            raise BadInput(
                f"{self.place}: has neither energy nor forces. Remove this structure or label it."
            )
        labels = Labels(self.energy, self.forces, self._stress(), self.charges, self.dipole)
        for name in labels.quantities:
            if not np.isfinite(getattr(labels, name)).all():
                raise BadInput(
                    f"{self.place}: {name} holds NaN or infinity. Label this structure again or "
                    "remove it (`karat check DATA --fix OUTPUT` removes all such)."
                )
        return Record(structure, labels, self.name, self.kind, self.group, self.frame)

    def _stress(self) -> np.ndarray | None:
        stress = self.stress
        if stress is None or not np.isfinite(stress).all():
            return stress
        if np.abs(stress - stress.T).max() > ASYMMETRY * max(np.abs(stress).max(), 1e-6):
            raise BadInput(f"{self.place}: stress is not symmetric: {stress.tolist()}.")
        return (stress + stress.T) / 2 if (stress != stress.T).any() else stress


def entry_of(record: Record, place: str = "", level: LevelOfTheory | None = None) -> Entry:
    """The entry of a record."""
    structure, labels = record.structure, record.labels
    return Entry(
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        periodic=structure.periodic,
        place=place or record.name,
        energy=labels.energy,
        forces=labels.forces,
        stress=labels.stress,
        charges=labels.charges,
        dipole=labels.dipole,
        charge=structure.charge,
        multiplicity=structure.multiplicity,
        topology=structure.topology,
        name=record.name,
        kind=record.kind,
        group=record.group,
        frame=record.frame,
        level=level,
    )


def entries_of(dataset: Dataset) -> list[Entry]:
    """The entries of a dataset, in order."""
    return [entry_of(record, level=dataset.level) for record in dataset]
