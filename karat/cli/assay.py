"""`karat assay`: how good is this potential on these labelled structures?

A campaign of one contestant and given test data: steps, store and scores are those of `karat run`.

Checked: tests/cli/test_assay.py.
"""

import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karat.cli import reading
from karat.cli.settings import key_values

if TYPE_CHECKING:
    from karat.campaign.sections import Campaign
    from karat.campaign.single_assay import Outcome
    from karat.data.dataset import Dataset
    from karat.data.read_options import ReadOptions
    from karat.results.metric import Metric

WIDTH = 120
"""Columns of the table where standard output is no terminal."""

TEST_FILE = "test.xyz.gz"
"""Test data in eV and Å, written where they came with other units, keys or as a folder."""

Potential = Annotated[
    str, typer.Argument(help="A .karat file, or a name (`karat list`), e.g. gfn2_xtb.")
]
Data = Annotated[Path, typer.Option(help="Labelled structures it was not trained on.")]
Assays = Annotated[
    list[str] | None, typer.Option("--assay", help="Which; may be repeated. [energy_forces]")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Of the potential: key=value; of an assay: ASSAY.key=value."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder that keeps results and report.")
]
Seed = Annotated[int, typer.Option(help="Of what is random in an assay.")]
Plain = Annotated[bool, typer.Option("--plain", help="Progress as plain lines.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def assay(
    potential: Potential,
    data: Data,
    assays: Assays = None,
    set_: Settings = None,
    output: Output = None,
    seed: Seed = 0,
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
    """Measure a potential on labelled test structures: errors with 95 % intervals.

    With --output results are kept as `karat run` keeps them: interrupted, the same command goes
    on, and OUTPUT/report.html shows them. Exit status 1 where something failed.

    Examples:

        karat assay water.karat --data test.xyz

        karat assay gfn2_xtb --data test.xyz --set accuracy=0.1 --assay energy_forces
            --set energy_forces.per_element=false --output runs/gfn2
    """
    keys = (energy_key, forces_key, stress_key, virial_key)
    units = (energy_unit, length_unit, forces_unit, stress_unit)
    options = reading.read_options(*keys, *units, level)
    given = key_values(set_ or [], "--set")
    signal.signal(signal.SIGTERM, _interrupt)
    with _folder(output) as folder:
        dataset, campaign = prepare(potential, data, options, assays or [], given, seed, folder)
        found = _run(potential, data, dataset, campaign, folder, plain or as_json)
        if as_json:
            typer.echo(json.dumps(_document(campaign, found, output), indent=1))
        else:
            _print(campaign, dataset, found, output)
    if found.failures or not any(outcome.score for outcome in found.outcomes):
        raise typer.Exit(1)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="karat-assay-") as temporary:
        yield Path(temporary)


def prepare(
    potential: str,
    data: Path,
    options: "ReadOptions",
    assays: Sequence[str],
    given: dict[str, Any],
    seed: int,
    folder: Path,
) -> "tuple[Dataset, Campaign]":
    """The test data and the campaign, in a folder that is free or has begun with both.

    Raises:
        BadInput: anything that cannot be used; nothing was written then.
    """
    from karat.campaign.single_assay import make_campaign, own_or_refuse
    from karat.core.files import writable_folder
    from karat.data.files import read_dataset, write_dataset

    dataset = read_dataset(data, options=options)
    converted = data.is_dir() or replace(options, level=None) != type(options)()
    test = folder / TEST_FILE if converted else data
    title = f"{Path(potential).stem} on {data.name}"
    campaign = make_campaign(potential, test, dataset.level, title, assays, given, seed)
    own_or_refuse(folder, campaign)
    writable_folder(folder)
    if converted:
        write_dataset(dataset, test)
    return dataset, campaign


@dataclass(frozen=True, eq=False)
class Found:
    """What a run of the assays gave."""

    outcomes: "list[Outcome]"
    failures: list[dict[str, Any]]
    warnings: list[str]


def _run(
    potential: str, data: Path, dataset: "Dataset", campaign: "Campaign", folder: Path, plain: bool
) -> Found:
    """Measure and score; warnings go to standard error as soon as they are known."""
    from karat.campaign.runner import run_campaign
    from karat.campaign.single_assay import (
        failures_of,
        is_file,
        outcomes_of,
        warnings_after,
        warnings_before,
    )
    from karat.cli.console import make_progress

    before = warnings_before(potential, str(data), dataset)
    _say(before)
    summary = run_campaign(campaign, folder, 1, make_progress(plain))
    outcomes = outcomes_of(summary, campaign)
    after = [] if is_file(potential) else warnings_after(outcomes, dataset)
    _say(after)
    return Found(outcomes, failures_of(summary, outcomes), before + after)


def _say(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"assay: {warning}", file=sys.stderr, flush=True)


def _document(campaign: "Campaign", found: Found, output: Path | None) -> dict[str, Any]:
    """For `--json`."""
    resolved = campaign.as_dict()
    return {
        "potential": resolved["contestants"][0],
        "data": resolved["data"]["test"],
        "level": resolved["data"]["level"],
        "warnings": found.warnings,
        "assays": [
            {
                "assay": outcome.name,
                "status": outcome.status,
                "reason": outcome.reason,
                "potential_level": outcome.score and outcome.score.payload["contestant_level"],
                "cases": outcome.score and outcome.score.payload["attempted"],
                "metrics": [m.as_dict() for m in outcome.score.metrics] if outcome.score else [],
                "worst": outcome.score.payload["worst"] if outcome.score else [],
                "folder": str(outcome.folder) if output and outcome.folder else None,
            }
            for outcome in found.outcomes
        ],
        "failures": found.failures,
        "folder": None if output is None else str(output),
    }


def _print(campaign: "Campaign", dataset: "Dataset", found: Found, output: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    semi = " (semi-empirical)" if dataset.level.semiempirical else ""
    console.print(
        f"{campaign.title}: {len(dataset)} structures, {dataset.level.label}{semi}", markup=False
    )
    for outcome in found.outcomes:
        if outcome.score is None:
            words = f"{outcome.name}: {outcome.status.replace('-', ' ')}: {outcome.reason}"
            console.print(words, markup=False)
            continue
        table = Table(title=outcome.score.payload["title"], title_justify="left")
        for column in ("metric", "value", "unit", "95 % interval", "n"):
            right = column in ("value", "n")
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for metric in outcome.score.metrics:
            table.add_row(*(cell.replace("[", r"\[") for cell in row_of(metric)))
        console.print(table)
    for failure in found.failures:
        words = f"failed: {failure['case']}: {failure['kind']}: {failure['reason']}"
        console.print(words, markup=False)
    cases = sum(failure["what"] != "step" for failure in found.failures)
    if any(outcome.score for outcome in found.outcomes):
        console.print(f"{cases or 'no'} case{'' if cases == 1 else 's'} failed")
    if output is not None:
        console.print(f"Kept in {output}; report: {output / 'report.html'}", markup=False)


def row_of(metric: "Metric") -> tuple[str, str, str, str, str]:
    """Title, value, unit, interval (or why there is none) and number of cases, as texts."""
    title = metric.title or metric.name
    subset = metric.subset.partition(":")[2]
    interval = metric.why_no_interval
    if metric.low is not None and metric.high is not None:
        interval = f"{metric.low:.4g} to {metric.high:.4g}"
    name = f"{title}, {subset}" if subset else title
    return name, f"{metric.value:.4g}", metric.unit, interval, str(metric.n)
