"""`Manifest`: what a collection says about itself, and the digests of its files.

Checked: tests/data/collections/test_package.py.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.core.hashing import digest_json
from karat.data.collections.collection import TASKS, Task
from karat.structures.labels import LevelOfTheory

NAME = "collection.json"
SCHEMA = 1
MAX_BYTES = 2**22
_WORD = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Noise:
    """Uncertainty of the reference energies: errors below it say nothing.

    Attributes:
        value: eV, positive.
        source: what it was taken from.
    """

    value: float
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0 and self.source):
            raise BadInput(f"noise {self.value} eV must be positive and have a source.")


@dataclass(frozen=True)
class Manifest:
    """What people and assays ask of a collection.

    Attributes:
        name: lower case, unique among collections.
        version: of the data, as text.
        title: for people.
        task: what its energies are.
        level: level of theory of the reference.
        citation: authors, journal, volume, page, year.
        source: where the files come from.
        licence: of the data.
        noise: `None` where nobody has said.
        notes: what users must know.
        files: name → SHA-256 of each file beside the manifest.
    """

    name: str
    version: str
    title: str
    task: Task
    level: LevelOfTheory
    citation: str
    source: str
    licence: str
    noise: Noise | None = None
    notes: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in ("name", "version"):
            if not _WORD.fullmatch(getattr(self, what)):
                raise BadInput(
                    f"collection {what} {getattr(self, what)!r}: lower-case letters, digits, and "
                    "._- after the first, at most 64."
                )
        for what in ("title", "citation", "source", "licence"):
            if not getattr(self, what):
                raise BadInput(f"collection {self.name}: its {what} is empty.")
        for file, digest in self.files.items():
            if len(PurePosixPath(file).parts) != 1 or "\\" in file or file in (".", "..", NAME):
                raise BadInput(f"collection {self.name}: {file!r} is not the name of a file.")
            if not _DIGEST.fullmatch(digest):
                raise BadInput(f"collection {self.name}: the digest of {file} is not SHA-256.")

    @property
    def folder_name(self) -> str:
        """``name-version``."""
        return f"{self.name}-{self.version}"

    @property
    def digest(self) -> str:
        """SHA-256 of everything in it, hence of the data."""
        return digest_json(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        noise = None if self.noise is None else dict(self.noise.__dict__)
        values = dict(self.__dict__) | {"level": self.level.as_dict(), "noise": noise}
        return {"schema": SCHEMA, **values, "files": dict(self.files)}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a package.

    Raises:
        BadInput: missing, not JSON, of another schema, or with values that cannot be.
    """
    path = readable_file(folder / NAME, "manifest of a collection")
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path}: is larger than {MAX_BYTES} bytes: no manifest of a collection.")
    try:
        values = json.loads(path.read_text())
        schema = values.pop("schema")
        if schema != SCHEMA:
            raise BadInput(f"{path}: schema {schema!r}; this karat reads {SCHEMA}. Update karat.")
        if values["task"] not in TASKS:
            raise BadInput(f"task {values['task']!r} is none of {', '.join(TASKS)}.")
        level, noise = LevelOfTheory.from_dict(values.pop("level")), values.pop("noise")
        noise = None if noise is None else Noise(float(noise["value"]), str(noise["source"]))
        return Manifest(**values, level=level, noise=noise)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path}: not the manifest of a collection ({error!r}).") from error
