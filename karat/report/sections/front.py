"""The accuracy–cost front."""

import math
from collections.abc import Sequence
from typing import Any

from karat.report.charts import figure_html, plotly_text
from karat.report.model import View
from karat.report.sections.figures import COST, charts_of
from karat.report.sections.section import Section, lede
from karat.report.standing import Column, Standing, Standings
from karat.report.tags import Markup, empty, tag
from karat.report.words import duration, listed

TITLE = "Accuracy and cost"


def front_section(view: View, standings: Standings) -> Section:
    """Error against time per call, log–log, one choice for each headline error."""
    scaling = charts_of(view, COST)
    choices = [c for c in (_choice(column, standings) for column in standings.columns) if c]
    if not choices:
        reason = "Nobody has both a positive error and a measured time per call."
        body = empty(f"No front to draw: {reason}")
        drawn = tag("div", [figure_html(c) for c in scaling], class_="charts")
        return Section("front", TITLE, Markup(body + (drawn if scaling else "")), tuple(scaling))
    first = choices[0]
    chart = {
        "id": "chart-front",
        "kind": "front",
        "title": "Error against time per call",
        "x": "time per call (ms)",
        "choices": choices,
        "note": "Left is faster, down is better. Gold outline and dotted line: nobody is both "
        "faster and more accurate.",
    }
    select = tag(
        "label",
        "Error: ",
        tag("select", [tag("option", c["label"], value=str(i)) for i, c in enumerate(choices)]),
        class_="tools",
    )
    names = [p["who"] for p in first["points"] if p["pareto"]]
    words = lede(
        f"On the front of {first['label']} against time: {listed(names)}. Bars are 95 % intervals."
    )
    boxes = [
        figure_html(chart, True, select),
        *[figure_html(c, len(scaling) == 1) for c in scaling],
    ]
    return Section(
        "front", TITLE, Markup(words + tag("div", boxes, class_="charts")), (chart, *scaling)
    )


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, error) points no other beats in one without losing in the other."""
    return [
        not any((c <= cost and e <= error) and (c < cost or e < error) for c, e in points)
        for cost, error in points
    ]


def _choice(column: Column, standings: Standings) -> dict[str, Any] | None:
    """Points of one headline error; only positive errors fit a logarithmic axis."""
    rows = [row for row in standings.rows if _drawable(row, column)]
    if not rows or not column.lower:
        return None
    values = [(row.cost_seconds or 0.0, row.error(column) or 0.0) for row in rows]
    pareto = on_front(values)
    points = [_point(row, column, p) for row, p in zip(rows, pareto)]
    return {
        "label": column.title,
        "y": plotly_text(f"{column.title} ({column.unit.text or 'share'})"),
        "points": points,
        "xrange": _range([v for p in points for v in (p["x"], p["xlow"], p["xhigh"])], 0.22),
        "yrange": _range([v for p in points for v in (p["y"], p["low"], p["high"])], 0.14),
    }


def _drawable(row: Standing, column: Column) -> bool:
    error, seconds = row.error(column), row.cost_seconds
    if error is None or seconds is None or row.contestant.is_reference:
        return False
    return error > 0 and seconds > 0


def _point(row: Standing, column: Column, pareto: bool) -> dict[str, Any]:
    entry, cost, unit, seconds = row.entries[column.key], row.cost, column.unit, row.cost_seconds
    if entry.value is None or cost is None or seconds is None:
        raise ValueError(f"{row.contestant.name} has no point in {column.title}")
    name = plotly_text(row.contestant.name)
    y, low, high = (_scaled(v, unit.factor) for v in (entry.value, entry.low, entry.high))
    milli = 1e3 * seconds / cost.value
    x, xlow, xhigh = (_scaled(v, milli) for v in (cost.value, cost.low, cost.high))
    words = plotly_text(row.said(column))
    return {
        "who": row.contestant.name,
        "name": name,
        "x": x,
        "y": y,
        "low": low,
        "high": high if low is not None else None,
        "xlow": xlow,
        "xhigh": xhigh if xlow is not None else None,
        "pareto": pareto,
        "hover": f"<b>{name}</b><br>{words}<br>{duration(seconds)} a call",
    }


def _scaled(value: float | None, factor: float) -> float | None:
    """For a logarithmic axis: six significant digits, nothing at or below zero."""
    return None if value is None or value <= 0 else float(f"{value * factor:.6g}")


def _range(values: Sequence[float | None], margin: float) -> list[float]:
    """Range of a logarithmic axis (as powers of ten) with room for the names."""
    logs = [math.log10(v) for v in values if v is not None and v > 0]
    low, high = min(logs), max(logs)
    room = margin * max(high - low, 0.5)
    return [round(low - room, 4), round(high + room, 4)]
