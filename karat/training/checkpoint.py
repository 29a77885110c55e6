"""The state of a training run on disk: one safetensors file, written atomically.

Checked: tests/training/test_resume.py.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.core.files import write_atomic
from karat.training.divergence import Rollback
from karat.training.schedules import Plateau
from karat.training.stability import Candidate

SCHEMA = 2
MEMBER_COLUMNS = ("valid_loss", "energy_mae", "energy_rmse", "force_mae", "force_rmse")
NAME = "checkpoint.safetensors"


@dataclass
class Journal:
    """What a run remembers beside its arrays.

    Attributes:
        digest: of everything that decides its numbers: architecture, settings, data, versions.
        epoch: epochs done.
        step: steps done.
        seconds: wall time of the parts before, compilation included.
        best_epoch: epoch with the lowest validation loss, -1 before the first; of a committee the
            last in which a member's was the lowest.
        best_loss: that loss; infinite before the first; of a committee the mean of the members'.
        rows: one per epoch, in the order of `curve.COLUMNS`.
        finished: why it ended, "" while it runs.
        plateau: where the schedule of that name stands.
        typical: medians of the loss's terms in the last epoch, empty before the first; of a
            committee for one member after the other.
        rollbacks: returns to the last good epoch.
        packing: for people and summaries: what `Packing.summary` says.
        candidates: epochs whose parameters are kept for the test of stability, as `State.rivals`.
        stability: what that test found: see `Stability.as_dict`; empty without one.
        member_epochs, member_losses: of a committee, each member's best; empty before the first.
        member_rows: one per epoch: each member's errors, in the order of `MEMBER_COLUMNS`.
    """

    digest: str
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_epoch: int = -1
    best_loss: float = float("inf")
    rows: list[list[float]] = field(default_factory=list)
    finished: str = ""
    plateau: Plateau = field(default_factory=Plateau)
    typical: list[float] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    packing: dict[str, Any] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    stability: dict[str, Any] = field(default_factory=dict)
    member_epochs: list[int] = field(default_factory=list)
    member_losses: list[float] = field(default_factory=list)
    member_rows: list[list[list[float]]] = field(default_factory=list)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Journal":
        """From what `dataclasses.asdict` gave."""
        plateau = Plateau(**values.pop("plateau"))
        rollbacks = [Rollback(**rollback) for rollback in values.pop("rollbacks")]
        candidates = [Candidate(**candidate) for candidate in values.pop("candidates")]
        return cls(plateau=plateau, rollbacks=rollbacks, candidates=candidates, **values)


def encode(journal: Journal, arrays: dict[str, Any]) -> bytes:
    """The file's bytes."""
    from safetensors.numpy import save

    text = json.dumps({"schema": SCHEMA, **asdict(journal)})
    return save({name: np.asarray(a) for name, a in arrays.items()}, {"karat_training": text})


def write(folder: Path, content: bytes) -> None:
    """Put an encoded checkpoint into a run's folder."""
    write_atomic(folder / NAME, content)


def read(folder: Path, digest: str) -> tuple[Journal, dict[str, np.ndarray]] | None:
    """The checkpoint in `folder`, or `None` if there is none.

    Raises:
        BadInput: it is damaged, of another schema, or of a run with other data or settings.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / NAME
    if not path.exists():
        return None
    again = f"Name another folder, or start again with --fresh (fresh=True) to replace {path}."
    try:
        with safe_open(path, framework="numpy") as file:
            values = json.loads((file.metadata() or {})["karat_training"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        schema = values.pop("schema")
        journal = Journal.from_values(values) if schema == SCHEMA else None
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: is not a readable checkpoint ({error}). {again}") from error
    if journal is None:
        raise BadInput(f"{path}: checkpoint schema {schema}, this karat reads {SCHEMA}. {again}")
    if journal.digest != digest:
        raise BadInput(
            f"{path}: belongs to a training run with other data, settings or versions. {again}"
        )
    return journal, arrays
