"""Campaigns from YAML: read, overridden, parsed.

Parsed strictly: unknown keys are errors with a suggestion, components validate themselves.
`validation.py` then checks what only structures and data can tell, before any work starts.

Checked: tests/campaign/test_schema.py.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from karat.campaign.inputs import map_paths, path_keys
from karat.campaign.loading import Section, check_keys, load_values, where
from karat.campaign.sections import (
    AssayEntry,
    Campaign,
    Chosen,
    Entrant,
    GivenData,
    MadeData,
    Resources,
    SplitSettings,
    System,
    Training,
)
from karat.core import components
from karat.core.catalogue import Catalogue
from karat.core.errors import BadInput

T = TypeVar("T")

KEYS = (
    *("name", "title", "seed", "system", "reference", "data", "train"),
    *("contestants", "assays", "resources"),
)
_NAME = re.compile(r"[^\s/\\][^/\\\n]*")


def catalogue(kind: str) -> Catalogue:
    """The catalogue of `engines`, `potentials`, `samplers`, `assays` or `architectures`."""
    if kind == "engines":
        from karat.reference.catalogue import CATALOGUE as engines

        return engines
    if kind == "potentials":
        from karat.potentials.catalogue import CATALOGUE as potentials

        return potentials
    if kind == "samplers":
        from karat.sampling.catalogue import CATALOGUE as samplers

        return samplers
    if kind == "assays":
        from karat.assays.catalogue import CATALOGUE as assays

        return assays
    from karat.potentials.native.catalogue import ARCHITECTURES

    return ARCHITECTURES


def load_campaign(path: Path, overrides: Sequence[str] = ()) -> Campaign:
    """The campaign of a YAML file, with `key=value` overrides.

    Raises:
        BadInput: anything in it that cannot be used; the message names file, line and key.
    """
    return parse_campaign(load_values(path, overrides), path.resolve().parent, str(path))


def parse_campaign(values: Mapping[str, Any], folder: Path, file: str = "campaign") -> Campaign:
    """A campaign from its values; relative paths are taken from `folder`.

    Raises:
        BadInput: see `load_campaign`.
    """
    check_keys(values, KEYS, file, required=("name", "assays"))
    name = values["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput(f"{file}: name must be text without slashes, not {name!r}.")
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise BadInput(f"{file}: seed must be a whole number from 0 to 2147483647, not {seed!r}.")
    reader = _Reader(folder, file, seed)
    campaign = Campaign(
        name=name,
        title=str(values.get("title") or name),
        seed=seed,
        system=reader.system(values.get("system")),
        reference=reader.reference(values.get("reference")),
        data=reader.data(values.get("data")),
        train=tuple(reader.entries(values.get("train"), "train", reader.training)),
        contestants=tuple(reader.entries(values.get("contestants"), "contestants", reader.entrant)),
        assays=tuple(reader.entries(values.get("assays"), "assays", reader.assay)),
        resources=reader.section(Resources, values.get("resources") or {}, "resources"),
        file=file,
    )
    _check_consistency(campaign)
    return campaign


@dataclass(frozen=True)
class _Reader:
    """Turns sections into their types; knows folder and file name for paths and messages."""

    folder: Path
    file: str
    seed: int

    def section(self, cls: type[T], values: Any, path: str) -> T:
        place = where(values, self.file, path)
        if not isinstance(values, Mapping):
            raise BadInput(f"{place} is a mapping (key: value), not {values!r}.")
        return components.parse(cls, self.with_paths(cls, values), place)

    def with_paths(self, cls: type, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """`values` with relative paths of fields that name files made absolute."""
        keys = path_keys(cls)
        resolved = Section(map_paths(values, keys, self.resolve))
        resolved.line = getattr(values, "line", 0)
        return resolved

    def resolve(self, text: str) -> str:
        """A path of the campaign file, made absolute."""
        return str(self.folder / Path(text).expanduser())

    def chosen(self, kind: str, key: str, values: Any, path: str) -> Chosen:
        place = where(values, self.file, path)
        if not isinstance(values.get(key), str):
            raise BadInput(f"{place} needs '{key}: NAME'. See `karat list {kind}`.")
        try:
            cls = catalogue(kind).resolve(values[key])
        except BadInput as error:
            raise type(error)(f"{place}: {error}") from error
        options = values.get("options") or {}
        return Chosen(values[key], self.section(cls, options, f"{path}.options"))

    def entries(self, values: Any, path: str, read: Any) -> list[Any]:
        if values is None:
            return []
        if not isinstance(values, list):
            raise BadInput(f"{self.file}: {path} is a list ('- …'), not {values!r}.")
        for index, item in enumerate(values):
            if not isinstance(item, Mapping):
                raise BadInput(f"{self.file}: {path}[{index}] is a mapping, not {item!r}.")
        return [read(item, f"{path}[{index}]") for index, item in enumerate(values)]

    def named(self, values: Mapping[str, Any], path: str, default: Any) -> str:
        name = values.get("name", default)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadInput(f"{where(values, self.file, path)}.name must be text, not {name!r}.")
        return name

    def system(self, values: Any) -> System | None:
        return None if values is None else self.section(System, values, "system")

    def reference(self, values: Any) -> Chosen | None:
        if values is None:
            return None
        if not isinstance(values, Mapping):
            raise BadInput(f"{self.file}: reference is a mapping (engine: NAME), not {values!r}.")
        check_keys(values, ("engine", "options"), where(values, self.file, "reference"))
        return self.chosen("engines", "engine", values, "reference")

    def data(self, values: Any) -> MadeData | GivenData | None:
        if values is None:
            return None
        place = where(values, self.file, "data")
        if not isinstance(values, Mapping):
            raise BadInput(f"{place} is a mapping, not {values!r}.")
        if "sample" in values or "split" in values:
            check_keys(values, ("sample", "split"), place, required=("sample",))
            samplers = self.entries(values["sample"], "data.sample", self.sampler)
            if not samplers:
                raise BadInput(f"{place}: 'sample' names no sampler.")
            split = self.section(SplitSettings, values.get("split") or {}, "data.split")
            return MadeData(tuple(samplers), split)
        check_keys(values, ("train", "valid", "test", "level"), place, required=("test", "level"))
        return self.section(GivenData, values, "data")

    def sampler(self, values: Mapping[str, Any], path: str) -> Chosen:
        check_keys(values, ("sampler", "options"), where(values, self.file, path))
        return self.chosen("samplers", "sampler", values, path)

    def training(self, values: Mapping[str, Any], path: str) -> Training:
        from karat.training.fit import check_settings, with_usual
        from karat.training.settings import TrainingSettings

        place = where(values, self.file, path)
        check_keys(values, ("name", "model", "size", "options", "settings"), place)
        size = values.get("size")
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise BadInput(f"{place}.size must be a whole number of at least 1, not {size!r}.")
        chosen = self.chosen("architectures", "model", values, path)
        settings = values.get("settings") or {}
        if isinstance(settings, Mapping):
            settings = Section({"seed": self.seed, **with_usual(chosen.component, settings)})
            settings.line = getattr(values.get("settings"), "line", 0)
        parsed = self.section(TrainingSettings, settings, f"{path}.settings")
        check_settings(chosen.component, parsed, f"{chosen.name} ({place})")
        return Training(
            name=self.named(values, path, values.get("model")),
            model=chosen,
            size=size,
            settings=parsed,
        )

    def entrant(self, values: Mapping[str, Any], path: str) -> Entrant:
        check_keys(values, ("name", "potential", "options"), where(values, self.file, path))
        chosen = self.chosen("potentials", "potential", values, path)
        return Entrant(self.named(values, path, chosen.name), chosen)

    def assay(self, values: Mapping[str, Any], path: str) -> AssayEntry:
        check_keys(values, ("name", "assay", "options"), where(values, self.file, path))
        chosen = self.chosen("assays", "assay", values, path)
        return AssayEntry(self.named(values, path, chosen.name), chosen)


def _check_consistency(campaign: Campaign) -> None:
    """Refuse sections that do not fit together."""
    for what, names in (
        ("contestant", [e.name for e in campaign.train] + [e.name for e in campaign.contestants]),
        ("assay", [entry.name for entry in campaign.assays]),
    ):
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise BadInput(f"{campaign.file}: two {what}s are named '{double[0]}'. Rename one.")
    if not campaign.assays:
        raise BadInput(f"{campaign.file}: assays is empty; name at least one (karat list assays).")
    if not campaign.train and not campaign.contestants:
        raise BadInput(
            f"{campaign.file}: nobody takes part; give 'contestants' or 'train' entries."
        )
    if campaign.system is None and not isinstance(campaign.data, GivenData):
        raise BadInput(f"{campaign.file}: needs a 'system' (smiles or file), or given 'data'.")
    if isinstance(campaign.data, MadeData) and campaign.reference is None:
        raise BadInput(
            f"{campaign.file}: data are to be sampled, but there is no 'reference' to label them. "
            "Add e.g. reference: {engine: gfn2_xtb}, or give labelled files under data."
        )
    if campaign.train and campaign.data is None:
        raise BadInput(f"{campaign.file}: 'train' needs 'data' (sample …, or train and test).")
    if campaign.train and isinstance(campaign.data, GivenData) and campaign.data.train is None:
        raise BadInput(f"{campaign.file}: 'train' entries need data.train, a labelled file.")
