"""Records → arrays and JSON → records, bit by bit, also through safetensors."""

import json

import numpy as np
import pytest
from data_example import LEVEL, full_records, uncertain_records
from safetensors.numpy import load, save

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.data.storage import dataset_from_parts, dataset_to_parts


def through_disk(records):
    arrays, payload = dataset_to_parts(records)
    return load(save(arrays)), json.loads(json.dumps(payload))


@pytest.mark.parametrize("records", [full_records(), uncertain_records(), full_records()[:1], ()])
def test_bit_by_bit(records):
    back = dataset_from_parts(*through_disk(records))
    assert len(back) == len(records)
    for mine, theirs in zip(records, back):
        assert theirs.digest == mine.digest
        assert theirs.name == mine.name
        assert theirs.structure.multiplicity == mine.structure.multiplicity
        topologies = [r.structure.topology for r in (mine, theirs)]
        assert len({None if t is None else t.digest for t in topologies}) == 1
    if records:
        assert Dataset(back, LEVEL).digest == Dataset(records, LEVEL).digest


def test_uncertainty_is_kept():
    records = uncertain_records()
    back = dataset_from_parts(*through_disk(records))
    names = ("energy", "forces", "member_energies", "member_forces", "grade", "structure_grade")
    for name in names:
        mine, theirs = (getattr(r[0].labels.uncertainty, name) for r in (records, back))
        np.testing.assert_array_equal(mine, theirs)
        assert getattr(back[1].labels.uncertainty, name) is None
    assert back[2].labels.uncertainty is None


def test_equal_topologies_are_stored_once():
    one = full_records()[0]
    arrays, payload = dataset_to_parts([one] * 50)
    assert len(payload["smiles"]) == 1
    assert len(arrays["topology.bonds"]) == len(one.structure.topology.bonds)


def test_what_does_not_fit_is_refused():
    arrays, payload = through_disk(full_records())
    with pytest.raises(BadInput, match="schema 9"):
        dataset_from_parts(arrays, payload | {"schema": 9})
    with pytest.raises(BadInput, match="do not fit"):
        dataset_from_parts(arrays | {"forces": arrays["forces"][:-1]}, payload)
    with pytest.raises(BadInput, match="do not fit"):
        dataset_from_parts({k: v for k, v in arrays.items() if k != "atoms"}, payload)
