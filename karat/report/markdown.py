"""The report as Markdown: for terminals, pull requests and notebooks.

Checked: tests/report/test_formats.py.
"""

from collections.abc import Sequence

from karat.report.model import NON_CONSERVATIVE, View
from karat.report.sections.data import findings_of
from karat.report.sections.failures import troubles_of
from karat.report.sections.metrics import with_units
from karat.report.sections.provenance import merged
from karat.report.sections.reading import DEFINITIONS
from karat.report.standing import Column, Entry, Standing, Standings, karats_of, standings_of
from karat.report.summary import summary_of
from karat.report.words import (
    Unit,
    duration,
    in_unit,
    interval,
    listed,
    metric_title,
    subset_title,
)
from karat.results.metric import Metric

_SPECIAL = "\\`*_{}[]<>#|~$"


def plain(text: str) -> str:
    """Text that Markdown (and HTML inside it) leaves as it is, on one line."""
    one_line = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in one_line)


def render_markdown(view: View) -> str:
    """Summary, contestants, metrics of each assay, findings, failures, provenance, definitions."""
    standings = standings_of(view)
    summary = summary_of(view, standings)
    lines = [f"# {plain(view.title)}", "", plain(summary.lead), ""]
    lines += [f"- **{p.what}:** {plain(p.who)}. {plain(p.why)}." for p in summary.picks]
    lines += [f"- **{r.kind}:** {plain(r.text)}" for r in summary.remarks]
    lines += ["", "## Contestants", "", *_contestants(standings), "", "## All metrics", ""]
    for assay in view.assays:
        lines += _assay(view, assay)
    lines += ["## Data check", "", *_findings(view), "", "## Failures, and what is missing", ""]
    lines += [*_failures(view), "", "## Provenance", "", *_provenance(view), ""]
    lines += ["## How to read this", ""]
    lines += [f"- **{name}:** {plain(text)}" for name, text in DEFINITIONS]
    return "\n".join(lines) + "\n"


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; cells are Markdown already."""
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _contestants(standings: Standings) -> list[str]:
    if not standings.rows:
        return [plain(standings.problem or "No contestant was measured.")]
    heads = ["Contestant", *(plain(c.title) for c in standings.columns)]
    heads += ["Karats", "Time per call", "Training", "Covered", "Tied with"]
    return _grid(heads, [_contestant(row, standings) for row in standings.rows])


def _contestant(row: Standing, standings: Standings) -> list[str]:
    who = row.contestant
    name = f"{plain(who.name)} (reference)" if who.is_reference else plain(who.name)
    if not who.conservative:
        name += f" ({NON_CONSERVATIVE})"
    cells = [name, *(_entry(row.entries[c.key], c) for c in standings.columns)]
    karats = "reference" if who.is_reference else "–"
    cells.append(karats if row.karats is None else f"{row.karats:.1f}")
    training = "–" if who.labels is None else f"{who.labels} structures, {duration(who.seconds)}"
    covered = f"{row.counted} of {row.possible}" if row.possible and not who.is_reference else "–"
    cells += [duration(row.cost_seconds), training, covered]
    return [*cells, plain(listed(row.tied)) if row.tied else "–"]


def _entry(entry: Entry, column: Column) -> str:
    if entry.value is None:
        return plain(entry.status)
    shown = in_unit(entry.value, column.unit)
    text = shown if entry.low is None else f"{shown} ({interval(entry, column.unit)})"
    return f"**{plain(text)}**" if entry.best else plain(text)


def _assay(view: View, assay: str) -> list[str]:
    scores = view.scores_of(assay)
    if not scores:
        return []
    heads = ["Metric", "Of", "Contestant", "Value", "95 % interval", "n", "Floor", "Baseline"]
    rows = []
    for (score, metric), unit in with_units(scores):
        who = plain(str(score.payload.get("contestant", "")))
        rows.append(_metric(metric, unit, who, bool(score.payload.get("is_reference"))))
    return [f"### {plain(view.assay_title(assay))}", "", *_grid([*heads, "Karats"], rows), ""]


def _metric(metric: Metric, unit: Unit, who: str, reference: bool) -> list[str]:
    def yardstick(given: float | None, source: str) -> str:
        words = f" ({source})" if source else ""
        return plain(("–" if given is None else in_unit(given, unit)) + words)

    karats = "reference"
    if not reference:
        found = karats_of(metric)
        karats = plain(found.reason) if found.value is None else f"{found.value:.1f}"
    return [
        plain(metric_title(metric)),
        plain(subset_title(metric.subset)),
        who,
        plain(in_unit(metric.value, unit)),
        plain(interval(metric, unit)),
        str(metric.n),
        yardstick(metric.floor, metric.floor_source),
        yardstick(metric.baseline, metric.baseline_source),
        karats,
    ]


def _findings(view: View) -> list[str]:
    found = findings_of(view)
    if not found:
        checked = bool(view.results("check"))
        return ["Nothing to report." if checked else "The data were not checked."]
    return [
        f"- **{plain(str(f.get('severity', '')))}** {plain(str(f.get('code', '')))}: "
        f"{plain(str(f.get('message', '')))}"
        for f in found
    ]


def _failures(view: View) -> list[str]:
    troubles = troubles_of(view)
    if not troubles:
        return ["Nothing failed."]
    heads = ["Status", "Step", "Case", "Kind", "Reason", "Tries"]
    rows = [
        [
            plain(t.status),
            plain(t.where),
            plain(t.case) or "whole step",
            plain(t.kind) or "–",
            plain(t.reason),
            str(t.attempts),
        ]
        for t in troubles
    ]
    return _grid(heads, rows)


def _provenance(view: View) -> list[str]:
    results = [step.result for step in view.steps if step.result is not None]
    total = sum(step.seconds or 0.0 for step in view.steps)
    lines = []
    for name, mappings in (
        ("Versions", [dict(r.provenance.versions) for r in results]),
        ("Hardware", [dict(r.provenance.hardware) for r in results]),
        ("Seeds", [{k: str(v) for k, v in r.provenance.seeds.items()} for r in results]),
    ):
        pairs = ", ".join(f"{key} {value}" for key, value in merged(mappings).items())
        lines.append(f"- **{name}:** {plain(pairs or 'none recorded')}")
    return [*lines, f"- **Wall time of all steps:** {duration(total)}"]
