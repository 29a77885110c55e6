"""Several seeds, folds: nothing tested twice, stored and read back, other data refused."""

import json

import pytest
from data_example import trajectories
from split_example import shapes

from karat.core.errors import BadInput, UnknownKey
from karat.data.split_ensembles import (
    SplitEnsemble,
    cross_validation,
    scheme_dict,
    scheme_of,
    split_ensemble,
)
from karat.data.split_schemes import (
    GroupSplit,
    RandomSplit,
    SimilaritySplit,
    TimeBlockSplit,
    split,
)

SCHEMES = [RandomSplit(0.1, 0.2), GroupSplit(0.1, 0.2), SimilaritySplit(0.1, 0.2, clusters=12)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_split_for_each_seed(scheme):
    dataset = shapes()
    found = split_ensemble(dataset, scheme, [0, 5, 2])
    assert [part.seed for part in found] == [0, 5, 2]
    assert list(found) == [split(dataset, scheme, seed) for seed in (0, 5, 2)]
    assert len({part.digest for part in found}) == len(found) == 3
    assert found.source == dataset.digest
    assert found.digest == split_ensemble(dataset, scheme, [0, 5, 2]).digest
    assert found.digest != split_ensemble(dataset, scheme, [0, 5]).digest


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("folds", [2, 4])
def test_each_structure_is_tested_once(scheme, folds):
    dataset = shapes()
    found = cross_validation(dataset, scheme, folds, seed=1)
    assert len(found) == folds
    assert sorted(i for part in found for i in part.test) == list(range(120))
    units = scheme.units(dataset, 1)
    for part in found:
        assert sorted([*part.train, *part.valid, *part.test]) == list(range(120))
        assert part.valid
        assert part.train
        for unit in units:
            parts = [set(unit.tolist()) & set(p) for p in (part.train, part.valid, part.test)]
            assert sum(map(bool, parts)) == 1
    if not isinstance(scheme, SimilaritySplit):
        assert {len(part.test) for part in found} == {120 // folds}
    assert found.digest == cross_validation(dataset, scheme, folds, seed=1).digest
    assert found.digest != cross_validation(dataset, scheme, folds, seed=2).digest


def test_folds_without_validation():
    found = cross_validation(shapes(), RandomSplit(0.0, 0.1), 3)
    assert all(part.valid == () and len(part.train) == 80 for part in found)


@pytest.mark.parametrize("kind", ["seeds", "folds"])
def test_stored_ensembles_come_back_for_their_own_data_only(kind):
    dataset, scheme = shapes(), SimilaritySplit(0.1, 0.2, clusters=12)
    found = (
        split_ensemble(dataset, scheme, [0, 1])
        if kind == "seeds"
        else cross_validation(dataset, scheme, 3)
    )
    values = json.loads(json.dumps(found.as_dict()))
    assert SplitEnsemble.from_dict(values, dataset) == found
    with pytest.raises(BadInput, match="other data"):
        SplitEnsemble.from_dict(values, shapes(seed=9))
    with pytest.raises(BadInput, match="were changed"):
        SplitEnsemble.from_dict({**values, "splits": values["splits"][1:]}, dataset)
    with pytest.raises(BadInput, match="no schema 1"):
        SplitEnsemble.from_dict({**values, "schema": 2}, dataset)
    with pytest.raises(BadInput, match="damaged"):
        SplitEnsemble.from_dict({"schema": 1}, dataset)
    with pytest.raises(BadInput, match="of kind 'x'"):
        SplitEnsemble.from_dict({**values, "kind": "x"}, dataset)


def test_schemes_as_json():
    scheme = TimeBlockSplit(0.2, 0.1, 3, 2)
    values = {"how": "time", "valid_fraction": 0.2, "test_fraction": 0.1, "blocks": 3, "gap": 2}
    assert scheme_dict(scheme) == values
    assert scheme_of(values, "x") == scheme
    with pytest.raises(BadInput, match="did you mean 'similarity'"):
        scheme_of({"how": "similar"}, "x")
    with pytest.raises(UnknownKey, match="blcks"):
        scheme_of({**values, "blcks": 3}, "x")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: split_ensemble(d, RandomSplit(), []), "at least one"),
        (lambda d: split_ensemble(d, RandomSplit(), [1, 1]), "none twice"),
        (lambda d: split_ensemble(d, RandomSplit(), [-1]), "none negative"),
        (lambda d: split_ensemble(d, TimeBlockSplit(), [0, 1]), "is the same for each"),
        (lambda d: cross_validation(d, RandomSplit(), 1), "folds is 1"),
        (lambda d: cross_validation(d, GroupSplit(), 5), "there are 2 units"),
        (lambda d: cross_validation(d, TimeBlockSplit(), 2), "no folds here"),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    with pytest.raises(BadInput, match=words):
        call(trajectories([20, 20]))
