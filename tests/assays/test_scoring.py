"""Blocks, weighted means with intervals, yardsticks, figures of at most 1500 points."""

import itertools

import numpy as np
import pytest

from karat.assays import scoring
from karat.assays.scoring import (
    Naming,
    Sums,
    Yardstick,
    distribution,
    masked_sums,
    mean_error,
    parity,
    remove_offsets,
    time_blocks,
    worst_first,
)
from karat.data.dataset import Record
from karat.results.noise import Floor
from karat.structures.labels import Labels

NAMING = Naming("error", "Error", "eV")


def records(toys, rows):
    structure = toys.pair()
    return [Record(structure, Labels(), str(i), "", group, f) for i, (group, f) in enumerate(rows)]


def test_a_trajectory_becomes_ten_blocks_in_order_of_time(toys):
    frames = np.random.default_rng(0).permutation(57)
    blocks = time_blocks(records(toys, [("run", int(f)) for f in frames]))
    by_time = [blocks[i] for i in np.argsort(frames)]
    assert len(set(by_time)) == 10
    changes = sum(a != b for a, b in itertools.pairwise(by_time))
    assert changes == 9  # each block is one stretch of time
    sizes = [by_time.count(name) for name in dict.fromkeys(by_time)]
    assert max(sizes) - min(sizes) <= 1


def test_other_groups(toys):
    rows = [("run", 0), ("run", 1), ("molecule", -1), ("molecule", -1), ("", -1), ("", 3)]
    blocks = time_blocks(records(toys, rows))
    assert blocks[0] != blocks[1]  # fewer frames than blocks: each stands alone
    assert blocks[2] == blocks[3]
    assert len(set(blocks)) == 5


def test_means_weigh_numbers_not_cases():
    random = np.random.default_rng(1)
    owner = np.repeat(np.arange(12), np.arange(1, 13))
    values = np.abs(random.normal(size=(len(owner), 3)))
    values[5] = np.nan
    groups = tuple(f"g{i}" for i in range(12))
    good = np.isfinite(values).all(axis=1)
    metric = mean_error(NAMING, masked_sums(values, owner, groups))
    assert metric.value == pytest.approx(values[good].mean(), rel=1e-14)
    assert metric.low < metric.value < metric.high
    assert metric.n == 12
    root = mean_error(NAMING, masked_sums(values**2, owner, groups), root=True)
    assert root.value == pytest.approx(np.sqrt((values[good] ** 2).mean()), rel=1e-14)
    part = masked_sums(values, owner, groups, owner > 8)
    few = mean_error(NAMING, part)
    assert few.value == pytest.approx(values[good & (owner > 8)].mean(), rel=1e-14)
    assert (few.low, few.n) == (None, 3)
    assert mean_error(NAMING, masked_sums(values, owner, groups, owner > 99)) is None


def test_correlated_cases_widen_the_interval():
    """Ten blocks of ten equal values: as wide as ten values, not as a hundred."""
    values = np.repeat(np.random.default_rng(2).normal(5, 1, 10), 10)
    blocks = tuple(f"b{i // 10}" for i in range(100))
    alone = tuple(f"b{i}" for i in range(100))
    ones = np.ones(100)
    wide = mean_error(NAMING, Sums(values, ones, blocks))
    narrow = mean_error(NAMING, Sums(values, ones, alone))
    assert (wide.high - wide.low) > 2.5 * (narrow.high - narrow.low)  # √10 = 3.2 expected


def test_offsets():
    values = np.array([1.0, 3.0, 10.0, np.nan, 20.0, 7.0])
    family = np.array([0, 0, 1, 1, 1, 2])
    relative = remove_offsets(values, family)
    np.testing.assert_array_equal(relative, [-1, 1, -5, np.nan, 5, np.nan])


def test_yardsticks_take_the_floor_in_the_unit_of_the_metric(toys, monkeypatch):
    asked = []

    def floor(quantity, reference, contestant):
        asked.append((quantity, reference, contestant))
        return Floor(0.002, "eV/Å", "SCF threshold")

    monkeypatch.setattr(scoring, "noise_floor", floor)
    found = Yardstick.of("force_mae", "eV/Å", (toys.LEVEL, None), 1.5, "zero forces")
    assert (found.floor, found.floor_source) == (0.002, "SCF threshold")
    assert (found.baseline, found.baseline_source) == (1.5, "zero forces")
    assert asked == [("force_mae", toys.LEVEL, None)]
    with pytest.raises(ValueError, match="eV/Å"):
        Yardstick.of("force_mae", "meV/Å", (toys.LEVEL, None))
    without = Yardstick.of("force_mae", "eV/Å", (None, None))
    assert without.floor is None
    assert without.floor_source


def test_clouds_are_subsampled_the_same_each_time():
    x = np.random.default_rng(3).normal(size=5000)
    y = 2 * x
    y[7] = np.nan
    figure = parity("g", "t", "eV", "c", (x, y))
    again = parity("g", "t", "eV", "c", (x, y))
    assert figure == again
    series = figure.series[0]
    assert len(series.x) == 1500
    assert "1500 of 4999" in figure.note
    np.testing.assert_allclose(series.y, 2 * np.array(series.x), rtol=2e-5)


def test_distributions_count_everything():
    errors = np.concatenate([np.logspace(-9, 5, 200), [0.0, np.nan], -np.ones(30)])
    histogram, cumulative = distribution("g", "t", "eV", "c", errors)
    assert sum(histogram.series[0].y) == 231  # all but NaN, the extremes in the end bins
    shares = np.array(cumulative.series[0].y)
    assert shares[-1] == 1.0
    assert (np.diff(cumulative.series[0].x) >= 0).all()
    assert distribution("g", "t", "eV", "c", np.array([np.nan])) == ()


def test_worst_first():
    names = tuple("abcde")
    errors = np.array([1.0, np.nan, 3.0, 1.0, 2.0])
    assert worst_first(errors, names) == ("c", "e", "a", "d")
    assert worst_first(errors, names, limit=2) == ("c", "e")
