"""Contestants side by side: karats, paired differences, ties; one table per assay, headline
metric and reference level.

Checked: tests/results/test_comparison.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from karat.results import score
from karat.results.result import Result
from karat.results.score import Aggregate, Karats
from karat.results.statistics import MIN_CASES, Interval, bootstrap, without_interval
from karat.results.tables import SEED, Absent, Difference, Field, Row, ScoreOf, Table

__all__ = ["Absent", "Comparison", "Difference", "Row", "Standing", "Table", "compare"]


@dataclass(frozen=True)
class Standing:
    """One contestant over all assays: the mean over assays of the mean over headline metrics.

    Attributes:
        karats: `None` for references and where nothing counts, with `reason`.
        low, high: 95 % bootstrap interval over assays, or `None` with `why_no_interval`.
        covered: share of assays (against one level each) that were scored or failed.
        assays: assay (with its level where there are several) → karats or `None`.
    """

    contestant: str
    is_reference: bool
    karats: float | None
    reason: str
    low: float | None
    high: float | None
    why_no_interval: str
    counted: int
    possible: int
    covered: float
    assays: Mapping[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """Tables in the order of the results; standings best first, references last."""

    tables: tuple[Table, ...]
    standings: tuple[Standing, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "tables": [asdict(table) for table in self.tables],
            "standings": [asdict(standing) for standing in self.standings],
        }


def compare(results: Sequence[Result], absent: Sequence[Absent] = ()) -> Comparison:
    """Compare results of kind ``score``; others are left out.

    A contestant without result in an assay that others have counts as missing there, unless
    `absent` says that it failed. Its karats do not depend on who else takes part; only the
    covered share knows which assays and metrics there are.

    Raises:
        BadInput: a score without contestant or assay, two of one contestant in one table, or
            case names that do not tell cases apart.
    """
    scores = [ScoreOf.of(result) for result in results if result.kind == "score"]
    contestants = {one.contestant: one.is_reference for one in scores}
    for item in absent:
        contestants.setdefault(item.contestant, False)
    fields: dict[tuple[str, str], list[ScoreOf]] = {}
    for one in scores:
        fields.setdefault((one.assay, one.level), []).append(one)
    for item in absent:
        if not any(assay == item.assay for assay, _ in fields):
            fields[(item.assay, "")] = []
    reasons = {(item.assay, item.contestant): item for item in absent}
    tables: list[Table] = []
    per_assay: dict[str, dict[str, Aggregate]] = {name: {} for name in contestants}
    for (assay, _level), present in fields.items():
        several = sum(other == assay for other, _ in fields) > 1
        label = f"{assay} ({present[0].level_label})" if several else assay
        one_field = Field(assay, present, contestants, reasons)
        parts: dict[str, list[Karats]] = {name: [] for name in contestants}
        for key in one_field.headlines():
            table, karats = one_field.table(key)
            tables.append(table)
            for name, value in karats.items():
                parts[name].append(value)
        for name in contestants:
            whole = parts[name] or [one_field.without(name)]
            per_assay[name][label] = score.aggregate(whole)
    standings = [_standing(name, contestants[name], per_assay[name]) for name in contestants]
    standings.sort(
        key=lambda s: (s.is_reference, s.karats is None, -(s.karats or 0.0), s.contestant)
    )
    return Comparison(tuple(tables), tuple(standings))


def _standing(name: str, is_reference: bool, assays: Mapping[str, Aggregate]) -> Standing:
    values = [one.value for one in assays.values() if one.value is not None]
    possible = sum(one.value is not None or one.possible > 0 for one in assays.values())
    shown = {label: one.value for label, one in assays.items()}
    if is_reference or not values:
        reason = "reference" if is_reference else "nothing gave karats"
        interval: Interval | None = None
    else:
        reason = ""
        interval = without_interval(
            float(np.mean(values)), len(values), f"{len(values)} assays, at least {MIN_CASES}"
        )
        if len(values) >= MIN_CASES:
            interval = bootstrap(np.array(values), "mean", SEED)
    return Standing(
        contestant=name,
        is_reference=is_reference,
        karats=None if interval is None else interval.value,
        reason=reason,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        why_no_interval=reason if interval is None else interval.why_no_interval,
        counted=0 if is_reference else len(values),
        possible=possible,
        covered=0.0 if is_reference or not possible else len(values) / possible,
        assays=shown,
    )
