"""`karat data`: reference collections on this machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from karat.data.collections.manifest import Manifest


def data(
    action: Annotated[
        Literal["list", "show", "add", "get"], typer.Argument(help="What to do: see below.")
    ],
    target: Annotated[
        str | None, typer.Argument(help="Name (show), folder (add) or address (get).")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="add: only this recipe; by default all that fit the files."),
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--sha256", help="get: SHA-256 that the archive must have.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Reference collections: what is here, what is in them, and adding more.

    A collection holds structures and reference energies of combinations of them (interactions,
    conformers, isomers, torsions, reactions, barriers, diatomics), with level of theory, licence,
    source and noise floor; files are verified by digest whenever they are read. They lie in the
    folder that KARAT_HOME names, else in the user's cache.

    list: those that are here, and the recipes that make others of published files.
    show NAME: everything about one.
    add FOLDER: a collection, or published files that recipes know.
    get URL --sha256 DIGEST: an archive (tar, zip) of a collection, from the network.

    Examples:

        karat data add ../shared/data/s66x8

        karat data list

        karat data show s66x8

        karat data get https://example.org/mine-1.tar.gz --sha256 9f86d0…
    """
    from karat.core.errors import BadInput

    if (target is None) != (action == "list"):
        needs = "takes no argument" if action == "list" else "needs an argument, see --help"
        raise BadInput(f"data {action}: {needs}.")
    if (digest is not None and action != "get") or (recipe and action != "add"):
        raise BadInput(f"data {action}: --sha256 belongs to get, --recipe to add.")
    if action == "list":
        _list(as_json)
    elif action == "show":
        _show(str(target), as_json)
    elif action == "add":
        _add(Path(str(target)), recipe or [], as_json)
    else:
        _get(str(target), digest, as_json)


def _list(as_json: bool) -> None:
    from karat.data.collections.installed import collections_folder, installed
    from karat.data.collections.recipe_book import RECIPES

    have = installed()
    names = {manifest.name for manifest in have}
    recipes = [one for one in RECIPES if one.manifest.name not in names]
    if as_json:
        document = {
            "folder": str(collections_folder()),
            "collections": [manifest.as_dict() for manifest in have],
            "recipes": [
                {"name": one.manifest.name, "title": one.manifest.title, "files": list(one.files)}
                for one in recipes
            ],
        }
        typer.echo(json.dumps(document, indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if have:
        grid = Table("Name", "Version", "Task", "Level", "Licence", "Title", title="Here")
        for one in have:
            words = (one.name, one.version, one.task, one.level.label, one.licence, one.title)
            grid.add_row(*map(escape, words))
        console.print(grid)
    else:
        console.print(f"none in {collections_folder()}", highlight=False)
    grid = Table("Name", "Files that the folder must have", "Title", title="Recipes")
    for recipe in recipes:
        manifest = recipe.manifest
        grid.add_row(*map(escape, (manifest.name, ", ".join(recipe.files), manifest.title)))
    console.print(grid)


def _show(name: str, as_json: bool) -> None:
    from ase.data import chemical_symbols

    from karat.data.collections.installed import load_collection

    manifest, collection = load_collection(name)
    kinds: dict[str, int] = {}
    for energy in collection.energies:
        kinds[energy.kind] = kinds.get(energy.kind, 0) + 1
    facts = {
        **manifest.as_dict(),
        "digest": manifest.digest,
        "energies": len(collection.energies),
        "structures": len(collection.used),
        "groups": len({energy.group for energy in collection.energies}),
        "kinds": kinds,
        "elements": [chemical_symbols[z] for z in collection.species],
        "largest_atoms": max(len(collection.structures[name]) for name in collection.used),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    noise = "not known"
    if manifest.noise is not None:
        noise = f"{1e3 * manifest.noise.value:.3g} meV: {manifest.noise.source}"
    facts |= {"level": manifest.level.label, "noise": noise}
    facts["kinds"] = ", ".join(f"{kind or 'none'} ({count})" for kind, count in kinds.items())
    facts["elements"] = " ".join(facts["elements"])
    for key, value in facts.items():
        if key not in ("schema", "files") and value != "":
            typer.echo(f"{key.replace('_', ' '):14s} {value}")


def _add(folder: Path, recipes: list[str], as_json: bool) -> None:
    from karat.data.collections.installed import add_folder

    _print_added(add_folder(folder, recipes, _say), as_json)


def _get(url: str, digest: str | None, as_json: bool) -> None:
    import tempfile

    from karat.core.errors import BadInput
    from karat.data.collections.download import unpack
    from karat.data.collections.installed import add_folder

    if digest is None:
        raise BadInput("data get: --sha256 is missing: what comes from a network is verified.")
    with tempfile.TemporaryDirectory(prefix="karat-download-") as name:
        archive, folder = Path(name) / "archive", Path(name) / "files"
        folder.mkdir()
        _fetch(url, digest, archive)
        unpack(archive, folder)
        _print_added(add_folder(folder, (), _say), as_json)


def _fetch(url: str, digest: str, archive: Path) -> None:
    """With a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from karat.data.collections.download import download

    console = Console(stderr=True)
    with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console) as bar:
        task = bar.add_task("download", total=None)
        download(url, digest, archive, lambda n, whole: bar.update(task, completed=n, total=whole))


def _say(manifest: "Manifest", new: bool) -> None:
    words = "added" if new else "was here"
    typer.echo(f"{manifest.folder_name}: {words}", err=True)


def _print_added(added: "list[Manifest]", as_json: bool) -> None:
    if as_json:
        document = {"added": [manifest.as_dict() for manifest in added]}
        typer.echo(json.dumps(document, indent=1, ensure_ascii=False))
