"""`karat train`: labelled structures in, a fitted potential (.karat file) out.

Checked: tests/cli/test_train.py.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karat.cli.settings import key_values
from karat.core.errors import BadInput

if TYPE_CHECKING:
    from karat.data.dataset import Dataset
    from karat.potentials.native.architecture import AbstractArchitecture
    from karat.training.curve import Progress
    from karat.training.settings import TrainingSettings
    from karat.training.trainer import Trained

Report = Callable[["Progress"], None]


def train(
    data: Annotated[Path, typer.Option(help="Labelled structures to fit to (extended XYZ, …).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .karat file to write.")],
    model: Annotated[str, typer.Option(help="Architecture; see `karat list`.")] = "bpnn",
    valid: Annotated[
        Path | None, typer.Option(help="Labelled structures to choose the best epoch by.")
    ] = None,
    valid_fraction: Annotated[
        float, typer.Option(help="Without --valid: part of DATA that is kept apart for it.")
    ] = 0.1,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Of the architecture: key=value (YAML).")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--setting", help="Of the training: key=value (YAML), e.g. ema_decay=0.999."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of first parameters and order.")] = None,
    level: Annotated[
        str | None, typer.Option(help="Level of theory of the labels: METHOD or METHOD/BASIS.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Begin anew, or go on where it was stopped.")
    ] = False,
    work: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; default OUTPUT.training.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Progress as plain lines.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Fit a potential to labelled data; interrupted, the same command goes on.

    Errors on the validation data are shown after each epoch, in meV/atom and meV/Å; the potential
    of the best epoch is written.

    Examples:

        karat train --data train.xyz --valid valid.xyz --output water.karat --level PBE

        karat train --data train.xyz --output p.karat --set hidden='[32, 32]'
            --set cutoff_angstrom=6 --epochs 100 --setting learning_rate=0.003
    """
    from karat.core.files import writable_folder
    from karat.potentials.precision import enable_float64

    if output.suffix != ".karat" or output.is_dir():
        raise BadInput(f"--output {output}: name a file that ends in .karat.")
    architecture, settings = read_options(model, set_ or [], setting or [], epochs, seed)
    parts = read_parts(data, valid, valid_fraction, level, settings.seed)
    writable_folder(output.parent)
    enable_float64()
    folder = work or output.with_name(output.name + ".training")
    with _display(plain, as_json) as report:
        trained = _fit_and_save(architecture, parts, settings, output, folder, report, fresh)
    _tell(trained, architecture, parts, settings, output, as_json)


def _fit_and_save(
    architecture: "AbstractArchitecture",
    parts: tuple["Dataset", "Dataset"],
    settings: "TrainingSettings",
    output: Path,
    folder: Path,
    report: Report,
    fresh: bool,
) -> "Trained":
    from karat.potentials.karat_file import architecture_name, save
    from karat.training.trainer import train as fit

    architecture_name(architecture)  # refuse before the work what cannot be saved after it
    trained = fit(architecture, *parts, settings, folder, report, fresh=fresh)
    summary = trained.summary(*parts, settings)
    save(output, architecture, trained.potential, parts[0].digest, summary)
    return trained


def read_options(
    model: str, set_: list[str], setting: list[str], epochs: int | None, seed: int | None
) -> tuple["AbstractArchitecture", "TrainingSettings"]:
    """Architecture and training settings from flags.

    Raises:
        BadInput: unknown model or key, a value that does not fit.
    """
    from karat.core.components import parse
    from karat.potentials.native.catalogue import ARCHITECTURES
    from karat.training.settings import TrainingSettings

    values = key_values(setting, "--setting")
    values |= {k: v for k, v in (("epochs", epochs), ("seed", seed)) if v is not None}
    settings = parse(TrainingSettings, values, "training")
    kind = ARCHITECTURES.resolve(model)
    return parse(kind, key_values(set_, "--set"), f"model {model}"), settings


def read_parts(
    data: Path, valid: Path | None, valid_fraction: float, level: str | None, seed: int
) -> tuple["Dataset", "Dataset"]:
    """Training and validation data; frames of trajectories are split in blocks of time, single
    structures at random.

    Raises:
        BadInput: a file that cannot be read, or a fraction that leaves nothing.
    """
    from karat.data.files import read_dataset
    from karat.data.splits import split_random, split_time_blocks
    from karat.structures.labels import LevelOfTheory

    given = None
    if level is not None:
        method, _, basis = level.partition("/")
        given = LevelOfTheory(method=method, basis=basis)
    whole = read_dataset(data, level=given)
    if valid is not None:
        return whole, read_dataset(valid, level=given)
    if not 0 < valid_fraction < 1:
        raise BadInput(f"--valid-fraction {valid_fraction}: must lie between 0 and 1.")
    in_time = all(record.frame >= 0 for record in whole)
    if in_time and len({record.group for record in whole}) < len(whole):
        split = split_time_blocks(whole, valid_fraction, 0.0)
    else:
        split = split_random(whole, valid_fraction, 0.0, seed)
    return whole.subset(split.train), whole.subset(split.valid)


def _display(plain: bool, as_json: bool) -> AbstractContextManager[Report]:
    """A bar on a terminal, else a line now and then; always on standard error."""
    if plain or as_json or not sys.stderr.isatty():
        return nullcontext(_plain_report())
    return _Bar()


def errors_text(now: "Progress") -> str:
    """Validation errors for people; without forces only energies."""
    energy = f"{now.energy_mae:.2f} meV/atom"
    return energy if math.isnan(now.force_mae) else f"{energy}, {now.force_mae:.1f} meV/Å"


def _plain_report() -> Report:
    last = [-math.inf]

    def report(now: "Progress") -> None:
        if now.epoch < now.epochs and time.monotonic() - last[0] < 5.0:
            return
        last[0] = time.monotonic()
        print(
            f"train: epoch {now.epoch}/{now.epochs}, loss {now.loss:.3g}, validation MAE "
            f"{errors_text(now)}, best epoch {now.best_epoch}, {now.seconds_left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )

    return report


class _Bar(AbstractContextManager[Report]):
    """A rich progress bar with errors and the time left."""

    def __enter__(self) -> Report:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.progress import TimeRemainingColumn as Left

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[errors]}"),
            Left(),
            console=Console(stderr=True),
        )
        task = self._bar.add_task("epochs", total=None, errors="compiling …")
        self._bar.start()

        def report(now: "Progress") -> None:
            text = f"validation MAE {errors_text(now)}, best epoch {now.best_epoch}, time left"
            self._bar.update(task, completed=now.epoch, total=now.epochs, errors=text)

        return report

    def __exit__(self, *exception: Any) -> None:
        self._bar.stop()


def _tell(
    trained: "Trained",
    architecture: "AbstractArchitecture",
    parts: tuple["Dataset", "Dataset"],
    settings: "TrainingSettings",
    output: Path,
    as_json: bool,
) -> None:
    from karat.core.components import dump

    summary = trained.summary(*parts, settings)
    if as_json:
        document = {
            "output": str(output),
            "level": parts[0].level.as_dict(),
            "architecture": dump(architecture),
            "training": summary,
            "seconds": trained.seconds,
        }
        print(json.dumps(document, indent=1))
        return
    energy = summary["valid_energy_rmse_mev_per_atom"]
    force = summary["valid_force_rmse_mev_per_angstrom"]
    forces = "" if force is None else f", {force:.1f} meV/Å"
    print(
        f"Best epoch {trained.best_epoch} ({trained.stopped_because}; {trained.seconds:.0f} s): "
        f"validation RMSE {energy:.2f} meV/atom{forces} on {len(parts[1])} structures.\n"
        f"Level of theory: {parts[0].level.label}. Reference energies: {trained.references.note}.\n"
        f"Written: {output}"
    )
