"""Curves of all cases as one HTML file that needs no network, drawn as the report draws.

Checked: tests/campaign/test_compute_page.py, in headless Chromium where there is one.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from karat.report.charts import Drawn, overlay
from karat.report.html import CONTENT_POLICY, SCRIPTS, asset, plotly_source
from karat.report.tags import Markup, script_json, tag
from karat.results.figure import Figure

MOST_CASES = 100
"""More make the page slow; their curves are in the store all the same."""


def render_page(
    title: str,
    about: Mapping[str, Any],
    cases: Sequence[tuple[str, Sequence[Figure]]],
    total: int,
) -> str:
    """The whole page.

    Args:
        title: of the property.
        about: property, settings and potential, as `Computed.about`.
        cases: name and figures of each that is drawn.
        total: how many cases there are.
    """
    potential = PurePath(about["potential"]["name"]).stem
    charts, sections, links = [], [], []
    for place, (name, figures) in enumerate(cases):
        anchor = f"case-{place}"
        drawn = []
        for index, figure in enumerate(figures):
            chart = _chart(f"{anchor}-{index}", title, potential, figure)
            charts.append(chart)
            drawn.append(_figure(chart))
        if drawn:
            heading = tag("h2", name, id=f"{anchor}-title")
            sections.append(tag("section", heading, drawn, id=anchor))
            links.append(tag("li", tag("a", name, href=f"#{anchor}")))
    data = {
        "contestants": {potential: {"slot": 0, "shade": 0, "reference": False}},
        "charts": charts,
        "molecules": [],
        "elements": {},
    }
    settings = ", ".join(f"{key} {value}" for key, value in about["settings"].items())
    more = f" The first {len(cases)} of {total} are drawn." if total > len(cases) else ""
    lead = tag("p", f"By {about['potential']['name']}. Settings: {settings}.{more}", class_="lede")
    top = tag("section", tag("h1", title), lead, id="top")
    nav = tag("nav", tag("ol", links), class_="toc", aria_label="Contents")
    shell = tag("div", nav, tag("main", top, sections, id="main"), class_="shell")
    scripts = [
        tag("script", script_json(data), id="karat-data", type="application/json"),
        tag("script", Markup(plotly_source())),
        *(tag("script", Markup(asset(name))) for name in SCRIPTS),
    ]
    body = tag("body", _bar(f"{title} by {potential}"), shell, scripts)
    return f"<!doctype html>\n{tag('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=CONTENT_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="generator", content="karat"),
        tag("title", f"{title} · karat"),
        tag("style", Markup(asset("report.css"))),
    )


def _bar(title: str) -> Markup:
    brand = tag("a", tag("i", aria_hidden="true"), "karat", href="#top", class_="brand")
    button = tag("button", "Dark", id="theme", type="button")
    return tag("header", brand, tag("span", title, class_="where"), button, class_="bar")


def _chart(identifier: str, title: str, potential: str, figure: Figure) -> dict[str, Any]:
    chart = overlay(identifier, [Drawn(potential, title, figure)], "")
    for series in chart["series"]:
        if figure.extra.get("one_look"):  # curves that are one thing, such as bands
            series["dash"] = 0
    return chart | {"legend": len(chart["series"]) > 1 and not figure.extra.get("one_look")}


def _figure(chart: Mapping[str, Any]) -> Markup:
    return tag(
        "figure",
        tag("figcaption", tag("b", str(chart["title"]))),
        tag("p", str(chart["note"]), class_="note") if chart["note"] else "",
        tag("div", class_="legend") if chart["legend"] else "",
        tag("div", class_="plot", id=chart["id"], role="img", aria_label=str(chart["title"])),
    )
