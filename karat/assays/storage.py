"""Case sets and measurements as arrays and JSON, and back, without losing a bit.

What is not an array has to be JSON: texts, numbers, lists (tuples come back as lists),
mappings with text keys, no NaN. What comes back is checked for that before it is stored.

Checked: tests/assays/test_assay_storage.py and the conformance suite.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from karat.assays.protocol import CaseSet, Measurement
from karat.core.errors import BadInput
from karat.data.storage import dataset_from_parts, dataset_to_parts
from karat.results.metric import Failure
from karat.structures.labels import LevelOfTheory

Arrays = dict[str, np.ndarray]
_RECORDS, _OWN = "records/", "own/"


def caseset_to_result_parts(cases: CaseSet) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and payload for a `Result`.

    Raises:
        BadInput: the payload is not JSON.
    """
    arrays, records = dataset_to_parts(cases.records)
    own, scalars = _flat(cases.arrays)
    payload = {
        "records": records,
        "payload": _json(cases.payload, "the payload of a case set"),
        "scalars": scalars,
        "failures": [failure.as_dict() for failure in cases.failures],
        "level": None if cases.level is None else cases.level.as_dict(),
    }
    return _prefixed(_RECORDS, arrays) | own, payload


def caseset_from_result_parts(
    arrays: Mapping[str, np.ndarray], payload: Mapping[str, Any]
) -> CaseSet:
    """The inverse of `caseset_to_result_parts`.

    Raises:
        BadInput: parts that do not fit together.
    """
    try:
        level = payload["level"]
        return CaseSet(
            records=dataset_from_parts(_without(_RECORDS, arrays), payload["records"]),
            arrays=_unflat(arrays, payload["scalars"]),
            payload=payload["payload"],
            failures=tuple(Failure.from_dict(item) for item in payload["failures"]),
            level=None if level is None else LevelOfTheory.from_dict(level),
        )
    except (KeyError, TypeError) as error:
        raise BadInput(f"stored cases do not fit together ({error!r}).") from error


def measurement_to_result_parts(
    measured: Measurement,
) -> tuple[Arrays, dict[str, Any], dict[str, Any]]:
    """Arrays, payload and timings for a `Result` (timings are not part of its identity).

    Raises:
        BadInput: payload or timings are not JSON.
    """
    arrays, scalars = _flat(measured.arrays)
    payload = {
        "payload": _json(measured.payload, "the payload of a measurement"),
        "scalars": scalars,
        "failures": [failure.as_dict() for failure in measured.failures],
    }
    return arrays, payload, _json(measured.timings, "the timings of a measurement")


def measurement_from_result_parts(
    arrays: Mapping[str, np.ndarray], payload: Mapping[str, Any], timings: Mapping[str, Any]
) -> Measurement:
    """The inverse of `measurement_to_result_parts`.

    Raises:
        BadInput: parts that do not fit together.
    """
    try:
        return Measurement(
            arrays=_unflat(arrays, payload["scalars"]),
            payload=payload["payload"],
            failures=tuple(Failure.from_dict(item) for item in payload["failures"]),
            timings=timings,
        )
    except (KeyError, TypeError) as error:
        raise BadInput(f"a stored measurement does not fit together ({error!r}).") from error


def _json(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """`values`, if they come back from JSON as they were."""
    try:
        text = json.dumps(dict(values), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} is not JSON: {error}. Use lists, texts, finite numbers.") from error
    back: dict[str, Any] = json.loads(text)
    if back != _lists(values):
        raise BadInput(f"{what} changes in JSON: keys have to be texts.")
    return back


def _lists(value: Any) -> Any:
    """Tuples as lists, mappings as dictionaries, all the way down."""
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    return value


def _prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def _without(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _flat(arrays: Mapping[str, np.ndarray]) -> tuple[Arrays, list[str]]:
    """Arrays with at least one axis (files keep no others), and the names of those changed."""
    scalars = sorted(name for name, array in arrays.items() if np.ndim(array) == 0)
    flat = {name: np.atleast_1d(np.asarray(array)) for name, array in arrays.items()}
    return _prefixed(_OWN, flat), scalars


def _unflat(arrays: Mapping[str, np.ndarray], scalars: list[str]) -> Arrays:
    own = _without(_OWN, arrays)
    return {name: array.reshape(()) if name in scalars else array for name, array in own.items()}
