"""Curves and parity of trainings: from stored arrays to charts on the page."""

import dataclasses
import json
import math

import numpy as np
import pytest

from karat.report.charts import MOST_POINTS
from karat.report.model import load_view
from karat.report.sections.fit_parity import parity_charts, parity_figures
from karat.report.sections.learning import learning_section

ATOMS = 900
GENERATOR = np.random.default_rng(4)
PARITY = {
    "parity/energy_reference": -1234.5 + GENERATOR.normal(0, 0.01, 30),
    "parity/force_reference": GENERATOR.normal(0, 1.0, (ATOMS, 3)),
}
PARITY["parity/energy_predicted"] = PARITY["parity/energy_reference"] + 2e-3
PARITY["parity/force_predicted"] = PARITY["parity/force_reference"].copy()
PARITY["parity/force_predicted"][17, 1] += 1.5


def with_parity(result, **curve):
    payload = dict(result.payload)
    payload["curve"] = {**payload["curve"], **curve}
    return dataclasses.replace(result, payload=payload, arrays=PARITY)


@pytest.fixture(scope="module")
def trained(example, tmp_path_factory):
    """A campaign in which one of the trainings stored everything."""
    folder = example.write_example(tmp_path_factory.mktemp("example") / "out")
    index = json.loads((folder / "index.json").read_text())
    place = next(s["folder"] for s in index["steps"] if s["name"] == "train bpnn-100")
    epochs = 80
    terms = {
        f"{part}_{term}_loss": [0.0 if term == "stress" else 0.1 / e for e in range(1, epochs + 1)]
        for part in ("train", "valid")
        for term in ("energy", "force", "stress")
    }
    rollbacks = [0.0] * 40 + [1.0] * 40
    result = with_parity(
        example.train(example.PLAYERS[1]), **terms, padding=[0.1] * epochs, rollbacks=rollbacks
    )
    for path in (folder / place).iterdir():
        path.unlink()
    (folder / place).rmdir()
    result.save(folder / place)
    return folder


def test_energies_keep_their_digits_and_forces_their_worst_point(trained):
    energies, forces = parity_charts(load_view(trained))
    (panel,) = energies["panels"]
    assert panel["title"] == "bpnn-100"
    errors = np.subtract(panel["series"][0]["y"], panel["series"][0]["x"])
    np.testing.assert_allclose(errors, 2e-3, rtol=0, atol=2e-6)  # six digits of 0.03 eV/atom
    assert "eV/atom" in energies["x"]
    (panel,) = forces["panels"]
    series = panel["series"][0]
    assert len(series["x"]) == MOST_POINTS < 3 * ATOMS
    errors = np.abs(np.subtract(series["y"], series["x"]))
    assert max(errors) == pytest.approx(1.5, abs=1e-4)
    assert sum(errors > 1e-4) == 1


def test_terms_share_a_chart_and_what_is_zero_is_not_drawn(trained):
    section = learning_section(load_view(trained))
    charts = {chart["title"]: chart for chart in section.charts}
    terms = charts["Terms of the validation loss per epoch"]["series"]
    assert [(s["name"], s["dash"]) for s in terms] == [
        ("bpnn-100 · energy", 0),
        ("bpnn-100 · force", 1),
    ]
    assert terms[0]["y"][3] == pytest.approx(0.025)
    returns = charts["Returns to an earlier epoch per epoch"]
    assert returns["series"][0]["y"][-1] == 1
    assert not [title for title in charts if "padding" in title.lower() or "rate" in title.lower()]
    for anchor in ("chart-fit-parity-0", "chart-fit-parity-1"):
        assert str(section.body).count(f'id="{anchor}"') == 1


def test_without_forces_or_without_anything_there_is_less(example):
    result = with_parity(example.train(example.PLAYERS[0]))
    none = np.zeros((0, 3))
    bare = {**PARITY, "parity/force_reference": none, "parity/force_predicted": none}
    groups = [f.group for f in parity_figures(dataclasses.replace(result, arrays=bare))]
    assert groups == ["fit:energies"]
    assert parity_figures(dataclasses.replace(result, arrays={})) == []


def test_a_run_that_never_went_back_has_no_such_chart(trained):
    section = learning_section(load_view(trained))
    losses = next(c for c in section.charts if c["title"] == "Training loss per epoch")
    assert len(losses["series"]) == 3
    assert all(math.isfinite(value) for s in losses["series"] for value in s["y"])
