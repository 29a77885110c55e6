"""The loss of a batch and the errors that people read.

Checked: tests/training/test_loss.py, by hand on small batches.
"""

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.batch import Batch
from karat.potentials.native_protocol import AbstractNativePotential, Derived, derive
from karat.training.batches import Targets


class Sums(eqx.Module):
    """Sums over a batch: of |error|, error² and their number; and of the loss's three terms.

    Order of the rows: energies per atom (eV), force components (eV/Å), virial components per
    atom (eV).
    """

    absolute: Float[Array, "3"]
    squared: Float[Array, "3"]
    count: Float[Array, "3"]


def error_sums(derived: Derived, targets: Targets, volume: Float[Array, "systems"]) -> Sums:
    """Sums of a batch's errors; padding and missing labels do not count."""
    energy = jnp.where(
        targets.system_mask, (derived.energies - targets.energy) / targets.atoms, 0.0
    )
    force = jnp.where(targets.force_mask[:, None], derived.forces - targets.forces, 0.0)
    per_atom = (volume / targets.atoms)[:, None, None]
    virial = (derived.stress - targets.stress) * per_atom
    virial = jnp.where(targets.stress_mask[:, None, None], virial, 0.0)
    errors = (energy, force, virial)
    dtype = energy.dtype
    counts = (
        jnp.sum(targets.system_mask.astype(dtype)),
        3.0 * jnp.sum(targets.force_mask.astype(dtype)),
        9.0 * jnp.sum(targets.stress_mask.astype(dtype)),
    )
    return Sums(
        absolute=jnp.stack([jnp.sum(jnp.abs(error)) for error in errors]),
        squared=jnp.stack([jnp.sum(error * error) for error in errors]),
        count=jnp.stack(counts),
    )


def batch_loss(
    potential: AbstractNativePotential,
    batch: Batch,
    targets: Targets,
    weights: Float[Array, "3"],
) -> Float[Array, ""]:
    """Σ weight · mean squared error of energies per atom, forces, virials per atom."""
    sums = error_sums(derive(potential, batch), targets, batch.volume)
    return jnp.sum(weights * sums.squared / jnp.maximum(sums.count, 1.0))


@dataclass(frozen=True)
class Errors:
    """Errors over a dataset.

    Attributes:
        loss: as the training loss, with means over the whole dataset.
        energy_mae, energy_rmse: meV/atom.
        force_mae, force_rmse: meV/Å; NaN where there are no force labels.
    """

    loss: float
    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float


def total_errors(parts: list[Sums], weights: tuple[float, float, float]) -> Errors:
    """Errors from the sums of all batches, added in float64."""
    absolute, squared, count = (
        np.sum([np.asarray(getattr(part, name), np.float64) for part in parts], axis=0)
        for name in ("absolute", "squared", "count")
    )
    used = np.maximum(count, 1.0)
    mean, mean_square = absolute / used, squared / used
    force = 1e3 if count[1] else np.nan
    return Errors(
        loss=float(np.sum(np.array(weights) * mean_square)),
        energy_mae=float(1e3 * mean[0]),
        energy_rmse=float(1e3 * np.sqrt(mean_square[0])),
        force_mae=float(force * mean[1]),
        force_rmse=float(force * np.sqrt(mean_square[1])),
    )
