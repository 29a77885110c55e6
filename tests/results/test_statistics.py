"""Intervals cover as often as they say, with and without blocks; differences and ties."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, norm, t

from karat.core.errors import BadInput
from karat.results.statistics import (
    MIN_CASES,
    bootstrap,
    maximum,
    paired_difference,
    tied_groups,
    without_interval,
)

TRIALS = 400
FALSE_ALARM = 1e-3
"""Chance that a test of coverage fails though coverage is the stated one; seeded, so that a
given version always passes or always fails."""


def bounds(coverage, trials=TRIALS):
    """Counts of covering intervals within which the trials fall but for FALSE_ALARM."""
    return binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], trials, coverage)


def covered(draw, truth, statistic, groups=None, resamples=600, trials=TRIALS):
    generator = np.random.default_rng(20)
    count = 0
    for trial in range(trials):
        interval = bootstrap(draw(generator), statistic, trial, groups, resamples=resamples)
        count += interval.low <= truth <= interval.high
    return count


MEAN_TRIALS = 1500


@pytest.mark.parametrize("cases", [8, 20, 100])
def test_coverage_of_the_mean(cases):
    """Normal data: Student's t would cover 95 % exactly; the bootstrap 93 to 96.5 %."""
    low, high = bounds(0.93, MEAN_TRIALS)[0], bounds(0.965, MEAN_TRIALS)[1]
    count = covered(lambda g: g.normal(3.0, 2.0, cases), 3.0, "mean", trials=MEAN_TRIALS)
    assert low <= count <= high


def test_plain_percentiles_would_not_cover():
    """The test above can fail: without widening, eight cases cover about 88 %."""
    generator = np.random.default_rng(20)
    count = 0
    for _ in range(MEAN_TRIALS):
        sample = generator.normal(size=8)
        draws = generator.integers(8, size=(600, 8))
        low, high = np.quantile(sample[draws].mean(axis=1), [0.025, 0.975])
        count += low <= 0 <= high
    assert count < bounds(0.93, MEAN_TRIALS)[0]


def test_coverage_of_the_rms():
    """Of 40 normal errors."""
    count = covered(lambda g: g.normal(0.0, 2.0, 40), 2.0, "rms")
    assert bounds(0.91)[0] <= count <= bounds(0.97)[1]


def test_coverage_of_the_median():
    count = covered(lambda g: g.exponential(1.0, 60), np.log(2.0), "median", resamples=300)
    assert bounds(0.92)[0] <= count <= bounds(0.985)[1]


GROUPS = [f"block {i}" for i in range(12) for _ in range(10)]


def correlated(generator):
    """Twelve blocks of ten, with as much spread between blocks as within."""
    return np.repeat(generator.normal(size=12), 10) + generator.normal(size=120)


def test_coverage_with_blocks():
    count = covered(correlated, 0.0, "mean", GROUPS)
    assert bounds(0.92)[0] <= count <= bounds(0.97)[1]


def test_correlated_cases_without_blocks_are_too_narrow():
    assert covered(correlated, 0.0, "mean") < bounds(0.80)[0]


def test_equals_the_t_interval_on_large_samples():
    """Exact answer: for a mean of many cases the interval is value ± t·s/√n."""
    values = np.random.default_rng(2).normal(size=400)
    interval = bootstrap(values, "mean", 0, resamples=40_000)
    half = t.ppf(0.975, 399) * values.std(ddof=1) / 20
    # 40 000 resamples leave 1 % on each end (standard error of the 2.5 % quantile)
    assert interval.high - interval.value == pytest.approx(half, rel=0.03)
    assert interval.value - interval.low == pytest.approx(half, rel=0.03)


def test_rms_is_the_root_of_the_mean_square():
    values = np.random.default_rng(2).normal(size=30)
    square = bootstrap(values**2, "mean", 5)
    rms = bootstrap(values, "rms", 5)
    np.testing.assert_allclose(
        [rms.value**2, rms.low**2, rms.high**2], [square.value, square.low, square.high], rtol=1e-3
    )


def test_weights_count_components():
    """Structures of 2 and 20 components: the RMSE over components, not over structures."""
    generator = np.random.default_rng(1)
    sizes = generator.integers(1, 20, 30)
    components = [generator.normal(size=n) for n in sizes]
    per_case = np.array([np.sqrt(np.mean(c**2)) for c in components])
    interval = bootstrap(per_case, "rms", 0, weights=sizes.astype(float))
    assert interval.value == pytest.approx(np.sqrt(np.mean(np.concatenate(components) ** 2)))
    assert interval.low < interval.value < interval.high


def test_groups_of_one_case_change_nothing():
    values = np.random.default_rng(2).normal(size=30)
    alone = bootstrap(values, "mean", 5)
    assert bootstrap(values, "mean", 5, groups=[str(i) for i in range(30)]) == alone


def test_a_function_equals_the_built_in():
    values = np.random.default_rng(2).normal(size=40)
    groups = [str(i // 4) for i in range(40)]
    mine = bootstrap(values, lambda x: float(np.mean(x)), 5, groups, resamples=200)
    built_in = bootstrap(values, "mean", 5, groups, resamples=200)
    np.testing.assert_allclose([mine.low, mine.high], [built_in.low, built_in.high], rtol=1e-12)


def test_few_cases_and_maxima_have_no_interval():
    interval = bootstrap(np.arange(7.0), "mean", 0)
    assert (interval.value, interval.low, interval.high, interval.n) == (3.0, None, None, 7)
    assert interval.why_no_interval == f"7 cases, at least {MIN_CASES} needed"
    grouped = bootstrap(np.arange(30.0), "mean", 0, groups=[str(i % 3) for i in range(30)])
    assert grouped.why_no_interval == "3 independent groups, at least 8 needed"
    largest = maximum(np.array([1.0, np.nan, 4.0]))
    assert (largest.value, largest.low, largest.n) == (4.0, None, 2)
    assert without_interval(1.0, 1, "single value").why_no_interval == "single value"


def test_failed_cases_are_left_out_and_counted():
    values = np.concatenate([np.arange(20.0), [np.nan] * 5])
    interval = bootstrap(values, "mean", 0)
    assert (interval.value, interval.n) == (9.5, 20)
    with pytest.raises(BadInput, match="every case failed"):
        bootstrap(np.full(9, np.nan), "mean", 0)
    with pytest.raises(BadInput, match="3 groups for 9 cases"):
        bootstrap(np.arange(9.0), "mean", 0, groups=["a", "b", "c"])


@settings(max_examples=30, deadline=None)
@given(
    values=arrays(float, st.integers(8, 30), elements=st.floats(-100, 100)),
    scale=st.sampled_from([1e-3, 0.5, 4.0, 1e3]),
)
def test_units_scale_the_interval(values, scale):
    one = bootstrap(values, "mean", 3, resamples=100)
    other = bootstrap(values * scale, "mean", 3, resamples=100)
    for name in ("value", "low", "high"):
        expected = getattr(one, name) * scale
        assert getattr(other, name) == pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)


def test_same_seed_same_bits_in_another_process():
    code = (
        "import numpy as np\nfrom karat.results.statistics import bootstrap\n"
        "i = bootstrap(np.sin(np.arange(5000.0)), 'rms', 7, [str(k // 50) for k in range(5000)])\n"
        "print(i.low.hex(), i.high.hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    groups = [str(k // 50) for k in range(5000)]
    mine = bootstrap(np.sin(np.arange(5000.0)), "rms", 7, groups)
    assert done.stdout.split() == [mine.low.hex(), mine.high.hex()]
    assert bootstrap(np.sin(np.arange(5000.0)), "rms", 8, groups).low != mine.low


def test_memory_is_bounded():
    """100 000 cases, 2000 resamples: 1.6 GB at once, here a few MB at a time."""
    import tracemalloc

    values = np.random.default_rng(0).normal(size=100_000)
    tracemalloc.start()
    bootstrap(values, "mean", 0, resamples=30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_paired_differences_see_what_single_intervals_do_not():
    generator = np.random.default_rng(3)
    hard = generator.exponential(1.0, 60)  # some cases are harder for everyone
    a, b = hard + generator.normal(0, 0.02, 60), hard + 0.05 + generator.normal(0, 0.02, 60)
    singles = [bootstrap(x, "mean", 0) for x in (a, b)]
    assert singles[0].high > singles[1].low
    difference = paired_difference(a, b, "mean", 0)
    assert difference.low < -0.05 < difference.high < 0
    back = paired_difference(b, a, "mean", 0)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-difference.value, -difference.high, -difference.low)
    )


def test_differences_use_common_cases_only():
    a = np.array([1.0] * 10 + [np.nan] * 5 + [50.0] * 5)
    b = np.array([2.0] * 15 + [np.nan] * 5)
    difference = paired_difference(a, b, "mean", 0)
    assert (difference.value, difference.n) == (-1.0, 10)
    with pytest.raises(BadInput, match="no finite value"):
        paired_difference(np.array([1.0, np.nan]), np.array([np.nan, 1.0]), "mean", 0)


def test_coverage_of_paired_differences():
    generator = np.random.default_rng(8)
    count = 0
    for trial in range(TRIALS):
        hard = generator.exponential(1.0, 30)
        a, b = (hard + generator.normal(0, 0.3, 30) for _ in range(2))
        count += paired_difference(a, b, "mean", trial, resamples=600).contains_zero
    assert bounds(0.93)[0] <= count <= bounds(0.97)[1]


def test_ties_are_said_to_be_ties():
    generator = np.random.default_rng(5)
    base = generator.exponential(1.0, 80)
    errors = {
        "worse": base + 1.0 + generator.normal(0, 0.1, 80),
        "good": base + generator.normal(0, 0.1, 80),
        "twin": base + generator.normal(0, 0.1, 80),
        "failed": np.full(80, np.nan),
        "also worse": base + 1.0 + generator.normal(0, 0.1, 80),
    }
    ranked = tied_groups(errors, "mean", 0)
    assert [set(group) for group in ranked] == [
        {"good", "twin"},
        {"worse", "also worse"},
        {"failed"},
    ]
    assert ranked == tied_groups(dict(reversed(errors.items())), "mean", 0)


def test_few_cases_tie_everyone():
    errors = {"a": np.arange(5.0), "b": np.arange(5.0) + 10}
    assert tied_groups(errors, "mean", 0) == (("a", "b"),)


def test_who_skips_hard_cases_gains_nothing():
    """`lazy` fails on the hard half; on common cases it is worse than `honest`."""
    generator = np.random.default_rng(5)
    easy, hard = generator.uniform(0.9, 1.1, 30), generator.uniform(9, 11, 30)
    honest = np.concatenate([easy, hard])
    lazy = np.concatenate([easy + 0.5, np.full(30, np.nan)])
    assert np.nanmean(lazy) < honest.mean()
    assert tied_groups({"lazy": lazy, "honest": honest}, "mean", 0) == (("honest",), ("lazy",))


def test_expanded_tail_tends_to_the_nominal_one():
    from karat.results.statistics import _expanded_tail

    assert _expanded_tail(100_000) == pytest.approx(0.025, rel=1e-3)
    n = 10
    expected = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    assert _expanded_tail(n) == pytest.approx(expected)
    assert expected < 0.01
