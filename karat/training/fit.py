"""`fit`: any model and labelled structures → a fitted potential, whichever way it is fitted.

Checked: tests/training/test_fit.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karat.core.components import dump
from karat.core.errors import BadInput
from karat.core.files import writable_folder
from karat.data.dataset import Dataset
from karat.potentials.model import AbstractModel, AbstractSolvedModel, Stage
from karat.potentials.native.architecture import AbstractArchitecture
from karat.potentials.native_protocol import NativePotential
from karat.training.curve import Curve, Progress
from karat.training.forecast import Forecast
from karat.training.parity import Parity
from karat.training.progress_words import progress_words
from karat.training.settings import TrainingSettings
from karat.training.trainer import Trained, check_data, train


@dataclass(frozen=True, eq=False)
class Fitted:
    """What came out of a fit.

    Attributes:
        model: that was fitted, with the settings that were left to the data.
        potential: ready to predict.
        summary: JSON-ready: what a `.karat` file says about its training; no timings in it.
        seconds: wall time.
        note: the outcome in a line, for people.
        references: how reference energies were found, for people.
        curve: errors by epoch; `None` for a model that is solved for.
        best_epoch: of the curve, from 1.
        parity: labels and predictions of the validation data; `None` for a model that is solved
            for.
    """

    model: AbstractModel
    potential: NativePotential
    summary: Mapping[str, Any]
    seconds: float
    note: str
    references: str
    curve: Curve | None = None
    best_epoch: int | None = None
    parity: Parity | None = None


def fit(
    model: AbstractModel,
    training: Dataset,
    valid: Dataset,
    settings: TrainingSettings,
    folder: Path,
    progress: Callable[[Stage], None] | None = None,
    fresh: bool = False,
    foreseen: Callable[[Forecast], None] | None = None,
) -> Fitted:
    """Train an architecture (`train`), or solve for a model that has an exact solution.

    Args:
        model: hyper-parameters.
        training, valid: fitted to, and chosen by; no structure may be in both.
        settings: of the trainer; what is solved for has none (see `check_settings`).
        folder: for what is finished; made if missing.
        progress: called after each epoch or part of the work.
        fresh: throw away what `folder` holds.
        foreseen: see `train`; never called for a model that is solved for.

    Raises:
        BadInput, UnknownElement: before any work: see `train` and the model.
        CalculationFailed: the fit diverged or the solve failed.
    """
    if isinstance(model, AbstractSolvedModel):
        check_data(training, valid, settings)
        writable_folder(folder)
        model = model.completed(training)
        assert isinstance(model, AbstractSolvedModel)
        solved = model.fit(training, valid, folder, progress, fresh)
        return Fitted(
            model, solved.potential, solved.summary, solved.seconds, solved.note, solved.references
        )
    model = model.completed(training)
    assert isinstance(model, AbstractArchitecture)
    report = None if progress is None else lambda now: progress(stage_of(now))
    trained = train(
        model,
        training,
        valid,
        settings,
        folder,
        report,
        fresh=fresh,
        stage=progress,
        foreseen=foreseen,
    )
    return Fitted(
        model=model,
        potential=trained.potential,
        summary=trained.summary(training, valid, settings),
        seconds=trained.seconds,
        note=note_of(trained),
        references=trained.references.note,
        curve=trained.curve,
        best_epoch=trained.best_epoch,
        parity=trained.parity,
    )


def note_of(trained: Trained) -> str:
    """The outcome in a line; a warning where no epoch is stable in dynamics."""
    unstable = f"; {trained.stability['note']}" if trained.stability.get("note") else ""
    if trained.members is None:
        return f"best epoch {trained.best_epoch} ({trained.stopped_because}){unstable}"
    return f"committee of {trained.members.note} ({trained.stopped_because}){unstable}"


def with_usual(model: AbstractModel, values: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of the trainer's settings, with the model's own defaults for the rest."""
    return {**model.usual_settings(), **values}


def check_settings(model: AbstractModel, settings: TrainingSettings, name: str) -> None:
    """Refuse settings of the trainer for a model that has no use for them (`seed` is allowed), and
    models that other files are turned into.

    Raises:
        BadInput: naming them.
    """
    if isinstance(model, AbstractArchitecture):
        return
    if not isinstance(model, AbstractSolvedModel):
        raise BadInput(
            f"model {name} cannot be fitted: files of it are made from those of another model "
            "(`karat list models` says of which). Train that one."
        )
    mine, usual = dump(settings), dump(TrainingSettings())
    changed = sorted(key for key in mine if key != "seed" and mine[key] != usual[key])
    if changed:
        raise BadInput(
            f"model {name} is solved for, not trained: it has no {', '.join(changed)}. Leave "
            "them out; what it has is set by its own options."
        )


def stage_of(now: Progress) -> Stage:
    """An epoch as a stage of the work."""
    return Stage(now.epoch, now.epochs, progress_words(now))
