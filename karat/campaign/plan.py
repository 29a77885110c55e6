"""`plan`: a campaign as steps, each named by the hash of what goes into it; pure and printable.

    structures → sample … → label → split → fit … ─┐
         │                            ├→ check     ├→ train (the record of a fit)
         └──────────→ cases (per assay) → measure (per assay and contestant) → score

A step's key is the SHA-256 of its kind, the version of that kind's code, the components and
seeds it uses, the keys of the steps it needs and, for timings, the hardware. Names of
contestants and paths are not part of it, but for `train` and `score`, which are cheap and say
them. Two steps with one key are one step.

Checked: tests/campaign/test_plan.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from karat.campaign.contenders import Contender, contenders
from karat.campaign.inputs import component_digest, content_digest
from karat.campaign.sections import AssayEntry, Campaign, GivenData, MadeData
from karat.core import components
from karat.core.hashing import digest_json
from karat.results.provenance import hardware

VERSIONS: Final = {
    "structures": 1,
    "sample": 1,
    "labels": 1,
    "split": 1,
    "check": 1,
    "fit": 1,
    "train": 1,
    "cases": 1,
    "measure": 1,
    "score": 1,
}
"""Raised when the code of that kind of step changes what comes out of it."""


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        name: for people, e.g. ``measure torsions bpnn-50``.
        kind: what to do; one of `VERSIONS`.
        key: hash of what goes into it.
        inputs: role → key of the step that gives it.
        arguments: which entries of the campaign it is about.
        exclusive: whether it measures time and so runs alone.
        contestant, assay: names, "" where it is not about one.
    """

    name: str
    kind: str
    key: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    exclusive: bool = False
    contestant: str = ""
    assay: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        values = dict(self.__dict__)
        return values | {"inputs": dict(self.inputs), "arguments": dict(self.arguments)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Step":
        """The inverse of `as_dict`."""
        return cls(**values)


def plan(campaign: Campaign) -> tuple[Step, ...]:
    """Every step, each after those it needs."""
    return _Planner(campaign).all()


class _Planner:
    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.steps: dict[str, Step] = {}
        self.reference = "" if campaign.reference is None else self._reference_digest()

    def _reference_digest(self) -> str:
        assert self.campaign.reference is not None
        engine = self.campaign.reference.component
        return digest_json([component_digest(engine), engine.level.as_dict()])

    def add(
        self,
        name: str,
        kind: str,
        content: Any,
        inputs: Mapping[str, str] | None = None,
        arguments: Mapping[str, Any] | None = None,
        exclusive: bool = False,
        contestant: str = "",
        assay: str = "",
    ) -> str:
        """Add a step, if none has its key; the key."""
        given = dict(inputs or {})
        key = digest_json([kind, VERSIONS[kind], content, given, hardware() if exclusive else None])
        step = Step(name, kind, key, given, dict(arguments or {}), exclusive, contestant, assay)
        self.steps.setdefault(key, step)
        return key

    def all(self) -> tuple[Step, ...]:
        campaign = self.campaign
        split = ""
        if isinstance(campaign.data, GivenData):
            split = self._given(campaign.data)
            structures = self._structures(split)
        else:
            structures = self._structures("")
            if isinstance(campaign.data, MadeData):
                split = self._made(campaign.data, structures)
        if split:
            self.add("check", "check", None, {"split": split}, {})
        fits = self._fits(split)
        for index, entry in enumerate(campaign.assays):
            self._assay(index, entry, structures, split, fits)
        return tuple(self.steps.values())

    def _structures(self, split: str) -> str:
        campaign, system = self.campaign, self.campaign.system
        if system is None:
            return self.add("structures", "structures", None, {"split": split})
        content = [component_digest(system), campaign.seed if system.smiles else None]
        return self.add("structures", "structures", content)

    def _given(self, data: GivenData) -> str:
        from pathlib import Path

        files = {
            role: content_digest(Path(name))
            for role in ("train", "valid", "test")
            if (name := getattr(data, role)) is not None
        }
        return self.add("split", "split", ["given", files, data.level.as_dict()])

    def _made(self, data: MadeData, structures: str) -> str:
        samples: dict[str, str] = {}
        repeats: dict[str, int] = {}
        for index, chosen in enumerate(data.sample):
            digest = component_digest(chosen.component)
            repeats[digest] = repeats.get(digest, -1) + 1
            content = [digest, self.reference, self.campaign.seed, repeats[digest]]
            samples[f"sample.{index}"] = self.add(
                f"sample {chosen.name} {index}",
                "sample",
                content,
                {"structures": structures},
                {"sample": index, "repeat": repeats[digest]},
            )
        limits = self.campaign.resources
        labels = self.add(
            "label", "labels", [self.reference, limits.timeout_s, limits.attempts], samples
        )
        split = [component_digest(data.split), self.campaign.seed]
        return self.add("split", "split", split, {"labels": labels})

    def _fits(self, split: str) -> dict[str, str]:
        """Name of each trained contestant → key of its fit."""
        fits: dict[str, str] = {}
        for index, entry in enumerate(self.campaign.train):
            content = [
                component_digest(entry.model.component),
                entry.size,
                components.digest(entry.settings),
                self.campaign.seed,
            ]
            fits[entry.name] = self.add(
                f"fit {entry.name}", "fit", content, {"split": split}, {"train": index}
            )
            self.add(
                f"train {entry.name}",
                "train",
                entry.name,
                {"fit": fits[entry.name]},
                {"train": index},
                contestant=entry.name,
            )
        return fits

    def _assay(
        self, index: int, entry: AssayEntry, structures: str, split: str, fits: Mapping[str, str]
    ) -> None:
        assay = entry.assay.component
        what = [component_digest(assay), type(assay).version]
        inputs = {"structures": structures}
        if "test" in assay.needs and split:
            inputs["split"] = split
        content = [what, self.reference, self.campaign.seed]
        about = {"assay": index}
        cases = self.add(f"cases {entry.name}", "cases", content, inputs, about, assay=entry.name)
        for contender in contenders(self.campaign):
            given = {"cases": cases}
            who: Any = None
            if contender.source == "trained":
                given["fit"] = fits[contender.name]
            else:
                who = component_digest(contender.component)
            of_whom = about | {"contender": contender.name}
            measure = self.add(
                f"measure {entry.name} {contender.name}",
                "measure",
                [what, who],
                given,
                of_whom,
                exclusive=type(assay).timing,
                contestant=contender.name,
                assay=entry.name,
            )
            self._score(entry, what, contender, given | {"measure": measure}, of_whom)

    def _score(
        self,
        entry: AssayEntry,
        what: Any,
        contender: Contender,
        inputs: dict[str, str],
        arguments: Mapping[str, Any],
    ) -> None:
        self.add(
            f"score {entry.name} {contender.name}",
            "score",
            [what, entry.name, contender.name, contender.is_reference],
            inputs,
            arguments,
            contestant=contender.name,
            assay=entry.name,
        )
