"""Settings of a model chosen by what they give and what they cost: a Pareto front.

Each trial fits the model to the training data; its error is that of the validation data, its cost
that of a step of dynamics on this machine. No test data are looked at.

Source: Akiba et al., Optuna, KDD 2019; tree-structured Parzen estimator for several objectives:
Ozaki et al., J. Artif. Intell. Res. 73, 1209 (2022).
Checked: tests/training/test_tuning.py.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from karat.core.components import dump, parse
from karat.core.errors import BadInput, KaratError
from karat.core.files import writable_folder, write_atomic
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset
from karat.potentials.karat_file import save
from karat.potentials.model import AbstractModel, Stage
from karat.training.fit import fit
from karat.training.search_space import Options, Span, with_values
from karat.training.settings import TrainingSettings
from karat.training.step_cost import microseconds_per_atom_step, sample_structure

if TYPE_CHECKING:
    import optuna

By = Literal["forces", "energy"]
ERRORS = {
    "forces": "valid_force_rmse_mev_per_angstrom",
    "energy": "valid_energy_rmse_mev_per_atom",
}


@dataclass(frozen=True)
class Trial:
    """One set of settings and what came of it.

    Attributes:
        index: from 0.
        values: by dotted key; what was varied.
        energy_rmse: of the validation data, meV/atom; `None` where the fit failed.
        force_rmse: meV/Å; `None` also where there are no forces.
        cost: µs per atom and step; `None` where it could not be measured.
        seconds: wall time of the fit.
        failure: why there is no error or cost, "" where there are both.
        file: name of the fitted potential in the folder of the search.
    """

    index: int
    values: Mapping[str, Any]
    energy_rmse: float | None
    force_rmse: float | None
    cost: float | None
    seconds: float
    failure: str = ""
    file: str = ""

    def error(self, by: By) -> float | None:
        """What the search makes small."""
        return self.force_rmse if by == "forces" else self.energy_rmse


@dataclass(frozen=True)
class Front:
    """The outcome of a search.

    Attributes:
        trials: all, in order.
        best: indices of those that no other trial beats in error and cost, by growing cost; within
            the ceiling where there is one.
        by: which error.
        ceiling: µs per atom and step, or `None`.
        timed_on: formula of the structure whose dynamics were timed.
    """

    trials: tuple[Trial, ...]
    best: tuple[int, ...]
    by: By
    ceiling: float | None
    timed_on: str

    @property
    def chosen(self) -> Trial | None:
        """The most accurate one within the ceiling."""
        return self.trials[self.best[-1]] if self.best else None


def tune(
    model: AbstractModel,
    space: Mapping[str, Span | Options],
    training: Dataset,
    valid: Dataset,
    settings: TrainingSettings,
    folder: Path,
    trials: int,
    by: By = "forces",
    ceiling: float | None = None,
    progress: Callable[[Stage], None] | None = None,
    fresh: bool = False,
) -> Front:
    """Fit `model` with `trials` sets of settings from `space`, and keep what no other beats.

    What is finished stays in `folder` and is not done again; a failed trial counts and is listed.
    Proposals depend on `settings.seed` and on measured costs, so that two searches agree to the
    extent that the machine's timings do.

    Raises:
        BadInput: nothing to vary, a key that the model has not, no trial, or `folder` holds
            another search.
    """
    if trials < 1 or not space:
        raise BadInput(
            f"tuning: {trials} trials over {len(space)} settings: at least one of each is needed."
        )
    if ceiling is not None and not ceiling > 0:
        raise BadInput(f"tuning: a ceiling of {ceiling} µs per atom and step must be positive.")
    for name, choice in space.items():
        for value in choice.ends:
            with_values(model, {name: value})
    writable_folder(folder)
    log = _Log.open(
        folder, [dump(model), _dumped(space), training.digest, valid.digest, dump(settings)], fresh
    )
    sample = sample_structure(training.structures)
    report = progress or (lambda stage: None)
    while len(log.trials) < trials:
        index = len(log.trials)
        study = _study(log.trials, space, by, ceiling, settings.seed + index)
        values = _proposal(study, space)
        report(Stage(index, trials, f"trials; now {_words(values)}"))
        log.add(_attempt(model, values, (training, valid), settings, folder, index, sample))
    report(Stage(trials, trials, "trials"))
    return _front(log.trials[:trials], by, ceiling, sample.formula)


def _attempt(
    model: AbstractModel,
    values: Mapping[str, Any],
    data: tuple[Dataset, Dataset],
    settings: TrainingSettings,
    folder: Path,
    index: int,
    sample: Any,
) -> Trial:
    name = f"trial-{index:03d}"
    try:
        changed = with_values(model, values)
        fitted = fit(changed, *data, settings, folder / name)
        save(
            folder / f"{name}.karat", fitted.model, fitted.potential, data[0].digest, fitted.summary
        )
        cost = microseconds_per_atom_step(fitted.potential, sample)
    except KaratError as error:
        return Trial(index, values, None, None, None, 0.0, failure=str(error))
    energy, force = (fitted.summary[ERRORS[by]] for by in ("energy", "forces"))
    return Trial(index, values, energy, force, cost, fitted.seconds, file=f"{name}.karat")


def _study(
    trials: Sequence[Trial],
    space: Mapping[str, Span | Options],
    by: By,
    ceiling: float | None,
    seed: int,
) -> "optuna.Study":
    """Optuna's view of the trials so far."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    distributions = {name: choice.distribution() for name, choice in space.items()}
    for trial in trials:
        study.enqueue_trial({name: space[name].stored(v) for name, v in trial.values.items()})
        asked = study.ask(distributions)
        error, cost = trial.error(by), trial.cost
        if error is None or cost is None:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            continue
        if ceiling is not None:
            asked.set_constraint("cost", cost - ceiling)
        study.tell(asked, [error, cost])
    return study


def _proposal(study: "optuna.Study", space: Mapping[str, Span | Options]) -> dict[str, Any]:
    asked = study.ask({name: choice.distribution() for name, choice in space.items()})
    return {name: space[name].value(asked.params[name]) for name in space}


def _front(trials: Sequence[Trial], by: By, ceiling: float | None, timed_on: str) -> Front:
    """Those within the ceiling that no other one beats in both."""
    points = [
        (trial.cost, error, trial.index)
        for trial in trials
        if (error := trial.error(by)) is not None
        and trial.cost is not None
        and (ceiling is None or trial.cost <= ceiling)
    ]
    best, least = [], math.inf
    for _, error, index in sorted(points):
        if error < least:
            best.append(index)
            least = error
    return Front(tuple(trials), tuple(best), by, ceiling, timed_on)


class _Log:
    """The finished trials of a search, a JSON line each."""

    def __init__(self, path: Path, trials: list[Trial]) -> None:
        self.path = path
        self.trials = trials

    @classmethod
    def open(cls, folder: Path, identity: Sequence[Any], fresh: bool) -> "_Log":
        path, digest = folder / "trials.jsonl", digest_json(list(identity))
        if fresh or not path.exists():
            write_atomic(path, (json.dumps({"search": digest}) + "\n").encode())
            return cls(path, [])
        text = path.read_text()
        if not text.endswith("\n"):  # stopped while a line was written
            text = text[: text.rfind("\n") + 1]
            write_atomic(path, text.encode())
        lines = text.splitlines()
        try:
            found = json.loads(lines[0])["search"]
            complete = [json.loads(line) for line in lines[1:]]
            trials = [parse(Trial, values, f"{path.name}") for values in complete]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BadInput(f"{path}: damaged ({error}). Begin anew with --fresh.") from error
        if found != digest:
            raise BadInput(
                f"{path}: belongs to a search with other data or settings. Begin anew with "
                "--fresh, or name another folder."
            )
        return cls(path, trials)

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        with self.path.open("a") as stream:
            stream.write(json.dumps(asdict(trial)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _dumped(space: Mapping[str, Span | Options]) -> dict[str, Any]:
    return {name: dump(choice) for name, choice in sorted(space.items())}


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
