"""`karat train`: labelled structures in, a fitted potential (.karat file) out.

The data doctor looks at the data first.

Checked: tests/cli/test_train.py.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karat.cli import fine_tuning, reading
from karat.cli.settings import key_values
from karat.cli.train_display import Report, display
from karat.cli.train_forecast import refuse_forecast, show_forecast
from karat.cli.tuning import Search, make_search, tell
from karat.core.errors import BadInput

if TYPE_CHECKING:
    from karat.data.dataset import Dataset
    from karat.data.finding import Finding
    from karat.data.read_options import ReadOptions
    from karat.potentials.model import AbstractModel
    from karat.training.fit import Fitted
    from karat.training.settings import TrainingSettings

DEFAULT_MODEL = "bpnn"

Data = Annotated[Path, typer.Option(help="Labelled structures to fit to (extended XYZ, …).")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The .karat file to write.")]
Model = Annotated[
    str | None, typer.Option(help="What to fit; see `karat list`.", show_default=DEFAULT_MODEL)
]
Valid = Annotated[
    Path | None, typer.Option(help="Labelled structures to choose the best epoch by.")
]
ValidFraction = Annotated[
    float, typer.Option(help="Without --valid: part of DATA that is kept apart for it.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Of the model: key=value (YAML).")]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--setting",
        help="Of the training: key=value (YAML), e.g. optimiser=amsgrad, schedule=plateau, "
        "force_loss=huber, devices=0 (all).",
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training data.")]
Seed = Annotated[int | None, typer.Option(help="Of first parameters and order.")]
Accept = Annotated[
    list[str] | None,
    typer.Option(help="Train although the data doctor reports this error (its code)."),
]
Fresh = Annotated[
    bool, typer.Option("--fresh/--resume", help="Begin anew, or go on where it was stopped.")
]
Work = Annotated[
    Path | None, typer.Option(help="Folder of the checkpoint; default OUTPUT.training.")
]
Tune = Annotated[
    int | None,
    typer.Option(help="Search settings with so many fits; the answer is a Pareto front."),
]
Vary = Annotated[
    list[str] | None,
    typer.Option(help="With --tune: key=LOW..HIGH, key=LOW..HIGH:log or key=[A, B]."),
]
Ceiling = Annotated[
    float | None, typer.Option(help="With --tune: most µs per atom and step of dynamics.")
]
TuneBy = Annotated[str, typer.Option(help="With --tune: make small the error of forces | energy.")]
Forecast = Annotated[
    bool, typer.Option("--forecast", help="Say what it will take in time and memory, and stop.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Progress as plain lines.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def train(
    data: Data,
    output: Output,
    model: Model = None,
    valid: Valid = None,
    valid_fraction: ValidFraction = 0.1,
    set_: Set = None,
    setting: Setting = None,
    epochs: Epochs = None,
    seed: Seed = None,
    accept: Accept = None,
    fresh: Fresh = False,
    work: Work = None,
    tune: Tune = None,
    vary: Vary = None,
    ceiling: Ceiling = None,
    tune_by: TuneBy = "forces",
    from_: fine_tuning.From = None,
    fine_tune: fine_tuning.How = None,
    tuning: fine_tuning.Tuning = None,
    forgetting: fine_tuning.Other = None,
    forecast: Forecast = False,
    plain: Plain = False,
    as_json: Json = False,
    energy_key: reading.EnergyKey = None,
    forces_key: reading.ForcesKey = None,
    stress_key: reading.StressKey = None,
    virial_key: reading.VirialKey = None,
    energy_unit: reading.EnergyUnit = None,
    length_unit: reading.LengthUnit = None,
    forces_unit: reading.ForcesUnit = None,
    stress_unit: reading.StressUnit = None,
    level: reading.Level = None,
) -> None:
    """Fit a potential to labelled data; interrupted, the same command goes on.

    The data doctor (`karat check`) looks at the data first; an error that it finds stops the
    command. The potential of the epoch with the lowest validation error is written.

    Examples:

        karat train --data train.xyz --valid valid.xyz --output water.karat --level PBE

        karat train --data train.xyz --output p.karat --tune 30 --vary cutoff_angstrom=4.0..6.0

        karat train --from p.karat --data new.xyz --output q.karat --fine-tune lora
    """
    check_output(output)
    keys = (energy_key, forces_key, stress_key, virial_key)
    units = (energy_unit, length_unit, forces_unit, stress_unit)
    options = reading.read_options(*keys, *units, level)
    said = (from_, fine_tune, tuning or [], forgetting or [])
    unused = {"--model": model, "--set": set_, "--tune": tune, "--vary": vary, "--ceiling": ceiling}
    start = fine_tuning.make_start(*said, options, output, unused)
    task = start or make_model(model or DEFAULT_MODEL, set_ or [])
    settings = make_settings(task, training_values(setting or [], epochs, seed), model)
    search = _make_search(task, tune, vary or [], ceiling, tune_by)
    parts = read_parts(data, valid, valid_fraction, options, settings.seed)
    shown, run = (plain, as_json), (fresh, forecast)
    _carry_out(task, settings, search, parts, set(accept or ()), output, work, shown, run)


def _make_search(
    task: "AbstractModel | fine_tuning.Start",
    tune: int | None,
    vary: list[str],
    ceiling: float | None,
    by: str,
) -> Search | None:
    """What is to be searched, if anything; never where a potential is fine-tuned."""
    if isinstance(task, fine_tuning.Start):
        return None
    return make_search(task, tune, vary, ceiling, by)


def _carry_out(
    task: "AbstractModel | fine_tuning.Start",
    settings: "TrainingSettings",
    search: Search | None,
    parts: tuple["Dataset", "Dataset"],
    accepted: set[str],
    output: Path,
    work: Path | None,
    shown: tuple[bool, bool],
    run: tuple[bool, bool],
) -> None:
    """The work, once all that was said is understood; `shown`: plain, as JSON; `run`: anew, as a
    forecast only."""
    fresh, forecast = run
    folder = work or output.with_name(output.name + ".training")
    if forecast:
        refuse_forecast(task, search)
    findings = examine(*parts, accepted, quiet=shown[1])
    _set_up()
    if forecast:
        show_forecast(task, parts, settings, shown)
        return
    if search is not None:
        assert not isinstance(task, fine_tuning.Start)
        with display(*shown) as report:
            front = search.run(task, parts, settings, folder, report, fresh)
        tell(front, folder, output, shown[1])
        return
    with display(*shown) as report:
        fitted = _fit_and_save(task, parts, settings, output, folder, report, fresh)
    _tell(fitted, parts, findings, output, shown[1])


def _set_up() -> None:
    """64 bits, JAX's choice of the device, and the programs that earlier commands compiled."""
    from karat.campaign.jax_setup import prepare_jax, program_folder

    prepare_jax(program_folder(), cpu=False)


def check_output(output: Path) -> None:
    """Refuse a file that cannot be written, before any work.

    Raises:
        BadInput: no `.karat` file, or a folder that cannot be written to.
    """
    from karat.core.files import writable_folder

    if output.suffix != ".karat" or output.is_dir():
        raise BadInput(f"--output {output}: name a file that ends in .karat.")
    writable_folder(output.parent)


def examine(
    train: "Dataset", valid: "Dataset", accepted: set[str], quiet: bool
) -> "tuple[Finding, ...]":
    """What the data doctor says, warnings on standard error.

    Raises:
        BadInput: an error whose code was not accepted.
    """
    from karat.data.doctor import check

    findings = tuple(_of_validation(finding) for finding in check(train, valid))
    for finding in findings:
        if finding.severity != "info" and not quiet:
            names = f" ({', '.join(finding.offenders[:3])} …)" if finding.offenders else ""
            print(f"data: {finding.severity}: {finding.message}{names}", file=sys.stderr)
    errors = [f for f in findings if f.severity == "error" and f.code not in accepted]
    if errors:
        listed = "\n".join(f"  {finding.code}: {finding.message}" for finding in errors)
        raise BadInput(
            f"the data doctor found what would spoil the training:\n{listed}\n"
            "Repair the data (`karat check DATA --fix OUTPUT` repairs some), or go on with "
            + " ".join(f"--accept {code}" for code in dict.fromkeys(f.code for f in errors))
            + "."
        )
    return findings


_LESS_GRAVE = ("neighbouring-frames", "near-leakage", "equivalent-leakage")
"""Errors about a test set that only make the choice of an epoch or a width optimistic."""


def _of_validation(finding: "Finding") -> "Finding":
    """A finding about train and test as one about train and validation."""
    of_test = r"\btest(?= set| frames| structures| hold| is|:)"
    message = re.sub(of_test, "validation", finding.message)
    severity = "warning" if finding.code in _LESS_GRAVE else finding.severity
    return replace(finding, message=message, severity=severity)


def _fit_and_save(
    task: "AbstractModel | fine_tuning.Start",
    parts: tuple["Dataset", "Dataset"],
    settings: "TrainingSettings",
    output: Path,
    folder: Path,
    report: Report,
    fresh: bool,
) -> "Fitted":
    from karat.potentials.karat_file import architecture_name, save
    from karat.training.fine_tuning import fine_tune
    from karat.training.fit import fit

    if isinstance(task, fine_tuning.Start):
        start = (task.base, *parts, task.tuning, settings, folder, task.forgetting)
        fitted = fine_tune(*start, report, fresh=fresh)
    else:
        architecture_name(task)  # refuse before the work what cannot be saved after it
        fitted = fit(task, *parts, settings, folder, report, fresh=fresh)
    save(output, fitted.model, fitted.potential, parts[0].digest, fitted.summary)
    return fitted


def training_values(setting: list[str], epochs: int | None, seed: int | None) -> dict[str, Any]:
    """What was said of the training."""
    values = key_values(setting, "--setting")
    return values | {k: v for k, v in (("epochs", epochs), ("seed", seed)) if v is not None}


def make_model(model: str, set_: list[str]) -> "AbstractModel":
    """The model from flags.

    Raises:
        BadInput: unknown model or key, a value that does not fit.
    """
    from karat.core.components import parse
    from karat.potentials.native.catalogue import ARCHITECTURES

    kind = ARCHITECTURES.resolve(model)
    return parse(kind, key_values(set_, "--set"), f"model {model}")


def make_settings(
    task: "AbstractModel | fine_tuning.Start", values: dict[str, Any], model: str | None
) -> "TrainingSettings":
    """Training settings for a model or a start.

    Raises:
        BadInput: unknown key, a value that does not fit, or settings that the model has no use for.
    """
    from karat.core.components import parse
    from karat.training.fit import check_settings, with_usual
    from karat.training.settings import TrainingSettings

    if isinstance(task, fine_tuning.Start):
        return fine_tuning.fine_tuning_settings(task.base, values)
    settings = parse(TrainingSettings, with_usual(task, values), "training")
    check_settings(task, settings, model or DEFAULT_MODEL)
    return settings


def read_parts(
    data: Path, valid: Path | None, valid_fraction: float, options: "ReadOptions", seed: int
) -> tuple["Dataset", "Dataset"]:
    """Training and validation data; frames of trajectories are split in blocks of time, single
    structures at random.

    Raises:
        BadInput: a file that cannot be read, or a fraction that leaves nothing.
    """
    from karat.data.files import read_dataset
    from karat.data.splits import split_random, split_time_blocks

    whole = read_dataset(data, options=options)
    if valid is not None:
        return whole, read_dataset(valid, options=options)
    if not 0 < valid_fraction < 1:
        raise BadInput(f"--valid-fraction {valid_fraction}: must lie between 0 and 1.")
    in_time = all(record.frame >= 0 for record in whole)
    if in_time and len({record.group for record in whole}) < len(whole):
        split = split_time_blocks(whole, valid_fraction, 0.0)
    else:
        split = split_random(whole, valid_fraction, 0.0, seed)
    return whole.subset(split.train), whole.subset(split.valid)


def _tell(
    fitted: "Fitted",
    parts: tuple["Dataset", "Dataset"],
    findings: "tuple[Finding, ...]",
    output: Path,
    as_json: bool,
) -> None:
    from karat.core.components import dump

    summary = fitted.summary
    if as_json:
        document = {
            "output": str(output),
            "level": parts[0].level.as_dict(),
            "architecture": dump(fitted.model),
            "findings": [finding.as_dict() for finding in findings],
            "training": dict(summary),
            "seconds": fitted.seconds,
        }
        print(json.dumps(document, indent=1))
        return
    energy = summary["valid_energy_rmse_mev_per_atom"]
    force = summary["valid_force_rmse_mev_per_angstrom"]
    forces = "" if force is None else f", {force:.1f} meV/Å"
    note = fitted.note[:1].upper() + fitted.note[1:]
    print(
        f"{note}; {fitted.seconds:.0f} s. Validation RMSE {energy:.2f} meV/atom{forces} on "
        f"{len(parts[1])} structures.\n"
        f"Level of theory: {parts[0].level.label}. Reference energies: {fitted.references}."
    )
    if "fine_tuning" in summary:
        print("\n".join(fine_tuning.told(summary)))
    print(f"Written: {output}")
