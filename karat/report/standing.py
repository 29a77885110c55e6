"""Who stands where: headline numbers, karats, cost, coverage and ties, ready to be said or drawn.

Checked: tests/report/test_summary.py and test_report_model.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from karat.core.errors import BadInput
from karat.report.model import Contestant, View
from karat.report.words import Unit, in_unit, interval, shown_unit
from karat.results import comparison as compared
from karat.results import score as karat_score
from karat.results.metric import Metric

COST_NAMES = ("time_per_call", "time_per_structure", "time_per_atom")
_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, eq=False)
class Column:
    """One headline metric of one assay against one level.

    Attributes:
        key: unique.
        ranks: tied groups, best first, the reference left out.
        decided: whether there are enough cases to tell anyone apart.
        lower: whether it is an error.
    """

    key: str
    assay: str
    metric: str
    title: str
    assay_title: str
    level: str
    unit: Unit
    lower: bool
    baseline: float | None
    ranks: tuple[tuple[str, ...], ...]
    decided: bool


@dataclass(frozen=True)
class Entry:
    """One contestant's headline number, or why there is none.

    Attributes:
        status: ``measured``, ``failed``, ``not applicable``, ``missing``, ``unreadable``.
        why: reason where there is no value.
        best: whether it is the best of its column or tied with the best.
    """

    value: float | None
    low: float | None
    high: float | None
    why_no_interval: str
    karats: float | None
    status: str
    why: str = ""
    best: bool = False


@dataclass(frozen=True, eq=False)
class Standing:
    """One contestant.

    Attributes:
        entries: key of the column → number.
        karats: mean over assays, or `None` with `reason`.
        counted, possible: assays that count, and that could.
        cost: time per call of the system itself.
        tied: with whom on the first error.
    """

    contestant: Contestant
    entries: Mapping[str, Entry]
    karats: float | None
    reason: str
    counted: int
    possible: int
    per_assay: Mapping[str, float | None]
    cost: Metric | None
    cost_seconds: float | None
    tied: tuple[str, ...] = ()

    def error(self, column: Column) -> float | None:
        """The value in a column."""
        return self.entries[column.key].value

    def said(self, column: Column) -> str:
        """``Force MAE 74 meV/Å (95 %: 66 – 83 meV/Å)``."""
        entry = self.entries[column.key]
        if entry.value is None:
            return f"no {column.title}"
        words = f"{column.title} {in_unit(entry.value, column.unit)}"
        return words if entry.low is None else f"{words} (95 %: {interval(entry, column.unit)})"


@dataclass(frozen=True, eq=False)
class Standings:
    """Everyone, the lowest first error first, then those without, the reference last.

    Attributes:
        problem: why karats and ties could not be made, or "".
        comparison: what it was made from, with the paired differences.
    """

    columns: tuple[Column, ...]
    rows: tuple[Standing, ...]
    problem: str = ""
    comparison: compared.Comparison | None = None
    cost_note: str = ""

    @cached_property
    def primary(self) -> Column | None:
        """The headline metric that words and ties are about: forces first."""
        error = [c for c in self.columns if c.lower]
        force = [c for c in error if c.metric.startswith("force")]
        return next(iter([*force, *error]), None)

    @property
    def primary_title(self) -> str:
        """Its name, for a heading."""
        return f"on {self.primary.title}" if self.primary else ""

    def row(self, name: str) -> Standing:
        """The standing of that contestant."""
        return next(row for row in self.rows if row.contestant.name == name)


def karats_of(metric: Metric) -> karat_score.Karats:
    """Karats of a metric that is an error, or why there are none."""
    if metric.better != "lower":
        return karat_score.Karats(None, "not an error: no karats", "no-scale")
    return karat_score.karats(metric.value, metric.floor, metric.baseline)


def absence(view: View, contestant: str, assay: str) -> tuple[str, str]:
    """Status and reason of a score that is not there: the step that stopped it is found.

    What the contestant itself could not do (its fit, its measurement, its score) has failed;
    what failed before it (labels, the reference's cases) leaves it missing.
    """
    own = [s for s in view.steps if s.contestant == contestant and s.assay in ("", assay)]
    own += [s for s in view.steps if s.kind == "fit" and s.name == f"fit {contestant}"]
    failed = [step for step in own if step.status == "failed"]
    stopped = [s for s in own if s.status != "done" and s.assay == assay]
    stopped.sort(key=lambda step: (step.status == "missing", step.kind != "score"))
    for step in (*failed, *stopped):
        return step.status.replace("-", " "), step.reason or "no reason was recorded"
    return "missing", "not run"


def standings_of(view: View) -> Standings:
    """Standings of a campaign; what `compare` refuses is said instead of hidden."""
    measured = {(s.payload.get("contestant"), s.payload.get("assay")) for s in view.scores}
    absent = []
    for who in view.contestants:
        for assay in view.assays:
            if (who.name, assay) not in measured and _asked(view, who.name, assay):
                status, reason = absence(view, who.name, assay)
                kind = "failed" if status == "failed" else "missing"
                absent.append(compared.Absent(who.name, assay, kind, reason))  # type: ignore[arg-type]
    try:
        found = compared.compare(view.scores, absent)
    except BadInput as error:
        return Standings((), (), problem=str(error))
    columns = tuple(_column(view, table) for table in found.tables)
    made = Standings(columns, ())
    rows = [_standing(view, one, found, columns, made.primary) for one in found.standings]
    rows.sort(key=lambda row: _order(row, made.primary))
    return Standings(columns, tuple(rows), cost_note=_cost_note(view), comparison=found)


def _order(row: Standing, primary: Column | None) -> tuple[bool, bool, float, float]:
    """Raw values decide: karats of contestants with different noise floors are no common scale."""
    error = row.error(primary) if primary else None
    karats = -1.0 if row.karats is None else row.karats
    return row.contestant.is_reference, error is None, error or 0.0, -karats


def _asked(view: View, contestant: str, assay: str) -> bool:
    return any(s.contestant == contestant and s.assay == assay for s in view.steps)


def _column(view: View, table: compared.Table) -> Column:
    values = [row.value for row in table.rows if row.value is not None and not row.is_reference]
    metrics = [m for s in view.scores_of(table.assay) for m in s.metrics]
    name, _, subset = table.metric.partition(" ")
    better = next((m.better for m in metrics if (m.name, m.subset) == (name, subset)), "lower")
    return Column(
        key=f"{table.assay}/{table.metric}/{table.level}",
        assay=table.assay,
        metric=table.metric,
        title=table.title,
        assay_title=view.assay_title(table.assay),
        level=table.level,
        unit=shown_unit(table.unit, values),
        lower=better == "lower",
        baseline=table.baseline,
        ranks=table.ties,
        decided=any(difference.low is not None for difference in table.differences),
    )


def _standing(
    view: View,
    one: compared.Standing,
    found: compared.Comparison,
    columns: tuple[Column, ...],
    primary: Column | None,
) -> Standing:
    who = next(c for c in view.contestants if c.name == one.contestant)
    entries = {}
    for column, table in zip(columns, found.tables):
        row = next(row for row in table.rows if row.contestant == one.contestant)
        entries[column.key] = _entry(view, column, row)
    cost = _cost(view, one.contestant)
    return Standing(
        contestant=who,
        entries=entries,
        karats=one.karats,
        reason=one.reason,
        counted=one.counted,
        possible=one.possible,
        per_assay=one.assays,
        cost=cost,
        cost_seconds=seconds_of(cost),
        tied=_tied(one.contestant, primary.ranks) if primary and primary.decided else (),
    )


def _entry(view: View, column: Column, row: compared.Row) -> Entry:
    status, why = "measured", ""
    if row.value is None:
        status, why = ("failed" if row.status == "failed" else "missing"), row.reason
        if _asked(view, row.contestant, column.assay):
            stopped, reason = absence(view, row.contestant, column.assay)
            status, why = (stopped, reason) if reason != "not run" else (status, why)
    return Entry(
        value=row.value,
        low=row.low,
        high=row.high,
        why_no_interval=row.why_no_interval,
        karats=row.karats,
        status=status,
        why=why,
        best=column.lower and column.decided and row.place == 1,
    )


def _tied(name: str, ranks: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    group = next((group for group in ranks if name in group), ())
    return tuple(other for other in group if other != name)


def _cost(view: View, name: str) -> Metric | None:
    """Time per call of the system itself, whichever assay timed it."""
    for wanted in COST_NAMES:
        for score in view.scores:
            if score.payload.get("contestant") != name:
                continue
            for metric in score.metrics:
                if metric.name == wanted and not metric.subset and seconds_of(metric):
                    return metric
    return None


def seconds_of(metric: Metric | None) -> float | None:
    """A time in seconds, or `None` for a unit that is none."""
    if metric is None:
        return None
    factor = _SECONDS.get(metric.unit.partition("/")[0])
    return None if factor is None else metric.value * factor


def _cost_note(view: View) -> str:
    for score in view.scores:
        if score.payload.get("timing"):
            cpu = score.provenance.hardware.get("cpu", "")
            return f"on {cpu}" if cpu else "hardware: see provenance"
    return ""
