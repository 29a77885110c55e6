"""The page in headless Chromium: everything is drawn, nothing complains, nothing is asked for."""

import pytest

from karat.report.write import write_report

SORT = """(() => {
  const head = Array.from(document.querySelectorAll('#standings thead th'));
  const button = head[1].querySelector('button');
  const names = () => Array.from(document.querySelectorAll('#standings tbody tr'))
    .map((row) => row.cells[0].innerText.split(/\\s/)[0]);
  button.click(); const up = [names(), head[1].getAttribute('aria-sort')];
  button.click(); const down = [names(), head[1].getAttribute('aria-sort')];
  return [up, down];
})()"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
INK = "document.querySelector('#chart-front .xtick text').style.fill"


TURN = """(() => {
  const canvas = document.querySelector('canvas[data-molecule]'), before = canvas.toDataURL();
  canvas.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', cancelable: true}));
  return before !== canvas.toDataURL() && before.length > 3000;
})()"""
FILTER = """(() => {
  const rows = Array.from(document.getElementById('metrics-0').tBodies[0].rows);
  document.querySelector('[data-filters=metrics-0] input[type=checkbox]').click();
  return [rows.length, rows.filter((row) => !row.hidden).length];
})()"""
TOGGLE = "document.getElementById('theme').click()"
DRAWN = "karat.drawAll().then(() => true)"


@pytest.fixture(scope="module")
def window(browser):
    """One browser for all of these tests; the system prefers dark colours."""
    with browser.browsing() as started:
        started.prefer("dark")
        yield started


@pytest.fixture(scope="module")
def check(browser, window, page):
    """The example's page, opened once; its answers are in the order of the scripts."""
    scripts = (SORT, TURN, FILTER, BACKGROUND, INK, TOGGLE, DRAWN, BACKGROUND, INK)
    return browser.check_page(page, *scripts, window=window)


def test_every_section_is_shown_and_every_chart_drawn(browser, check):
    assert check.sections == browser.SECTIONS
    assert check.title.startswith("Ethanol from its SMILES string")
    assert check.charts >= 20
    assert check.drawn == check.charts


def test_no_console_error_and_no_request(check):
    assert check.errors == ()
    assert check.requests == ()


def test_a_click_sorts_and_keeps_missing_at_the_end(check):
    (up, rising), (down, falling) = check.answers[0]
    assert (rising, falling) == ("ascending", "descending")
    best_first = ["gfn2_xtb", "bpnn-200", "gfn1_xtb", "bpnn-100", "bpnn-50", "mmff94s"]
    assert up[:6] == best_first
    assert down[:6] == best_first[::-1]
    assert set(up[6:]) == set(down[6:]) == {"exploding", "argon_lj"}


def test_molecules_turn_by_keys_and_filters_hide_rows(check):
    assert check.answers[1] is True
    assert check.answers[2] == [48, 12]  # six players: eight metrics, two of them headline


def test_dark_by_preference_and_light_by_toggle_redraw_charts(check):
    page, ink = (brightness(colour) for colour in check.answers[3:5])
    assert page < 40 < 120 < ink
    page, ink = (brightness(colour) for colour in check.answers[7:9])
    assert ink < 120 < 200 < page


def test_hostile_names_are_inert(browser, window, example, tmp_path):
    """Names that would be code, in every place where a contestant's name is shown or drawn."""
    hostile = "<img src=x onerror=window.owned=1></script><script>window.owned=2</script>"
    folder = example.write_example(tmp_path, rename={"bpnn-200": hostile})
    page = write_report(folder)
    shown = "document.querySelector('#standings tbody').innerText.includes('onerror')"
    check = browser.check_page(page, "window.owned === undefined", shown, window=window)
    assert check.answers == (True, True)
    assert check.sections == browser.SECTIONS
    assert check.errors == ()
    assert check.requests == ()


def test_the_check_itself_sees_errors_and_requests(browser, window, tmp_path):
    """Otherwise the tests above could not fail."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<!doctype html><title>bad</title><main></main><img src='http://karat.invalid/a.png'>"
        "<script>karat = {drawAll: () => Promise.resolve()};"
        "document.documentElement.dataset.ready = '1'; console.error('oh'); missing()</script>"
    )
    check = browser.check_page(path, window=window)
    assert any("oh" in error for error in check.errors)
    assert any("missing is not defined" in error for error in check.errors)
    assert check.requests == ("http://karat.invalid/a.png",)
    assert check.sections == ()


def brightness(colour: str) -> float:
    """Mean of the channels of ``rgb(r, g, b)``."""
    numbers = colour[colour.index("(") + 1 : colour.index(")")].split(",")[:3]
    return sum(float(number) for number in numbers) / 3
