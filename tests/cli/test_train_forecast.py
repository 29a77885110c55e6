"""`karat train --forecast` prints and stops; what cannot be foreseen is refused."""

import json

import numpy as np
import pytest

from karat.cli.train import train
from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.data.files import write_dataset
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

TINY = ["hidden=[4]", "angular=[]", "radial.count=4"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Hydrogen molecules of several lengths."""
    records = []
    for index, length in enumerate(np.linspace(0.6, 0.9, 30)):
        structure = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [length, 0, 0]]))
        labels = Labels(energy=-30.0 + length**2, forces=np.zeros((2, 3)))
        records.append(Record(structure, labels, f"h{index}"))
    path = tmp_path_factory.mktemp("data") / "pairs.xyz"
    write_dataset(Dataset(tuple(records), LevelOfTheory("spring")), path)
    return path


def test_it_prints_and_leaves_nothing_behind(pairs, tmp_path, capsys):
    output = tmp_path / "p.karat"
    train(pairs, output, set_=TINY, epochs=77, forecast=True)
    found = capsys.readouterr()
    assert "for 77 epochs" in found.out
    assert "GiB of this machine" in found.out
    assert "compiling the training step" in found.err
    assert list(tmp_path.iterdir()) == []
    train(pairs, output, set_=TINY, epochs=77, forecast=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["epochs"] == 77
    assert 0 < document["memory_bytes"] < document["limit_bytes"]
    assert document["seconds"] > 77 * document["train_seconds"]


def test_models_that_are_solved_for_are_refused(pairs, tmp_path):
    with pytest.raises(BadInput, match="--forecast is of one training"):
        train(pairs, tmp_path / "p.karat", model="sgdml", forecast=True)
