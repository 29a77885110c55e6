"""Parity, error distributions, drift, torsions and modes: figures by what they show."""

from collections.abc import Sequence
from dataclasses import dataclass

from karat.report.charts import Drawn, figure_html, grouped, overlay
from karat.report.model import Step, View
from karat.report.sections.section import Section, lede
from karat.report.tags import Markup, empty, tag
from karat.report.words import listed
from karat.results.figure import Figure
from karat.results.result import Result


@dataclass(frozen=True)
class Topic:
    """A section made of figures.

    Attributes:
        words: what the assay or the figure's group is called when it belongs here.
        lede: what the reader sees.
    """

    anchor: str
    title: str
    lede: str
    words: tuple[str, ...] = ()


DRIFT = Topic(
    "drift",
    "Dynamics: drift and survival",
    "Constant-energy dynamics from the same starts. A potential whose forces are the gradient "
    "of its energy keeps the total energy; drift, broken bonds and explosions show where it "
    "leaves known ground.",
    ("dynamics", "drift", "nve", "survival", "conservation"),
)
TORSIONS = Topic(
    "torsions",
    "Torsion profiles",
    "Energy along each rotatable bond; the dashed grey curve is the reference. Barriers and the "
    "order of the minima decide conformer populations.",
    ("torsion", "torsions"),
)
MODES = Topic(
    "modes",
    "Normal modes",
    "Harmonic vibrations at the minimum: curvature, and the quickest sign of a wrong surface.",
    ("mode", "modes", "vibration", "vibrations", "frequencies"),
)
PARITY = Topic(
    "parity",
    "Parity",
    "Reference (across) against contestant (up), on structures kept apart from training, with "
    "the same axes in every panel: the closer to the line, the better.",
)
ERRORS = Topic(
    "errors",
    "Error distributions",
    "Not only the mean: how often errors of each size occur. A long tail to the right is what "
    "breaks a simulation.",
)
COST = Topic("cost", "Cost", "", ("cost", "speed", "timing"))
TOPICS = (DRIFT, TORSIONS, MODES, COST)


def topic_of(score: Result, figure: Figure) -> Topic | None:
    """The section a figure belongs to; `None`: none but its assay's own."""
    family = score.payload.get("family") or score.payload.get("assay", "")
    for text in (figure.group, str(family)):
        words = set(text.lower().replace(":", " ").replace("_", " ").replace("-", " ").split())
        for topic in TOPICS:
            if words & set(topic.words):
                return topic
    if figure.kind == "parity":
        return PARITY
    if figure.kind == "histogram" or "cumulative" in figure.group:
        return ERRORS
    return None


def figures_of(view: View, topic: Topic | None, assay: str = "") -> list[Drawn]:
    """The figures of a topic, of one assay if it is named."""
    return [
        Drawn(str(score.payload.get("contestant", "")), str(score.payload.get("assay", "")), figure)
        for score, figure in view.figures()
        if topic_of(score, figure) is topic and assay in ("", score.payload.get("assay"))
    ]


def reference_name(view: View) -> str:
    """The contestant that is the reference, or ""."""
    return next((c.name for c in view.contestants if c.is_reference), "")


def charts_of(view: View, topic: Topic, prefix: str = "") -> list[dict]:
    """Chart specifications of a topic."""
    reference = reference_name(view)
    drawn = figures_of(view, topic)
    if topic in (PARITY, ERRORS):  # the reference's errors against itself say nothing
        drawn = [one for one in drawn if one.contestant != reference]
    groups = grouped(drawn)
    name = prefix or topic.anchor
    return [overlay(f"chart-{name}-{i}", g, reference) for i, g in enumerate(groups.values())]


def why_empty(view: View, topic: Topic) -> Markup:
    """Says why a topic has no figure, as far as the steps tell."""
    steps = [s for s in view.steps if s.assay and s.status != "done" and topic_of_step(s, topic)]
    reasons = list(dict.fromkeys(s.reason for s in steps if s.reason))
    if reasons:
        return empty(f"Nothing to draw: {listed(reasons, limit=4)}")
    return empty("Nothing to draw: the campaign asked for no assay of this kind.")


def topic_of_step(step: Step, topic: Topic) -> bool:
    """Whether a step without result would have contributed to a topic."""
    words = set(f"{step.assay} {step.name}".lower().replace("_", " ").split())
    return bool(words & set(topic.words)) if topic.words else True


def figure_section(view: View, topic: Topic) -> Section:
    """The section of one topic."""
    charts = charts_of(view, topic)
    failed = failure_note(view, topic)
    if not charts:
        return Section(topic.anchor, topic.title, Markup(why_empty(view, topic) + failed))
    drawn = [figure_html(chart, wide=chart["kind"] == "parity") for chart in charts]
    body = Markup(lede(topic.lede) + tag("div", drawn, class_="charts") + failed)
    return Section(topic.anchor, topic.title, body, tuple(charts))


def failure_note(view: View, topic: Topic) -> Markup:
    """Names those who are not in the figures because they failed."""
    failed: Sequence[str] = [
        s.contestant
        for s in view.steps
        if s.contestant and s.status == "failed" and topic_of_step(s, topic)
    ]
    if not failed or not topic.words:
        return Markup("")
    names = listed(list(dict.fromkeys(failed)))
    return tag(
        "p", "Failed, hence not drawn: ", names, "; see ",
        tag("a", "failures", href="#failures"), ".", class_="note",
    )  # fmt: skip
