"""`karat plan`: what would be done, and what is done already; nothing is written.

Checked: tests/cli/test_run.py.
"""

import json
from pathlib import Path
from typing import Annotated

import typer


def plan(
    campaign: Annotated[Path, typer.Argument(help="Campaign file (YAML).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default runs/NAME.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value: key=value.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Show every step of a campaign: what it needs, and whether it is done already.

    The campaign is validated as by `karat run`; nothing is computed and nothing is written. A
    step's key is the hash of everything that goes into it.

    Examples:

        karat plan examples/acetylacetone.yaml

        karat plan my.yaml --set train.0.size=20 --json
    """
    from karat.campaign.plan import plan as make_plan
    from karat.campaign.runner import steps_done
    from karat.campaign.schema import load_campaign
    from karat.campaign.validation import validate

    loaded = load_campaign(campaign, set_ or [])
    validate(loaded)
    steps = make_plan(loaded)
    done = steps_done(loaded, output or Path("runs") / loaded.name)
    if as_json:
        listed = [step.as_dict() | {"done": done[step.key]} for step in steps]
        typer.echo(json.dumps({"campaign": loaded.as_dict(), "steps": listed}, indent=1))
        return
    names = {step.key: step.name for step in steps}
    wide = max(len(step.name) for step in steps)
    for step in steps:
        mark = "done" if done[step.key] else "todo"
        needs = ", ".join(dict.fromkeys(names[key] for key in step.inputs.values())) or "–"
        alone = "  (times: runs alone)" if step.exclusive else ""
        typer.echo(f"{mark}  {step.key[:12]}  {step.name:<{wide}}  needs {needs}{alone}")
    left = sum(not flag for flag in done.values())
    typer.echo(f"{len(steps)} steps, {len(steps) - left} done, {left} to do.")
