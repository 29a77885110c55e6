"""`train`: an architecture and labelled structures → a fitted potential.

Checked: tests/training/test_trainer.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import karat
from karat.core.components import digest as component_digest
from karat.core.errors import BadInput, UnknownElement
from karat.core.files import writable_folder
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset
from karat.potentials.committee_module import CommitteeModule, committee_frame
from karat.potentials.model import Stage, with_arrays
from karat.potentials.native.architecture import AbstractArchitecture
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential
from karat.potentials.precision import require
from karat.training import checkpoint
from karat.training.batches import Graph, build_graphs
from karat.training.checkpoint import Journal
from karat.training.choice import make_choice
from karat.training.committee import TrainedMembers, calibrated, rmse
from karat.training.curve import Curve, Progress
from karat.training.divergence import Rollback
from karat.training.forecast import Forecast
from karat.training.loop import run
from karat.training.members import Members, committee_trainable, first_committee
from karat.training.parity import Parity, Predictions
from karat.training.references import ReferenceEnergies, given, regress
from karat.training.run_state import Plan, State, first_state, state_arrays
from karat.training.settings import TrainingSettings
from karat.training.step import make_mesh


@dataclass(frozen=True, eq=False)
class Trained:
    """What came out of a run.

    Attributes:
        potential: with the averaged parameters of the best epoch; of a committee the mean.
        curve: errors by epoch.
        best_epoch: with the lowest validation loss, from 1; of a committee the last in which one
            of its members had its lowest.
        seconds: wall time over all parts of the run, compilation included.
        stopped_because: for people.
        references: reference energies and how they were found.
        parity: labels and predictions of the validation data, best epoch.
        rollbacks: returns to the last good epoch after divergence.
        packing: how structures were put into batches: see `Packing.summary`.
        members: of a committee by themselves; `None` for a single potential.
        stability: what the test of stability found: see `Stability.as_dict`; empty without one.
    """

    potential: NativePotential
    curve: Curve
    best_epoch: int
    seconds: float
    stopped_because: str
    references: ReferenceEnergies
    parity: Parity
    rollbacks: tuple[Rollback, ...]
    packing: Mapping[str, Any]
    members: TrainedMembers | None = None
    stability: Mapping[str, Any] = field(default_factory=dict)

    def summary(self, train: Dataset, valid: Dataset, settings: TrainingSettings) -> dict[str, Any]:
        """JSON-ready: what a `.karat` file says about its training; no timings in it."""
        from karat.core.components import dump

        best = self.best_epoch - 1
        energy, force = float(self.curve.energy_rmse[best]), float(self.curve.force_rmse[best])
        committee = {}
        if self.members is not None:
            energy, force = rmse(self.parity)  # of members from different epochs
            committee = {"committee": self.members.summary()}
        return {
            "train_structures": len(train),
            "valid_structures": len(valid),
            "valid_digest": valid.digest,
            "best_epoch": self.best_epoch,
            "epochs_done": len(self.curve.epoch),
            "stopped_because": self.stopped_because,
            "valid_energy_rmse_mev_per_atom": energy,
            "valid_force_rmse_mev_per_angstrom": None if np.isnan(force) else force,
            "reference_energies": self.references.note,
            "rollbacks": [asdict(rollback) for rollback in self.rollbacks],
            "padding": float(np.mean(self.curve.padding)),
            "structures_per_batch": self.packing["structures_per_batch"],
            "packing_note": self.packing["note"],
            "settings": dump(settings),
            "stability": dict(self.stability) or None,
            **committee,
        }


def train(
    architecture: AbstractArchitecture,
    train: Dataset,
    valid: Dataset,
    settings: TrainingSettings,
    folder: Path,
    progress: Callable[[Progress], None] | None = None,
    fresh: bool = False,
    checkpoint_seconds: float = 5.0,
    stage: Callable[[Stage], None] | None = None,
    foreseen: Callable[[Forecast], None] | None = None,
) -> Trained:
    """Fit by gradients on energies, forces and stresses; resume if `folder` holds a checkpoint
    of this run.

    The same data, settings and seed give the same bits, interrupted or not, on one processor
    model with one compute thread (on GPUs sums are not ordered, so the last digits vary).

    Args:
        architecture, settings: what and how.
        train, valid: fitted to, and chosen by; no structure may be in both.
        folder: for the checkpoint; made if missing.
        progress: called after each epoch.
        fresh: throw away a checkpoint in `folder`.
        checkpoint_seconds: wall time between checkpoints; an interrupt always keeps the last
            whole epoch.
        stage: told before each compilation, what the run will take, and of each return after
            divergence.
        foreseen: told what the run will take, before its first step.

    Raises:
        BadInput: before any work: fewer devices than asked for, missing labels, levels that
            differ, structures in both sets, a cut-off that the data do not allow, a folder that
            cannot be written or that holds another run; more memory needed than there is.
        UnknownElement: validation data with elements that the training data lack.
        CalculationFailed: kind ``diverged``; ``no-spread``: members that agree exactly.
    """
    require(settings.dtype)
    check_data(train, valid, settings)
    make_mesh(settings.devices)
    writable_folder(folder)
    digest = run_digest(architecture, train, valid, settings)
    found = _found(folder, digest, fresh)
    references = reference_energies(train, settings)
    predicted = None if found is None else Predictions.taken_from(found[1])
    state, fixed, journal = _start(architecture, train, settings, found, digest)
    if predicted is None:
        module = eqx.combine(state.parameters, fixed)
        check_forces(module, settings)
        first, second = (_graphs(module, data, references, settings) for data in (train, valid))
        told = (checkpoint_seconds, progress, stage, Members.of(settings, first), foreseen)
        choose = make_choice(fixed, references, train.level, valid, settings)
        plan = Plan(fixed, first, second, settings, folder, *told, choose)
        state, predicted = run(plan, state, journal)
    best = eqx.combine(state.best, fixed)
    return _trained(best, journal, predicted, references, (train, valid), settings)


def _trained(
    module: AbstractNativePotential,
    journal: Journal,
    predicted: Predictions,
    references: ReferenceEnergies,
    data: tuple[Dataset, Dataset],
    settings: TrainingSettings,
) -> Trained:
    """The outcome of a finished run; of a committee calibrated.

    Raises:
        CalculationFailed: kind ``no-spread``.
    """
    train, valid = data
    members = None
    if isinstance(module, CommitteeModule):
        *each, predicted = predicted.rows
        members = TrainedMembers.of(journal, valid, references, each)
        module = calibrated(module, members.calibration)
    return Trained(
        potential=NativePotential(module, references.values, train.level, settings.dtype),
        curve=Curve.from_rows(journal.rows),
        best_epoch=journal.best_epoch,
        seconds=journal.seconds,
        stopped_because=journal.finished,
        references=references,
        parity=Parity.between(valid, references, predicted),
        rollbacks=tuple(journal.rollbacks),
        packing=journal.packing,
        members=members,
        stability=journal.stability,
    )


def reference_energies(train: Dataset, settings: TrainingSettings) -> ReferenceEnergies:
    """Regressed or given, as the settings say.

    Raises:
        UnknownElement: given ones lack an element.
    """
    if settings.reference_energies == "regress":
        return regress(train)
    return given(settings.reference_energies, train.species)


def _graphs(
    module: AbstractNativePotential,
    dataset: Dataset,
    references: ReferenceEnergies,
    settings: TrainingSettings,
) -> list[Graph]:
    return build_graphs(dataset, references, module.cutoff, module.needs_triplets, settings.dtype)


def _found(folder: Path, digest: str, fresh: bool) -> tuple[Journal, dict[str, np.ndarray]] | None:
    """The run's checkpoint, if there is one and it is wanted."""
    if fresh:
        (folder / checkpoint.NAME).unlink(missing_ok=True)
    return checkpoint.read(folder, digest)


def _start(
    architecture: AbstractArchitecture,
    train: Dataset,
    settings: TrainingSettings,
    found: tuple[Journal, dict[str, np.ndarray]] | None,
    digest: str,
) -> tuple[State, Any, Journal]:
    """State, fixed part of the module and journal: from the checkpoint, or the first ones."""
    if found is None:
        module = _first_module(architecture, train, settings)
        parameters, fixed = eqx.partition(module, trainable(architecture, module))
        return first_state(parameters, settings), fixed, Journal(digest)
    journal, arrays = found
    skeleton = _skeleton(architecture, train.species, settings, arrays)
    module = jax.tree.map(
        lambda leaf: (
            jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
        ),
        skeleton,
        is_leaf=lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct),
    )
    parameters, fixed = eqx.partition(module, trainable(architecture, module))
    state = first_state(parameters, settings)
    expected = {name: (a.shape, a.dtype) for name, a in state_arrays(state, fixed).items()}
    if expected != {name: (a.shape, a.dtype) for name, a in arrays.items()}:
        raise BadInput(
            "The checkpoint holds other arrays than this architecture. Start again with --fresh."
        )
    device = {name: jnp.array(array) for name, array in arrays.items()}
    fixed = with_arrays(fixed, {name.removeprefix("fixed."): a for name, a in device.items()})
    return with_arrays(state, device), fixed, journal


def _first_module(
    architecture: AbstractArchitecture, train: Dataset, settings: TrainingSettings
) -> AbstractNativePotential:
    """Before training: one, or a committee."""
    if settings.members > 1:
        return first_committee(architecture, train, settings)
    return architecture.initialise(train, jax.random.key(settings.seed), settings.dtype)


def _skeleton(
    architecture: AbstractArchitecture,
    species: tuple[int, ...],
    settings: TrainingSettings,
    arrays: Mapping[str, np.ndarray],
) -> AbstractNativePotential:
    """`jax.ShapeDtypeStruct` in place of arrays; those of a checkpoint say which a committee's
    members have of their own."""
    if settings.members == 1:
        return architecture.skeleton(species, settings.dtype)
    prefixes = ("parameters.", "fixed.")
    shapes = {
        name.removeprefix(prefix): array.shape
        for prefix in prefixes
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    return committee_frame(architecture, settings.members, species, settings.dtype, shapes)


def trainable(architecture: AbstractArchitecture, module: AbstractNativePotential) -> Any:
    """A tree like `module` that is True on the arrays that training may change."""
    if isinstance(module, CommitteeModule):
        return committee_trainable(architecture, module)
    return architecture.trainable(module)


def run_digest(
    architecture: AbstractArchitecture, train: Dataset, valid: Dataset, settings: TrainingSettings
) -> str:
    """Of all that decides a run's numbers."""
    return digest_json(
        {
            "architecture": component_digest(architecture),
            "settings": component_digest(settings),
            "train": train.digest,
            "valid": valid.digest,
            "karat": karat.__version__,
            "jax": jax.__version__,
        }
    )


def check_data(train: Dataset, valid: Dataset, settings: TrainingSettings) -> None:
    """Refuse data that cannot be trained on, before any work.

    Raises:
        BadInput, UnknownElement: naming the structure and the next step.
    """
    from ase.data import chemical_symbols

    unknown = sorted(set(valid.species) - set(train.species))
    if unknown:
        raise UnknownElement(
            f"The validation data contain {', '.join(chemical_symbols[z] for z in unknown)}, which "
            "the training data lack. Add structures with it to the training data."
        )
    if train.level.digest != valid.level.digest and not train.level.same_as(valid.level):
        raise BadInput(
            f"Training data are {train.level.label}, validation data {valid.level.label}: two "
            "levels of theory are never mixed. Label one of them again."
        )
    shared = {s.digest for s in train.structures} & {s.digest for s in valid.structures}
    if shared:
        raise BadInput(
            f"{len(shared)} structures are in both the training and the validation data; errors "
            "would look too small. Split the data again."
        )
    _, force_weight, stress_weight = settings.largest_weights
    for place, dataset in (("training", train), ("validation", valid)):
        for index, record in enumerate(dataset):
            name = f"{place} structure {record.name or index} ({record.structure.formula})"
            if record.labels.energy is None:
                raise BadInput(f"{name} has no energy. Label it or leave it out.")
            if force_weight > 0 and record.labels.forces is None:
                raise BadInput(
                    f"{name} has no forces, but force_weight is {force_weight:g}. Label "
                    "it with forces, leave it out, or set force_weight to 0."
                )
            if not record.labels.finite():
                raise BadInput(f"{name} has labels that are NaN or infinite. Leave it out.")
    if stress_weight > 0 and all(label.stress is None for label in train.labels):
        raise BadInput(
            f"stress_weight is {stress_weight:g}, but no training structure has a stress. "
            "Set it to 0, or label periodic structures with stress."
        )


def check_forces(module: AbstractNativePotential, settings: TrainingSettings) -> None:
    """Refuse settings that a potential whose forces are not a gradient cannot be trained with.

    Raises:
        BadInput: a weight of stresses, which it does not have, or none of forces, which its
            energies do not determine.
    """
    _, force_weight, stress_weight = settings.largest_weights
    if module.conservative or (force_weight > 0 and stress_weight == 0):
        return
    raise BadInput(
        f"force_weight is {force_weight:g} and stress_weight {stress_weight:g}, but the model "
        "predicts forces that are not the gradient of its energy, and no stress. Set a positive "
        "force_weight and no stress_weight, or train the model with derived forces."
    )
