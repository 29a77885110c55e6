"""A finished case as a folder of the store, and back: `Result`, arrays, structures.

Checked: tests/campaign/test_compute.py.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from karat.campaign.compute.protocol import Case, Found, Value
from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.files import read_structures
from karat.data.writers import write_entries
from karat.results.provenance import Provenance
from karat.results.result import Result
from karat.structures.structure import Structure

STRUCTURES = "structures.xyz"
KIND = "compute"
OWN_FILES = frozenset({STRUCTURES, "result.json", "arrays.safetensors", "step.json"})
"""What a case's folder holds of itself."""


def write_case(
    folder: Path, name: str, case: Case, found: Found, about: Mapping[str, Any], seconds: float
) -> None:
    """Write what was found into a folder that is there.

    Args:
        name: of the property.
        about: property, settings and potential, JSON-ready.
    """
    names = [value.name for value in found.values]
    if len(set(names)) < len(names):
        raise BadInput(f"{name} gave two values of one name: {', '.join(sorted(names))}.")
    if taken := OWN_FILES & set(found.files):
        raise BadInput(f"{name} gave a file of a name that is taken: {', '.join(sorted(taken))}.")
    structure = case.structure
    payload = {
        **about,
        "case": {
            "name": case.name,
            "formula": structure.formula,
            "atoms": len(structure),
            "structures": [one.digest for one in case.structures],
            "variant": case.variant,
        },
        "values": [described(value) for value in found.values],
        "structures": list(found.structures),
        "files": list(found.files),
        "notes": dict(found.notes),
    }
    inputs = {"structure": structure.digest, "potential": about["potential"]["digest"]}
    Result(
        kind=KIND,
        name=f"{name} {case.name}",
        provenance=Provenance.now(inputs, seconds=seconds),
        failures=found.failures,
        figures=found.figures,
        payload=payload,
        arrays={value.name: value.data for value in found.values if value.shape},
        timings={"seconds": seconds},
    ).save(folder)
    if found.structures:
        write_structures(found.structures.items(), folder / STRUCTURES)
    for file, source in found.files.items():
        # a link costs nothing; the original stays until the case is finished
        with contextlib.suppress(OSError):
            os.link(source, folder / file)
            continue
        shutil.copyfile(source, folder / file)


def described(value: Value) -> dict[str, Any]:
    """Everything about a value; of an array all but the numbers."""
    words = {
        "name": value.name,
        "title": value.title,
        "unit": value.unit,
        "axes": list(value.axes),
        "shape": list(value.shape),
    }
    return words if value.shape else words | {"value": value.number}


def read_case(folder: Path) -> Found:
    """What `write_case` wrote.

    Raises:
        BadInput: the folder is damaged.
    """
    result = Result.load(folder)
    try:
        payload = result.payload
        values = tuple(
            Value(
                item["name"],
                result.arrays[item["name"]] if item["shape"] else np.array(item["value"]),
                item["unit"],
                tuple(item["axes"]),
                item["title"],
            )
            for item in payload["values"]
        )
        roles = list(payload["structures"])
        stored = read_structures(folder / STRUCTURES) if roles else []
        return Found(
            values,
            {role: item.structure for role, item in zip(roles, stored, strict=True)},
            result.failures,
            result.figures,
            payload["notes"],
            {name: folder / name for name in payload["files"]},
        )
    except (KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f"{folder}: is damaged ({error!r}). Remove it and give the same command again."
        ) from error


def write_structures(named: Iterable[tuple[str, Structure]], path: Path) -> None:
    """Extended XYZ (or what the suffix says) of structures with names."""
    write_entries((_entry(name, structure) for name, structure in named), path)


def _entry(name: str, structure: Structure) -> Entry:
    return Entry(
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        periodic=structure.periodic,
        place="",
        charge=structure.charge,
        multiplicity=structure.multiplicity,
        topology=structure.topology,
        name=name,
    )
