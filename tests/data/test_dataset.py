"""Dataset and Record: digests, species, subsets."""

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

LEVEL = LevelOfTheory("PBE")


def record(number=0, **changes):
    structure = Structure(
        np.array([8, 1]), np.array([[0.0, 0, 0], [0.9 + number, 0, 0]]), charge=-1
    )
    values = {"labels": Labels(energy=-1.0 * number, forces=np.full((2, 3), float(number)))}
    return Record(**({"structure": structure} | values | changes))


def test_digest_sees_labels_kind_group_and_frame():
    variants = [
        record(),
        record(1),
        record(labels=Labels(energy=0.0)),
        record(labels=Labels(energy=0.0, forces=np.zeros((2, 3)))),  # the first's is -0.0
        record(kind="a"),
        record(group="a"),
        record(frame=1),
    ]
    assert len({one.digest for one in variants}) == len(variants)
    assert record(name="other").digest == record().digest


def test_dataset_digest_sees_order_and_level():
    one = Dataset((record(0), record(1)), LEVEL)
    assert one.digest == Dataset((record(0), record(1)), LEVEL).digest
    assert one.digest != Dataset((record(1), record(0)), LEVEL).digest
    assert one.digest != Dataset((record(0), record(1)), LevelOfTheory("PBE0")).digest


def test_species_and_subset():
    dataset = Dataset(tuple(record(i) for i in range(5)), LEVEL)
    assert dataset.species == (1, 8)
    picked = dataset.subset([3, 1])
    assert [one.labels.energy for one in picked] == [-3.0, -1.0]
    assert picked.level == LEVEL
    assert len(dataset.structures) == len(dataset.labels) == 5


def test_empty_is_refused():
    with pytest.raises(BadInput, match="at least one"):
        Dataset((), LEVEL)
