"""Learning curves and live progress."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

COLUMNS = (
    "epoch",
    "train_loss",
    "valid_loss",
    "energy_mae",
    "energy_rmse",
    "force_mae",
    "force_rmse",
    "learning_rate",
    "seconds",
    "train_energy_loss",
    "train_force_loss",
    "train_stress_loss",
    "valid_energy_loss",
    "valid_force_loss",
    "valid_stress_loss",
    "padding",
    "rollbacks",
)
"""Of a journal's rows."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One value per epoch; errors are of the validation data, with averaged parameters.

    Attributes:
        epoch: from 1.
        train_loss: mean over the epoch's steps, with the parameters of each step.
        valid_loss: the same loss over the validation data.
        energy_mae, energy_rmse: meV/atom.
        force_mae, force_rmse: meV/Å; NaN where the data have no forces.
        learning_rate: of the epoch's last step.
        seconds: wall time since the start; a timing.
        train_energy_loss, train_force_loss, train_stress_loss: the terms of `train_loss` before
            they are weighted, in eV (eV/Å) or its square; 0 without labels.
        valid_energy_loss, valid_force_loss, valid_stress_loss: those of `valid_loss`.
        padding: part of the epoch's computed pairs (triplets) that was padding.
        rollbacks: returns to an earlier epoch so far.
    """

    epoch: Int[np.ndarray, "epochs"]
    train_loss: Float[np.ndarray, "epochs"]
    valid_loss: Float[np.ndarray, "epochs"]
    energy_mae: Float[np.ndarray, "epochs"]
    energy_rmse: Float[np.ndarray, "epochs"]
    force_mae: Float[np.ndarray, "epochs"]
    force_rmse: Float[np.ndarray, "epochs"]
    learning_rate: Float[np.ndarray, "epochs"]
    seconds: Float[np.ndarray, "epochs"]
    train_energy_loss: Float[np.ndarray, "epochs"]
    train_force_loss: Float[np.ndarray, "epochs"]
    train_stress_loss: Float[np.ndarray, "epochs"]
    valid_energy_loss: Float[np.ndarray, "epochs"]
    valid_force_loss: Float[np.ndarray, "epochs"]
    valid_stress_loss: Float[np.ndarray, "epochs"]
    padding: Float[np.ndarray, "epochs"]
    rollbacks: Float[np.ndarray, "epochs"]

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float]]) -> "Curve":
        """From a journal's rows."""
        table = np.array(rows, dtype=float).reshape(-1, len(COLUMNS))
        columns = dict(zip(COLUMNS, table.T.copy()))
        return cls(epoch=columns.pop("epoch").astype(int), **columns)

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Name → array."""
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(frozen=True)
class Progress:
    """Where a run stands after an epoch: what a command shows live.

    Attributes:
        epoch, epochs: done and planned.
        loss: mean training loss of the epoch.
        energy_mae, energy_rmse: validation, meV/atom.
        force_mae, force_rmse: validation, meV/Å; NaN without force labels.
        learning_rate: of the last step.
        best_epoch: with the lowest validation loss so far.
        seconds, seconds_left: wall time since the start, and expected until the last epoch.
        steps_per_second: of the last epoch, validation included.
        padding: part of the epoch's computed pairs (triplets) that was padding.
        rollbacks: returns to an earlier epoch so far.
    """

    epoch: int
    epochs: int
    loss: float
    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float
    learning_rate: float
    best_epoch: int
    seconds: float
    seconds_left: float
    steps_per_second: float
    padding: float
    rollbacks: int
