"""Every number of every assay: value, interval or reason, count, floor and baseline with source."""

from collections.abc import Sequence

from karat.report.charts import figure_html, grouped, overlay
from karat.report.model import View
from karat.report.sections.figures import figures_of, reference_name
from karat.report.sections.section import Section, lede
from karat.report.standing import karats_of
from karat.report.tags import Cell, Head, Markup, Row, empty, name_with_swatch, table, tag
from karat.report.words import Unit, interval, metric_title, number, shown_unit, subset_title
from karat.results.metric import Metric
from karat.results.result import Result

TITLE = "All metrics"


class Notes:
    """Numbered notes: sources and reasons that many cells share."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def mark(self, text: str) -> Markup:
        """The mark of a note, or nothing for no text."""
        if not text:
            return Markup("")
        index = self.texts.setdefault(text, len(self.texts) + 1)
        return tag("sup", str(index), class_="mark", title=text)

    def html(self) -> Markup:
        """The list below the table."""
        if not self.texts:
            return Markup("")
        items = [tag("li", tag("b", str(i)), text) for text, i in self.texts.items()]
        return tag("ol", items, class_="notes")


def metrics_section(view: View) -> Section:
    """One table for each assay, and the figures that belong to no other section."""
    if not view.scores:
        return Section("metrics", TITLE, empty("No assay was scored."))
    parts: list[Markup] = [
        lede(
            "Every number with unit, 95 % interval or the reason why there is none, number of "
            "independent cases, noise floor and trivial baseline. Headline metrics make the karats."
        )
    ]
    charts = []
    for i, assay in enumerate(view.assays):
        scores = view.scores_of(assay)
        if not scores:
            continue
        groups = grouped(figures_of(view, None, assay))
        reference = reference_name(view)
        own = [
            overlay(f"chart-metrics-{i}-{j}", g, reference) for j, g in enumerate(groups.values())
        ]
        charts += own
        parts.append(_assay(i, view.assay_title(assay), scores))
        if own:
            parts.append(tag("div", [figure_html(chart) for chart in own], class_="charts"))
    return Section("metrics", TITLE, Markup("".join(parts)), tuple(charts))


def _assay(index: int, title: str, scores: Sequence[Result]) -> Markup:
    notes, identifier = Notes(), f"metrics-{index}"
    rows = _rows(scores, notes)
    version = scores[0].payload.get("version", "?")
    levels = {s.level.label for s in scores if s.level is not None}
    against = f", against {' and '.join(sorted(levels))}" if levels else ""
    grid = table(_HEADS, rows, f"{title}: {len(rows)} numbers{against}", identifier)
    tools = tag(
        "div",
        tag("label", "Filter ", tag("input", type="search", placeholder="metric, subset, name")),
        tag("label", tag("input", type="checkbox"), " headline only"),
        class_="tools",
        data_filters=identifier,
    )
    head = tag("summary", title, " ", tag("span", f"version {version}{against}", class_="note"))
    return tag("details", head, tools, grid, notes.html(), open=True)


_HEADS = (
    Head("Metric"),
    Head("Of"),
    Head("Contestant"),
    Head("Value", numeric=True),
    Head("95 % interval", numeric=True),
    Head("n", numeric=True),
    Head("Floor", numeric=True),
    Head("Baseline", numeric=True),
    Head("Karats", numeric=True, descending=True),
)


def with_units(scores: Sequence[Result]) -> list[tuple[tuple[Result, Metric], Unit]]:
    """Metric by metric in the order of the assay, contestants side by side, one unit for each."""
    keys: dict[tuple[str, str], list[tuple[Result, Metric]]] = {}
    for score in scores:
        for metric in score.metrics:
            keys.setdefault((metric.name, metric.subset), []).append((score, metric))
    found = []
    for members in keys.values():
        ranked = [m.value for s, m in members if not s.payload.get("is_reference")]
        unit = shown_unit(members[0][1].unit, ranked or [m.value for _, m in members])
        found += [(member, unit) for member in members]
    return found


def _rows(scores: Sequence[Result], notes: Notes) -> list[Row]:
    return [_row(score, metric, unit, notes) for (score, metric), unit in with_units(scores)]


def _row(score: Result, metric: Metric, unit: Unit, notes: Notes) -> Row:
    who = str(score.payload.get("contestant", ""))
    reference = bool(score.payload.get("is_reference"))
    title = metric_title(metric)
    head = [title, tag("small", "headline")] if metric.headline else title
    cells = (
        Cell(head, title, header=True),
        Cell(subset_title(metric.subset), metric.subset or " "),
        Cell(name_with_swatch(who), who),
        Cell([number(metric.value * unit.factor), " ", tag("span", unit.text, class_="unit")],
             metric.value, "num"),
        _interval(metric, unit, notes),
        Cell(str(metric.n), float(metric.n), "num"),
        _yardstick(metric.floor, metric.floor_source, unit, notes),
        _yardstick(metric.baseline, metric.baseline_source, unit, notes),
        _karats(metric, reference, notes),
    )  # fmt: skip
    return Row(cells, "reference" if reference else "", metric.headline)


def _interval(metric: Metric, unit: Unit, notes: Notes) -> Cell:
    if metric.low is None:
        return Cell(["none", notes.mark(metric.why_no_interval)], None, "num none")
    return Cell(interval(metric, unit), metric.low, "num")


def _yardstick(given: float | None, source: str, unit: Unit, notes: Notes) -> Cell:
    if given is None:
        return Cell(["–", notes.mark(source)], None, "num none")
    return Cell([number(given * unit.factor), notes.mark(source)], given, "num")


def _karats(metric: Metric, reference: bool, notes: Notes) -> Cell:
    if reference:
        return Cell("reference", None, "num none")
    if metric.floor is None and metric.baseline is None:
        return Cell("–", None, "num none")
    found = karats_of(metric)
    if found.value is None:
        return Cell(["none", notes.mark(found.reason)], None, "num none")
    return Cell(f"{found.value:.1f}", found.value, "num")
