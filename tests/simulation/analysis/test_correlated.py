"""AR(1) series: every answer is known exactly."""

import numpy as np
import pytest
from scipy.signal import lfilter

from karat.core.errors import BadInput
from karat.simulation.analysis.correlated import (
    autocorrelation,
    block_means,
    blocking,
    detect_equilibration,
    jackknife,
    series_mean,
    statistical_inefficiency,
    student,
)


def autoregressive(rho, frames, seed, series=1):
    """Stationary AR(1) of variance 1; C(t) = ρ^t, g = (1 + ρ)/(1 - ρ)."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(series, frames)) * np.sqrt(1 - rho**2)
    noise[:, 0] = generator.normal(size=series)
    return lfilter([1.0], [1.0, -rho], noise, axis=1)


def test_autocorrelation_equals_plain_sums():
    series = autoregressive(0.7, 200, seed=0)[0] + 5.0
    deviations = series - series.mean()
    plain = [np.mean(deviations[: 200 - t] * deviations[t:]) for t in range(200)]
    np.testing.assert_allclose(
        autocorrelation(series), np.array(plain) / plain[0], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.98])
def test_inefficiency_of_ar1(rho):
    # 20 series of 20,000: each has a standard error of about g √(2 · few τ/N), below 20 % at
    # ρ = 0.98; the mean of 20 below 5 %. Cutting the sum at the first zero gives some bias.
    found = [statistical_inefficiency(x) for x in autoregressive(rho, 20_000, 1, series=20)]
    assert np.mean(found) == pytest.approx((1 + rho) / (1 - rho), rel=0.10)


def test_inefficiency_does_not_depend_on_shift_and_scale():
    series = autoregressive(0.8, 2000, seed=2)[0]
    expected = statistical_inefficiency(series)
    assert statistical_inefficiency(-3e4 + 1e-2 * series) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("length", [300, 1000])
def test_planted_transients_are_found(length):
    # decay time length/5 from 20 σ: at `length` 0.13 σ are left
    frames = 6000
    starts = []
    for series in autoregressive(0.9, frames, seed=3, series=12):
        series = series + 20 * np.exp(-5 * np.arange(frames) / length)
        starts.append(detect_equilibration(series).start)
    # at 0.4·length there are 2.7 σ left: no sensible method keeps that
    assert min(starts) > 0.4 * length
    assert np.median(starts) < 2.0 * length


def test_stationary_series_are_kept():
    kept = [
        1 - detect_equilibration(x).start / 4000 for x in autoregressive(0.9, 4000, 4, series=15)
    ]
    # the maximum of a noisy curve: some loss is expected (Chodera 2016, fig. 4)
    assert np.mean(kept) > 0.75


def test_discarding_removes_the_bias():
    # the transient adds 20·200/6000 = 0.67 to the mean of all; of 12 series the standard error
    # is 0.016; the remainder of the transient beyond 3 decay times would be 0.04
    with_transient, without = [], []
    for series in autoregressive(0.9, 6000, seed=5, series=12):
        series = series + 20 * np.exp(-np.arange(6000) / 200)
        with_transient.append(series_mean(series, discard_transient=False).mean.value)
        without.append(series_mean(series).mean.value)
    assert np.mean(with_transient) > 0.6
    assert abs(np.mean(without)) < 0.06


def test_blocking_reaches_the_exact_standard_error():
    rho, frames = 0.9, 2**15
    found, plateau = [], []
    for series in autoregressive(rho, frames, seed=6, series=40):
        result = blocking(series)
        assert result.plateau is not None
        found.append(result.standard_errors)
        plateau.append(result.standard_errors[result.plateau])
    # var of the mean of N: (σ²/N) (1+ρ)/(1-ρ) for N ≫ τ
    exact = np.sqrt(19.0 / frames)
    assert np.mean(plateau) == pytest.approx(exact, rel=0.06)
    # blocks of one: as if independent; of B: exactly summed
    means = np.mean(found, axis=0)
    for level, length in enumerate(result.block_lengths[:8].tolist()):
        lags = np.arange(1, length)
        block_variance = (1 + 2 * np.sum((1 - lags / length) * rho**lags)) / length
        expected = np.sqrt(block_variance / (frames / length))
        assert means[level] == pytest.approx(expected, rel=0.05)
    # the scatter of the errors is what is stated (independent blocks): 40 series, ± 11 % (1 σ)
    scatter = np.std([errors[9] for errors in found], ddof=1)
    assert scatter == pytest.approx(result.uncertainties[9], rel=0.45)


def test_blocks_drop_the_beginning():
    values = np.arange(14.0).reshape(7, 2)
    np.testing.assert_array_equal(block_means(values, 3), [[3, 4], [7, 8], [11, 12]])
    with pytest.raises(BadInput, match="7 frames cannot be cut into 8 blocks"):
        block_means(values, 8)


@pytest.mark.parametrize(("rho", "frames"), [(0.0, 500), (0.8, 2000), (0.95, 8000)])
def test_intervals_of_means_cover(rho, frames):
    # 500 series; 95 % nominal. Blocks of 5 g lose at most 10 % of their variance to
    # correlations: 93.5 % expected at worst. Bounds 90 and 98 %: false alarms below 2e-3.
    hits = []
    for series in autoregressive(rho, frames, seed=7, series=500):
        mean = series_mean(series, discard_transient=False).mean
        hits.append(mean.low < 0.0 < mean.high)
    assert 0.90 < np.mean(hits) < 0.98


def test_intervals_cover_after_discarding():
    # the start is chosen by looking at the data; 60 series, 1 σ = 3 %: below 82 % would be
    # 4 σ from 94 %
    hits = []
    for series in autoregressive(0.8, 2000, seed=8, series=60):
        series = series + 5 * np.exp(-np.arange(2000) / 50)
        mean = series_mean(series).mean
        hits.append(mean.low < 0.0 < mean.high)
    assert np.mean(hits) > 0.82


def test_jackknife_covers_a_variance():
    # E² - E² of an AR(1) series of variance 1; its estimate is biased by -g/N = 0.5 %
    hits = []
    for series in autoregressive(0.8, 4000, seed=9, series=500):
        found = jackknife(np.stack([series, series**2]), lambda m: m[1] - m[0] ** 2)
        hits.append(found.low < 1.0 < found.high)
    assert 0.90 < np.mean(hits) < 0.98


def test_jackknife_of_a_mean_is_students_interval():
    series = autoregressive(0.5, 3200, seed=10)
    found = jackknife(series, lambda m: m[0])
    plain = student(block_means(series[0], found.n))
    assert found.low == pytest.approx(plain.low, rel=1e-12)
    assert found.high == pytest.approx(plain.high, rel=1e-12)


def test_short_and_constant_series_say_why():
    short = series_mean(autoregressive(0.95, 200, seed=11)[0], discard_transient=False)
    assert short.mean.low is None
    assert "at least 8 needed" in short.mean.why_no_interval
    constant = series_mean(np.full(100, 3.5))
    assert constant.mean.value == 3.5
    assert constant.mean.why_no_interval == "all values are the same"
    with pytest.raises(BadInput, match="all values"):
        statistical_inefficiency(np.ones(10))
    with pytest.raises(BadInput, match="at least 2"):
        series_mean(np.array([1.0]))
    with pytest.raises(BadInput, match="all finite"):
        series_mean(np.array([1.0, np.nan, 2.0]))
