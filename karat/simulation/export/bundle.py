"""The potential inside an export: `potential.json`, and the files it is read from beside it.

Checked: tests/simulation/export/test_bundle.py.
"""

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import karat
from karat.core.components import dump
from karat.core.errors import BadInput
from karat.core.files import readable_file, write_atomic, write_json
from karat.potentials.catalogue import CATALOGUE, potential_component
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent

FILE = "potential.json"
SCHEMA = 1


def component_of(potential: str, options: Mapping[str, Any]) -> tuple[str, Any]:
    """Name in the catalogue and component of a ``.karat`` file, a name or ``module:Class``.

    Raises:
        BadInput: no such file, name or option, with a suggestion.
    """
    if potential.endswith(".karat"):
        readable_file(Path(potential), "potential")
        name, values = "karat_file", {"path": str(Path(potential).resolve()), **options}
    else:
        known = CATALOGUE.names()
        if ":" not in potential and potential not in known and Path(potential).exists():
            raise BadInput(f"{potential}: is no .karat file. Name one, or see `karat list`.")
        name, values = potential, dict(options)
    return name, potential_component(name, values, potential)


def in_float64(component: AbstractPotentialComponent) -> AbstractPotentialComponent:
    """The component computing in float64; itself where it has no choice."""
    fields = {f.name for f in dataclasses.fields(component)}  # type: ignore[arg-type]
    if "dtype" not in fields:
        return component
    return dataclasses.replace(component, dtype="float64")  # type: ignore[type-var]


def write_bundle(name: str, component: AbstractPotentialComponent, folder: Path) -> list[str]:
    """Write `potential.json` and copy the files that options name; names of what was written."""
    options, files = dump(component), []
    for key, value in options.items():
        if isinstance(value, str) and value and Path(value).is_file():
            source = Path(value)
            if (folder / source.name).resolve() != source.resolve():
                shutil.copyfile(source, folder / source.name)
            options[key] = source.name
            files.append(key)
    document = {
        "schema": SCHEMA,
        "karat": karat.__version__,
        "potential": name,
        "options": options,
        "files": files,
    }
    write_json(folder / FILE, document)
    return [FILE, *(options[key] for key in files)]


def load_bundle(folder: str | Path) -> AbstractPotential:
    """The potential of an exported folder; lets JAX compute in 64 bits.

    Raises:
        BadInput: the folder holds no export, or the potential cannot be loaded.
    """
    from karat.potentials.precision import enable_float64

    enable_float64()
    path = Path(folder).resolve() / FILE
    readable_file(path, "exported potential")
    try:
        document = json.loads(path.read_text())
        name, options = document["potential"], dict(document["options"])
        schema, files = document["schema"], list(document["files"])
        if schema == SCHEMA:
            options |= {key: str(path.parent / options[key]) for key in files}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: is damaged ({error}). Export the potential again.") from error
    if schema != SCHEMA:
        raise BadInput(f"{path}: has schema {schema}, this karat reads {SCHEMA}. Export it again.")
    potential: AbstractPotential = potential_component(name, options, str(path)).load()
    return potential


def write_script(folder: Path, name: str, text: str) -> str:
    """Write one of the scripts of an export."""
    write_atomic(folder / name, text.encode())
    return name


def import_script(path: Path) -> ModuleType:
    """A script of an export as a module, under a name that no other one has."""
    spec = importlib.util.spec_from_file_location(f"karat_export_{abs(hash(str(path)))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
