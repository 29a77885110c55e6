"""The examples are campaigns that run: planned quickly, run whole in the slow tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from karat.campaign.plan import plan
from karat.campaign.schema import load_campaign
from karat.campaign.validation import validate

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DATA = Path(os.environ.get("KARAT_DATA", ROOT.parent / "shared" / "data"))
SMALLER = {
    "acetylacetone": [
        "data.sample.0.options.steps=400",
        "data.sample.1.options.steps=400",
        "train=[{name: bpnn, model: bpnn, size: 20, settings: {epochs: 3}}]",
        "assays.1.options={steps: 50, runs: 1}",
        "assays.2.options={points: 4}",
        "assays.4.options={largest_atoms: 15, calls: 3, seconds: 0.1, batch: 2}",
    ],
    "dataset": [
        "train=[{name: bpnn, model: bpnn, size: 20, settings: {epochs: 3}}]",
        "assays.1.options={steps: 50, runs: 1}",
        "assays.2.options={largest_atoms: 15, calls: 3, seconds: 0.1, batch: 2}",
    ],
    "silicon": [
        "train=[{name: bpnn, model: bpnn, size: 4, settings: {epochs: 1}}]",
        "assays.1.options={steps: 20, runs: 1}",
        "assays.2.options={largest_atoms: 64, calls: 3, seconds: 0.1, batch: 1}",
    ],
}


def needs_data(path):
    if "KARAT_DATA" in path.read_text() and not DATA.is_dir():
        pytest.skip(f"KARAT_DATA ({DATA}) is missing")


@pytest.fixture(autouse=True)
def data(monkeypatch):
    monkeypatch.setenv("KARAT_DATA", str(DATA.resolve()))


def test_there_are_three():
    assert [path.stem for path in EXAMPLES] == sorted(SMALLER)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path):
    needs_data(path)
    campaign = load_campaign(path)
    validate(campaign)
    kinds = {step.kind for step in plan(campaign)}
    assert {"structures", "split", "check", "fit", "train", "cases", "measure", "score"} <= kinds


def test_the_demo_is_what_the_issue_asks_for():
    campaign = load_campaign(ROOT / "examples" / "acetylacetone.yaml")
    assert campaign.system.smiles == "CC(=O)/C=C(/C)O"
    assert [s.component.temperature_k for s in campaign.data.sample] == [300, 600]
    assert campaign.data.split.by == "time_block"
    assert len({entry.size for entry in campaign.train}) == 3
    assert {e.potential.name for e in campaign.contestants} == {"mmff94", "uff", "gfn1_xtb"}

    asked = {"energy_forces", "dynamics", "torsions", "modes", "cost"}
    assert {entry.assay.name for entry in campaign.assays} == asked


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_in_small(path, tmp_path):
    needs_data(path)
    arguments = [item for change in SMALLER[path.stem] for item in ("--set", change)]
    done = subprocess.run(
        [sys.executable, "-m", "karat.cli.main", "run", str(path), "--output", str(tmp_path)]
        + arguments,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = Path(done.stdout.splitlines()[-1])
    assert report.stat().st_size < 8_000_000
