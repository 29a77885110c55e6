"""How to read the report: definitions."""

from karat.report.sections.section import Section
from karat.report.tags import tag

TITLE = "How to read this"
DEFINITIONS = (
    (
        "Reference",
        "The level of theory everything is compared with. It is shown as “reference” and never "
        "ranked. Agreement with it is agreement with that level, not with nature; a "
        "semi-empirical reference is called so.",
    ),
    (
        "Interval",
        "95 %, from a bootstrap over structures or time blocks. Where there are fewer than eight "
        "independent cases, for maxima and for deterministic single values there is none, and "
        "the reason stands in its place.",
    ),
    (
        "Karats",
        "24 · clip(ln(d / x) / ln(d / f), 0, 1) for an error x, a noise floor f and a baseline d. "
        "24 means inside the reference’s own uncertainty; 0 means no better than a trivial "
        "predictor, or failed. A metric with d ≤ 2 f discriminates nothing and gives no karats. "
        "A contestant’s karats do not depend on who else takes part.",
    ),
    (
        "Floor f",
        "Below it nothing is discriminated: the label noise where contestant and reference are "
        "of the same level of theory, else the reference’s own uncertainty, with its source.",
    ),
    ("Baseline d", "What a trivial predictor, named in the table, scores on the same cases."),
    (
        "Covered share",
        "How much of what counts was measured. What was not run or is not applicable is missing: "
        "neither counted nor hidden. What failed counts zero karats.",
    ),
    (
        "Ties",
        "Differences are paired: taken on the cases that both attempted. Where the 95 % interval "
        "of the difference contains zero the two are called tied, and no order is implied.",
    ),
    (
        "Best for the cost, fastest of use",
        "The fastest with at most twice the lowest error; the fastest with at most half a trivial "
        "predictor’s error. Times within a factor of 1.5 are not told apart: of these the more "
        "accurate one is named.",
    ),
    (
        "Accuracy–cost front",
        "Contestants that nobody beats in both error and time. Times belong to the hardware "
        "named under provenance.",
    ),
    (
        "Level of theory",
        "Contestants of another level than the reference’s are not wrong where they differ: "
        "part of their error is the difference between the levels.",
    ),
)


def reading_section() -> Section:
    """A definition list."""
    rows = [[tag("dt", name), tag("dd", text)] for name, text in DEFINITIONS]
    return Section("reading", TITLE, tag("dl", rows, class_="defs"))
