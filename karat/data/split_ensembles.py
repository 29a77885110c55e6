"""Several splits of one dataset: one for each seed, or the folds of a cross-validation.

Checked: tests/data/test_split_ensembles.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from karat.core import components
from karat.core.errors import BadInput, suggestion
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset
from karat.data.split_schemes import (
    SCHEMES,
    AbstractScheme,
    Features,
    SimilaritySplit,
    choose_units,
    split,
)
from karat.data.splits import Split, split_of_roles

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SplitEnsemble:
    """Splits of one dataset by one scheme.

    Attributes:
        splits: one for each seed, or one for each fold.
        scheme: how.
        kind: ``seeds``, or ``folds``: then each structure is tested exactly once.
    """

    splits: tuple[Split, ...]
    scheme: AbstractScheme
    kind: Literal["seeds", "folds"]

    def __post_init__(self) -> None:
        if not self.splits:
            raise BadInput("an ensemble of splits needs at least one.")
        if len({part.source for part in self.splits}) > 1:
            raise BadInput("an ensemble of splits has splits of different data.")

    def __len__(self) -> int:
        return len(self.splits)

    def __iter__(self) -> Iterator[Split]:
        return iter(self.splits)

    @property
    def source(self) -> str:
        """Digest of the dataset that was split."""
        return self.splits[0].source

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything."""
        return digest_json([scheme_dict(self.scheme), self.kind, [s.digest for s in self.splits]])

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values, with the digest."""
        return {
            "schema": SCHEMA_VERSION,
            "scheme": scheme_dict(self.scheme),
            "kind": self.kind,
            "source": self.source,
            "digest": self.digest,
            "splits": [part.as_dict() for part in self.splits],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], dataset: Dataset) -> "SplitEnsemble":
        """The inverse of `as_dict`, for the dataset that was split.

        Raises:
            BadInput: another schema, values missing or changed, or splits of other data.
        """
        if not isinstance(values, Mapping) or values.get("schema") != SCHEMA_VERSION:
            raise BadInput(f"stored splits have no schema {SCHEMA_VERSION}. Make them again.")
        try:
            kind, digest = values["kind"], values["digest"]
            parts = tuple(Split.from_dict(part, dataset) for part in values["splits"])
            scheme = scheme_of(values["scheme"], "stored splits")
        except (KeyError, TypeError) as error:
            raise BadInput(f"stored splits are damaged ({error!r}). Make them again.") from error
        if kind not in ("seeds", "folds"):
            raise BadInput(f"stored splits are of kind {kind!r}. Make them again.")
        found = cls(parts, scheme, kind)
        if found.digest != digest:
            raise BadInput("stored splits were changed: the digest differs. Make them again.")
        return found


def scheme_dict(scheme: AbstractScheme) -> dict[str, Any]:
    """The scheme's name (``how``) and fields, every default written out."""
    return {"how": scheme.name, **components.dump(scheme)}


def scheme_of(values: Mapping[str, Any], place: str) -> AbstractScheme:
    """The inverse of `scheme_dict`.

    Raises:
        UnknownKey, BadInput: no such scheme or field, or a value that does not fit.
    """
    own = dict(values)
    name = own.pop("how", None)
    if name not in SCHEMES:
        raise BadInput(
            f"{place}: no way to split is called {name!r}; {suggestion(str(name), SCHEMES)}"
        )
    return components.parse(SCHEMES[name], own, place)


def split_ensemble(
    dataset: Dataset,
    scheme: AbstractScheme,
    seeds: Sequence[int],
    features: Features | None = None,
) -> SplitEnsemble:
    """One split for each seed; fingerprints are computed once.

    Raises:
        BadInput: no seed, one twice, several where the scheme knows no chance, or see `split`.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise BadInput(f"seeds {list(seeds)}: give at least one, none twice, none negative.")
    if not scheme.seeded and len(seeds) > 1:
        raise BadInput(
            f"{len(seeds)} seeds, but a split by '{scheme.name}' is the same for each. Give one "
            "seed, or split by similarity, by group or at random."
        )
    features = _features(dataset, scheme, features)
    parts = tuple(split(dataset, scheme, seed, features) for seed in seeds)
    return SplitEnsemble(parts, scheme, "seeds")


def cross_validation(
    dataset: Dataset,
    scheme: AbstractScheme,
    folds: int,
    seed: int = 0,
    features: Features | None = None,
) -> SplitEnsemble:
    """Splits in which each structure is tested exactly once; what belongs together stays so.

    Single structures, groups or clusters are dealt out at random to `folds` parts of nearly equal
    size (the largest first); each part tests once. `valid_fraction` of all structures is taken
    from the others to validate; `test_fraction` is not used.

    Raises:
        BadInput: fewer than 2 folds, fewer units than folds, or a part that stays empty.
    """
    if folds < 2:
        raise BadInput(f"folds is {folds}; needs at least 2.")
    units = scheme.units(dataset, seed, _features(dataset, scheme, features))
    if len(units) < folds:
        raise BadInput(
            f"{folds} folds, but there are {len(units)} units to deal out ('{scheme.name}'). "
            "Ask for fewer folds."
        )
    generator = np.random.default_rng([seed, 2])
    order = generator.permutation(len(units))
    sizes = np.array([len(unit) for unit in units])
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of = np.empty(len(units), dtype=int)
    filled = np.zeros(folds, dtype=int)
    for unit in order:
        fold = int(np.argmin(filled))
        fold_of[unit] = fold
        filled[fold] += sizes[unit]
    parts = []
    for fold in range(folds):
        roles = np.zeros(len(dataset), dtype=int)
        for unit in np.flatnonzero(fold_of == fold):
            roles[units[unit]] = 2
        others = generator.permutation(np.flatnonzero(fold_of != fold))
        if scheme.valid_fraction > 0.0:
            wanted = scheme.valid_fraction * len(dataset)
            for place in choose_units(sizes[others].tolist(), wanted):
                roles[units[others[place]]] = 1
        how = f"fold {fold + 1} of {folds} ({scheme.name}), {scheme.valid_fraction:g} valid"
        parts.append(split_of_roles(dataset, roles, how, seed, (scheme.valid_fraction, 1.0)))
    return SplitEnsemble(tuple(parts), scheme, "folds")


def _features(
    dataset: Dataset, scheme: AbstractScheme, features: Features | None
) -> Features | None:
    if features is None and isinstance(scheme, SimilaritySplit):
        from karat.data.fingerprint import fingerprints

        return fingerprints(dataset.structures)
    return features
