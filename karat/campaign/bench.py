"""What a step works with: the campaign, its inputs from the store, a folder of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from karat.campaign.contenders import Contender, contenders, reference_component
from karat.campaign.plan import Step
from karat.campaign.sections import Campaign
from karat.core.errors import KaratError
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset, Record
from karat.data.storage import dataset_from_parts, dataset_to_parts
from karat.results.metric import Failure, Metric
from karat.results.provenance import Provenance
from karat.results.result import Result
from karat.results.store import Store
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure


class StepFailed(KaratError):
    """A step that could not be done, with the reason to show."""


Report = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Product:
    """What a step made: a result, and files that lie beside it.

    Attributes:
        name → writer: called with the path to write.
    """

    result: Result
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bench:
    """Handed to the function that does a step.

    Attributes:
        work: a folder that survives an interruption, for what resumes inside a step.
        workers: how many processes the step may use.
    """

    campaign: Campaign
    step: Step
    store: Store
    work: Path
    workers: int
    report: Report

    def input(self, role: str) -> Result:
        """The result that a needed step left."""
        return _load(self.input_folder(role))

    def input_folder(self, role: str) -> Path:
        """Where that step left its files."""
        found = self.store.find(self.step.inputs[role])
        if found is None:
            raise StepFailed(f"{self.step.name}: the step '{role}' that it needs is not stored.")
        return found

    def seed(self, *words: Any) -> int:
        """A seed from the campaign's and from what it is for."""
        return int(digest_json([self.campaign.seed, *words])[:8], 16) % 2**31

    @property
    def contender(self) -> Contender:
        """Whom the step is about."""
        name = self.step.arguments["contender"]
        return next(c for c in contenders(self.campaign) if c.name == name)

    def reference(self) -> Any:
        """The reference engine as a potential, or `None`."""
        if self.campaign.reference is None:
            return None
        return reference_component(self.campaign).load()

    def result(
        self,
        payload: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
        failures: tuple[Failure, ...] = (),
        level: LevelOfTheory | None = None,
        timings: Mapping[str, Any] | None = None,
        metrics: tuple[Metric, ...] = (),
        figures: tuple = (),
    ) -> Result:
        """A result of this step."""
        return Result(
            kind=self.step.kind,
            name=self.step.name,
            provenance=Provenance.now(
                inputs=self.step.inputs, seeds={"campaign": self.campaign.seed}
            ),
            metrics=metrics,
            failures=failures,
            figures=figures,
            payload=payload,
            arrays=dict(arrays or {}),
            level=level,
            timings=dict(timings or {}),
        )


@lru_cache(maxsize=32)
def _load(folder: Path) -> Result:
    return Result.load(folder)


def put_records(records: tuple[Record, ...], prefix: str = "") -> tuple[dict, dict]:
    """Records as arrays (names with a prefix) and payload."""
    arrays, payload = dataset_to_parts(records)
    return {f"{prefix}{name}": array for name, array in arrays.items()}, payload


def get_records(result: Result, prefix: str, payload: Mapping[str, Any]) -> tuple[Record, ...]:
    """The inverse of `put_records`."""
    arrays = {
        name.removeprefix(prefix): array
        for name, array in result.arrays.items()
        if name.startswith(prefix)
    }
    return dataset_from_parts(arrays, payload)


def get_part(split: Result, part: str) -> Dataset | None:
    """`train`, `valid` or `test` of a split, or `None` where there is none."""
    stored = split.payload["parts"].get(part)
    if stored is None:
        return None
    assert split.level is not None
    return Dataset(get_records(split, f"{part}/", stored), split.level)


def get_starts(structures: Result) -> tuple[Structure, ...]:
    """The structures under study."""
    records = get_records(structures, "records/", structures.payload["records"])
    return tuple(record.structure for record in records)


def drawing(structure: Structure) -> dict[str, Any]:
    """What the report needs to draw a structure."""
    topology = structure.topology
    return {
        "numbers": structure.numbers.tolist(),
        "positions": np.round(structure.positions, 4).tolist(),
        "bonds": [] if topology is None else topology.bonds.tolist(),
        "cell": structure.cell.tolist() if structure.periodic.any() else None,
    }
