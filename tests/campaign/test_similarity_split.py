"""Campaigns may split made data by similarity; what is hashed of other splits stays."""

import numpy as np

from karat.campaign.sections import SplitSettings
from karat.campaign.step_data import _part
from karat.core import components
from karat.data.dataset import Dataset, Record
from karat.data.split_schemes import SimilaritySplit
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure


def dimers():
    """Forty lengths of H2 about each of four, in turn."""
    generator = np.random.default_rng(0)
    records = []
    for index in range(160):
        length = 0.7 + 0.4 * (index % 4) + generator.uniform(-0.02, 0.02)
        structure = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [length, 0, 0]]))
        records.append(Record(structure, Labels(energy=0.0), f"{index}", group="md", frame=index))
    return Dataset(tuple(records), LevelOfTheory("PBE"))


def test_parts_are_those_of_the_scheme():
    dataset = dimers()
    settings = components.parse(
        SplitSettings, {"by": "similarity", "valid": 0.2, "test": 0.25}, "data.split"
    )
    parts, how = _part(dataset, settings, seed=3)
    expected = SimilaritySplit(0.2, 0.25).split(dataset, 3)
    assert how == expected.how
    for name in ("train", "valid", "test"):
        assert parts[name].digest == dataset.subset(getattr(expected, name)).digest

    def lengths(part):
        return {round(float(r.structure.positions[1, 0]), 3) for r in part}

    train = np.array(sorted(lengths(parts["train"])))
    away = [np.abs(train - length).min() for length in lengths(parts["test"])]
    # neighbours in a cluster are 0.001 Å apart
    assert np.median(away) > 0.004


def test_keys_of_stored_splits_stay():
    """The settings are written out, and so hashed, as before splits by similarity were there."""
    assert components.dump(SplitSettings()) == {
        "by": "time_block",
        "valid": 0.1,
        "test": 0.25,
        "blocks": 1,
        "gap": 1,
    }
