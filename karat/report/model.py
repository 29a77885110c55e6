"""What a campaign's output folder holds, as one frozen view; nothing unreadable is hidden.

`load_view` reads ``index.json`` and every finished step's result. It never imports JAX and never
computes: it can run on any machine, long after the campaign.

Checked: tests/report/test_report_model.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.results.figure import Figure
from karat.results.result import Result

UNREADABLE = "unreadable"
NON_CONSERVATIVE = "non-conservative"
"""Tag of contestants whose forces are not the gradient of their energy."""
STATUSES = ("done", "failed", "not-applicable", "missing", UNREADABLE)


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the campaign.

    Attributes:
        folder: relative to the output folder, or "".
        kind: ``structures``, ``labels``, ``check``, ``split``, ``train``, ``score`` …
        name: e.g. ``score torsions bpnn-200``.
        status: one of `STATUSES`; ``unreadable`` where a done step's files cannot be read.
        reason: why it is not done.
        seconds: wall time, or `None`.
        contestant, assay: of whom and of what, "" where it is neither.
        result: what it found, or `None`.
    """

    folder: str
    kind: str
    name: str
    status: str
    reason: str = ""
    seconds: float | None = None
    contestant: str = ""
    assay: str = ""
    result: Result | None = None


@dataclass(frozen=True)
class Contestant:
    """Who took part.

    Attributes:
        level: short name of its own level of theory, or "".
        is_reference: shown, never ranked.
        model: architecture of a trained one, or "".
        labels: number of its training structures, or `None`.
        seconds: what its training took, or `None`.
        conservative: whether it says that its forces are the gradient of its energy.
    """

    name: str
    level: str = ""
    is_reference: bool = False
    model: str = ""
    labels: int | None = None
    seconds: float | None = None
    conservative: bool = True


@dataclass(frozen=True, eq=False)
class View:
    """Everything the report says, in the order of the campaign."""

    folder: Path
    name: str
    title: str
    steps: tuple[Step, ...]
    campaign: Mapping[str, Any] = field(default_factory=dict)

    def results(self, kind: str) -> tuple[Result, ...]:
        """The results of every readable step of that kind."""
        return tuple(s.result for s in self.steps if s.kind == kind and s.result is not None)

    @cached_property
    def scores(self) -> tuple[Result, ...]:
        """One per contestant and assay that was measured."""
        return self.results("score")

    @cached_property
    def assays(self) -> tuple[str, ...]:
        """Names of the assays, in order of appearance."""
        return tuple(dict.fromkeys(step.assay for step in self.steps if step.assay))

    @cached_property
    def contestants(self) -> tuple[Contestant, ...]:
        """Who took part, in order of appearance."""
        names = dict.fromkeys(step.contestant for step in self.steps if step.contestant)
        return tuple(self._contestant(name) for name in names)

    def _contestant(self, name: str) -> Contestant:
        mine = [score for score in self.scores if score.payload.get("contestant") == name]
        levels = [s.payload["contestant_level"] for s in mine if s.payload.get("contestant_level")]
        trained = [t for t in self.results("train") if t.payload.get("contestant") == name]
        payload = trained[0].payload if trained else {}
        labels = payload.get("labels")
        seconds = trained[0].timings.get("seconds") if trained else None
        return Contestant(
            name=name,
            level=level_text(levels[0]) if levels else "",
            is_reference=any(bool(score.payload.get("is_reference")) for score in mine),
            model=_model_name(payload.get("model", "")),
            labels=int(labels) if isinstance(labels, int | float) else None,
            seconds=float(seconds) if isinstance(seconds, int | float) else None,
            conservative=all(bool(score.payload.get("conservative", True)) for score in mine),
        )

    def assay_title(self, assay: str) -> str:
        """Readable name of an assay."""
        titles = [score.payload.get("title", "") for score in self.scores_of(assay)]
        return str(titles[0]) if titles and titles[0] else assay.replace("_", " ")

    def scores_of(self, assay: str) -> tuple[Result, ...]:
        """The scores of one assay, in order."""
        return tuple(score for score in self.scores if score.payload.get("assay") == assay)

    def figures(self) -> list[tuple[Result, Figure]]:
        """Every figure of every score, with whose it is."""
        return [(score, figure) for score in self.scores for figure in score.figures]


def _model_name(model: Any) -> str:
    if isinstance(model, Mapping):
        return str(model.get("name") or model.get("kind") or model.get("architecture") or "")
    return str(model or "")


def level_text(level: Any) -> str:
    """Short name of a level of theory written as a mapping or as text."""
    if isinstance(level, Mapping):
        from karat.structures.labels import LevelOfTheory

        known = {k: v for k, v in level.items() if k in LevelOfTheory.__dataclass_fields__}
        return LevelOfTheory.from_dict(known).label if "method" in known else ""
    return str(level or "")


def load_view(folder: Path) -> View:
    """Read the output folder of a campaign.

    Raises:
        BadInput: no folder, no ``index.json``, or one that is not an index.
    """
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: no such folder. Name the output folder of a `karat run`, e.g. runs/demo."
        )
    path = folder / "index.json"
    if not path.exists():
        raise BadInput(
            f"{folder}: holds no index.json, so it is not the output folder of a campaign. "
            "Run `karat run CAMPAIGN --output FOLDER` first."
        )
    readable_file(path, "index of a campaign")
    try:
        index = json.loads(path.read_text())
        entries = [dict(entry) for entry in index["steps"]]
        name, title = str(index["name"]), str(index.get("title") or index["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path}: not the index of a campaign ({error!r}). Run the campaign again."
        ) from error
    loaded = [_load_step(folder, entry) for entry in entries]
    return View(folder, name, title, tuple(loaded), index.get("campaign") or {})


def _load_step(folder: Path, entry: Mapping[str, Any]) -> Step:
    status, reason = str(entry.get("status", "missing")), str(entry.get("reason") or "")
    result = None
    if status == "done":
        try:
            result = Result.load(folder / str(entry["folder"]))
        except (BadInput, OSError, KeyError) as error:
            status, reason = UNREADABLE, str(error)
        except Exception as error:  # a damaged array file raises safetensors' own kinds
            status, reason = UNREADABLE, f"{type(error).__name__}: {error}"
    payload = {} if result is None else result.payload
    seconds = entry.get("seconds")
    return Step(
        folder=str(entry.get("folder", "")),
        kind=str(entry.get("kind", "")),
        name=str(entry.get("name", "")),
        status=status,
        reason=reason,
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        contestant=str(payload.get("contestant") or entry.get("contestant") or ""),
        assay=str(payload.get("assay") or entry.get("assay") or ""),
        result=result,
    )
