"""What is stored comes back bit by bit, through a result folder on disk."""

import numpy as np
import pytest

from karat.assays.conformance import digest_cases, digest_measurement
from karat.assays.protocol import CaseSet, Measurement
from karat.assays.storage import (
    caseset_from_result_parts,
    caseset_to_result_parts,
    measurement_from_result_parts,
    measurement_to_result_parts,
)
from karat.core.errors import BadInput
from karat.results.metric import Failure
from karat.results.provenance import Provenance
from karat.results.result import Result

FAILURES = (
    Failure("scan", "a", "not-converged", "5 steps"),
    Failure("scan", "b", "timeout", "", 3),
)
ARRAYS = {
    "float": np.array([[1 / 3, np.nan], [-0.0, np.inf]]),
    "single": np.array([0.1], np.float32),
    "whole": np.arange(3),
    "flags": np.array([True, False]),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 3)),
}


def through_disk(tmp_path, arrays, payload, timings=None):
    result = Result(
        "assay", "x", Provenance(), payload=payload, arrays=arrays, timings=timings or {}
    )
    result.save(tmp_path / "result")
    return Result.load(tmp_path / "result")


def assert_same_bits(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def test_case_sets(toys, tmp_path):
    potential = toys.peroxide_potential()
    test = toys.labelled(toys.rattled(toys.peroxide(), 3, seed=1), potential, kinds=("a", "b"))
    cases = CaseSet(
        records=test.records,
        arrays=ARRAYS,
        payload={"names": ["x", "y"], "deep": {"value": 1 / 3}},
        failures=FAILURES,
        level=toys.LEVEL,
    )
    read = through_disk(tmp_path, *caseset_to_result_parts(cases))
    back = caseset_from_result_parts(read.arrays, read.payload)
    assert digest_cases(back) == digest_cases(cases)
    assert_same_bits(back.arrays, ARRAYS)
    for found, given in zip(back.records, cases.records):
        assert found.structure.topology.digest == given.structure.topology.digest
        assert found.digest == given.digest
        assert found.name == given.name
    assert (back.failures, back.level) == (FAILURES, toys.LEVEL)


def test_an_empty_case_set(tmp_path):
    cases = CaseSet(records=())
    read = through_disk(tmp_path, *caseset_to_result_parts(cases))
    assert digest_cases(caseset_from_result_parts(read.arrays, read.payload)) == digest_cases(cases)


def test_measurements(tmp_path):
    timings = {"seconds": {"2 atoms": [0.1, 0.2]}, "memory": None}
    measured = Measurement(ARRAYS, {"missing": {"a": "why"}}, FAILURES, timings)
    arrays, payload, times = measurement_to_result_parts(measured)
    assert "seconds" not in payload
    read = through_disk(tmp_path, arrays, payload, times)
    back = measurement_from_result_parts(read.arrays, read.payload, read.timings)
    assert digest_measurement(back) == digest_measurement(measured)
    assert_same_bits(back.arrays, ARRAYS)
    assert back.timings == timings


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": {1: 2}}, {"a": np.zeros(2)}])
def test_what_is_not_json_is_refused(payload):
    with pytest.raises(BadInput, match="JSON"):
        caseset_to_result_parts(CaseSet(records=(), payload=payload))
    with pytest.raises(BadInput, match="JSON"):
        measurement_to_result_parts(Measurement(timings=payload))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="fit together"):
        caseset_from_result_parts({}, {"payload": {}})
    with pytest.raises(BadInput, match="fit together"):
        measurement_from_result_parts({}, {}, {})
