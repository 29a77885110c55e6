"""The page of curves: complete, inert, and drawn by a browser where there is one."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from karat.campaign.compute.page import render_page
from karat.results.figure import Figure, Series

CURVE = Figure("lines", "eos", "Equation", "x, Å³", "y, eV", (
    Series("fit", (1.0, 2.0, 3.0), (0.3, 0.0, 0.2)),
    Series("computed", (1.0, 3.0), (0.3, 0.2)),
))  # fmt: skip
BANDS = Figure(
    "lines",
    "bands",
    "Bands",
    "path",
    "THz",
    tuple(Series(f"band {i}", (0.0, 1.0), (float(i), i + 1.0)) for i in range(3)),
    note="Special points: G 0.000.",
    extra={"one_look": True},
)
ABOUT = {"potential": {"name": "some/water.karat"}, "settings": {"volumes": 11}}
HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def page():
    cases = [("si", (CURVE, BANDS)), (HOSTILE, (CURVE,)), ("nothing drawn", ())]
    return render_page("eos", ABOUT, cases, 7)


def test_every_chart_has_its_place(page):
    data = json.loads(re.search(r'id="karat-data"[^>]*>(.*?)</script>', page)[1])
    charts = {chart["id"]: chart for chart in data["charts"]}
    assert list(charts) == re.findall(r'class="plot" id="([^"]+)"', page)
    assert len(charts) == 3
    assert [series["name"] for series in charts["case-0-0"]["series"]] == [
        "water · fit",
        "water · computed",
    ]
    assert [series["dash"] for series in charts["case-0-1"]["series"]] == [0, 0, 0]
    assert set(data["contestants"]) == {"water"}


def test_words(page):
    assert "Settings: volumes 11." in page
    assert "The first 3 of 7 are drawn." in page
    assert "Special points: G 0.000." in page


def test_names_stay_inert_and_nothing_is_fetched(page):
    assert HOSTILE not in page
    assert "&lt;/script&gt;" in page
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="', page)
    assert 'content="default-src &#x27;none&#x27;;' in page


def test_a_browser_draws_everything_and_complains_of_nothing(page, tmp_path):
    path = Path(__file__).parents[1] / "report" / "browser.py"
    spec = importlib.util.spec_from_file_location("karat_compute_tests_browser", path)
    browser = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = browser
    spec.loader.exec_module(browser)
    if browser.find_browser() is None:
        pytest.skip("no Chromium on PATH (Debian: apt install chromium)")
    file = tmp_path / "eos.html"
    file.write_text(page)
    check = browser.check_page(file)
    assert (check.charts, check.drawn) == (3, 3)
    assert check.errors == ()
    assert check.requests == ()
