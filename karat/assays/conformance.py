"""What every assay must meet, third-party ones included.

    from karat.assays.conformance import check_assay
    check_assay(MyAssay(), context, potential)

Each check raises `AssertionError` with what is wrong.
Checked: tests/assays/test_assay_conformance.py, on karat's assays and on wrong ones.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from karat.assays.protocol import (
    AbstractAssay,
    CaseSet,
    Contestant,
    Context,
    Measurement,
    Need,
    NotApplicable,
    Score,
)
from karat.assays.storage import (
    caseset_from_result_parts,
    caseset_to_result_parts,
    measurement_from_result_parts,
    measurement_to_result_parts,
)
from karat.core.components import dump, parse
from karat.core.errors import CalculationFailed
from karat.core.hashing import digest_arrays, digest_json
from karat.potentials.protocol import AbstractPotential, Traits
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure


class AlwaysFailing(AbstractPotential):
    """Declares what another potential declares, and fails on every structure."""

    def __init__(self, potential: AbstractPotential) -> None:
        self.potential = potential

    @property
    def traits(self) -> Traits:
        return dataclasses.replace(self.potential.traits, native=False)

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        if not structures:
            return []
        raise CalculationFailed("It always fails.", kind="always")


def check_assay(assay: AbstractAssay, context: Context, potential: AbstractPotential) -> None:
    """Run all checks with a potential that can do the assay.

    Raises:
        AssertionError: naming the first rule that is broken.
    """
    check_declarations(assay)
    cases = check_cases(assay, context)
    measured = check_measurement(assay, cases, potential)
    check_score(assay, cases, measured, Contestant("one"))
    failed = check_failures(assay, cases, potential)
    check_score(assay, cases, failed, Contestant("failing"))


def check_declarations(assay: AbstractAssay) -> None:
    """Family, title, version, needs; settings that come back from their dump."""
    name = type(assay).__name__
    _require(bool(assay.family and assay.title), f"{name} has no family or title")
    _require(assay.version >= 1, f"{name}: version {assay.version} must be at least 1")
    unknown = set(assay.needs) - set(get_args(Need))
    _require(not unknown, f"{name} needs {unknown}; allowed: {get_args(Need)}")
    back = parse(type(assay), dump(assay), name)
    _require(dump(back) == dump(assay), f"{name}: its settings change when parsed again")


def check_cases(assay: AbstractAssay, context: Context) -> CaseSet:
    """Cases are the same a second time, have unique names, and survive storage."""
    cases = assay.cases(context)
    first = digest_cases(cases)
    _require(digest_cases(assay.cases(context)) == first, "cases differ when made again")
    names = [record.name for record in cases.records]
    _require(len(set(names)) == len(names) and all(names), "case names are empty or given twice")
    arrays, payload = caseset_to_result_parts(cases)
    back = caseset_from_result_parts(arrays, json.loads(json.dumps(payload)))
    _require(digest_cases(back) == first, "cases change in storage")
    return cases


def check_measurement(
    assay: AbstractAssay, cases: CaseSet, potential: AbstractPotential
) -> Measurement:
    """Measuring leaves the cases alone, repeats (timings aside), and survives storage."""
    before = digest_cases(cases)
    measured = assay.measure(potential, cases)
    _require(digest_cases(cases) == before, "measure changed the cases")
    first = digest_measurement(measured)
    again = digest_measurement(assay.measure(potential, cases))
    _require(first == again, "measuring again gave other numbers outside of timings")
    _check_measurement_storage(measured)
    return measured


def _check_measurement_storage(measured: Measurement) -> None:
    arrays, payload, timings = measurement_to_result_parts(measured)
    stored = json.loads(json.dumps([payload, timings]))
    back = measurement_from_result_parts(arrays, *stored)
    same = digest_measurement(back) == digest_measurement(measured)
    _require(same, "a measurement changes in storage")
    _require(digest_json(back.timings) == digest_json(measured.timings), "timings change")


def check_failures(
    assay: AbstractAssay, cases: CaseSet, potential: AbstractPotential
) -> Measurement:
    """A potential that always fails is recorded, not raised and not passed over."""
    try:
        failed = assay.measure(AlwaysFailing(potential), cases)
    except CalculationFailed as error:
        raise AssertionError(f"measure raised a failure instead of recording it: {error}") from None
    except NotApplicable as error:
        raise AssertionError(f"measure calls a failing potential not applicable: {error}") from None
    _require(bool(failed.failures), "a potential that always fails left no failure")
    _check_measurement_storage(failed)
    return failed


def check_score(
    assay: AbstractAssay, cases: CaseSet, measured: Measurement, contestant: Contestant
) -> Score:
    """Scoring is pure and repeatable; metrics and figures can be stored and shown."""
    before = (digest_cases(cases), digest_measurement(measured))
    score = assay.score(cases, measured, contestant)
    _require((digest_cases(cases), digest_measurement(measured)) == before, "score changed inputs")
    again = digest_score(assay.score(cases, measured, contestant))
    _require(digest_score(score) == again, "scoring again gave other numbers")
    keys = [(metric.name, metric.subset) for metric in score.metrics]
    _require(len(set(keys)) == len(keys), f"a metric is given twice: {keys}")
    for metric in score.metrics:
        if metric.headline:
            floor = metric.floor is not None or bool(metric.floor_source)
            baseline = metric.baseline is not None or bool(metric.baseline_source)
            _require(floor and baseline, f"headline {metric.name}: no floor, baseline or reason")
            _require(metric.better == "lower", f"headline {metric.name} is not an error")
        if metric.low is not None and metric.high is not None:
            _require(metric.low <= metric.high, f"{metric.name}: interval upside down")
    count = len(score.case_names)
    for name, errors in score.errors.items():
        _require(errors.shape == (count,), f"errors of {name} do not fit the case names")
    _require(set(score.weights) <= set(score.errors), "weights without errors")
    for name, weights in score.weights.items():
        good = weights.shape == (count,) and bool((weights > 0).all())
        _require(good, f"weights of {name} do not fit the case names or are not positive")
    _require(len(score.groups) in (0, count), "groups do not fit the case names")
    known = {record.name for record in cases.records}
    _require(set(score.worst) <= known, "worst names cases that do not exist")
    return score


def digest_cases(cases: CaseSet) -> str:
    """SHA-256 over everything in a case set, topologies and names included."""
    records = [
        [
            record.name,
            record.digest,
            None if record.structure.topology is None else record.structure.topology.digest,
        ]
        for record in cases.records
    ]
    level = None if cases.level is None else cases.level.as_dict()
    return _digest(cases.arrays, [records, dict(cases.payload), level], cases.failures)


def digest_measurement(measured: Measurement) -> str:
    """SHA-256 over everything in a measurement but its timings."""
    return _digest(measured.arrays, dict(measured.payload), measured.failures)


def digest_score(score: Score) -> str:
    """SHA-256 over everything in a score."""
    values = [
        [metric.as_dict() for metric in score.metrics],
        [figure.as_dict() for figure in score.figures],
        [score.case_names, score.groups, score.worst],
    ]
    arrays = dict(score.errors) | {f"weights/{k}": v for k, v in score.weights.items()}
    return _digest(arrays, values, ())


def _digest(arrays: Mapping[str, np.ndarray], values: Any, failures: Sequence) -> str:
    return digest_json([digest_arrays(arrays), values, [item.as_dict() for item in failures]])


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
