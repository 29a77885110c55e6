"""Ways to split: as the functions they stand for; by similarity, whole clusters, farther away."""

import numpy as np
import pytest
from data_example import trajectories
from split_example import shapes

from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnknownKey
from karat.data.dataset import Dataset, Record
from karat.data.fingerprint import fingerprints
from karat.data.split_schemes import (
    SCHEMES,
    GroupSplit,
    RandomSplit,
    SimilaritySplit,
    TimeBlockSplit,
    choose_units,
    separation,
    split,
)
from karat.data.splits import Split, split_by_group, split_random, split_time_blocks
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure


def test_components_are_the_functions():
    dataset = trajectories([40, 40])
    assert split(dataset, RandomSplit(0.2, 0.3), 5) == split_random(dataset, 0.2, 0.3, 5)
    assert split(dataset, TimeBlockSplit(0.2, 0.3, 2, 1)) == split_time_blocks(
        dataset, 0.2, 0.3, 2, 1
    )
    dataset = trajectories([10] * 10)
    assert split(dataset, GroupSplit(0.2, 0.3), 5) == split_by_group(dataset, 0.2, 0.3, 5)


def test_group_draws_have_not_changed():
    """Stored splits of campaigns name these indices; the same seed must draw the same groups."""
    dataset = trajectories([3, 5, 2, 4, 6, 1])
    names = sorted({record.group for record in dataset})
    roles = {}
    wanted, filled = {2: round(21 * 0.3), 1: round(21 * 0.2)}, {2: 0, 1: 0}
    for group in np.random.default_rng(7).permutation(len(names)):
        size = sum(record.group == names[group] for record in dataset)
        role = next((r for r in (2, 1) if filled[r] < wanted[r]), 0)
        roles[names[group]] = role
        if role:
            filled[role] += size
    found = split_by_group(dataset, 0.2, 0.3, 7)
    for role, part in enumerate((found.train, found.valid, found.test)):
        assert {dataset.records[i].group for i in part} == {g for g in names if roles[g] == role}


def test_similarity_keeps_clusters_whole_and_test_away():
    dataset = shapes((30, 30, 30, 30, 30))
    features = fingerprints(dataset.structures)
    scheme = SimilaritySplit(0.2, 0.2, clusters=5)
    for seed in range(4):
        found = split(dataset, scheme, seed, features)
        assert found == split(dataset, scheme, seed)
        together = sorted([*found.train, *found.valid, *found.test])
        assert together == list(range(150))
        members = scheme.units(dataset, seed, features)
        assert sorted(np.concatenate(members).tolist()) == together
        for unit in members:
            inside = [set(unit.tolist()) & set(p) for p in (found.train, found.valid, found.test)]
            assert sum(map(bool, inside)) == 1
        random = split_random(dataset, 0.2, 0.2, seed)
        # frames of a shape differ by 0.02 Å, shapes by some Å
        assert separation(features, found) > 3 * separation(features, random)


def test_the_test_set_is_one_region():
    """Of molecules along a line (lengths of H2) a stretch tests, whatever the seed."""
    lengths = np.random.default_rng(0).permutation(np.linspace(0.7, 2.7, 400))
    records = [
        Record(Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [r, 0, 0]])), Labels(energy=0.0))
        for r in lengths
    ]
    dataset = Dataset(tuple(records), LevelOfTheory("unknown"))
    for seed in range(5):
        found = split(dataset, SimilaritySplit(0.1, 0.2, clusters=20), seed)
        assert 60 <= len(found.test) <= 100
        assert np.ptp(lengths[list(found.test)]) < 0.8
        assert np.ptp(lengths[list(found.train)]) > 1.2


def test_similarity_of_real_frames(published):
    """Alloys: the test set is far away. One molecule's trajectory is one cloud: hardly farther."""
    import ase.io

    def ratio(name, every):
        frames = ase.io.read(published(name), every)
        records = [Record(Structure.from_ase(a), Labels(energy=0.0)) for a in frames]
        dataset = Dataset(tuple(records), LevelOfTheory("unknown"))
        features = fingerprints(dataset.structures)
        found = [
            np.median([separation(features, split(dataset, scheme, s, features)) for s in range(4)])
            for scheme in (SimilaritySplit(), RandomSplit())
        ]
        return found[0] / found[1]

    assert ratio("mlearn/Li_train.xyz.gz", ":") > 2.0
    assert ratio("acac/train_600K.xyz.gz", ":300") > 1.0


def test_units_are_chosen_to_come_near():
    assert choose_units([10, 10, 10], 20.0) == [0, 1]
    assert choose_units([50, 3, 4, 10], 8.0) == [1, 2]
    assert choose_units([50, 60], 8.0) == [0]
    assert choose_units([], 8.0) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomSplit(valid_fraction=-0.1), "valid_fraction is -0.1"),
        (lambda: GroupSplit(test_fraction=1.0), "test_fraction is 1.0"),
        (lambda: SimilaritySplit(0.5, 0.5), "nothing to train on"),
        (lambda: SimilaritySplit(clusters=1), "clusters is 1"),
        (lambda: TimeBlockSplit(blocks=0), "blocks is 0"),
        (lambda: split(trajectories([0 + 20]), SimilaritySplit(0.1, 0.9)), "nothing to train"),
    ],
)
def test_fields_are_checked(make, words):
    with pytest.raises(BadInput, match=words):
        make()


def test_schemes_are_components():
    for name, cls in SCHEMES.items():
        scheme = cls()
        assert cls.name == name
        assert parse(cls, dump(scheme), "split") == scheme
        with pytest.raises(UnknownKey, match="valid_fraction"):
            parse(cls, {"valid_fractoin": 0.1}, "split")


def test_what_cannot_be_split_says_so():
    one = shapes((1,)).records[0]
    alike = Dataset((one,) * 10, trajectories([1]).level)
    with pytest.raises(BadInput, match="all 10 structures are alike"):
        split(alike, SimilaritySplit())
    with pytest.raises(BadInput, match="no structure says which frame"):
        split(shapes(), TimeBlockSplit())
    with pytest.raises(BadInput, match="no test part"):
        separation(np.zeros((120, 64)), split(shapes(), RandomSplit(0.1, 0.0)))


def test_stored_splits_come_back_for_their_own_data_only():
    dataset = shapes()
    found = split(dataset, RandomSplit(), 3)
    values = found.as_dict()
    assert Split.from_dict(values, dataset) == found
    with pytest.raises(BadInput, match="other data"):
        Split.from_dict(values, shapes(seed=1))
    moved = {**values, "train": values["test"], "test": values["train"]}
    with pytest.raises(BadInput, match="was changed"):
        Split.from_dict(moved, dataset)
    for bad in ({**values, "train": ["1"]}, {**values, "train": [2, 1]}, {"train": []}):
        with pytest.raises(BadInput, match="damaged"):
            Split.from_dict(bad, dataset)
    double = Split((0, 1), (1,), (2,), "by hand", 0, dataset.digest)
    beyond = Split((0, 120), (), (), "by hand", 0, dataset.digest)
    for bad_split in (double, beyond):
        with pytest.raises(BadInput, match="twice, or one that is not there"):
            Split.from_dict(bad_split.as_dict(), dataset)
