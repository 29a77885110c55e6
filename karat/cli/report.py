"""`karat report`: render the report of a finished campaign again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

STANDARD_OUTPUT = Path("-")


def report(
    folder: Annotated[Path, typer.Argument(help="Output folder of a `karat run`.")],
    format: Annotated[Literal["html", "md", "json"], typer.Option(help="What to write.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; - for standard output. By default FOLDER/report.html "
            "(.md, .json).",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="One JSON document on standard output: --format json -o -."),
    ] = False,
) -> None:
    """Render the report of a campaign again, without computing anything and without JAX.

    The HTML page is one file that needs no network: send it, archive it, print it.
    Exit status 0: written; 2: the folder holds no campaign, or the file cannot be written.

    Examples:

        karat report runs/acetylacetone

        karat report runs/acetylacetone --format md --output -

        karat report runs/acetylacetone --json | jq .summary
    """
    from karat.core.errors import BadInput
    from karat.report.write import render, write_report

    if as_json and (output is not None or format == "md"):
        raise BadInput("report: --json writes to standard output; leave out --format and --output.")
    if as_json or output == STANDARD_OUTPUT:
        typer.echo(render(folder, "json" if as_json else format), nl=False)
        return
    path = write_report(folder, output, format)
    typer.echo(str(path))
