"""Collections on this machine: added from folders, found by name.

They lie in `$KARAT_HOME/collections`, one folder `name-version` each, which appears by one rename.

Checked: tests/data/collections/test_installed.py.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from karat.core.cache_folder import cache_folder
from karat.core.errors import BadInput, unknown_key
from karat.core.files import writable_folder
from karat.data.collections.collection import Collection
from karat.data.collections.manifest import NAME, Manifest, read_manifest
from karat.data.collections.package import read_package, write_package
from karat.data.collections.recipe import Recipe
from karat.data.collections.recipe_book import RECIPES


def collections_folder() -> Path:
    """Where collections lie; it need not exist."""
    return cache_folder() / "collections"


def installed() -> list[Manifest]:
    """Manifests of all collections, by name and version.

    Raises:
        BadInput: a damaged manifest.
    """
    folder = collections_folder()
    if not folder.is_dir():
        return []
    found = [read_manifest(path.parent) for path in sorted(folder.glob(f"[!.]*/{NAME}"))]
    return sorted(found, key=lambda manifest: (manifest.name, manifest.version))


def load_collection(name: str) -> tuple[Manifest, Collection]:
    """By ``name``, or ``name-version`` where there are several versions; its files are verified.

    Raises:
        UnknownKey: no such collection, with the nearest name.
        BadInput: several versions, or a damaged file.
    """
    have = installed()
    fits = [one for one in have if name in (one.name, one.folder_name)]
    if not fits:
        raise unknown_key("collection", name, [one.name for one in have])
    if len(fits) > 1:
        versions = ", ".join(one.folder_name for one in fits)
        raise BadInput(f"collection {name}: several versions are here: {versions}. Name one.")
    return read_package(collections_folder() / fits[0].folder_name)


def add_folder(
    folder: Path,
    recipes: Sequence[str] = (),
    said: Callable[[Manifest, bool], None] = lambda manifest, new: None,
) -> list[Manifest]:
    """Add a package, or what recipes make of published files; what is here already stays.

    Args:
        recipes: their names; by default all whose files the folder has.
        said: told of each collection, and whether it is new, as soon as it is here.

    Raises:
        BadInput: a folder that is neither, or another collection of the same name and version.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder. Name one with a collection or published files.")
    if (folder / NAME).is_file():
        manifest, _ = read_package(folder)
        _install(manifest, folder, said)
        return [manifest]
    added = []
    for recipe in _chosen(folder, recipes):
        collection = recipe.read(folder)
        with tempfile.TemporaryDirectory(prefix="karat-collection-") as scratch:
            made = write_package(Path(scratch), recipe.manifest, collection)
            _install(made, Path(scratch), said)
        added.append(made)
    return added


def _chosen(folder: Path, names: Sequence[str]) -> list[Recipe]:
    """Recipes of these names, or all that fit.

    Raises:
        UnknownKey: no such recipe.
        BadInput: none fits.
    """
    known = {recipe.manifest.name: recipe for recipe in RECIPES}
    for name in names:
        if name not in known:
            raise unknown_key("recipe", name, list(known))
    fits = [known[name] for name in names] or [r for r in RECIPES if r.fits(folder)]
    if not fits:
        raise BadInput(
            f"{folder}: has neither {NAME} nor the files of a recipe. `karat data list` names the "
            "recipes."
        )
    return fits


def _install(manifest: Manifest, source: Path, said: Callable[[Manifest, bool], None]) -> None:
    """Copy a package into its place, whole or not at all."""
    root = writable_folder(collections_folder())
    place = root / manifest.folder_name
    if place.exists():
        if read_manifest(place) != manifest:
            raise BadInput(
                f"{place}: another collection of this name and version is here. Raise the version, "
                "or remove that folder."
            )
        said(manifest, False)
        return
    temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=root))
    try:
        for name in (NAME, *manifest.files):
            shutil.copyfile(source / name, temporary / name)
        os.chmod(temporary, 0o755)
        os.rename(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    said(manifest, True)
