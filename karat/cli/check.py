"""`karat check`: the data doctor.

Checked: tests/cli/test_check.py.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karat.cli import reading
from karat.core.errors import BadInput

if TYPE_CHECKING:
    from karat.data.finding import Finding
    from karat.data.read_options import ReadOptions
    from karat.data.survey import Survey

PATIENCE = 2.0
"""Seconds before progress is shown."""

Tell = Callable[[int], object]

Data = Annotated[Path, typer.Argument(help="Labelled structures (extended XYZ, .gz too, …).")]
Test = Annotated[
    Path | None, typer.Argument(help="Test set, to be compared with DATA for leakage.")
]
Fix = Annotated[
    Path | None,
    typer.Option("--fix", help="Write DATA, repaired where that needs no guess, to this file."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Progress as plain lines.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def check(
    data: Data,
    test: Test = None,
    fix: Fix = None,
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
    """Look for what is wrong with labelled data: NaN, duplicates, leakage, units, signs, jumps.

    Exit status 0: no error found; 1: at least one, training would be spoilt; 2: a file cannot be
    read. With --fix the status is still that of DATA as it is.

    Examples:

        karat check train.xyz

        karat check train.xyz test.xyz --json

        karat check raw.xyz --energy-unit kcal/mol --fix clean.xyz
    """
    from karat.data.doctor import check as examine

    keys = (energy_key, forces_key, stress_key, virial_key)
    units = (energy_unit, length_unit, forces_unit, stress_unit)
    options = reading.read_options(*keys, *units, level)
    if fix is not None and any(fix.resolve() == one.resolve() for one in (data, test) if one):
        raise BadInput(f"--fix {fix}: names an input; give the repaired data a file of their own.")
    with _display(plain, as_json) as show:
        train = _survey(data, options, show(f"reading {data.name}"))
        other = None if test is None else _survey(test, options, show(f"reading {test.name}"))
        findings = examine(train, other)
        done = None
        if fix is not None:
            done = _repair(data, fix, options, train, other, show(f"writing {fix.name}"))
    _tell(findings, data, test, fix, done, as_json)
    raise typer.Exit(1 if any(finding.severity == "error" for finding in findings) else 0)


def _survey(path: Path, options: "ReadOptions", tell: Tell) -> "Survey":
    from karat.data.readers.catalogue import iterate
    from karat.data.survey import survey

    found = survey(iterate(path, options), tell)
    if len(found) == 0:
        raise BadInput(f"{path}: holds no structure.")
    return found


def _repair(
    data: Path,
    fix: Path,
    options: "ReadOptions",
    train: "Survey",
    test: "Survey | None",
    tell: Tell,
) -> dict[str, int]:
    """Write what can be repaired; how often what was done.

    Raises:
        BadInput: nothing would be left, or the file cannot be written.
    """
    from karat.core.files import writable_folder
    from karat.data.readers.catalogue import iterate
    from karat.data.repair import Repair
    from karat.data.writers import write_entries

    repair = Repair(train, test)
    if repair.kept == 0:
        raise BadInput(f"--fix {fix}: no structure of {data} would be left; nothing was written.")

    def mended() -> Iterator:
        for count, entry in enumerate(repair.apply(iterate(data, options))):
            if count % 1000 == 0:
                tell(count)
            yield entry

    writable_folder(fix.parent)
    write_entries(mended(), fix)
    return dict(repair.done)


def _tell(
    findings: Sequence["Finding"],
    data: Path,
    test: Path | None,
    fix: Path | None,
    done: dict[str, int] | None,
    as_json: bool,
) -> None:
    from karat.data.repair import WORDS

    if as_json:
        document = {
            "data": str(data),
            "test": None if test is None else str(test),
            "errors": sum(finding.severity == "error" for finding in findings),
            "warnings": sum(finding.severity == "warning" for finding in findings),
            "findings": [finding.as_dict() for finding in findings],
            "fix": None if done is None else {"output": str(fix), "done": done},
        }
        typer.echo(json.dumps(document, indent=1))
        return
    _print(findings)
    if done is not None:
        lines = [f"  {done[code]} {words}" for code, words in WORDS.items() if done.get(code)]
        typer.echo(f"Written: {fix}" + ("" if lines else " (nothing needed repair)"))
        for line in lines:
            typer.echo(line)


def _print(findings: Sequence["Finding"]) -> None:
    """A table, worst findings first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"error": "red", "warning": "yellow", "info": "cyan"}
    table = Table(show_lines=True)
    for column in ("severity", "check", "what was found", "structures"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        # as text: names may hold what rich takes for markup
        table.add_row(
            Text(finding.severity, style=colours[finding.severity]),
            Text(finding.code),
            Text(finding.message),
            Text("\n".join(finding.offenders)),
        )
    Console().print(table)


@contextlib.contextmanager
def _display(plain: bool, silent: bool) -> Iterator[Callable[[str], Tell]]:
    """Progress on standard error, once it takes longer than `PATIENCE`; none when `silent`."""
    if silent:
        yield lambda what: lambda count: None
    elif plain or not sys.stderr.isatty():
        yield _plain_lines
    else:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        begun = time.monotonic()

        def show(what: str) -> Tell:
            task = bar.add_task("", visible=False)

            def tell(count: int) -> None:
                if time.monotonic() - begun > PATIENCE:
                    bar.start()
                    text = f"{what}: {count} structures".replace("[", r"\[")
                    bar.update(task, description=text, visible=True)

            return tell

        try:
            yield show
        finally:
            if bar.live.is_started:
                bar.stop()


def _plain_lines(what: str) -> Tell:
    """A line every five seconds."""
    said = [time.monotonic() + PATIENCE - 5.0]

    def tell(count: int) -> None:
        now = time.monotonic()
        if now - said[0] > 5.0:
            said[0] = now
            print(f"{what}: {count} structures", file=sys.stderr, flush=True)

    return tell
