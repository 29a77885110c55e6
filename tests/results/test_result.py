"""Metrics, failures, figures, provenance and results: refused, kept bit by bit, identified."""

import dataclasses

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.results.figure import Figure, Series
from karat.results.metric import Failure, Metric
from karat.results.provenance import Provenance, hardware, versions
from karat.results.result import Result
from karat.structures.labels import LevelOfTheory

METRIC = Metric("force_mae", 1 / 3, "eV/Å", 0.3, 0.4, 20, "lower", subset="kind:600K", floor=1e-6)
FIGURE = Figure(
    "lines",
    "torsion:0",
    "Profile",
    "angle (°)",
    "energy (eV)",
    (Series("a", (0.0, 1.0), (0.1, 0.2), (0.0, 0.1), (0.2, 0.3), ("x", "y")), Series("b", (), ())),
    log_y=True,
    extra={"k": 1},
)


def whole():
    return Result(
        kind="score",
        name="score forces a",
        provenance=Provenance.now({"data": "abc"}, {"split": 3}, seconds=1.5),
        metrics=(METRIC,),
        failures=(Failure("label", "case 3", "timeout", "too long", attempts=2),),
        figures=(FIGURE,),
        payload={"contestant": "a", "list": [1, 2.5, None, "x"]},
        arrays={"errors/force_mae": np.array([0.1, np.nan]), "i": np.arange(3)},
        level=LevelOfTheory("PBE", settings={"k": "2"}),
        timings={"seconds": 2.0},
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"value": float("nan")}, "store a Failure"),
        ({"value": float("inf")}, "store a Failure"),
        ({"low": None}, "half an interval"),
        ({"low": None, "high": None}, "neither an interval nor the reason"),
    ],
)
def test_metrics_that_are_refused(changes, words):
    with pytest.raises(BadInput, match=words):
        dataclasses.replace(METRIC, **changes)


def test_parts_read_back():
    assert Metric.from_dict(METRIC.as_dict()) == METRIC
    assert Figure.from_dict(FIGURE.as_dict()) == FIGURE
    failure = Failure("label", "c", "timeout", "slow")
    assert Failure.from_dict(failure.as_dict()) == failure
    provenance = Provenance.now({"a": "b"})
    assert Provenance.from_dict(provenance.as_dict()) == provenance


def test_saved_and_loaded(tmp_path):
    result = whole()
    result.save(tmp_path / "r")
    back = Result.load(tmp_path / "r")
    assert back.as_dict() == result.as_dict()
    assert back.digest == result.digest
    np.testing.assert_array_equal(back.arrays["errors/force_mae"], [0.1, np.nan])
    assert back.metric("force_mae", "kind:600K") == METRIC
    with pytest.raises(KeyError, match="no metric"):
        back.metric("force_mae")


def test_digest_is_blind_to_time_and_place_only():
    result = whole()
    later = dataclasses.replace(
        result,
        timings={"seconds": 9.0},
        provenance=dataclasses.replace(result.provenance, created="later", hardware={"cpu": "x"}),
    )
    assert later.digest == result.digest
    changes = [
        {"name": "other"},
        {"payload": {}},
        {"metrics": ()},
        {"failures": ()},
        {"figures": ()},
        {"level": None},
        {"arrays": {"i": np.arange(4)}},
        {"provenance": dataclasses.replace(result.provenance, seeds={"split": 4})},
        {"provenance": dataclasses.replace(result.provenance, inputs={"data": "abd"})},
    ]
    digests = {dataclasses.replace(result, **change).digest for change in changes}
    assert len(digests | {result.digest}) == len(changes) + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such result file"),
        ("", "0 bytes"),
        ("not json", "not a karat result"),
        ("{}", "not a karat result"),
        ('{"schema": 99}', "schema 99"),
    ],
)
def test_what_cannot_be_loaded(tmp_path, text, words):
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(BadInput, match=words):
        Result.load(tmp_path)


def test_versions_and_hardware_are_named():
    assert {"karat", "python", "numpy", "ase"} <= set(versions())
    assert int(hardware()["cores"]) >= 1
