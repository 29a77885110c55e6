"""`karat run`: a campaign from its file to its report.

Checked: tests/cli/test_run.py.
"""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from karat.campaign.runner import Summary


def run(
    campaign: Annotated[Path, typer.Argument(help="Campaign file (YAML); see `karat init`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default runs/NAME.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a value: key=value, e.g. train.0.size=20."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, one compute thread each.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Progress as plain lines.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Run a campaign: make or read data, fit, measure every contestant, write the report.

    Everything is checked before work starts. What is finished is stored and never done again:
    after an interruption, or after a change of the campaign, the same command does what is
    missing. The last line on standard output is the path of the report.

    Examples:

        karat run examples/acetylacetone.yaml --output runs/acetylacetone

        karat run my.yaml --set train.0.size=20 --set seed=2 --workers 8
    """
    from karat.campaign.runner import run_campaign
    from karat.campaign.schema import load_campaign
    from karat.cli.console import make_progress

    loaded = load_campaign(campaign, set_ or [])
    signal.signal(signal.SIGTERM, _interrupt)
    folder = output or Path("runs") / loaded.name
    summary = run_campaign(loaded, folder, workers, make_progress(plain or as_json))
    tell(summary, as_json)
    if summary.exit_status:
        raise typer.Exit(summary.exit_status)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def tell(summary: "Summary", as_json: bool) -> None:
    """What was done, what failed, and at last where the report is."""
    counts: dict[str, int] = {}
    for outcome in summary.outcomes.values():
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    if as_json:
        document = {
            "folder": str(summary.folder),
            "report": str(summary.report),
            "steps": counts,
            "reused": summary.reused,
            "failed_labels": summary.failed_labels,
            "failures": [
                {"step": name, "reason": outcome.reason}
                for name, outcome in summary.outcomes.items()
                if outcome.status == "failed"
            ],
        }
        typer.echo(json.dumps(document, indent=1))
        return
    words = ", ".join(f"{count} {status}" for status, count in counts.items())
    typer.echo(f"{len(summary.outcomes)} steps: {words}.")
    for name, outcome in summary.outcomes.items():
        if outcome.status == "failed":
            typer.echo(f"failed: {name}: {outcome.reason}")
    if summary.failed_labels:
        typer.echo(f"{summary.failed_labels} structures could not be labelled: see the report.")
    typer.echo(str(summary.report))
