"""`karat check`: the data doctor."""

import json
from pathlib import Path
from typing import Annotated

import typer


def check(
    data: Annotated[Path, typer.Argument(help="Labelled structures (extended XYZ, .gz too, …).")],
    test: Annotated[
        Path | None, typer.Argument(help="Test set, to be compared with DATA for leakage.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Look for what is wrong with labelled data: NaN, duplicates, leakage, overlaps, units.

    Exit status 0: no error found; 1: at least one; 2: a file cannot be read.

    Examples:

        karat check train.xyz

        karat check train.xyz test.xyz --json
    """
    from karat.data.doctor import check as examine
    from karat.data.files import read_dataset

    train = read_dataset(data)
    findings = examine(train, None if test is None else read_dataset(test))
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        document = {
            "data": str(data),
            "test": None if test is None else str(test),
            "errors": errors,
            "findings": [finding.as_dict() for finding in findings],
        }
        typer.echo(json.dumps(document, indent=1))
    else:
        _print(findings)
    raise typer.Exit(1 if errors else 0)


def _print(findings) -> None:
    """A table, worst findings first."""
    from rich.console import Console
    from rich.table import Table

    colours = {"error": "red", "warning": "yellow", "info": "cyan"}
    table = Table(show_lines=True)
    for column in ("severity", "check", "what was found", "structures"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(
            f"[{colours[finding.severity]}]{finding.severity}[/]",
            finding.code,
            finding.message.replace("[", r"\["),
            "\n".join(finding.offenders).replace("[", r"\["),
        )
    Console().print(table)
