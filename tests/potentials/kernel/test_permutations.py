"""Groups known from chemistry, and those that the `sgdml` package finds."""

import json
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.files import read_dataset
from karat.potentials.kernel.permutations import check_group, close_group, find_permutations

STORED = Path(__file__).parent / "stored" / "permutations_by_sgdml_1.0.3.json"
PUBLISHED = json.loads(STORED.read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_finds_what_the_package_finds(name):
    data = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[4] / "shared" / "data"))
    path = data / f"rmd17/{name}_train.xyz.gz"
    if name == "acac":
        path = data / "acac/train_300K.xyz.gz"
    if not path.exists():
        pytest.skip(f"no published data at {path}; name its folder in KARAT_DATA")
    structures = read_dataset(path).structures[:100]
    numbers = structures[0].numbers
    group = find_permutations(np.stack([s.positions for s in structures]), numbers)
    assert group.tolist() == PUBLISHED[name]
    check_group(group, numbers)
    # every element maps the mean bond graph onto itself: no chemistry is broken
    distances = np.mean([_distances(s.positions) for s in structures], axis=0)
    bonded = distances < 1.75
    heavy = (numbers > 1)[:, None] & (numbers > 1)
    for row in group:
        np.testing.assert_array_equal((bonded & heavy)[np.ix_(row, row)], bonded & heavy)


def _distances(positions):
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


def test_methanol_as_the_package_has_it(stored):
    group = find_permutations(stored["train_R"], stored["z"])
    hydrogens = [2, 3, 4]
    expected = []
    for order in permutations(hydrogens):
        row = [0, 1, 2, 3, 4, 5]
        row[2:5] = order
        expected.append(row)
    assert group.tolist() == sorted(expected)


def test_exchanges_are_seen_only_where_structures_show_them():
    generator = np.random.default_rng(0)
    water = np.array([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    # one hydrogen always nearer: no structure shows the exchange
    lopsided = water * [[1, 1, 1], [0.8, 0.8, 1], [1.3, 1.3, 1]]
    frames = lopsided + generator.normal(0, 0.01, (20, 3, 3))
    numbers = np.array([8, 1, 1])
    assert find_permutations(frames, numbers).tolist() == [[0, 1, 2]]
    both = np.concatenate([frames, frames[:, [0, 2, 1]]])
    assert find_permutations(both, numbers).tolist() == [[0, 1, 2], [0, 2, 1]]
    # the same positions with unlike atoms: never exchanged
    assert find_permutations(both, np.array([8, 1, 9])).tolist() == [[0, 1, 2]]


def test_equal_structures_are_joined_too():
    frames = np.repeat(np.random.default_rng(1).normal(size=(1, 4, 3)), 5, axis=0)
    assert find_permutations(frames, np.array([6, 1, 1, 1])).tolist() == [[0, 1, 2, 3]]


def test_groups_are_closed_or_refused():
    assert len(close_group([(1, 2, 3, 4, 0)], 5)) == 5
    assert len(close_group([(1, 0, 2, 3), (1, 2, 3, 0)], 4)) == 24
    assert close_group([(1, 0, 2, 3, 4), (1, 2, 3, 4, 0)], 5) is None  # 120 elements
    for rows, words in (
        ([[0, 1, 1]], "no permutation"),
        ([[0, 1, 2], [1, 0, 2]], "unlike"),
        ([[0, 1, 2], [0, 2, 1], [0, 1, 2]], "not a group"),
        ([[0, 2, 1]], "not a group"),
    ):
        with pytest.raises(BadInput, match=words):
            check_group(np.array(rows), np.array([8, 1, 1]))
