"""What comes out of training a committee: calibrated deviations, errors of members and mean.

Checked: tests/training/test_committee.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from karat.data.dataset import Dataset
from karat.potentials.committee_calibration import (
    conformal_factor,
    energy_spread,
    force_spread,
)
from karat.potentials.committee_module import CommitteeModule
from karat.training.checkpoint import MEMBER_COLUMNS, Journal
from karat.training.parity import Parity, Predictions
from karat.training.references import ReferenceEnergies


@dataclass(frozen=True, eq=False)
class TrainedMembers:
    """The members by themselves, each with the parameters of its own best epoch.

    Attributes:
        best_epochs: from 1.
        energy_rmse: of each on the validation data, meV/atom.
        force_rmse: meV/Å; NaN without force labels.
        calibration: what the spread of energies and of forces is multiplied by: see
            `committee_calibration`; NaN for forces without labels.
        curves: name → errors by epoch and member; the names are those of `Curve`.
    """

    best_epochs: tuple[int, ...]
    energy_rmse: Float[np.ndarray, "members"]
    force_rmse: Float[np.ndarray, "members"]
    calibration: Float[np.ndarray, "2"]
    curves: Mapping[str, Float[np.ndarray, "epochs members"]]

    @classmethod
    def of(
        cls,
        journal: Journal,
        valid: Dataset,
        references: ReferenceEnergies,
        found: Sequence[Predictions],
    ) -> "TrainedMembers":
        """From the run's journal and what the members predict for the validation data.

        Raises:
            CalculationFailed: kind ``no-spread``.
        """
        each = [rmse(Parity.between(valid, references, one)) for one in found]
        table = np.array(journal.member_rows, float)
        return cls(
            best_epochs=tuple(journal.member_epochs),
            energy_rmse=np.array([energy for energy, _ in each]),
            force_rmse=np.array([force for _, force in each]),
            calibration=calibration_factors(valid, references, found),
            curves={name: table[..., i] for i, name in enumerate(MEMBER_COLUMNS)},
        )

    @property
    def note(self) -> str:
        """For people."""
        number = len(self.best_epochs)
        energies = _range(self.energy_rmse, "meV/atom")
        forces = "" if np.isnan(self.force_rmse).any() else f", {_range(self.force_rmse, 'meV/Å')}"
        epochs = _range(np.array(self.best_epochs, float), "", 0)
        return f"{number} members with best epochs {epochs}and errors of {energies}{forces}"

    def summary(self) -> dict[str, Any]:
        """JSON-ready, for the `.karat` file."""
        forces, factor = self.force_rmse, self.calibration
        return {
            "members": len(self.best_epochs),
            "best_epochs": list(self.best_epochs),
            "valid_energy_rmse_mev_per_atom": self.energy_rmse.tolist(),
            "valid_force_rmse_mev_per_angstrom": (
                None if np.isnan(forces).any() else forces.tolist()
            ),
            "energy_deviation_factor": float(factor[0]),
            "force_deviation_factor": None if np.isnan(factor[1]) else float(factor[1]),
        }


def _range(values: Float[np.ndarray, "members"], unit: str, digits: int = 2) -> str:
    low, high = (f"{value:.{digits}f}" for value in (values.min(), values.max()))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def rmse(parity: Parity) -> tuple[float, float]:
    """Of energies in meV/atom and of forces in meV/Å; NaN for forces without labels."""
    energy = parity.energy_predicted - parity.energy_reference
    force = parity.force_predicted - parity.force_reference
    of_forces = float(1e3 * np.sqrt(np.mean(force**2))) if force.size else float("nan")
    return float(1e3 * np.sqrt(np.mean(energy**2))), of_forces


def calibration_factors(
    valid: Dataset, references: ReferenceEnergies, found: Sequence[Predictions]
) -> Float[np.ndarray, "2"]:
    """Factors for the spreads of energies and of forces, from validation data.

    Raises:
        CalculationFailed: kind ``no-spread``.
    """
    energies = np.stack([one.energies for one in found])
    forces = np.stack([one.forces for one in found])
    parity = Parity.between(valid, references, Predictions(energies.mean(0), forces.mean(0)))
    atoms = np.array([len(structure) for structure in valid.structures])
    of_energy = conformal_factor(
        parity.energy_predicted - parity.energy_reference, energy_spread(energies) / atoms
    )
    if not len(parity.force_reference):
        return np.array([of_energy, np.nan])
    labelled = np.repeat([label.forces is not None for label in valid.labels], atoms)
    error = (parity.force_predicted - parity.force_reference).ravel()
    return np.array([of_energy, conformal_factor(error, force_spread(forces)[labelled].ravel())])


def calibrated(committee: CommitteeModule, factors: Float[np.ndarray, "2"]) -> CommitteeModule:
    """The committee with its factors."""
    array = jnp.asarray(factors, committee.calibration.dtype)
    done: CommitteeModule = eqx.tree_at(lambda module: module.calibration, committee, array)
    return done
