"""Figures of results → chart specifications of the page: overlaid, thinned out, rounded.

Checked: tests/report/test_charts.py.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from karat.report.tags import Markup, tag
from karat.report.words import counted
from karat.results.figure import Figure, Series

MOST_POINTS = 700
"""Of one series: more make the page slow, not clearer."""
REFERENCE_NAMES = ("reference", "ref", "labels")


@dataclass(frozen=True, eq=False)
class Drawn:
    """One figure, whose it is and from which assay."""

    contestant: str
    assay: str
    figure: Figure


def rounded(values: Sequence[float], log: bool = False) -> list[float | None]:
    """Six digits below the largest of a linear axis, six significant ones of a logarithmic one;
    numbers that are not finite become gaps."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    if not finite:
        return [None for _ in values]
    if log:
        return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
    span = max(finite) or 1.0
    decimals = max(0, 5 - math.floor(math.log10(span)))
    return [round(float(v), decimals) if math.isfinite(v) else None for v in values]


def thinned(series: Series, kind: str) -> tuple[int, ...]:
    """Indices of at most `MOST_POINTS` points, always the same ones.

    Of a parity cloud half are those farthest from the diagonal: errors are what it is looked at
    for. Of a curve every n-th and the last.
    """
    count = len(series.y)
    if count <= MOST_POINTS:
        return tuple(range(count))
    if kind == "parity":
        xs = [float(x) for x in series.x]
        order = sorted(range(count), key=lambda i: -abs(series.y[i] - xs[i]))
        far = order[: MOST_POINTS // 2]
        rest = sorted(order[MOST_POINTS // 2 :])
        step = len(rest) / (MOST_POINTS - len(far))
        near = [rest[int(i * step)] for i in range(MOST_POINTS - len(far))]
        return tuple(sorted({*far, *near}))
    step = count / MOST_POINTS
    return tuple(sorted({int(i * step) for i in range(MOST_POINTS)} | {count - 1}))


def _series(series: Series, figure: Figure, who: str, name: str, dash: int = 0) -> dict[str, Any]:
    picks = thinned(series, figure.kind)
    texts = [isinstance(series.x[i], str) for i in picks]
    xs: list[Any] = [plotly_text(str(series.x[i])) for i in picks]
    if not any(texts):
        xs = rounded([float(series.x[i]) for i in picks], figure.log_x)
    interval = bool(series.low and series.high)
    return {
        "who": who,
        "name": name,
        "hover": plotly_text(name),
        "dash": dash,
        "x": xs,
        "y": rounded([series.y[i] for i in picks], figure.log_y),
        "low": rounded([series.low[i] for i in picks], figure.log_y) if interval else [],
        "high": rounded([series.high[i] for i in picks], figure.log_y) if interval else [],
        "labels": [plotly_text(series.labels[i]) for i in picks] if series.labels else [],
    }


def plotly_text(text: str) -> str:
    """Text for plotly.js, which reads a few HTML tags and templates: made harmless."""
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("%{", "% {")):
        text = text.replace(raw, safe)
    return text


def is_reference_series(series: Series, reference: str) -> bool:
    """Whether a series of a figure is the reference's own curve."""
    first = series.name.strip().lower().split(" ")[0].strip(":()")
    return first in REFERENCE_NAMES or (bool(reference) and series.name == reference)


def grouped(figures: Iterable[Drawn]) -> dict[str, list[Drawn]]:
    """Figures by what is overlaid, in order of appearance."""
    groups: dict[str, list[Drawn]] = {}
    for drawn in figures:
        key = f"{drawn.assay}/{drawn.figure.kind}/{drawn.figure.group}"
        groups.setdefault(key, []).append(drawn)
    return groups


def overlay(identifier: str, group: Sequence[Drawn], reference: str) -> dict[str, Any]:
    """One chart of the figures of several contestants; the reference's curve is drawn once."""
    first = group[0].figure
    chart: dict[str, Any] = {
        "id": identifier,
        "kind": first.kind,
        "title": first.title,
        "x": plotly_text(first.x_label),
        "y": plotly_text(first.y_label),
        "log_x": first.log_x,
        "log_y": first.log_y,
        "note": _common_note(group),
    }
    if first.kind == "parity":
        return {**chart, **_panels(group, reference)}
    return {**chart, "series": _overlaid(group, reference)}


def _overlaid(group: Sequence[Drawn], reference: str) -> list[dict[str, Any]]:
    """The curves of every contestant, and the reference's once, whoever brought it."""
    series: list[dict[str, Any]] = []
    brought = [
        (drawn, curve)
        for drawn in group
        for curve in drawn.figure.series
        if is_reference_series(curve, "")
    ]
    for drawn, curve in brought[:1]:
        series.append(_series(curve, drawn.figure, "", "reference"))
    for drawn in group:
        if drawn.contestant == reference and brought:
            continue
        own = [s for s in drawn.figure.series if not is_reference_series(s, "")]
        for dash, curve in enumerate(own):
            alone = len(own) == 1 or curve.name == drawn.contestant
            name = drawn.contestant if alone else f"{drawn.contestant} · {curve.name}"
            series.append(_series(curve, drawn.figure, drawn.contestant, name, dash))
    return series


def _panels(group: Sequence[Drawn], reference: str) -> dict[str, Any]:
    """One panel for each contestant that is not the reference, with common axes.

    The axes show the reference's values and half their span on either side; a contestant that is
    far off does not shrink the others to a dot: its points outside are counted in its title.
    """
    people = [drawn for drawn in group if drawn.contestant != reference] or list(group)
    made = [
        [_series(s, drawn.figure, drawn.contestant, s.name) for s in drawn.figure.series]
        for drawn in people
    ]
    known = [x for series in made for s in series for x in s["x"] if isinstance(x, int | float)]
    given = [y for series in made for s in series for y in s["y"] if y is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = 0.5 * ((high - low) or 1.0)
    shown = [*known, *(y for y in given if low - room <= y <= high + room)] or [low, high]
    margin = 0.04 * ((max(shown) - min(shown)) or 1.0)
    ends = [min(shown) - margin, max(shown) + margin]
    panels = [
        {"title": plotly_text(_panel_title(drawn, series, ends)), "series": series}
        for drawn, series in zip(people, made)
    ]
    return {"panels": panels, "range": ends}


def _panel_title(drawn: Drawn, series: Sequence[Mapping[str, Any]], ends: Sequence[float]) -> str:
    ys = [y for one in series for y in one["y"] if y is not None]
    outside = sum(not ends[0] <= y <= ends[1] for y in ys)
    if not outside:
        return drawn.contestant
    return f"{drawn.contestant} ({outside} of {counted(len(ys), 'point')} outside)"


def _common_note(group: Sequence[Drawn]) -> str:
    notes = list(dict.fromkeys(d.figure.note for d in group if d.figure.note))
    total = [len(s.y) for d in group for s in d.figure.series]
    if any(count > MOST_POINTS for count in total):
        most = counted(max(total), "point")
        notes.append(f"{most} in the largest series; at most {MOST_POINTS} of each are drawn.")
    return " ".join(notes)


def figure_html(chart: Mapping[str, Any], wide: bool = False, control: Any = "") -> Markup:
    """The element a chart is drawn into."""
    legend = "" if chart["kind"] in ("parity", "front") else tag("div", class_="legend")
    return tag(
        "figure",
        tag("figcaption", tag("b", str(chart["title"])), control),
        tag("p", str(chart["note"]), class_="note") if chart.get("note") else "",
        legend,
        tag("div", class_="plot", id=chart["id"], role="img", aria_label=str(chart["title"])),
        class_="wide" if wide else None,
    )
