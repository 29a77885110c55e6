"""Numbers in words, exactly; charts' data thinned without losing what they are looked at for."""

import numpy as np
import pytest

from karat.report.charts import MOST_POINTS, Drawn, overlay, plotly_text, rounded, thinned
from karat.report.html import looks_of
from karat.report.model import Contestant
from karat.report.tags import script_json, tag, text
from karat.report.words import Unit, counted, duration, listed, number, shown_unit
from karat.results.figure import Figure, Series


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"), (1.0, "1.00"), (0.0755, "0.0755"), (-2.5, "−2.50"), (1234.5, "1230"),
        (999.9, "1000"), (0.09996, "0.100"), (12345678.0, "1.23 × 10⁷"), (4.5e-7, "4.50 × 10⁻⁷"),
        (-4.5e-7, "−4.50 × 10⁻⁷"), (9.999e-5, "0.000100"), (9.999e6, "1.00 × 10⁷"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        ("eV/Å", [0.3, 0.07], Unit("meV/Å", 1e3)), ("eV/Å", [3.0, 0.07], Unit("eV/Å")),
        ("eV", [0.0, 0.0], Unit("eV")), ("s", [2e-5], Unit("µs", 1e6)),
        ("s", [2e-3], Unit("ms", 1e3)),
        ("cm⁻¹", [1e-3], Unit("cm⁻¹")), ("", [1e-3], Unit("")), ("eV/atom", [], Unit("eV/atom")),
    ],
)  # fmt: skip
def test_a_column_has_one_unit(unit, values, expected):
    assert shown_unit(unit, values) == expected


def test_times_lists_and_counts():
    times = (2e-5, 0.25, 3.4, 125.0, 4320.0, None)
    assert [duration(t) for t in times] == [
        "20 µs",
        "250 ms",
        "3.4 s",
        "2 min 5 s",
        "1 h 12 min",
        "–",
    ]
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([str(i) for i in range(5)], limit=2) == "0, 1 and 3 more"
    assert listed([]) == "none"
    assert [counted(1, "step"), counted(2, "entry", "entries")] == ["1 step", "2 entries"]


def test_markup_escapes_everything_but_itself():
    assert text("<b>&'\"") == "&lt;b&gt;&amp;&#x27;&quot;"
    assert tag("p", "<", tag("b", "x"), title='"') == '<p title="&quot;">&lt;<b>x</b></p>'
    raw = script_json({"a": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(raw)
    with pytest.raises(TypeError):
        text(3)
    assert plotly_text("<i>%{x}") == "&lt;i&gt;% {x}"


def test_a_thinned_cloud_keeps_the_largest_errors():
    rng = np.random.default_rng(0)
    x = rng.normal(size=5000)
    y = x + rng.normal(size=5000)
    picks = thinned(Series("a", tuple(x), tuple(y)), "parity")
    assert len(picks) == len(set(picks)) == MOST_POINTS
    worst = set(np.argsort(-np.abs(y - x))[: MOST_POINTS // 2].tolist())
    assert worst <= set(picks)
    line = thinned(Series("a", tuple(x), tuple(y)), "lines")
    assert (line[0], line[-1]) == (0, 4999)
    assert len(line) <= MOST_POINTS + 1


def test_rounding_is_fine_against_the_span():
    values = [1234.56789, -0.00012345, float("nan")]
    assert rounded(values) == [1234.57, -0.0, None]
    assert rounded(values, log=True) == [1234.57, -0.00012345, None]


def test_the_reference_curve_is_drawn_once():
    def figure(*names):
        series = tuple(Series(name, (0.0, 1.0), (1.0, 2.0)) for name in names)
        return Figure("lines", "torsion:0", "t", "x", "y", series)

    group = [
        Drawn("a", "torsions", figure("reference", "a")),
        Drawn("gfn2", "torsions", figure("reference", "gfn2")),
        Drawn("b", "torsions", figure("reference", "300 K", "600 K")),
    ]
    series = overlay("chart", group, "gfn2")["series"]
    assert [s["name"] for s in series] == ["reference", "a", "b · 300 K", "b · 600 K"]
    assert [s["who"] for s in series] == ["", "a", "b", "b"]
    assert [s["dash"] for s in series] == [0, 0, 0, 1]


def test_sizes_of_one_model_share_a_hue_and_the_reference_is_neutral():
    people = (
        Contestant("ref", is_reference=True),
        Contestant("n-50", model="bpnn", labels=50),
        Contestant("uff"),
        Contestant("n-200", model="bpnn", labels=200),
    )
    looks = looks_of(people)
    assert looks["ref"]["reference"]
    assert looks["n-50"]["slot"] == looks["n-200"]["slot"] != looks["uff"]["slot"]
    assert looks["n-50"]["shade"] < 0 < looks["n-200"]["shade"]
