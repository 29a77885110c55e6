"""`karat list`: the members of every catalogue, in one line each.

Checked: tests/cli/test_main.py.
"""

import inspect
import json
from typing import Annotated

import typer

KINDS = ("potentials", "engines", "assays", "samplers", "architectures")


def list_members(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """List what can be named in a campaign, each with what it is in one line.

    Installed packages add members through entry points of the group karat.KIND.

    Examples:

        karat list

        karat list engines --json
    """
    from karat.core.errors import unknown_key

    if kind is not None and kind not in KINDS:
        raise unknown_key("karat list", kind, KINDS)
    found = {name: describe(name) for name in (KINDS if kind is None else (kind,))}
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    wide = max(len(name) for members in found.values() for name in members)
    for name, members in found.items():
        typer.echo(f"{name}:")
        for member, words in members.items():
            typer.echo(f"  {member:<{wide}}  {words}")


def describe(kind: str) -> dict[str, str]:
    """Name of each member → its first line of documentation, or why it cannot be used."""
    from karat.campaign.schema import catalogue
    from karat.core.errors import BadInput

    members = catalogue(kind)
    found = {}
    for name in members.names():
        try:
            text = inspect.getdoc(members.resolve(name)) or ""
            found[name] = " ".join(text.split("\n\n")[0].split())
        except BadInput as error:
            found[name] = f"(cannot be used: {error})"
    return found
