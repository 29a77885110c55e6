"""`karat train --setting members=4`, from file to contestant."""

import json

import numpy as np
import pytest

from karat.cli.train import train
from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.data.files import write_dataset
from karat.potentials.catalogue import potential_component
from karat.potentials.karat_header import read_header
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

TINY = ["hidden=[4]", "angular=[]", "radial.count=4"]


@pytest.fixture(scope="module")
def springs(tmp_path_factory):
    """Hydrogen molecules as springs: 3 eV/Å² about 0.75 Å."""
    records = []
    for index, length in enumerate(0.75 + 0.2 * np.sin(np.arange(40))):
        positions = np.array([[0.0, 0.0, 0.0], [length, 0.0, 0.0]])
        pull = 3.0 * (length - 0.75)
        forces = np.array([[pull, 0.0, 0.0], [-pull, 0.0, 0.0]])
        labels = Labels(energy=-30.0 + 1.5 * (length - 0.75) ** 2, forces=forces)
        structure = Structure(np.array([1, 1]), positions)
        records.append(Record(structure, labels, f"f{index}", group="md", frame=index))
    path = tmp_path_factory.mktemp("data") / "springs.xyz"
    write_dataset(Dataset(tuple(records), LevelOfTheory("spring")), path)
    return path


@pytest.mark.slow
def test_a_committee_from_a_file_to_a_contestant(springs, tmp_path, capsys):
    output = tmp_path / "p.karat"
    setting = ["members=4", "member_data=bootstrap"]
    train(springs, output, set_=TINY, setting=setting, epochs=5, valid_fraction=0.3)
    shown = capsys.readouterr()
    assert "Committee of 4 members with best epochs" in shown.out
    assert "Validation RMSE" in shown.out
    header = read_header(output)
    assert header.members == 4
    committee = header.training["committee"]
    # the error of a mean is at most the mean (rms) error of what it is of
    rms = np.sqrt(np.mean(np.square(committee["valid_force_rmse_mev_per_angstrom"])))
    assert header.training["valid_force_rmse_mev_per_angstrom"] <= rms
    options = {"path": str(output), "uncertainty": True}
    contestant = potential_component("committee", options, "contestants.mine").load()
    molecule = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0.8, 0, 0]]))
    found = contestant.predict([molecule])[0].uncertainty
    assert found.member_forces.shape == (4, 2, 3)
    assert found.energy > 0
    train(springs, output, set_=TINY, setting=setting, epochs=5, valid_fraction=0.3, as_json=True)
    assert json.loads(capsys.readouterr().out)["training"]["committee"] == committee


def test_senseless_committees_are_refused_first(springs, tmp_path):
    with pytest.raises(BadInput, match="members 0"):
        train(springs, tmp_path / "p.karat", setting=["members=0"])
    with pytest.raises(BadInput, match="solved for"):
        train(springs, tmp_path / "p.karat", model="sgdml", setting=["members=4"])
