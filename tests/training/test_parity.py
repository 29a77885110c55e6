"""Labels beside predictions, by hand and after a run with structures of different sizes."""

import dataclasses

import numpy as np

from karat.data.dataset import Dataset, Record
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.training.parity import Parity, Predictions
from karat.training.references import ReferenceEnergies
from karat.training.settings import TrainingSettings
from karat.training.trainer import train


def test_structures_without_forces_have_an_energy_only():
    records = []
    for count, forces in ((2, np.ones((2, 3))), (1, None), (3, np.full((3, 3), 2.0))):
        structure = Structure(np.ones(count, int), np.arange(3.0 * count).reshape(count, 3))
        records.append(Record(structure, Labels(-10.0 * count - 1.0, forces), f"h{count}"))
    data = Dataset(tuple(records), LevelOfTheory("test"))
    found = Predictions(np.array([-1.5, -0.5, -2.0]), np.arange(18.0).reshape(6, 3))
    parity = Parity.between(data, ReferenceEnergies({1: -10.0}, "test"), found)
    np.testing.assert_allclose(parity.energy_reference, [-21 / 2, -11, -31 / 3])
    np.testing.assert_allclose(parity.energy_predicted, [-21.5 / 2, -10.5, -32 / 3])
    assert parity.force_structure.tolist() == [0, 0, 2, 2, 2]
    assert parity.force_predicted[:, 0].tolist() == [0, 3, 9, 12, 15]
    assert parity.force_reference[:, 0].tolist() == [1, 1, 2, 2, 2]


def test_predictions_go_through_a_checkpoint():
    found = Predictions(np.array([1.0]), np.ones((2, 3)))
    arrays = {**found.as_arrays(), "parameters.x": np.zeros(1)}
    again = Predictions.taken_from(arrays)
    assert again.energies.tolist() == [1.0]
    assert set(arrays) == {"parameters.x"}
    assert Predictions.taken_from(arrays) is None


def parts(dataset: Dataset) -> Dataset:
    """The first two to four atoms of each cluster; labels are as good as any here."""
    records = []
    for index, record in enumerate(dataset):
        keep = 2 + index % 3
        whole, labels = record.structure, record.labels
        structure = Structure(whole.numbers[:keep], whole.positions[:keep])
        forces = None if index % 5 == 1 else labels.forces[:keep]
        cut = Labels(labels.energy * keep / 4, forces)
        records.append(dataclasses.replace(record, structure=structure, labels=cut))
    return Dataset(tuple(records), dataset.level)


def test_structures_of_different_sizes_come_back_in_order(clusters, small, tmp_path):
    data, valid = parts(clusters(60, 0)), parts(clusters(31, 1))
    settings = TrainingSettings(epochs=2, batch_size=6, dtype="float64", force_weight=0.0)
    trained = train(small, data, valid, settings, tmp_path)
    assert (trained.curve.padding <= 0.15).all()
    found = trained.potential.predict(valid.structures)
    labelled = [i for i, label in enumerate(valid.labels) if label.forces is not None]
    assert 20 < len(labelled) < 31
    atoms = np.array([len(s) for s in valid.structures])
    parity = trained.parity
    energies = np.array([f.energy for f in found]) / atoms
    np.testing.assert_allclose(parity.energy_predicted, energies, rtol=0, atol=1e-9)
    forces = np.concatenate([found[i].forces for i in labelled])
    np.testing.assert_allclose(parity.force_predicted, forces, rtol=0, atol=1e-9)
    assert parity.force_structure.tolist() == np.repeat(labelled, atoms[labelled]).tolist()
