"""`karat environments`: the isolated environments that karat has made for foreign packages.

Checked: tests/cli/test_import_model.py.
"""

import json
from typing import Annotated

import typer

Delete = Annotated[
    str | None, typer.Option("--delete", help="Remove the environments of this name.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def environments(delete: Delete = None, as_json: Json = False) -> None:
    """List the environments made for foreign packages, or delete one; it is made again on demand.

    They lie in the folder that KARAT_HOME names, else in the user's cache.

    Examples:

        karat environments

        karat environments --delete mace-torch
    """
    from karat.core import environments as made

    if delete is not None:
        removed = made.delete(delete, None)
        folders = [str(folder) for folder in removed]
        words = "".join(f"{folder}: deleted\n" for folder in folders)
        typer.echo(json.dumps({"deleted": folders}) if as_json else words, nl=as_json)
        return
    found = made.installed(None)
    if as_json:
        rows = [
            {
                "name": one.name,
                "folder": str(one.folder),
                "size_bytes": one.size_bytes,
                "requirements": list(one.requirements),
                "made": one.made,
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    if not found:
        typer.echo(f"none in {made.environments_folder()}")
    for one in found:
        typer.echo(f"{one.name}  {one.size_bytes / 2**30:.1f} GiB  {one.made}  {one.folder}")
