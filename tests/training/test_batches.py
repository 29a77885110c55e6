"""Batches of the trainer against `make_batch`, targets, memory."""

import ase.build
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.potentials.batch import make_batch
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure
from karat.training import batches
from karat.training.batches import assemble, build_graphs, label_numbers
from karat.training.references import ReferenceEnergies

CUTOFF = 4.0
REFERENCES = ReferenceEnergies({1: -10.0, 8: -1.0e4, 14: -2.0}, "test")


def mixed() -> Dataset:
    """A molecule with forces, a crystal with stress, another molecule without both."""
    water, silicon = ase.build.molecule("H2O"), ase.build.bulk("Si")
    silicon.rattle(0.05, seed=1)
    forces = np.arange(9.0).reshape(3, 3)
    return Dataset(
        (
            Record(Structure.from_ase(water), Labels(energy=-1.0e4 - 20.125, forces=forces)),
            Record(Structure.from_ase(silicon), Labels(energy=-4.5, stress=np.eye(3))),
            Record(Structure.from_ase(ase.build.molecule("H2")), Labels(energy=-21.0)),
        ),
        LevelOfTheory("test"),
    )


def test_a_batch_equals_that_of_prediction():
    data = mixed()
    graphs = build_graphs(data, REFERENCES, CUTOFF, True, "float64")
    sizes = (12, 200, 4000, 5)
    mine, _ = assemble(graphs, sizes, "float64")
    theirs = make_batch(data.structures, CUTOFF, np.float64, True, sizes=sizes)
    for name in mine.__dataclass_fields__:
        a, b = np.asarray(getattr(mine, name)), np.asarray(getattr(theirs, name))
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), name
    bare, _ = assemble(
        build_graphs(data, REFERENCES, CUTOFF, False, "float64"), (12, 200, 0, 5), "float64"
    )
    assert bare.triplets is None


def test_targets_are_relative_and_masked():
    graphs = build_graphs(mixed(), REFERENCES, CUTOFF, False, "float32")
    _, targets = assemble(graphs, (12, 200, 0, 5), "float32")
    # relative in float64 first: -1.0e4 in float32 would leave no eighth of an eV
    assert targets.energy.tolist() == [-0.125, -0.5, -1.0, 0.0, 0.0]
    assert targets.atoms.tolist() == [3, 2, 2, 1, 1]
    assert targets.system_mask.tolist() == [True, True, True, False, False]
    assert targets.force_mask.tolist() == [True] * 3 + [False] * 9
    assert targets.stress_mask.tolist() == [False, True, False, False, False]
    assert np.array_equal(targets.forces[:3], np.arange(9.0).reshape(3, 3))


def test_a_batch_of_nothing_is_padding_only():
    batch, targets = assemble([], (12, 200, 4000, 5), "float32")
    assert not np.asarray(batch.pair_mask).any()
    assert not np.asarray(batch.triplet_mask).any()
    assert not np.asarray(targets.system_mask).any()
    assert not np.asarray(targets.force_mask).any()
    assert set(np.asarray(batch.system).tolist()) == {4}
    assert set(np.asarray(batch.numbers).tolist()) == {0}


def test_labels_are_counted():
    graphs = build_graphs(mixed(), REFERENCES, CUTOFF, False, "float64")
    assert label_numbers(graphs) == (3, 9, 9)
    assert label_numbers(graphs[2:]) == (1, 0, 0)


def test_the_estimate_of_pairs_is_close():
    silicon = Structure.from_ase(ase.build.bulk("Si", cubic=True))
    real = len(neighbour_pairs(silicon, 9.0))
    assert abs(batches._expected_pairs(silicon, 9.0) / real - 1) < 0.1
    water = mixed().structures[0]
    assert batches._expected_pairs(water, 9.0) == len(neighbour_pairs(water, 9.0))


@pytest.mark.parametrize("cutoff", [20.0, 95.0])
def test_a_cutoff_larger_than_the_data_allow_is_refused(monkeypatch, cutoff):
    # a machine with little memory for the first, any machine for the second
    if cutoff < 90:
        monkeypatch.setattr(batches, "_memory_bytes", lambda: 2.0e7)
    with pytest.raises(BadInput, match=rf"cutoff_angstrom {cutoff:.1f} .*\(Si2\).* pairs"):
        build_graphs(mixed(), REFERENCES, cutoff, True, "float64")
