"""`Result`: a folder with `result.json` and `arrays.safetensors`.

Checked: tests/results/test_result.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.core.files import readable_file, write_atomic, write_json
from karat.core.hashing import digest_arrays, digest_json
from karat.results.figure import Figure
from karat.results.metric import Failure, Metric
from karat.results.provenance import Provenance
from karat.structures.labels import LevelOfTheory

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Result:
    """What one step found.

    Attributes:
        kind: what made it: ``structures``, ``labels``, ``check``, ``split``, ``train``,
            ``assay``, ``reference`` …
        name: of the step, e.g. ``assay torsions bpnn-200``.
        metrics: numbers with intervals.
        failures: what did not work.
        figures: what to draw.
        payload: further JSON: contestant, assay, version, summary words, curve, …
        arrays: name → array; saved without pickling.
        level: level of theory of what it was compared with, or `None`.
        timings: name → seconds or other hardware-bound numbers; not part of its identity.
        provenance: versions, seeds, hardware, inputs.
    """

    kind: str
    name: str
    provenance: Provenance
    metrics: tuple[Metric, ...] = ()
    failures: tuple[Failure, ...] = ()
    figures: tuple[Figure, ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    level: LevelOfTheory | None = None
    timings: Mapping[str, Any] = field(default_factory=dict)

    def metric(self, name: str, subset: str = "") -> Metric:
        """The metric of that name.

        Raises:
            KeyError: there is none.
        """
        for metric in self.metrics:
            if (metric.name, metric.subset) == (name, subset):
                return metric
        raise KeyError(f"{self.name} has no metric {name} {subset}")

    @property
    def digest(self) -> str:
        """SHA-256 of everything but timings, hardware, versions and times of day."""
        values = self.as_dict()
        for key in ("timings", "provenance"):
            values.pop(key)
        values["inputs"] = dict(self.provenance.inputs)
        values["seeds"] = dict(self.provenance.seeds)
        return digest_json([values, digest_arrays(self.arrays)])

    def as_dict(self) -> dict[str, Any]:
        """Everything but the arrays, JSON-ready."""
        return {
            "schema": SCHEMA_VERSION,
            "kind": self.kind,
            "name": self.name,
            "metrics": [metric.as_dict() for metric in self.metrics],
            "failures": [failure.as_dict() for failure in self.failures],
            "figures": [figure.as_dict() for figure in self.figures],
            "payload": dict(self.payload),
            "level": None if self.level is None else self.level.as_dict(),
            "timings": dict(self.timings),
            "provenance": self.provenance.as_dict(),
        }

    def save(self, folder: Path) -> None:
        """Write into `folder` (made if missing); `result.json` last, so that it marks the end."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        if self.arrays:
            arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
            write_atomic(folder / "arrays.safetensors", save(arrays))
        write_json(folder / "result.json", self.as_dict())

    @classmethod
    def load(cls, folder: Path) -> "Result":
        """Read a result folder.

        Raises:
            BadInput: missing, not JSON, or of another schema.
        """
        path = readable_file(folder / "result.json", "result file")
        try:
            values = json.loads(path.read_text())
            if values["schema"] != SCHEMA_VERSION:
                raise BadInput(
                    f"{path}: schema {values['schema']}, but this karat reads {SCHEMA_VERSION}. "
                    "Run the campaign again with this version."
                )
            arrays: dict[str, np.ndarray] = {}
            if (folder / "arrays.safetensors").exists():
                from safetensors.numpy import load_file

                arrays = load_file(folder / "arrays.safetensors")
            return cls._from_dict(values, arrays)
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path}: not a karat result ({error!r}).") from error

    @classmethod
    def _from_dict(cls, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> "Result":
        return cls(
            kind=values["kind"],
            name=values["name"],
            metrics=tuple(Metric.from_dict(item) for item in values["metrics"]),
            failures=tuple(Failure.from_dict(item) for item in values["failures"]),
            figures=tuple(Figure.from_dict(item) for item in values["figures"]),
            payload=values["payload"],
            arrays=arrays,
            level=None if values["level"] is None else LevelOfTheory.from_dict(values["level"]),
            timings=values["timings"],
            provenance=Provenance.from_dict(values["provenance"]),
        )
