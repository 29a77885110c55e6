"""What changed between two sets of results: better, worse, tied, each on the cases both have.

Checked: tests/results/test_change.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from karat.results.metric import Metric
from karat.results.result import Result
from karat.results.statistics import MIN_CASES, holm, paired_difference, paired_p_value
from karat.results.tables import SEED, ScoreOf

Verdict = Literal["better", "worse", "tied", "undecided", "incomparable", "gone", "new"]
LEVEL = 0.05
"""Chance of any false "better" or "worse" among all changes of one comparison."""


@dataclass(frozen=True)
class Change:
    """One error of one contestant, before and after.

    Attributes:
        metric: with its subset, if it has one.
        old, new: the errors over the common cases' own sets; `None` where there is none.
        difference: new - old on the cases that both did, `low` and `high` its own 95 % interval.
        p: of no difference, by itself; `None` where there are too few cases.
        n: independent common cases.
        verdict: ``better`` and ``worse`` hold for all changes at once (Holm); ``undecided``: too
            few cases; ``incomparable``, ``gone``, ``new``: see `why`.
    """

    contestant: str
    assay: str
    metric: str
    unit: str
    old: float | None
    new: float | None
    difference: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None
    verdict: Verdict
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class CasesLost:
    """Cases that one side failed and the other did."""

    contestant: str
    assay: str
    now_failing: tuple[str, ...]
    now_working: tuple[str, ...]


def changes(
    old: Sequence[Result],
    new: Sequence[Result],
    names: Mapping[str, str] | None = None,
    by_name: bool = False,
    level: float = LEVEL,
) -> tuple[Change, ...]:
    """Every error with per-case values, of every contestant and assay on either side.

    Args:
        old, new: results; those that are not scores are left out, and so are references, whose
            errors say nothing, and timings, which say as much of the hardware.
        names: contestant of `old` → the one of `new` it is compared with; by default the same.
        by_name: trust that cases of one name are the same where their sets differ.
        level: see `LEVEL`.
    """
    before, after = _scores(old, names or {}), _scores(new, {})
    found: list[Change] = []
    for key in dict.fromkeys([*before, *after]):
        found += _pair(key, before.get(key), after.get(key), by_name)
    tested = [i for i, change in enumerate(found) if change.p is not None]
    rejected = holm([found[i].p or 0.0 for i in tested], level)
    for i, sure in zip(tested, rejected):
        smaller = (found[i].difference or 0.0) < 0
        verdict: Verdict = ("better" if smaller else "worse") if sure else "tied"
        found[i] = dataclasses.replace(found[i], verdict=verdict)
    return tuple(found)


def cases_lost(
    old: Sequence[Result], new: Sequence[Result], names: Mapping[str, str] | None = None
) -> tuple[CasesLost, ...]:
    """Where other cases fail now than before."""
    before, after = _scores(old, names or {}), _scores(new, {})
    found = []
    for key in before.keys() & after.keys():
        was, now = before[key].failed, after[key].failed
        if was != now:
            failing, working = tuple(sorted(now - was)), tuple(sorted(was - now))
            found.append(CasesLost(*key, failing, working))
    return tuple(sorted(found, key=lambda lost: (lost.contestant, lost.assay)))


def _scores(results: Sequence[Result], names: Mapping[str, str]) -> dict[tuple[str, str], ScoreOf]:
    """By contestant (renamed) and assay."""
    scores = [ScoreOf.of(result) for result in results if result.kind == "score"]
    return {
        (names.get(one.contestant, one.contestant), one.assay): one
        for one in scores
        if not one.is_reference and not one.result.payload.get("timing")
    }


def _pair(
    key: tuple[str, str], old: ScoreOf | None, new: ScoreOf | None, by_name: bool
) -> list[Change]:
    """Changes of one contestant in one assay."""
    if old is None or new is None:
        there = old or new
        assert there is not None
        verdict: Verdict = "new" if old is None else "gone"
        why = "only the new side has it" if old is None else "the new side has no such result"
        return [_unpaired(key, there, metric, verdict, why) for metric in _errors(there)]
    why = _why_not(old, new, by_name)
    shared = [m for m in _errors(old) if new.metric((m.name, m.subset)) is not None]
    if why:
        return [_unpaired(key, old, m, "incomparable", why, new) for m in shared]
    return [_change(key, old, new, metric) for metric in shared]


def _errors(score: ScoreOf) -> list[Metric]:
    """Metrics with an error of each case."""
    return [
        metric
        for metric in score.result.metrics
        if metric.better == "lower" and score.per_case((metric.name, metric.subset))
    ]


def _why_not(old: ScoreOf, new: ScoreOf, by_name: bool) -> str:
    """Why errors cannot be compared, or ""."""
    versions = [side.result.payload.get("version") for side in (old, new)]
    if versions[0] != versions[1]:
        return f"versions {versions[0]} and {versions[1]} of the assay"
    if old.level != new.level:
        return f"against {old.level_label or 'no level'} and {new.level_label or 'no level'}"
    cases = [side.result.provenance.inputs.get("cases") for side in (old, new)]
    if cases[0] != cases[1] and not by_name:
        return "other cases (--by-name compares those of the same name)"
    return ""


def _unpaired(
    key: tuple[str, str],
    score: ScoreOf,
    metric: Metric,
    verdict: Verdict,
    why: str,
    other: ScoreOf | None = None,
) -> Change:
    against = None if other is None else other.metric((metric.name, metric.subset))
    first, second = metric.value, None if against is None else against.value
    old, new = (None, first) if verdict == "new" else (first, second)
    return Change(
        *key, _called(metric), metric.unit, old, new, None, None, None, 0, None, verdict, why
    )


def _called(metric: Metric) -> str:
    return f"{metric.name} {metric.subset}".strip()


def _change(key: tuple[str, str], old: ScoreOf, new: ScoreOf, metric: Metric) -> Change:
    """One metric on common cases; the verdict is provisional until all are known."""
    name = (metric.name, metric.subset)
    now = new.metric(name)
    assert now is not None
    errors = old.per_case(name), new.per_case(name)
    cases = [case for case in errors[0] if case in errors[1]]
    after, before = (np.array([side[case] for case in cases]) for side in (errors[1], errors[0]))
    if not np.isfinite(after + before).any():
        why = "no case that both did"
        return _unpaired(key, old, metric, "incomparable", why, new)
    group_of, weight_of = old.groups(), old.per_case(name, "weights")
    groups = [group_of.get(case, case) for case in cases] if group_of else None
    weights = np.array([weight_of[case] for case in cases]) if weight_of else None
    rest = (old.statistic(name), SEED, groups, weights)
    found = paired_difference(after, before, *rest)
    p = paired_p_value(after, before, *rest)
    return Change(
        *key,
        _called(metric),
        metric.unit,
        metric.value,
        now.value,
        found.value,
        found.low,
        found.high,
        found.n,
        p,
        "undecided" if p is None else "tied",
        f"{found.n} independent cases, at least {MIN_CASES} needed" if p is None else "",
    )
