"""A campaign that solves for a model: no epochs, and all else as with a trained one."""

import pytest

from karat.campaign.runner import run_campaign
from karat.core.errors import BadInput
from karat.potentials.karat_header import read_header
from karat.results.result import Result

SOLVED = """
name: solved
title: Water by its kernel
seed: 3
system: {smiles: "O"}
reference: {engine: gfn2_xtb}
data:
  sample: [{sampler: rattle, options: {copies: 40, amplitude_angstrom: 0.05}}]
  split: {by: similarity, valid: 0.2, test: 0.3}
train:
  - {name: kernel, model: sgdml, size: 15, options: {sigma: 10, calibration_structures: 2}}
assays:
  - assay: energy_forces
"""


def test_it_is_fitted_measured_and_reported(tools, tmp_path):
    summary = run_campaign(tools.parse(SOLVED), tmp_path, 1, tools.Recorder())
    ends = {name: outcome.status for name, outcome in summary.outcomes.items()}
    assert set(ends.values()) == {"done"}
    fitted = Result.load(tmp_path / summary.outcomes["train kernel"].folder)
    assert fitted.payload["note"].startswith("solved with σ = 10, 2 permutations")
    assert fitted.payload["curve"] == {}
    model = next(tmp_path.rglob("model.karat"))
    assert read_header(model).architecture == "sgdml"
    assert read_header(model).training["matrix_rows"] == 15 * 3
    score = Result.load(tmp_path / summary.outcomes["score energy_forces kernel"].folder)
    mae = next(m for m in score.metrics if m.name == "force_mae" and not m.subset)
    assert mae.value < 0.2
    page = (tmp_path / "report.html").read_text()
    assert "solved with σ = 10" in page


def test_settings_of_the_trainer_are_refused(tools):
    with pytest.raises(BadInput, match="sgdml .*is solved for.*epochs"):
        tools.parse(SOLVED.replace("size: 15", "size: 15, settings: {epochs: 3}"))
