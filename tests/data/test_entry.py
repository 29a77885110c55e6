"""`Entry`: to a record and back, and what is refused on the way."""

import dataclasses

import numpy as np
import pytest
from data_example import full_dataset

from karat.core.errors import BadInput
from karat.data.entry import Entry, entries_of, entry_of


def good():
    return Entry(
        numbers=np.array([8, 1, 1]),
        positions=np.eye(3),
        cell=np.diag([4.0, 5.0, 6.0]),
        periodic=np.ones(3, bool),
        place="file.xyz, frame 3",
        energy=-1.5,
        forces=np.zeros((3, 3)),
        stress=np.diag([1.0, 2.0, 3.0]),
    )


def test_records_come_back():
    dataset = full_dataset()
    entries = entries_of(dataset)
    assert all(entry.level == dataset.level for entry in entries)
    for entry, record in zip(entries, dataset, strict=True):
        assert entry.record().digest == record.digest
        assert len(entry) == len(record.structure)
        assert entry.place == record.name
    assert entry_of(dataset.records[0], "there").place == "there"


def test_stress_is_symmetrised_within_rounding():
    stress = np.array([[1.0, 0.5, 0], [0.5001, 2, 0], [0, 0, 3]])
    labels = dataclasses.replace(good(), stress=stress).record().labels
    np.testing.assert_allclose(labels.stress[0, 1], 0.50005)
    np.testing.assert_array_equal(labels.stress, labels.stress.T)


def test_cell_without_periodicity_is_dropped():
    entry = dataclasses.replace(good(), periodic=np.zeros(3, bool), stress=None)
    assert not entry.structure().cell.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"energy": None, "forces": None}, "has neither energy nor forces"),
        ({"energy": np.nan}, "energy holds NaN or infinity"),
        ({"forces": np.full((3, 3), np.inf)}, "forces holds NaN or infinity"),
        ({"stress": np.arange(9.0).reshape(3, 3)}, "stress is not symmetric"),
        ({"stress": np.full((3, 3), np.nan)}, "stress holds NaN"),
        ({"numbers": np.array([0, 1, 1])}, "Unknown atomic number 0"),
        ({"positions": np.full((3, 3), np.nan)}, "hold NaN"),
        ({"cell": np.zeros((3, 3))}, "linearly dependent"),
    ],
)
def test_what_is_refused(changes, words):
    with pytest.raises(BadInput, match=f"^file.xyz, frame 3: .*{words}"):
        dataclasses.replace(good(), **changes).record()
