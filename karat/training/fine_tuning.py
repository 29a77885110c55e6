"""`fine_tune`: an existing potential and new labelled structures → a potential for them.

Checked: tests/training/test_fine_tuning.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.components import dump
from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.model import Stage, named_arrays
from karat.potentials.native.scales import regressed_energies
from karat.potentials.native_protocol import NativePotential
from karat.training.fine_tuning_start import Base, FineTuned, FineTuning, merged
from karat.training.fit import Fitted, note_of, stage_of
from karat.training.forgetting import errors_by_structure, measure
from karat.training.references import ReferenceEnergies, energies_of
from karat.training.settings import TrainingSettings
from karat.training.trainer import Trained, check_data, reference_energies, train

LEARNING_RATE = 1e-3
"""A tenth of what training from random parameters usually begins with: large steps leave the base
before the data can say where to."""


def fine_tune(
    base: Path,
    training: Dataset,
    valid: Dataset,
    tuning: FineTuning,
    settings: TrainingSettings,
    folder: Path,
    forgetting: Mapping[str, Dataset] | None = None,
    progress: Callable[[Stage], None] | None = None,
    fresh: bool = False,
) -> Fitted:
    """Train a `.karat` file's potential further, on other data.

    The result is a plain potential of the base's architecture and elements (updates of LoRA are
    merged), of the new data's level of theory. Resumed, a run needs the same base.

    Args:
        base: a `.karat` file.
        training, valid: fitted to, and chosen by; they may have fewer elements than the base.
        tuning: which parameters are trained, and how reference energies are found.
        settings: of the trainer; reference energies given there are taken as they are.
        folder: for the checkpoint; made if missing.
        forgetting: by name, data on which base and result are compared at the end.
        progress: called after each epoch.
        fresh: throw away a checkpoint in `folder`.

    Raises:
        BadInput, UnknownElement: before any work: see `train`, `Base` and `FineTuned`.
        CalculationFailed: kind ``diverged``.

    Source: Tompa et al., arXiv:2606.12704, for what matters: the reference energies.
    """
    start = Base.read(base, settings.dtype)
    others = dict(forgetting or {})
    _check(start, training, valid, others, settings)
    architecture = FineTuned.of(start, tuning)
    check_data(training, valid, settings)
    references, moved = _references(start, training, tuning, settings)
    report = None if progress is None else lambda now: progress(stage_of(now))
    used = replace(settings, reference_energies=_by_symbol(references))
    found = train(architecture, training, valid, used, folder, report, fresh=fresh, stage=progress)
    trained = replace(found, references=references)
    values = dict(start.potential.reference_energies) | dict(references.values)
    first, last = (
        NativePotential(module, values, training.level, settings.dtype)
        for module in (start.potential.module, merged(trained.potential.module))
    )
    seen = (training, valid)
    lost = [measure(name, data, start.potential, last, seen) for name, data in others.items()]
    summary = trained.summary(training, valid, settings)
    summary["fine_tuning"] = {
        **_about(architecture, tuning, moved),
        "warnings": _warnings(start, training),
        **_before(first, valid),
        "forgetting": [one.as_dict() for one in lost],
    }
    return _fitted(start, trained, last, summary)


def _fitted(
    base: Base, trained: Trained, potential: NativePotential, summary: dict[str, Any]
) -> Fitted:
    return Fitted(
        model=base.architecture,
        potential=potential,
        summary=summary,
        seconds=trained.seconds,
        note=note_of(trained),
        references=trained.references.note,
        curve=trained.curve,
        best_epoch=trained.best_epoch,
        parity=trained.parity,
    )


def _check(
    base: Base,
    training: Dataset,
    valid: Dataset,
    others: Mapping[str, Dataset],
    settings: TrainingSettings,
) -> None:
    """Refuse elements that the base lacks, and committees.

    Raises:
        UnknownElement: naming elements and data.
        BadInput: a committee is asked for.
    """
    if settings.members > 1:
        raise BadInput(
            f"training.members {settings.members}: one potential is fine-tuned at a time. Set it "
            "to 1, and fine-tune with several seeds."
        )
    base.check_species(training.species, "The training data")
    base.check_species(valid.species, "The validation data")
    for name, data in others.items():
        base.check_species(data.species, f"The data '{name}' (forgetting)")


def same_level(base: Base, data: Dataset) -> bool:
    """Whether both levels of theory are known and the same."""
    level = base.potential.level
    return level is not None and level.same_as(data.level)


def _references(
    base: Base, training: Dataset, tuning: FineTuning, settings: TrainingSettings
) -> tuple[ReferenceEnergies, dict[int, float]]:
    """Of the new data's elements, and by how much the base's were moved, eV.

    Raises:
        UnknownElement: given ones lack an element.
    """
    own = {z: base.potential.reference_energies.get(z, 0.0) for z in training.species}
    if settings.reference_energies != "regress":
        found = reference_energies(training, settings)
        return found, {z: found.values[z] - own[z] for z in own}
    keep = {"fit": False, "base": True, "auto": same_level(base, training)}
    if keep[tuning.reference_energies]:
        return ReferenceEnergies(own, "the base's own"), dict.fromkeys(own, 0.0)
    structures = training.structures
    labels = base.potential.predict(structures, ("energy",))
    predicted = np.array([label.energy for label in labels], dtype=float)
    residuals = energies_of(training) - predicted
    shift, rank = regressed_energies(structures, residuals, training.species)
    moved = {z: float(e) for z, e in zip(training.species, shift)}
    note = (
        "the base's, moved by least squares of the differences between labels and the base's "
        f"energies on the composition of {len(training)} structures"
    )
    if rank < len(moved):
        note += (
            f"; the compositions determine {rank} of {len(moved)} elements, the rest is moved as "
            "near as possible to the mean difference per atom (isolated atoms cannot be predicted)"
        )
    return ReferenceEnergies({z: own[z] + moved[z] for z in own}, note), moved


def _by_symbol(references: ReferenceEnergies) -> dict[str, float]:
    from ase.data import chemical_symbols

    return {chemical_symbols[z]: energy for z, energy in references.values.items()}


def _about(
    architecture: FineTuned, tuning: FineTuning, moved: Mapping[int, float]
) -> dict[str, Any]:
    """What was done, JSON-ready."""
    from ase.data import chemical_symbols

    base = architecture.source
    level, arrays = base.header.level, named_arrays(base.potential.module)
    return {
        "base": {
            "file": base.path.name,
            "digest": base.digest,
            "level": None if level is None else level.as_dict(),
            "training_data": base.header.training_data,
        },
        **dump(tuning),
        "frozen": list(architecture.frozen),
        "trained": list(architecture.groups),
        "parameters": sum(int(array.size) for array in arrays.values()),
        "parameters_trained": architecture.numbers,
        "reference_energies_moved": {chemical_symbols[z]: e for z, e in moved.items()},
    }


def _before(potential: NativePotential, valid: Dataset) -> dict[str, Any]:
    """Errors on the validation data before the first step, with the new reference energies."""
    energies, forces = errors_by_structure(potential, valid, shift=False)
    components = np.array([3.0 * len(s) for s in valid.structures])
    known = np.isfinite(forces)
    mean = np.average(forces[known] ** 2, weights=components[known]) if known.any() else None
    return {
        "valid_energy_rmse_before_mev_per_atom": float(np.sqrt(np.mean(energies**2))),
        "valid_force_rmse_before_mev_per_angstrom": None if mean is None else float(np.sqrt(mean)),
    }


def _warnings(base: Base, training: Dataset) -> list[str]:
    """What a user of the result must know."""
    from ase.data import chemical_symbols

    if same_level(base, training):
        return []
    level = base.potential.level
    label = "unknown" if level is None else level.label
    found = [
        f"the base's level of theory is {label}, that of the new data {training.level.label}: the "
        "result is of the latter only as far as the new data reach"
    ]
    missing = sorted(set(base.header.species) - set(training.species))
    if missing:
        found.append(
            f"the new data have no {', '.join(chemical_symbols[z] for z in missing)}: reference "
            "energies of these elements, and what the potential says of them, remain the base's"
        )
    return found
