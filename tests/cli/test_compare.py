"""`karat compare` on written folders: table, document, exit status, refusals."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from karat.cli.main import app
from karat.core.errors import BadInput
from karat.results.metric import Failure, Metric
from karat.results.provenance import Provenance
from karat.results.result import Result
from karat.structures.labels import LevelOfTheory

ERRORS = np.random.default_rng(2).gamma(4, size=30)


def write(folder, contestants, failed=()):
    """A folder with one assay of these contestants: name → errors."""
    steps = []
    for name, errors in contestants.items():
        metric = Metric(
            "mae", float(np.nanmean(errors)), "eV", None, None, 30, "lower", "given",
            headline=True, floor_source="none", baseline_source="none",
        )  # fmt: skip
        payload = {
            "contestant": name, "assay": "[forces]", "version": 1, "groups": [],
            "case_names": [f"case {i}" for i in range(30)],
        }  # fmt: skip
        result = Result(
            kind="score", name=f"score {name}", provenance=Provenance(inputs={"cases": "c"}),
            metrics=(metric,), payload=payload, arrays={"errors/mae": errors},
            level=LevelOfTheory("PBE"), failures=tuple(Failure("x", c, "y", "z") for c in failed),
        )  # fmt: skip
        result.save(folder / name)
        steps.append({"folder": name, "kind": "score", "name": result.name, "status": "done"})
    (folder / "index.json").write_text(json.dumps({"name": "n", "steps": steps}))
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    def make(old, new, failed=()):
        for name in ("old", "new"):
            (tmp_path / name).mkdir()
        return [write(tmp_path / "old", old), write(tmp_path / "new", new, failed)]

    return make


def invoke(*arguments):
    return CliRunner().invoke(app, ["compare", *arguments], env={"COLUMNS": "200"})


def refusal(*arguments):
    """What `main` prints before it ends with status 2."""
    error = invoke(*arguments).exception
    assert isinstance(error, BadInput)
    return str(error)


def test_better_is_said_and_is_no_failure(folders):
    found = invoke(*folders({"a": ERRORS, "b": ERRORS}, {"a": ERRORS - 0.5, "b": ERRORS}))
    assert found.exit_code == 0, found.output
    assert "1 better, 1 tied." in found.output
    assert "[forces]" in found.output
    assert "-0.5 (-0.5 … -0.5) eV" in found.output


def test_worse_gives_status_one_and_a_document(folders):
    found = invoke(*folders({"a": ERRORS}, {"a": ERRORS * 1.2}), "--json")
    assert found.exit_code == 1
    document = json.loads(found.stdout)
    assert (document["worse"], document["better"], document["level"]) == (1, 0, 0.05)
    (change,) = document["changes"]
    assert change["verdict"] == "worse"
    assert change["low"] < 0.2 * ERRORS.mean() < change["high"]


def test_a_case_that_fails_now_gives_status_one(folders):
    errors = ERRORS.copy()
    errors[4] = np.nan
    found = invoke(*folders({"a": ERRORS}, {"a": errors}, failed=["case 4"]))
    assert found.exit_code == 1
    assert "failing now: 1 case (case 4)" in found.output


def test_single_contestants_are_compared_whatever_they_are_called(folders):
    assert "1 tied." in invoke(*folders({"a": ERRORS}, {"z": ERRORS})).output


def test_several_have_to_be_named(folders):
    sides = folders({"a": ERRORS, "b": ERRORS}, {"c": ERRORS, "d": ERRORS - 1})
    assert "--rename OLD=NEW" in refusal(*sides)
    assert "has no contestant 'x'" in refusal(*sides, "--rename", "x=c")
    assert "write OLD=NEW" in refusal(*sides, "--rename", "a")
    found = invoke(*sides, "--rename", "a=d", "--json")
    assert found.exit_code == 1  # b is gone
    verdicts = {c["contestant"]: c["verdict"] for c in json.loads(found.stdout)["changes"]}
    assert verdicts == {"d": "better", "b": "gone", "c": "new"}


def test_folders_without_scores_are_refused(folders, tmp_path):
    old, _ = folders({"a": ERRORS}, {"a": ERRORS})
    (tmp_path / "empty").mkdir()
    assert "holds no index.json" in refusal(old, str(tmp_path / "empty"))
    assert "holds no scores" in refusal(old, write(tmp_path / "empty", {}))
    assert invoke(old, old, "--level", "0.6").exit_code == 2
