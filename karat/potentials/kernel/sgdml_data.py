"""One molecule's labelled structures as arrays.

Checked: tests/potentials/kernel/test_sgdml.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.structures.structure import Structure

MAX_ATOMS = 200


@dataclass(frozen=True, eq=False)
class MoleculeData:
    """Positions and forces of one molecule.

    Attributes:
        structures: in order.
        numbers: the molecule's atomic numbers.
        positions: Å.
        forces: eV/Å.
        energies: eV; NaN where missing.
    """

    structures: list[Structure]
    numbers: Int[np.ndarray, "atoms"]
    positions: Float[np.ndarray, "frames atoms 3"]
    forces: Float[np.ndarray, "frames atoms 3"]
    energies: Float[np.ndarray, "frames"]

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def of(cls, dataset: Dataset, place: str, like: "MoleculeData | None" = None) -> "MoleculeData":
        """From a dataset; `place` is its name in messages.

        Raises:
            BadInput: not one molecule with its atoms in one order (that of `like`), periodic, or
                without forces or energies.
        """
        numbers = dataset.records[0].structure.numbers if like is None else like.numbers
        if not 2 <= len(numbers) <= MAX_ATOMS:
            raise BadInput(
                f"sgdml is for molecules of 2 to {MAX_ATOMS} atoms; "
                f"{dataset.records[0].structure.formula} has {len(numbers)}. Use another model."
            )
        for index, record in enumerate(dataset):
            structure = record.structure
            name = f"{place} structure {record.name or index} ({structure.formula})"
            if structure.periodic.any():
                raise BadInput(f"{name} is periodic; sgdml is for one molecule. Use another model.")
            if not np.array_equal(structure.numbers, numbers):
                raise BadInput(
                    f"{name} is not the molecule of the first training structure with its atoms "
                    "in the same order. sgdml is for one molecule: sort the data, or use another "
                    "model."
                )
            if record.labels.forces is None or not np.isfinite(record.labels.forces).all():
                raise BadInput(f"{name} has no (finite) forces, which sgdml is fitted to.")
            if record.labels.energy is None or not np.isfinite(record.labels.energy):
                raise BadInput(
                    f"{name} has no (finite) energy, which fixes the constant of sgdml's energies."
                )
        return cls(
            structures=dataset.structures,
            numbers=np.asarray(numbers),
            positions=np.stack([s.positions for s in dataset.structures]),
            forces=np.stack([np.asarray(one.forces) for one in dataset.labels]),
            energies=np.array([one.energy for one in dataset.labels], dtype=float),
        )

    def thinned(self, count: int | None) -> "MoleculeData":
        """At most `count` structures, evenly spaced in order."""
        if count is None or count >= len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int)
        return MoleculeData(
            [self.structures[i] for i in chosen],
            self.numbers,
            self.positions[chosen],
            self.forces[chosen],
            self.energies[chosen],
        )
