"""Where labels are kept as they come: one small JSON file per structure, written atomically.

The name of a file is the digest of structure, engine with all its settings, level of theory with
the program's version, and wanted quantities: a file is an answer for ever. Files are the truth,
there is no index.

Checked: tests/reference/test_labelling.py.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karat.core.components import digest
from karat.core.errors import BadInput
from karat.core.files import write_json
from karat.core.hashing import digest_json
from karat.reference.exchange import labels_from_json, labels_to_json, ordered
from karat.reference.protocol import AbstractEngine
from karat.results.metric import Failure
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

SCHEMA = 1


def label_keys(
    engine: AbstractEngine, structures: Sequence[Structure], want: Sequence[Quantity]
) -> list[str]:
    """The key of each structure's labels."""
    common = [SCHEMA, digest(engine), engine.level.digest, list(ordered(want))]
    return [digest_json([*common, structure.digest]) for structure in structures]


@dataclass(frozen=True)
class Stored:
    """What the store knows about one structure.

    Attributes:
        outcome: labels, or why there are none.
        seconds: wall time of the last attempt; a timing, not part of the outcome.
    """

    outcome: Labels | Failure
    seconds: float


@dataclass(frozen=True)
class LabelStore:
    """A folder of finished outcomes."""

    folder: Path

    def path(self, key: str) -> Path:
        """The file of a key."""
        return self.folder / f"{key}.json"

    def read(self, key: str) -> Stored | None:
        """The stored outcome, or `None`.

        Raises:
            BadInput: the file is not one of this store.
        """
        path = self.path(key)
        try:
            values = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise BadInput(f"{path}: is not a label file ({error}). Delete it.") from error
        try:
            if values["schema"] != SCHEMA or values["key"] != key:
                raise KeyError("schema or key")
            outcome = (
                Failure.from_dict(values["failure"])
                if "failure" in values
                else labels_from_json(values["labels"])
            )
            return Stored(outcome, float(values["seconds"]))
        except (KeyError, TypeError) as error:
            raise BadInput(f"{path}: is not a label file of karat ({error}). Delete it.") from error

    def write(self, key: str, outcome: Labels | Failure, seconds: float) -> None:
        """Keep an outcome; a reader sees all of it or nothing."""
        values: dict[str, Any] = {"schema": SCHEMA, "key": key, "seconds": seconds}
        if isinstance(outcome, Failure):
            values["failure"] = outcome.as_dict()
        else:
            values["labels"] = labels_to_json(outcome)
        write_json(self.path(key), values)
