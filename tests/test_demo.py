"""The main job, from a SMILES string to the report in a browser.

The fast form cuts the demo's campaign down with `--set`; the slow one is the demo itself.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from karat.results.result import Result

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "examples" / "acetylacetone.yaml"
SMALLER = [
    "data.sample.0.options.steps=400",
    "data.sample.0.options.equilibration_steps=20",
    "data.sample.1.options.steps=400",
    "data.sample.1.options.equilibration_steps=20",
    "train.0.size=10",
    "train.1.size=20",
    "train.2.size=40",
    "train.0.settings.epochs=4",
    "train.1.settings.epochs=4",
    "train.2.settings.epochs=4",
    "assays.1.options.steps=60",
    "assays.1.options.runs=2",
    "assays.2.options.points=6",
    "assays.2.options.max_torsions=1",
    "assays.4.options.largest_atoms=15",
    "assays.4.options.seconds=0.1",
]
REPORT_LIMIT_BYTES = 8_000_000


def browser_module():
    """`check_page` and `SECTIONS`; skips where there is no browser."""
    path = ROOT / "tests" / "report" / "browser.py"
    spec = importlib.util.spec_from_file_location("karat_test_browser", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if module.find_browser() is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return module


def run_demo(folder, overrides):
    sets = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "karat.cli.main", "run", str(DEMO), "-o", str(folder), *sets]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    return folder, run_demo(folder, SMALLER)


def check_outcome(folder, done):
    assert done.returncode == 0, done.stderr[-3000:]
    page = folder / "report.html"
    assert done.stdout.strip().splitlines()[-1].endswith("report.html")
    assert page.stat().st_size <= REPORT_LIMIT_BYTES
    index = json.loads((folder / "index.json").read_text())
    assert {step["status"] for step in index["steps"]} == {"done"}
    return index


def test_demo_ends_with_every_step_done(small):
    index = check_outcome(*small)
    scored = {(s["contestant"], s["assay"]) for s in index["steps"] if s["kind"] == "score"}
    assays = {assay for _, assay in scored}
    contestants = {name for name, _ in scored}
    assert len(assays) == 5
    assert len(contestants) == 7
    assert len(scored) == 35


def test_the_reference_is_exact_against_itself(small):
    folder, _ = small
    index = json.loads((folder / "index.json").read_text())
    seen = 0
    for step in index["steps"]:
        if step["kind"] == "score" and step["assay"] == "energy_forces":
            result = Result.load(folder / step["folder"])
            value = result.metric("force_mae").value
            if result.payload["is_reference"]:
                assert value == 0.0
                seen += 1
            else:
                assert value > 1e-3
    assert seen == 1


def test_demo_page_shows_all_sections_without_error_or_request(small):
    browser = browser_module()
    check = browser.check_page(small[0] / "report.html")
    assert check.sections == browser.SECTIONS
    assert check.drawn == check.charts
    assert check.errors == ()
    assert check.requests == ()


@pytest.mark.slow
def test_whole_demo(tmp_path):
    folder = tmp_path / "out"
    check_outcome(folder, run_demo(folder, []))
    browser = browser_module()
    check = browser.check_page(folder / "report.html")
    assert check.sections == browser.SECTIONS
    assert (check.drawn, check.errors, check.requests) == (check.charts, (), ())
