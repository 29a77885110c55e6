"""The page: one HTML file that needs nothing else, no network and no server.

Checked: tests/report/test_formats.py, and in headless Chromium by tests/report/test_browser.py.
"""

import importlib.resources
from collections.abc import Mapping
from typing import Any

from karat.report.model import Contestant, View
from karat.report.sections.contestants import contestants_section
from karat.report.sections.data import data_section
from karat.report.sections.failures import failures_section
from karat.report.sections.figures import DRIFT, ERRORS, MODES, PARITY, TORSIONS, figure_section
from karat.report.sections.front import front_section
from karat.report.sections.learning import learning_section
from karat.report.sections.metrics import metrics_section
from karat.report.sections.provenance import provenance_section
from karat.report.sections.reading import reading_section
from karat.report.sections.section import Section
from karat.report.sections.worst import element_looks, worst_section
from karat.report.standing import standings_of
from karat.report.summary import Summary, summary_of
from karat.report.tags import Markup, script_json, tag

CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; connect-src 'none'; base-uri 'none'; form-action 'none'"
)
SCRIPTS = ("page.js", "charts.js", "molecules.js")


def render_html(view: View) -> str:
    """The whole page."""
    standings = standings_of(view)
    summary = summary_of(view, standings)
    sections = (
        _summary_section(view, summary),
        contestants_section(view, standings),
        front_section(view, standings),
        learning_section(view),
        figure_section(view, PARITY),
        figure_section(view, ERRORS),
        figure_section(view, DRIFT),
        figure_section(view, TORSIONS),
        figure_section(view, MODES),
        metrics_section(view),
        worst_section(view),
        data_section(view),
        failures_section(view),
        provenance_section(view),
        reading_section(),
    )
    molecules = tuple(m for section in sections for m in section.molecules)
    data = {
        "contestants": looks_of(view.contestants),
        "charts": [chart for section in sections for chart in section.charts],
        "molecules": molecules,
        "elements": element_looks(molecules),
    }
    return f"<!doctype html>\n{_document(view, sections, data)}\n"


def _document(view: View, sections: tuple[Section, ...], data: Mapping[str, Any]) -> Markup:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=CONTENT_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("meta", name_="generator", content="karat"),
        tag("title", f"{view.title} · karat"),
        tag("style", Markup(asset("report.css"))),
    )
    scripts = [
        tag("script", script_json(data), id="karat-data", type="application/json"),
        tag("script", Markup(plotly_source())),
        *[tag("script", Markup(asset(name))) for name in SCRIPTS],
    ]
    links = [tag("li", tag("a", s.nav or s.title, href=f"#{s.anchor}")) for s in sections]
    shell = tag(
        "div",
        tag("nav", tag("ol", links), class_="toc", aria_label="Contents"),
        tag("main", [section.html() for section in sections], _footer(view), id="main"),
        class_="shell",
    )
    skip = tag("a", "Skip to the report", href="#main", class_="skip")
    body = tag("body", skip, _bar(view), shell, scripts)
    return tag("html", head, body, lang="en")


def _bar(view: View) -> Markup:
    brand = tag("a", tag("i", aria_hidden="true"), "karat", href="#summary", class_="brand")
    button = tag("button", "Dark", id="theme", type="button")
    return tag("header", brand, tag("span", view.title, class_="where"), button, class_="bar")


def _footer(view: View) -> Markup:
    results = [step.result for step in view.steps if step.result is not None]
    versions = list(dict.fromkeys(r.provenance.versions.get("karat", "") for r in results))
    made = max((r.provenance.created for r in results), default="")
    words = f"Results of karat {' / '.join(v for v in versions if v) or 'unknown'}"
    until = f", the last of {made}" if made else ""
    again = tag("code", "karat report FOLDER")
    return tag(
        "footer", tag("p", words, until, ". ", again, " renders this page again."), _plotly_note()
    )


def _plotly_note() -> Markup:
    return tag("p", "Charts by plotly.js (MIT licence), embedded.")


def _summary_section(view: View, summary: Summary) -> Section:
    """Title, the paragraph, the picks, the remarks."""
    picks = [
        tag(
            "li",
            tag("div", pick.what, class_="what"),
            tag("div", pick.who, class_="who"),
            tag("div", pick.why, class_="why"),
        )
        for pick in summary.picks
    ]
    remarks = [
        tag(
            "li",
            tag("span", remark.kind, class_=f"tag {remark.tone}".strip()),
            tag("span", remark.text),
        )
        for remark in summary.remarks
    ]
    box = tag(
        "div",
        tag("p", summary.lead, class_="lead"),
        tag("ul", picks, class_="picks") if picks else "",
        tag("ul", remarks, class_="remarks") if remarks else "",
        class_="card summary",
    )
    return Section("summary", view.title, Markup(_facts(view) + box), heading="h1", nav="Summary")


def _facts(view: View) -> Markup:
    levels = list(dict.fromkeys(s.level.label for s in view.scores if s.level is not None))
    done = sum(step.status == "done" for step in view.steps)
    facts = [f"{done} of {len(view.steps)} steps done"]
    facts += [f"{sum(not c.is_reference for c in view.contestants)} contestants"]
    facts += [f"{len(view.assays)} assays"]
    for result in view.results("structures"):
        facts += [str(result.payload[k]) for k in ("formula", "smiles") if result.payload.get(k)]
    facts += [f"reference {level}" for level in levels]
    return tag("ul", [tag("li", fact) for fact in facts], class_="facts")


def looks_of(contestants: tuple[Contestant, ...]) -> dict[str, dict[str, Any]]:
    """Colour slot and shade of each; sizes of one model share a hue, the largest the strongest."""
    slots: dict[str, int] = {}
    looks: dict[str, dict[str, Any]] = {}
    for contestant in contestants:
        if contestant.is_reference:
            looks[contestant.name] = {"slot": 0, "shade": 0, "reference": True}
            continue
        family = f"model {contestant.model}" if contestant.model else contestant.name
        slot = slots.setdefault(family, len(slots))
        members = sorted(
            (c.labels or 0, c.name)
            for c in contestants
            if contestant.model and c.model == contestant.model
        )
        shade = 0.0
        if len(members) > 1:
            place = members.index((contestant.labels or 0, contestant.name)) / (len(members) - 1)
            shade = round(-0.42 + 0.77 * place, 3)
        looks[contestant.name] = {"slot": slot, "shade": shade, "reference": False}
    return looks


def asset(name: str) -> str:
    """One of karat's own assets; none may close the element that it stands in."""
    text = (importlib.resources.files("karat.report") / "assets" / name).read_text("utf-8")
    if "</script" in text.lower() or "</style" in text.lower():
        raise ValueError(f"asset {name} would close its element")
    return text


def plotly_source() -> str:
    """plotly.js of the installed plotly package, safe inside a script element.

    ``plotly.offline.get_plotlyjs`` reads the same file, but imports all of plotly.
    """
    path = importlib.resources.files("plotly") / "package_data" / "plotly.min.js"
    return path.read_text("utf-8").replace("</script", "<\\/script").replace("<!--", "<\\!--")
