"""One potential measured on one labelled set: a campaign made of a few values.

Checked: tests/cli/test_assay.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karat.campaign.runner import Summary
from karat.campaign.schema import parse_campaign
from karat.campaign.sections import Campaign
from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.results.result import Result
from karat.structures.labels import LevelOfTheory

DEFAULT = "energy_forces"
"""The assay where none is named."""

PLACE = "karat assay"


@dataclass(frozen=True, eq=False)
class Outcome:
    """How one assay ended.

    Attributes:
        name: of the assay.
        status: ``done``, ``failed``, ``not-applicable`` or ``missing``.
        reason: why it is not done.
        score: its result, or `None`.
        folder: where the result lies, or `None`.
    """

    name: str
    status: str
    reason: str
    score: Result | None
    folder: Path | None


def make_campaign(
    potential: str,
    test: Path,
    level: LevelOfTheory,
    title: str,
    assays: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Campaign:
    """The campaign that measures one potential on one test set.

    Args:
        potential: path of a ``.karat`` file, a name of the catalogue, or ``module:Class``.
        test: labelled structures in eV and Å; need not be there yet.
        level: of the labels.
        assays: names; `DEFAULT` where there is none.
        options: of the potential; under the name of an assay, of that assay.

    Raises:
        BadInput: unknown potential, assay or key, a value that does not fit, a file that is
            missing; with a suggestion where a name is near another.
    """
    from karat.assays.catalogue import CATALOGUE

    names = list(dict.fromkeys(assays)) or [DEFAULT]
    own = dict(options or {})
    of_assays: dict[str, Any] = {}
    for name in sorted({*CATALOGUE.names(), *names} & set(own)):
        if name not in names:
            raise BadInput(f"{name} has settings but is not asked for. Add --assay {name}.")
        of_assays[name] = own.pop(name)
    contestant = _contestant(potential)
    values = {
        "name": "assay",
        "title": title,
        "seed": seed,
        "data": {"test": str(test.resolve()), "level": level.as_dict()},
        "contestants": [{**contestant, "options": {**contestant["options"], **own}}],
        "assays": [{"assay": name, "options": of_assays.get(name, {})} for name in names],
    }
    return parse_campaign(values, Path.cwd(), PLACE)


def is_file(potential: str) -> bool:
    """Whether a `.karat` file is meant, not a name of the catalogue."""
    return potential.endswith(".karat")


def _contestant(potential: str) -> dict[str, Any]:
    """Name, component and own options of the contestant."""
    from karat.potentials.catalogue import CATALOGUE
    from karat.potentials.karat_header import read_header

    if is_file(potential):
        read_header(potential)
        path = Path(potential)
        options = {"path": str(path.resolve())}
        return {"name": path.stem, "potential": "karat_file", "options": options}
    if ":" not in potential and potential not in CATALOGUE.names():
        if Path(potential).exists():
            raise BadInput(f"{potential}: is no .karat file. Name one, or see `karat list`.")
        CATALOGUE.resolve(potential)  # says what is near
    return {"name": potential, "potential": potential, "options": {}}


def own_or_refuse(folder: Path, campaign: Campaign) -> None:
    """Refuse a folder with results of another campaign: its index and report would be lost.

    Raises:
        BadInput: another potential, other data, or a campaign of `karat run`.
    """
    index = folder / "index.json"
    if not index.exists():
        return
    try:
        stored = json.loads(index.read_text())["campaign"]
    except (OSError, ValueError, KeyError, TypeError):
        stored = {}
    mine = campaign.as_dict()
    keys = ("name", "title", "seed", "data", "contestants")
    if not isinstance(stored, dict) or any(stored.get(key) != mine[key] for key in keys):
        raise BadInput(
            f"{folder}: holds results of another campaign, potential or test set. "
            "Name another folder with --output."
        )


def warnings_before(potential: str, data: str, dataset: Dataset) -> list[str]:
    """What a `.karat` file's header tells about the test data: leakage, another level."""
    from karat.potentials.karat_header import read_header

    if not is_file(potential):
        return []
    header = read_header(potential)
    if header.training_data == dataset.digest:
        leakage = (
            f"warning: leakage: {potential} was trained on exactly these {len(dataset)} "
            "structures: the errors are training errors and say nothing about others."
        )
    else:
        leakage = f"whether test structures are in the training data: karat check TRAIN {data}"
    return [leakage, *level_warnings(header.level, dataset.level)]


def level_warnings(trained: LevelOfTheory | None, test: LevelOfTheory) -> list[str]:
    """At most one: the levels differ, or one of them is not known."""
    if test.method.lower() == "unknown":
        return [
            "warning: the test file does not say its level of theory; name it with --level. "
            "Errors hold only if it is the potential's."
        ]
    if trained is None or trained.method.lower() == "unknown":
        return [
            f"warning: the potential does not say its level of theory; the test is {test.label}. "
            "Errors hold only if both are the same."
        ]
    if trained.same_as(test):
        return []
    return [
        f"warning: two levels of theory: the potential is {trained.label}, the test is "
        f"{test.label}. The errors hold the difference between the two levels, too."
    ]


def warnings_after(outcomes: Sequence[Outcome], dataset: Dataset) -> list[str]:
    """Of a potential without a header: the level that it said when it was measured."""
    scores = [outcome.score for outcome in outcomes if outcome.score is not None]
    if not scores:
        return []
    stored = scores[0].payload["contestant_level"]
    level = None if stored is None else LevelOfTheory.from_dict(stored)
    return level_warnings(level, dataset.level)


def outcomes_of(summary: Summary, campaign: Campaign) -> list[Outcome]:
    """How each assay of a campaign made by `make_campaign` ended."""
    who = campaign.contestants[0].name
    found = []
    for entry in campaign.assays:
        steps = [f"cases {entry.name}", *(f"{k} {entry.name} {who}" for k in ("measure", "score"))]
        ends = [summary.outcomes[step] for step in steps]
        last = next((end for end in ends if end.status != "done"), ends[-1])
        done = last.status == "done"
        folder = summary.folder / last.folder if done else None
        score = None if folder is None else Result.load(folder)
        found.append(Outcome(entry.name, last.status, last.reason, score, folder))
    return found


def failures_of(summary: Summary, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Cases that failed, and steps that did, JSON-ready."""
    found = [
        {"assay": outcome.name, **failure.as_dict()}
        for outcome in outcomes
        if outcome.score is not None
        for failure in outcome.score.failures
    ]
    return found + [
        {"assay": "", "what": "step", "case": name, "kind": "failed", "reason": outcome.reason}
        for name, outcome in summary.outcomes.items()
        if outcome.status == "failed"
    ]
