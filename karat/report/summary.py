"""The report in words: what to use when, ties called ties, what failed, what is not comparable.

Checked: tests/report/test_summary.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from karat.report.model import View, level_text
from karat.report.sections.data import findings_of
from karat.report.sections.failures import troubles_of
from karat.report.standing import Column, Standing, Standings
from karat.report.words import counted, duration, listed

AS_FAST = 1.5
"""Times per call within this factor of the fastest are not told apart: the same architecture,
timed again on one machine, was seen to differ by 1.3."""


@dataclass(frozen=True)
class Pick:
    """A recommendation: what for, who, why."""

    what: str
    who: str
    why: str


@dataclass(frozen=True)
class Remark:
    """One more sentence, with a word for its kind and how grave it is."""

    kind: str
    tone: str
    text: str


@dataclass(frozen=True)
class Summary:
    """What stands on top of the page."""

    lead: str
    picks: tuple[Pick, ...]
    remarks: tuple[Remark, ...]


def summary_of(view: View, standings: Standings) -> Summary:
    """The whole report in words."""
    picks = [p for p in (_accurate(standings), _cheap(standings), _fast(standings)) if p]
    picks = _joined(picks)
    remarks = [
        *_ties(standings),
        *_undecided(standings),
        *_floors(view, standings),
        *_weak(standings),
        *_not_gradients(view),
        *_levels(view),
        *_failures(view),
        *_data(view),
    ]
    return Summary(_lead(view, standings), tuple(picks), tuple(remarks))


def _joined(picks: Sequence[Pick]) -> list[Pick]:
    """One box for who is recommended twice."""
    found: list[Pick] = []
    for pick in picks:
        same = [i for i, other in enumerate(found) if other.who == pick.who]
        if same:
            first = found[same[0]]
            found[same[0]] = Pick(f"{first.what} · {pick.what.lower()}", first.who, first.why)
        else:
            found.append(pick)
    return found


def _measured(standings: Standings, column: Column) -> list[Standing]:
    """Ranked ones with a number in that column, lowest error first."""
    rows = [
        row
        for row in standings.rows
        if not row.contestant.is_reference and row.error(column) is not None
    ]
    return sorted(rows, key=lambda row: row.error(column) or 0.0)


def _best_group(standings: Standings, column: Column) -> tuple[str, ...]:
    """The best and everyone tied with it, best first."""
    rows = _measured(standings, column)
    if not rows:
        return ()
    best = column.ranks[0] if column.ranks else (rows[0].contestant.name,)
    return tuple(row.contestant.name for row in rows if row.contestant.name in best)


def _lead(view: View, standings: Standings) -> str:
    """The paragraph: who is best, who is best for the cost, what failed."""
    column = standings.primary
    levels = list(dict.fromkeys(s.level.label for s in view.scores if s.level is not None))
    against = f" against {listed(levels)}" if levels else ""
    if column is None or not _measured(standings, column):
        return (
            f"No contestant has a headline error{against}, so nothing is recommended. "
            f"{_failed_sentence(view)}"
        )
    group = _best_group(standings, column)
    first = standings.row(group[0])
    who = f"{group[0]} is the most accurate{against}: "
    if not column.decided:
        who = f"{group[0]} has the lowest error{against}, with too few cases to be sure: "
        group = group[:1]
    elif len(group) > 1:
        who = f"{listed(group)} are tied as the most accurate{against}: {group[0]} has "
    sentences = [f"{who}{first.said(column)}{_karat_clause(first)}."]
    near, fast = _near_row(standings, column), _fast_row(standings, column)
    if not first.cost_seconds:
        near = fast = None
    if near is not None and near.contestant.name not in group:
        sentences.append(
            f"{near.contestant.name} stays within twice that error and is {_faster(near, first)}."
        )
    if fast is not None and fast is not near and fast.contestant.name not in group:
        sentences.append(
            f"Where speed decides, {fast.contestant.name} is {_faster(fast, first)}, "
            f"with {fast.said(column)}."
        )
    sentences.append(_failed_sentence(view))
    soft = [s.level.label for s in view.scores if s.level is not None and s.level.semiempirical]
    if soft:
        sentences.append(
            f"The reference {listed(list(dict.fromkeys(soft)))} is itself semi-empirical: the "
            "numbers say how well it is imitated, not how close anyone is to ab initio theory or "
            "experiment."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def _karat_clause(row: Standing) -> str:
    return f", {row.karats:.1f} of 24 karats" if row.karats is not None else ""


def _faster(row: Standing, than: Standing) -> str:
    ratio = (than.cost_seconds or 0.0) / (row.cost_seconds or 1.0)
    times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
    return f"{times} times faster ({duration(row.cost_seconds)} a call)"


def _failed_sentence(view: View) -> str:
    troubles = troubles_of(view)
    failed = [t for t in troubles if t.status == "failed" and not t.case]
    unreadable = [t for t in troubles if t.status == "unreadable"]
    cases = [t for t in troubles if t.status == "failed" and t.case]
    parts = []
    if failed:
        parts.append(f"{counted(len(failed), 'step')} failed")
    if cases:
        parts.append(f"{counted(len(cases), 'single case')} failed")
    if unreadable:
        parts.append(f"{counted(len(unreadable), 'step')} could not be read")
    return f"{listed(parts)}.".capitalize() if parts else "Nothing failed."


def _accurate(standings: Standings) -> Pick | None:
    column = standings.primary
    group = _best_group(standings, column) if column else ()
    if not group or column is None:
        return None
    what = "Most accurate" if len(group) == 1 else "Most accurate: a tie"
    if not column.decided:
        what, group = "Lowest error, undecided", group[:1]
    row = standings.row(group[0])
    time = f"; {duration(row.cost_seconds)} a call" if row.cost_seconds else ""
    return Pick(what, listed(group), f"{row.said(column)}{time}")


def _timed(standings: Standings, column: Column) -> list[Standing]:
    """Those with a number and a time, fastest first."""
    rows = [row for row in _measured(standings, column) if row.cost_seconds]
    return sorted(rows, key=lambda row: row.cost_seconds or 0.0)


def _near_row(standings: Standings, column: Column) -> Standing | None:
    """The fastest of those with at most twice the lowest error."""
    measured = _measured(standings, column)
    limit = 2.0 * (measured[0].error(column) or 0.0) if measured else 0.0
    near = [row for row in _timed(standings, column) if (row.error(column) or 0.0) <= limit]
    return _quickest(near, column) if near else None


def _quickest(rows: Sequence[Standing], column: Column) -> Standing:
    """The most accurate of those that are as fast as the first of `rows` (see `AS_FAST`)."""
    limit = AS_FAST * (rows[0].cost_seconds or 0.0)
    alike = [row for row in rows if (row.cost_seconds or 0.0) <= limit]
    return min(alike, key=lambda row: row.error(column) or 0.0)


def _fast_row(standings: Standings, column: Column) -> Standing | None:
    """The fastest of those that are of use: at most half a trivial predictor's error."""
    rows = _timed(standings, column)
    useful = [
        row
        for row in rows
        if column.baseline is None or (row.error(column) or 0.0) <= 0.5 * column.baseline
    ]
    return _quickest(useful, column) if useful and len(rows) > 1 else None


def _cheap(standings: Standings) -> Pick | None:
    column = standings.primary
    row = _near_row(standings, column) if column else None
    if row is None or column is None:
        return None
    why = f"The fastest within twice the lowest error: {_time_and_error(row, column)}"
    return Pick("Best for the cost", row.contestant.name, why)


def _fast(standings: Standings) -> Pick | None:
    column = standings.primary
    row = _fast_row(standings, column) if column else None
    if row is None or column is None:
        return None
    return Pick("Fastest of use", row.contestant.name, _time_and_error(row, column))


def _time_and_error(row: Standing, column: Column) -> str:
    return f"{duration(row.cost_seconds)} a call, {row.said(column)}"


def _ties(standings: Standings) -> list[Remark]:
    """Who cannot be told apart, once for each group."""
    groups: dict[frozenset[str], list[str]] = {}
    order: dict[frozenset[str], tuple[str, ...]] = {}
    for column in standings.columns:
        for group in column.ranks:
            if len(group) > 1 and column.decided:
                groups.setdefault(frozenset(group), []).append(column.title)
                order.setdefault(frozenset(group), group)
    return [
        Remark("Tie", "", f"{listed(order[key])} cannot be told apart on {listed(titles)}.")
        for key, titles in groups.items()
    ]


def _undecided(standings: Standings) -> list[Remark]:
    """Headline metrics with too few cases for any interval of a difference."""
    titles = [
        column.title
        for column in standings.columns
        if not column.decided and len(_measured(standings, column)) > 1
    ]
    if not titles:
        return []
    text = f"Too few independent cases to tell anyone apart on {listed(titles)}."
    return [Remark("Undecided", "", text)]


def _floors(view: View, standings: Standings) -> list[Remark]:
    """Karats against different noise floors are no common scale."""
    levels = {s.level.label for s in view.scores if s.level is not None}
    ranked = [row.contestant for row in standings.rows if row.karats is not None]
    same = [c.name for c in ranked if c.level in levels]
    other = [c.name for c in ranked if c.level and c.level not in levels]
    floors: dict[tuple[str, str], set[float]] = {}
    for score in view.scores:
        for m in score.metrics:
            if m.headline and m.floor is not None and not score.payload.get("is_reference"):
                floors.setdefault((str(score.payload.get("assay")), m.name), set()).add(m.floor)
    if not (same and other and any(len(values) > 1 for values in floors.values())):
        return []
    text = (
        f"Karats of {listed(same)} are measured against label noise, those of {listed(other)}, "
        "of another level than the reference, against the reference's own uncertainty: "
        "compare the two groups by raw values, not by karats."
    )
    return [Remark("Karats", "warn", text)]


def _weak(standings: Standings) -> list[Remark]:
    """Those that do no better than a trivial predictor."""
    remarks = []
    for column in standings.columns:
        bad = [
            row.contestant.name
            for row in _measured(standings, column)
            if column.lower
            and column.baseline is not None
            and (row.error(column) or 0.0) >= column.baseline
        ]
        if bad:
            verb = "is" if len(bad) == 1 else "are"
            text = f"{listed(bad)} {verb} no better than a trivial predictor on {column.title}."
            remarks.append(Remark("No use", "warn", text))
    return remarks


def _not_gradients(view: View) -> list[Remark]:
    """Those whose forces are not the gradient of their energy."""
    names = [contestant.name for contestant in view.contestants if not contestant.conservative]
    if not names:
        return []
    text = (
        f"{listed(names)}: forces are predicted directly, not as the gradient of the energy. "
        "Dynamics need not keep the total energy, and relaxations may not end."
    )
    return [Remark("Non-conservative", "warn", text)]


def _levels(view: View) -> list[Remark]:
    """Contestants of other levels; several reference levels; unknown ones."""
    levels = {s.level.label: s.level for s in view.scores if s.level is not None}
    remarks = []
    if len(levels) > 1:
        text = (
            f"{listed(list(levels))} are different levels of theory: numbers against one are not "
            "comparable with numbers against another."
        )
        remarks.append(Remark("Not comparable", "warn", text))
    other = [
        f"{c.name} ({c.level})"
        for c in view.contestants
        if c.level and not c.is_reference and c.level not in levels
    ]
    if other and levels:
        text = (
            f"{listed(other)} {_verb(other, 'aims', 'aim')} at another level of theory than the "
            "reference: part of the error is the difference between the levels."
        )
        remarks.append(Remark("Levels", "", text))
    if not levels and any(level_text(s.payload.get("contestant_level")) for s in view.scores):
        text = "The reference's level of theory is not known: errors cannot be attributed."
        remarks.append(Remark("Levels", "warn", text))
    return remarks


def _verb(names: Sequence[str], one: str, many: str) -> str:
    return one if len(names) == 1 else many


def _failures(view: View) -> list[Remark]:
    """Who failed or could not be asked, once for each reason."""
    remarks = []
    for status, kind, tone, verb in (
        ("failed", "Failed", "bad", "failed"),
        ("unreadable", "Unreadable", "bad", "could not be read"),
        ("missing", "Missing", "warn", "was not run"),
        ("not-applicable", "Not asked", "", "was not asked"),
    ):
        reasons: dict[tuple[str, str], list[str]] = {}
        for step in view.steps:
            if step.status == status and not step.reason.startswith("needs '"):
                who = step.contestant or step.name
                reasons.setdefault((who, step.reason), []).append(step.assay)
        for (who, reason), assays in list(reasons.items())[:6]:
            where = [view.assay_title(a) for a in dict.fromkeys(assays) if a]
            place = f" in {listed(where, limit=3)}" if where else ""
            if len(where) > 1 and len(where) == len(view.assays):
                place = " in any assay" if kind in ("Not asked", "Missing") else " in every assay"
            text = f"{who} {verb}{place}: {reason or 'no reason was recorded'}"
            remarks.append(Remark(kind, tone, text.rstrip(".") + "."))
        if len(reasons) > 6:
            text = f"{len(reasons) - 6} more in the list of failures."
            remarks.append(Remark(kind, tone, text))
    return remarks


def _data(view: View) -> list[Remark]:
    grave = [f for f in findings_of(view) if f.get("severity") in ("error", "warning")]
    tones = {"error": "bad", "warning": "warn"}
    return [
        Remark("Data", tones[str(f["severity"])], str(f.get("message", "")).rstrip(".") + ".")
        for f in grave[:5]
    ]
