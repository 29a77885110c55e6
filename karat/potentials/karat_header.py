"""The header of a `.karat` file, read without JAX.

A `.karat` file is a safetensors file whose metadata has one key, ``karat``: this header as JSON.
Nothing in it is ever executed; its digest covers the header and all numbers, so that damage is
found.

Checked: tests/potentials/test_karat_file.py.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.core.hashing import digest_json
from karat.structures.labels import LevelOfTheory

SCHEMA = 1
KEY = "karat"
UNITS = {"energy": "eV", "length": "angstrom"}
MAX_HEADER_BYTES = 4 * 2**20
MAX_MEMBERS = 1024


@dataclass(frozen=True)
class Header:
    """What a `.karat` file says about itself.

    Attributes:
        schema: version of this layout.
        karat: version that wrote it.
        architecture: name in the catalogue of architectures.
        hyperparameters: its fields, every default written out.
        species: atomic numbers, ascending.
        dtype: of the numbers as they were trained.
        level: level of theory of the training data, or `None`.
        reference_energies: eV by atomic number.
        training_data: digest of the training data, "" if unknown.
        training: summary of the training: structures, epochs, validation errors, settings.
        tensors: SHA-256 over all arrays.
        members: of a committee (not written for 1); see `committee_module`.
    """

    architecture: str
    hyperparameters: Mapping[str, Any]
    species: tuple[int, ...]
    dtype: str
    level: LevelOfTheory | None
    reference_energies: Mapping[int, float]
    training_data: str
    tensors: str
    training: Mapping[str, Any] = field(default_factory=dict)
    karat: str = ""
    members: int = 1
    schema: int = SCHEMA

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values in a fixed order, with the digest of the others at the end."""
        values = {
            "schema": self.schema,
            "karat": self.karat,
            "architecture": self.architecture,
            "hyperparameters": dict(self.hyperparameters),
            "species": list(self.species),
            "units": UNITS,
            "dtype": self.dtype,
            "level": self.level.as_dict() if self.level else None,
            "reference_energies": {str(z): e for z, e in sorted(self.reference_energies.items())},
            "training_data": self.training_data,
            "training": dict(self.training),
            "tensors": self.tensors,
        }
        if self.members > 1:
            values["members"] = self.members
        return {**values, "digest": digest_json(values)}


def read_header(path: str | Path) -> Header:
    """The header of a `.karat` file.

    Raises:
        BadInput: no such file, not one of karat's, damaged, or of another schema.
    """
    path = readable_file(Path(path), "potential (.karat file)")
    values = _karat_json(path)
    schema = values.get("schema")
    if schema != SCHEMA:
        raise BadInput(
            f"{path}: schema version {schema!r}; this karat reads {SCHEMA}. Update karat, or save "
            "the potential again with this version."
        )
    try:
        return _parse(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{path}: damaged header ({type(error).__name__}: {error}). Copy or train it again."
        ) from error


def _karat_json(path: Path) -> dict[str, Any]:
    """The JSON of the header, after checks on sizes and layout."""
    damaged = f"{path}: is not a readable .karat file"
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise BadInput(
                f"{damaged}: it says its header has {length} bytes; the file has {size}, and at "
                f"most {MAX_HEADER_BYTES} are read. Copy or train it again."
            )
        text = stream.read(length)
    try:
        metadata = json.loads(text.decode("utf-8"))["__metadata__"]
        values = json.loads(metadata[KEY], parse_constant=_no_constant)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{damaged} ({type(error).__name__}). Copy or train it again.") from error
    if not isinstance(values, dict):
        raise BadInput(f"{damaged}: its header is no mapping. Copy or train it again.")
    return values


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} in a header")


def _parse(values: dict[str, Any]) -> Header:
    given = values.pop("digest")
    if given != digest_json(values):
        raise ValueError("its digest does not match its content")
    if values.pop("units") != UNITS:
        raise ValueError("other units than eV and angstrom")
    species = values.pop("species")
    if not species or not all(type(z) is int and 1 <= z <= 118 for z in species):
        raise ValueError(f"species {species!r:.80}")
    if sorted(set(species)) != species:
        raise ValueError("species are not ascending")
    level = values.pop("level")
    references = {int(z): float(e) for z, e in values.pop("reference_energies").items()}
    if not all(math.isfinite(e) for e in references.values()) or not set(references) <= set(
        species
    ):
        raise ValueError("reference energies")
    for name in ("karat", "architecture", "dtype", "training_data", "tensors"):
        if not isinstance(values[name], str):
            raise ValueError(f"{name} is no text")
    for name in ("hyperparameters", "training"):
        if not isinstance(values[name], dict):
            raise ValueError(f"{name} is no mapping")
    members = values.get("members", 1)
    if type(members) is not int or not 1 <= members <= MAX_MEMBERS:
        raise ValueError(f"members {members!r:.80}")
    if values["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype {values['dtype']!r:.80}")
    return Header(
        species=tuple(species),
        level=LevelOfTheory.from_dict(level) if level is not None else None,
        reference_energies=references,
        **values,
    )
