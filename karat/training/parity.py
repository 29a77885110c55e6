"""Reference against prediction for the validation data: what a parity plot shows.

Checked: tests/training/test_parity.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from karat.data.dataset import Dataset
from karat.training.references import ReferenceEnergies, energies_of

PREFIX = "predicted."


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was computed for a dataset, in its order; by a committee with an axis of rows in front:
    one for each member, and a last one for their mean.

    Attributes:
        energies: eV, relative to the reference energies.
        forces: eV/Å, of all atoms.
    """

    energies: Float[np.ndarray, "*rows structures"]
    forces: Float[np.ndarray, "*rows atoms 3"]

    @property
    def rows(self) -> "list[Predictions]":
        """Of a committee: each row by itself."""
        return [Predictions(*row) for row in zip(self.energies, self.forces, strict=True)]

    def as_arrays(self) -> dict[str, np.ndarray]:
        """For a checkpoint."""
        return {f"{PREFIX}energies": self.energies, f"{PREFIX}forces": self.forces}

    @classmethod
    def taken_from(cls, arrays: dict[str, np.ndarray]) -> "Predictions | None":
        """Those of a checkpoint, removed from it; `None` before the end of a run."""
        mine = {name: arrays.pop(name) for name in [*arrays] if name.startswith(PREFIX)}
        return cls(**{name.removeprefix(PREFIX): a for name, a in mine.items()}) if mine else None


@dataclass(frozen=True, eq=False)
class Parity:
    """Labels and predictions with the parameters of the best epoch.

    Attributes:
        energy_reference, energy_predicted: eV/atom, reference energies included.
        force_reference, force_predicted: eV/Å, of the structures that have force labels.
        force_structure: which structure each row of forces belongs to.
    """

    energy_reference: Float[np.ndarray, "structures"]
    energy_predicted: Float[np.ndarray, "structures"]
    force_reference: Float[np.ndarray, "atoms 3"]
    force_predicted: Float[np.ndarray, "atoms 3"]
    force_structure: Int[np.ndarray, "atoms"]

    @classmethod
    def between(
        cls, dataset: Dataset, references: ReferenceEnergies, found: Predictions
    ) -> "Parity":
        """Labels of `dataset` and what was found for it."""
        atoms = np.array([len(structure) for structure in dataset.structures])
        offsets = np.array([references.of(s.numbers) for s in dataset.structures])
        has_forces = np.repeat([label.forces is not None for label in dataset.labels], atoms)
        forces = [label.forces for label in dataset.labels if label.forces is not None]
        return cls(
            energy_reference=energies_of(dataset) / atoms,
            energy_predicted=(found.energies + offsets) / atoms,
            force_reference=np.concatenate([np.zeros((0, 3)), *forces]),
            force_predicted=found.forces[has_forces],
            force_structure=np.repeat(np.arange(len(atoms)), atoms)[has_forces],
        )

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Name → array."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
