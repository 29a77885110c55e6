"""What a call gave, whole: a JSON document, all structures in one file, a page with the curves.

The files are made anew by each call, from the store; a run that was interrupted in between leaves
the same bytes as one that was not.

Checked: tests/campaign/test_compute.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import karat
from karat.campaign.compute.page import MOST_CASES, render_page
from karat.campaign.compute.protocol import Value
from karat.campaign.compute.run import Computed, ComputedCase
from karat.campaign.compute.storing import described, write_structures
from karat.core.files import write_atomic, write_json
from karat.results.store import slug
from karat.structures.structure import Structure

INLINE = 100
"""Arrays of at most so many numbers stand in the document, others in the case's folder."""


def document(computed: Computed) -> dict[str, Any]:
    """Everything with units, JSON-ready; without times, so that it only depends on the input."""
    return {
        "karat": karat.__version__,
        **computed.about,
        "attempted": computed.attempted,
        "cases": [_case(computed, one) for one in computed.cases],
        "failures": [failure.as_dict() for failure in computed.failures],
    }


def _case(computed: Computed, one: ComputedCase) -> dict[str, Any]:
    found, structure = one.found, one.case.structure
    folder = one.folder.relative_to(computed.folder).as_posix()
    return {
        "name": one.case.name,
        "formula": structure.formula,
        "atoms": len(structure),
        "digest": structure.digest,
        "folder": folder,
        "values": [_value(value, folder) for value in found.values],
        "notes": dict(found.notes),
        "structures": list(found.structures),
    }


def _value(value: Value, folder: str) -> dict[str, Any]:
    words = described(value)
    if value.data.size <= INLINE:
        return words | {"value": value.data.tolist()}
    return words | {"file": f"{folder}/arrays.safetensors"}


def write_documents(computed: Computed) -> tuple[Path, ...]:
    """``PROPERTY.json``, ``PROPERTY.xyz`` where structures were made and ``PROPERTY.html`` where
    there is something to draw, in the folder of the call; the paths.

    Raises:
        BadInput: a finished case is damaged.
    """
    base = computed.folder / slug(computed.property)
    paths = [base.with_name(f"{base.name}.{suffix}") for suffix in ("json", "xyz", "html")]
    for path in paths[1:]:
        path.unlink(missing_ok=True)  # of an earlier call
    write_json(paths[0], document(computed))
    if any(one.found.structures for one in computed.cases):
        write_structures(_structures(computed), paths[1])
    drawn = [(one.case.name, one.found.figures) for one in computed.cases[:MOST_CASES]]
    if any(figures for _, figures in drawn):
        page = render_page(computed.property, computed.about, drawn, len(computed.cases))
        write_atomic(paths[2], page.encode())
    return tuple(path for path in paths if path.exists())


def _structures(computed: Computed) -> Iterator[tuple[str, Structure]]:
    for one in computed.cases:
        for role, structure in one.found.structures.items():
            yield f"{one.case.name} {role}", structure
