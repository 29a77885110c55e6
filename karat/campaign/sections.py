"""The sections of a campaign, as frozen types: what is studied, by whom, against what.

Checked: tests/campaign/test_schema.py.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from karat.core import components
from karat.core.errors import BadInput
from karat.structures.labels import LevelOfTheory


@dataclass(frozen=True)
class System:
    """What is studied: a molecule from SMILES, or the structures of a file.

    Attributes:
        smiles: of one molecule.
        file: anything ASE reads, SDF or PDB; relative to the campaign file.
        conformers: how many starts at most: conformers of the SMILES, or first ones of the file.
        charge: total charge, e; by default the SMILES' or the file's.
        multiplicity: 2S+1; by default the lowest that fits the number of electrons.
    """

    smiles: str | None = None
    file: str | None = None
    conformers: int = 1
    charge: int | None = None
    multiplicity: int | None = None

    def __post_init__(self) -> None:
        if (self.smiles is None) == (self.file is None):
            raise BadInput("system: give either 'smiles' or 'file', and not both.")
        if self.conformers < 1:
            raise BadInput(f"system.conformers is {self.conformers}; it must be at least 1.")


@dataclass(frozen=True)
class Resources:
    """What the campaign may use.

    Attributes:
        workers: processes, one compute thread each; by default one per core.
        timeout_s: limit of one reference calculation.
        attempts: how often a reference calculation is tried.
    """

    workers: int | None = None
    timeout_s: float = 600.0
    attempts: int = 2

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise BadInput(f"resources.workers is {self.workers}; it must be at least 1.")
        if self.timeout_s <= 0 or self.attempts < 1:
            raise BadInput("resources: timeout_s must be positive and attempts at least 1.")


@dataclass(frozen=True)
class SplitSettings:
    """How made data are parted into train, valid and test.

    Attributes:
        by: stretches of time of each trajectory, whole groups, single structures at random, or
            whole clusters of similar structures.
        valid, test: fractions.
        blocks: stretches per trajectory (time_block only).
        gap: frames given up between stretches (time_block only).
    """

    by: Literal["time_block", "group", "random", "similarity"] = "time_block"
    valid: float = 0.1
    test: float = 0.25
    blocks: int = 1
    gap: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.valid < 1 and 0 < self.test < 1 and self.valid + self.test < 1):
            raise BadInput(
                f"data.split: valid {self.valid} and test {self.test} must be fractions that "
                "leave something to train on, e.g. 0.1 and 0.25."
            )
        if self.blocks < 1 or self.gap < 0:
            raise BadInput("data.split: blocks must be at least 1 and gap at least 0.")


@dataclass(frozen=True)
class GivenData:
    """Labelled files.

    Attributes:
        train: may be absent where nothing is trained.
        valid: by default a tenth of `train` is set aside, by time block where there is time.
        test: kept apart.
        level: who computed the labels; {method: PBE, …}.
    """

    path_keys: ClassVar[tuple[str, ...]] = ("train", "valid", "test")

    test: str
    level: LevelOfTheory
    train: str | None = None
    valid: str | None = None


@dataclass(frozen=True)
class Chosen:
    """A component by its catalogue name (or import path), with its settings."""

    name: str
    component: Any

    def as_dict(self, key: str) -> dict[str, Any]:
        """As in a campaign file, every default written out."""
        return {key: self.name, "options": components.dump(self.component)}


@dataclass(frozen=True)
class MadeData:
    """Data the campaign makes: samplers, labels by the reference engine, a split."""

    sample: tuple[Chosen, ...]
    split: SplitSettings


@dataclass(frozen=True)
class Training:
    """A potential to fit.

    Attributes:
        name: of the contestant.
        model: architecture with hyper-parameters.
        size: number of training structures; `None` is all of them.
        settings: of the trainer.
    """

    name: str
    model: Chosen
    size: int | None
    settings: Any

    def as_settings(self) -> dict[str, Any]:
        """The trainer's settings, every default written out."""
        return components.dump(self.settings)


@dataclass(frozen=True)
class Entrant:
    """A contestant that is there already."""

    name: str
    potential: Chosen


@dataclass(frozen=True)
class AssayEntry:
    """An assay; `name` tells two of one kind apart."""

    name: str
    assay: Chosen


@dataclass(frozen=True)
class Campaign:
    """One job, completely said; every default is written out in `as_dict`."""

    name: str
    title: str
    seed: int
    system: System | None
    reference: Chosen | None
    data: MadeData | GivenData | None
    train: tuple[Training, ...]
    contestants: tuple[Entrant, ...]
    assays: tuple[AssayEntry, ...]
    resources: Resources
    file: str = field(default="campaign", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values that `parse_campaign` turns into an equal campaign."""
        data: dict[str, Any] | None = None
        if isinstance(self.data, MadeData):
            data = {
                "sample": [chosen.as_dict("sampler") for chosen in self.data.sample],
                "split": components.dump(self.data.split),
            }
        elif self.data is not None:
            data = dataclasses.asdict(self.data) | {"level": self.data.level.as_dict()}
        return {
            "name": self.name,
            "title": self.title,
            "seed": self.seed,
            "system": None if self.system is None else components.dump(self.system),
            "reference": None if self.reference is None else self.reference.as_dict("engine"),
            "data": data,
            "train": [
                {"name": entry.name, "size": entry.size}
                | entry.model.as_dict("model")
                | {"settings": components.dump(entry.settings)}
                for entry in self.train
            ],
            "contestants": [
                {"name": e.name} | e.potential.as_dict("potential") for e in self.contestants
            ],
            "assays": [
                {"name": entry.name} | entry.assay.as_dict("assay") for entry in self.assays
            ],
            "resources": components.dump(self.resources),
        }
