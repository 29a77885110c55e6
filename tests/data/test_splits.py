"""Splits: nothing twice, nothing lost, no neighbouring frames across, repeatable."""

import numpy as np
import pytest
from data_example import trajectories
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.data.doctor import check
from karat.data.splits import nested_subsets, split_by_group, split_random, split_time_blocks


def parts(split):
    return split.train, split.valid, split.test


def assert_disjoint(split, size):
    together = [i for part in parts(split) for i in part]
    assert len(together) == len(set(together))
    assert set(together) <= set(range(size))
    for part in parts(split):
        assert list(part) == sorted(part)


def test_random_uses_everything_once():
    dataset = trajectories([100])
    split = split_random(dataset, 0.1, 0.25, seed=3)
    assert_disjoint(split, 100)
    assert [len(part) for part in parts(split)] == [65, 10, 25]
    assert split.digest == split_random(dataset, 0.1, 0.25, seed=3).digest
    assert split.digest != split_random(dataset, 0.1, 0.25, seed=4).digest


def test_groups_stay_whole():
    dataset = trajectories([10] * 10)
    split = split_by_group(dataset, 0.2, 0.3, seed=1)
    assert_disjoint(split, 100)
    assert [len(part) for part in parts(split)] == [50, 20, 30]
    groups = [{dataset.records[i].group for i in part} for part in parts(split)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(48, 70), min_size=1, max_size=3),
    blocks=st.integers(1, 3),
    gap=st.integers(0, 2),
    stride=st.integers(1, 3),
)
def test_time_blocks_keep_their_distance(lengths, blocks, gap, stride):
    dataset = trajectories(lengths, stride)
    split = split_time_blocks(dataset, 0.2, 0.2, blocks, gap)
    assert_disjoint(split, len(dataset))
    frames = [
        {(dataset.records[i].group, dataset.records[i].frame) for i in part}
        for part in parts(split)
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        for group, frame in frames[first]:
            near = [abs(frame - f) for g, f in frames[second] if g == group]
            assert min(near, default=gap + 1) > gap
    # only frames beside a boundary are given up: at most 2·gap for each of 3 per period
    dropped = len(dataset) - sum(map(len, parts(split)))
    assert dropped <= 3 * 2 * gap * blocks * len(lengths)
    wanted = sum(round(len(p) * 0.2) for n in lengths for p in np.array_split(np.arange(n), blocks))
    assert len(split.test) == len(split.valid) == wanted


def test_time_blocks_are_clean_for_the_doctor_and_random_is_not():
    dataset = trajectories([60])

    def codes(split):
        sets = [dataset.subset(part) for part in (split.train, split.test)]
        return {finding.code for finding in check(*sets)}

    assert "neighbouring-frames" not in codes(split_time_blocks(dataset, 0.1, 0.3, 2, gap=2))
    assert "neighbouring-frames" in codes(split_random(dataset, 0.1, 0.3, seed=0))


def test_time_order_not_file_order():
    dataset = trajectories([40])
    shuffled = dataset.subset(np.random.default_rng(0).permutation(40).tolist())
    split = split_time_blocks(shuffled, 0.25, 0.25, blocks=1, gap=0)
    frames = [sorted(shuffled.records[i].frame for i in part) for part in parts(split)]
    assert frames == [list(range(20)), list(range(20, 30)), list(range(30, 40))]


def test_records_without_time_train():
    from dataclasses import replace

    records = trajectories([20]).records
    loose = tuple(replace(r, frame=-1, group="starts") for r in trajectories([3]).records)
    split = split_time_blocks(Dataset(records + loose, trajectories([1]).level), 0.2, 0.2)
    assert {20, 21, 22} <= set(split.train)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: split_random(d, 0.5, 0.5, 0), "nothing to train on"),
        (lambda d: split_random(d, -0.1, 0.5, 0), "valid_fraction is -0.1"),
        (lambda d: split_time_blocks(d, 0.1, 0.2, blocks=0), "blocks is 0"),
        (lambda d: split_time_blocks(d, 0.1, 0.2, gap=-1), "gap is -1"),
        (lambda d: split_time_blocks(d, 0.1, 0.2, gap=100), "leaves none for"),
        (lambda d: split_time_blocks(d, 0.1, 0.2, blocks=20), "leaves none for"),
        (lambda d: split_by_group(d, 0.0, 0.2, 0), "leaves none for 'train'"),
    ],
)
def test_what_leaves_nothing_is_refused(call, words):
    with pytest.raises(BadInput, match=words):
        call(trajectories([20]))


def test_training_sets_are_nested_and_fair():
    dataset = trajectories([90, 30], kinds=["300K", "600K"])
    sets = nested_subsets(dataset, range(120), [4, 20, 40, 120], seed=5)
    assert list(sets) == [4, 20, 40, 120]
    for small, large in ((4, 20), (20, 40), (40, 120)):
        assert set(sets[small]) < set(sets[large])
    for size, indices in sets.items():
        hot = sum(dataset.records[i].kind == "600K" for i in indices)
        assert abs(hot - size / 4) <= 1
    assert sets == nested_subsets(dataset, range(120), [4, 20, 40, 120], seed=5)
    assert sets != nested_subsets(dataset, range(120), [4, 20, 40, 120], seed=6)


def test_nested_sets_come_from_the_pool():
    dataset = trajectories([50])
    pool = list(range(0, 50, 2))
    assert set(nested_subsets(dataset, pool, [10], seed=0)[10]) < set(pool)
    with pytest.raises(BadInput, match="26: the training part has 25"):
        nested_subsets(dataset, pool, [26], seed=0)
