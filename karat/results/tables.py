"""One table of a comparison: contestants in one headline metric of one assay at one level.

Checked: tests/results/test_comparison.py.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from karat.core.errors import BadInput
from karat.results import score
from karat.results.metric import Metric
from karat.results.result import Result
from karat.results.score import Karats
from karat.results.statistics import Statistic, paired_difference, tied_groups

SEED = 0
"""Of every bootstrap here, so that comparing twice gives the same bits."""


@dataclass(frozen=True)
class Absent:
    """A contestant without a result in an assay: it failed as a whole, or it is missing."""

    contestant: str
    assay: str
    status: Literal["failed", "missing"]
    reason: str


@dataclass(frozen=True)
class Row:
    """One contestant in one table.

    Attributes:
        value, low, high, n: the metric; `None` where there is none.
        karats: 0 to 24, or `None` with `status` and `reason` (see `score.Karats`).
        failed_cases, cases: how many cases failed (each counts zero karats), of how many.
        place: 1 for the best group of tied contestants; `None` for references and for absent.
    """

    contestant: str
    is_reference: bool
    value: float | None
    low: float | None
    high: float | None
    n: int
    why_no_interval: str
    karats: float | None
    status: str
    reason: str
    failed_cases: int = 0
    cases: int = 0
    place: int | None = None


@dataclass(frozen=True)
class Difference:
    """`first - second` of a metric on the cases that both did; negative: the first is better."""

    first: str
    second: str
    value: float
    low: float | None
    high: float | None
    n: int
    why_no_interval: str


@dataclass(frozen=True)
class Table:
    """One headline metric of one assay against one reference level.

    Attributes:
        ties: contestants best first, tied ones together (at 95 % for each pair with the best of
            its group); without errors of single cases each value stands for itself.
        differences: of each contestant with the best one and with the next better one.
    """

    assay: str
    title: str
    metric: str
    unit: str
    level: str
    floor: float | None
    floor_source: str
    baseline: float | None
    baseline_source: str
    rows: tuple[Row, ...]
    ties: tuple[tuple[str, ...], ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, eq=False)
class ScoreOf:
    """A score result, read."""

    contestant: str
    assay: str
    title: str
    is_reference: bool
    level: str
    level_label: str
    result: Result
    failed: frozenset[str]

    @classmethod
    def of(cls, result: Result) -> "ScoreOf":
        payload = result.payload
        for key in ("contestant", "assay"):
            if not payload.get(key):
                raise BadInput(f"score '{result.name}' does not say its {key}. Run it again.")
        level = result.level
        known = level is not None and level.method.lower() != "unknown"
        label = "" if level is None else level.label
        names = set(payload.get("case_names", ()))
        return cls(
            contestant=payload["contestant"],
            assay=payload["assay"],
            title=payload.get("title", payload["assay"]),
            is_reference=bool(payload.get("is_reference", False)),
            level=label.upper() if known or level is None else level.digest,
            level_label=label,
            result=result,
            failed=frozenset(f.case for f in result.failures if f.case in names),
        )

    def metric(self, key: tuple[str, str]) -> Metric | None:
        for metric in self.result.metrics:
            if (metric.name, metric.subset) == key:
                return metric
        return None

    def per_case(self, key: tuple[str, str], what: str = "errors") -> dict[str, float]:
        """Case → error (NaN where it failed); empty where the score has none."""
        name = key[0] if not key[1] else f"{key[0]}|{key[1]}"
        values = self.result.arrays.get(f"{what}/{name}")
        if values is None:
            return {}
        names = list(self.result.payload.get("case_names", ()))
        if len(set(names)) != len(values) or len(names) != len(values):
            raise BadInput(
                f"score '{self.result.name}': {len(values)} {what} of {name} but "
                f"{len(set(names))} distinct case names."
            )
        return {case: float(value) for case, value in zip(names, values)}

    def groups(self) -> dict[str, str]:
        names, groups = (self.result.payload.get(k, ()) for k in ("case_names", "groups"))
        return dict(zip(names, groups))

    def statistic(self, key: tuple[str, str]) -> Statistic:
        given = self.result.payload.get("statistics", {}).get(key[0])
        root = "rms" in key[0].lower()
        return given or ("rms" if root else "mean")


@dataclass(frozen=True, eq=False)
class Field:
    """One assay against one level: who is there and who is not."""

    assay: str
    present: Sequence[ScoreOf]
    contestants: Mapping[str, bool]
    reasons: Mapping[tuple[str, str], Absent]

    def headlines(self) -> list[tuple[str, str]]:
        keys = [(m.name, m.subset) for s in self.present for m in s.result.metrics if m.headline]
        return list(dict.fromkeys(keys))

    def without(self, name: str) -> Karats:
        """For who has no result here, or a result without any headline metric."""
        item = self.reasons.get((self.assay, name))
        if item is not None:
            return (score.failed if item.status == "failed" else score.missing)(item.reason)
        for one in self.present:
            if one.contestant == name and one.result.failures:
                return score.failed(one.result.failures[0].reason)
            if one.contestant == name:
                return score.missing("has no headline metric here")
        return score.missing("not run")

    def table(self, key: tuple[str, str]) -> tuple[Table, dict[str, Karats]]:
        by_name: dict[str, ScoreOf] = {}
        for entry in self.present:
            if entry.contestant in by_name:
                raise BadInput(f"two scores of {entry.contestant} in assay {self.assay}.")
            by_name[entry.contestant] = entry
        karats: dict[str, Karats] = {}
        rows: list[Row] = []
        for name, is_reference in self.contestants.items():
            one = by_name.get(name)
            metric = one.metric(key) if one else None
            if one is None or metric is None:
                karats[name] = self.without(name)
                rows.append(_absent_row(name, is_reference, karats[name]))
            else:
                rows.append(_row(one, metric, key))
                last = rows[-1]
                karats[name] = Karats(last.karats, last.reason, last.status)  # type: ignore[arg-type]
        ties, differences = self._order(key, by_name)
        places = {name: rank for rank, group in enumerate(ties, 1) for name in group}
        rows = [_placed(row, places.get(row.contestant)) for row in rows]
        rows.sort(key=lambda row: (row.is_reference, row.place is None, row.place or 0))
        shown = next(m for s in self.present if (m := s.metric(key)) is not None)
        yard = max(
            (m for s in self.present if (m := s.metric(key)) is not None),
            key=lambda m: (m.floor is not None, m.baseline is not None),
        )
        table = Table(
            assay=self.assay,
            title=shown.title or shown.name,
            metric=key[0] if not key[1] else f"{key[0]} {key[1]}",
            unit=shown.unit,
            level=self.present[0].level_label,
            floor=yard.floor,
            floor_source=yard.floor_source,
            baseline=yard.baseline,
            baseline_source=yard.baseline_source,
            rows=tuple(rows),
            ties=ties,
            differences=differences,
        )
        return table, karats

    def _order(
        self, key: tuple[str, str], by_name: Mapping[str, ScoreOf]
    ) -> tuple[tuple[tuple[str, ...], ...], tuple[Difference, ...]]:
        """Tied groups and paired differences of all but references."""
        ranked = {
            name: metric
            for name, one in by_name.items()
            if not one.is_reference and (metric := one.metric(key)) is not None
        }
        errors = {name: by_name[name].per_case(key) for name in ranked}
        if not errors or not all(errors.values()):
            order = sorted(ranked, key=lambda name: (ranked[name].value, name))
            return tuple((name,) for name in order), ()
        cases = list(dict.fromkeys(case for values in errors.values() for case in values))
        arrays = {
            name: np.array([values.get(case, np.nan) for case in cases])
            for name, values in errors.items()
        }
        groups_of: dict[str, str] = {}
        weight_of: dict[str, float] = {}
        for name in ranked:
            groups_of |= by_name[name].groups()
            weight_of |= by_name[name].per_case(key, "weights")
        groups = [groups_of.get(case, case) for case in cases] if groups_of else None
        weights = np.array([weight_of.get(c, 1.0) for c in cases]) if weight_of else None
        statistic = by_name[next(iter(ranked))].statistic(key)
        ties = tied_groups(arrays, statistic, SEED, groups, weights)
        order = [name for group in ties for name in group]
        pairs = [(order[0], other) for other in order[1:]]
        pairs += itertools.pairwise(order[1:])
        differences = []
        for first, second in pairs:
            if np.isfinite(arrays[first] + arrays[second]).any():
                found = paired_difference(
                    arrays[first], arrays[second], statistic, SEED, groups, weights
                )
                differences.append(Difference(first, second, **asdict(found)))
        return ties, tuple(differences)


def _row(one: ScoreOf, metric: Metric, key: tuple[str, str]) -> Row:
    errors = one.per_case(key)
    lost = sum(not np.isfinite(e) and case in one.failed for case, e in errors.items())
    if one.is_reference:
        karats = Karats(None, "the reference is shown, not ranked", "no-scale")
    elif metric.better != "lower":
        karats = Karats(None, "not an error: gives no karats", "no-scale")
    else:
        karats = score.karats(metric.value, metric.floor, metric.baseline)
        if lost and karats.value is not None:
            share = 1.0 - lost / len(errors)
            reason = f"{lost} of {len(errors)} cases failed and count zero karats"
            karats = Karats(karats.value * share, reason)
    return Row(
        contestant=one.contestant,
        is_reference=one.is_reference,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        n=metric.n,
        why_no_interval=metric.why_no_interval,
        karats=karats.value,
        status=karats.status,
        reason=karats.reason,
        failed_cases=lost,
        cases=len(errors),
    )


def _absent_row(name: str, is_reference: bool, karats: Karats) -> Row:
    empty: dict[str, Any] = {"value": None, "low": None, "high": None, "n": 0}
    return Row(
        contestant=name,
        is_reference=is_reference,
        **empty,
        why_no_interval=karats.reason,
        karats=karats.value,
        status=karats.status,
        reason=karats.reason,
    )


def _placed(row: Row, place: int | None) -> Row:
    return Row(**{**row.__dict__, "place": place})
