"""The loss of a batch and the errors that people read.

Checked: tests/training/test_loss.py, by hand on small batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.native_protocol import Derived
from karat.training.batches import Targets
from karat.training.settings import Kind


class Sums(eqx.Module):
    """Sums over a batch: of |error|, error², the loss of each error, and their number.

    Order of the rows: energies per atom (eV), force components (eV/Å), virial components per
    atom (eV).
    """

    absolute: Float[Array, "3"]
    squared: Float[Array, "3"]
    loss: Float[Array, "3"]
    count: Float[Array, "3"]


Terms = tuple[Float[Array, "systems"], Float[Array, "atoms 3"], Float[Array, "systems 3 3"]]


def batch_errors(derived: Derived, targets: Targets, volume: Float[Array, "systems"]) -> Terms:
    """Errors of energies per atom, force components and virials per atom; zero on padding, where
    a label is missing, and of virials of a potential that has none."""
    energy = jnp.where(
        targets.system_mask, (derived.energies - targets.energy) / targets.atoms, 0.0
    )
    force = jnp.where(targets.force_mask[:, None], derived.forces - targets.forces, 0.0)
    if derived.outputs.forces is not None:  # not the gradient of the energy: there is no stress
        return energy, force, jnp.zeros_like(targets.stress)
    per_atom = (volume / targets.atoms)[:, None, None]
    virial = (derived.stress - targets.stress) * per_atom
    return energy, force, jnp.where(targets.stress_mask[:, None, None], virial, 0.0)


def loss_of(kind: Kind, error: Float[Array, "*shape"], delta: Float[Array, ""]) -> Array:
    """e², |e|, or Huber's e²/2 up to δ and δ (|e| - δ/2) beyond.

    Source: Huber, Ann. Math. Stat. 35, 73 (1964).
    """
    if kind == "mse":
        return error * error
    size = jnp.abs(error)
    if kind == "mae":
        return size
    inner = jnp.minimum(size, delta)
    return inner * (size - 0.5 * inner)


def loss_sums(
    errors: Terms, kinds: tuple[Kind, Kind, Kind], deltas: Float[Array, "3"]
) -> Float[Array, "3"]:
    """Sum of each term's losses over a batch."""
    sums = [jnp.sum(loss_of(k, e, d)) for k, e, d in zip(kinds, errors, deltas)]
    return jnp.stack(sums)


def label_counts(targets: Targets) -> Float[Array, "3"]:
    """Number of energies, force components and stress components of a batch."""
    dtype = targets.energy.dtype
    return jnp.stack(
        [
            jnp.sum(targets.system_mask.astype(dtype)),
            3.0 * jnp.sum(targets.force_mask.astype(dtype)),
            9.0 * jnp.sum(targets.stress_mask.astype(dtype)),
        ]
    )


def error_sums(
    derived: Derived,
    targets: Targets,
    volume: Float[Array, "systems"],
    kinds: tuple[Kind, Kind, Kind],
    deltas: Float[Array, "3"],
) -> Sums:
    """Sums of a batch's errors; padding and missing labels do not count."""
    errors = batch_errors(derived, targets, volume)
    return Sums(
        absolute=jnp.stack([jnp.sum(jnp.abs(error)) for error in errors]),
        squared=jnp.stack([jnp.sum(error * error) for error in errors]),
        loss=loss_sums(errors, kinds, deltas),
        count=label_counts(targets),
    )


@dataclass(frozen=True)
class Errors:
    """Errors over a dataset.

    Attributes:
        loss: as the training loss, with means over the whole dataset.
        terms: its three terms before they are weighted.
        energy_mae, energy_rmse: meV/atom.
        force_mae, force_rmse: meV/Å; NaN where there are no force labels.
    """

    loss: float
    terms: tuple[float, float, float]
    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float


def weighted(weights: Sequence[float], terms: Sequence[float]) -> float:
    """Σ weight · term; a term that does not count is left out, even if it is not finite."""
    return float(sum(weight * term for weight, term in zip(weights, terms) if weight))


def total_errors(parts: Sequence[Sums], weights: tuple[float, float, float]) -> Errors:
    """Errors from the sums of all batches, added in float64."""
    absolute, squared, loss, count = (
        np.sum([np.asarray(getattr(part, name), np.float64) for part in parts], axis=0)
        for name in ("absolute", "squared", "loss", "count")
    )
    used = np.maximum(count, 1.0)
    mean, mean_square = absolute / used, squared / used
    terms = (float(loss[0] / used[0]), float(loss[1] / used[1]), float(loss[2] / used[2]))
    force = 1e3 if count[1] else np.nan
    return Errors(
        loss=weighted(weights, terms),
        terms=terms,
        energy_mae=float(1e3 * mean[0]),
        energy_rmse=float(1e3 * np.sqrt(mean_square[0])),
        force_mae=float(force * mean[1]),
        force_rmse=float(force * np.sqrt(mean_square[1])),
    )
