"""Properties of the karat score."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from karat.core.errors import BadInput
from karat.results.score import FULL, Karats, aggregate, failed, karats, missing

errors = st.floats(0, 1e6, allow_subnormal=False)
floors = st.floats(1e-9, 1e3)
baselines = st.floats(1e-6, 1e6)


def scale(floor, baseline):
    assume(baseline > 2 * floor)
    return floor, baseline


def test_exact_values():
    assert karats(0.1, 0.1, 10.0).value == FULL
    assert karats(10.0, 0.1, 10.0).value == 0.0
    assert karats(1.0, 0.1, 10.0).value == pytest.approx(12.0, rel=1e-14)  # geometric middle
    assert karats(0.0, 0.1, 10.0).value == FULL
    assert karats(1e9, 0.1, 10.0).value == 0.0
    expected = 24 * math.log(10 / 3) / math.log(10 / 0.1)
    assert karats(3.0, 0.1, 10.0).value == pytest.approx(expected, rel=1e-14)


@given(errors, errors, floors, baselines)
def test_a_lower_error_never_lowers_karats(one, other, floor, baseline):
    floor, baseline = scale(floor, baseline)
    better, worse = sorted((one, other))
    assert karats(better, floor, baseline).value >= karats(worse, floor, baseline).value


@given(errors, floors, baselines, st.sampled_from([1e-6, 0.0433641, 1.0, 27.2114, 1e6]))
def test_units_never_matter(error, floor, baseline, unit):
    floor, baseline = scale(floor, baseline)
    assume(not math.isclose(baseline, 2 * floor, rel_tol=1e-9))
    one = karats(error, floor, baseline).value
    other = karats(error * unit, floor * unit, baseline * unit).value
    assert other == pytest.approx(one, abs=1e-9)


@given(errors, floors, baselines)
def test_between_nothing_and_pure(error, floor, baseline):
    floor, baseline = scale(floor, baseline)
    assert 0.0 <= karats(error, floor, baseline).value <= FULL


@given(errors, floors, st.floats(0, 1))
def test_no_karats_where_nothing_is_discriminated(error, floor, share):
    found = karats(error, floor, 2 * floor * share)
    assert (found.value, found.status) == (None, "no-scale")
    assert "discriminates nothing" in found.reason


@pytest.mark.parametrize(
    ("floor", "baseline", "words"),
    [(None, 1.0, "no noise floor"), (0.1, None, "no baseline"), (0.0, 1.0, "is zero")],
)
def test_without_a_scale_there_is_a_reason(floor, baseline, words):
    found = karats(0.5, floor, baseline)
    assert (found.value, found.status) == (None, "no-scale")
    assert words in found.reason


@pytest.mark.parametrize("values", [(-1.0, 0.1, 1.0), (math.nan, 0.1, 1.0), (1.0, math.inf, 1.0)])
def test_what_is_no_error_is_refused(values):
    with pytest.raises(BadInput, match="finite number ≥ 0"):
        karats(*values)


def test_failed_is_zero_and_missing_is_not_counted():
    parts = [Karats(12.0), failed("exploded"), missing("no stress")]
    found = aggregate(parts)
    assert (found.value, found.counted, found.possible) == (6.0, 2, 3)
    assert found.covered == pytest.approx(2 / 3)
    nothing = aggregate([missing("no stress"), missing("no stress")])
    assert (nothing.value, nothing.covered, nothing.reason) == (None, 0.0, "no stress")
    assert aggregate([]).reason == "nothing was measured"


def test_what_has_no_scale_is_no_part_of_the_share():
    found = aggregate([Karats(12.0), karats(1.0, 1.0, 1.5)])
    assert (found.value, found.covered) == (12.0, 1.0)
