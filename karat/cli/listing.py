"""`karat list`: the members of every catalogue, in one line each.

Checked: tests/cli/test_main.py.
"""

import inspect
import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

KINDS = ("potentials", "engines", "assays", "samplers", "architectures")
MODELS = "models"
Kind = Annotated[str | None, typer.Argument(help=f"One of {', '.join((*KINDS, MODELS))}.")]


def list_members(
    kind: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join((*KINDS, MODELS))}.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """List what can be named in a campaign, each with what it is in one line.

    `karat list models` says of each architecture its paper, its symmetry, how far an atom sees,
    whether forces are the energy's gradient, about what it costs and where it is tested.

    Installed packages add members through entry points of the group karat.KIND.

    Examples:

        karat list

        karat list models

        karat list engines --json
    """
    from karat.core.errors import unknown_key

    if kind == MODELS:
        _list_models(as_json)
        return
    if kind is not None and kind not in KINDS:
        raise unknown_key("karat list", kind, (*KINDS, MODELS))
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


def _list_models(as_json: bool) -> None:
    cards = model_cards()
    if as_json:
        typer.echo(json.dumps(cards, indent=1))
        return
    wide = max(len(name) for name in cards)
    typer.echo(
        f"{'':{wide}}  symmetry     reach     forces            cost    paper; where it is tested"
    )
    for name, card in cards.items():
        if "symmetry" not in card:
            typer.echo(f"{name:<{wide}}  {card['problem']}")
            continue
        forces = "gradient" if card["conservative"] else "NON-CONSERVATIVE"
        typer.echo(
            f"{name:<{wide}}  {card['symmetry']:<11}  {card['reach']:<8}  {forces:<16}  "
            f"{card['cost']:<6}  {card['paper']}; {card['tested']}"
        )
    typer.echo(
        "cost: order of magnitude an atom and step on one CPU core. reach: what an atom's energy "
        "depends on; layers: as many cut-offs as layers."
    )


def model_cards() -> dict[str, dict[str, Any]]:
    """Name of each architecture → the fields of its card, or its ``problem``."""
    from karat.core.errors import BadInput
    from karat.potentials.native.catalogue import ARCHITECTURES

    found: dict[str, dict[str, Any]] = {}
    for name in ARCHITECTURES.names():
        try:
            card = ARCHITECTURES.resolve(name).card
        except BadInput as error:
            found[name] = {"problem": f"(cannot be used: {error})"}
            continue
        found[name] = asdict(card) if card else {"problem": "(its author has not said)"}
    return found
