"""`karat train` from file to file; bad input is one message before any work."""

import json

import numpy as np
import pytest

from karat.cli.settings import key_values
from karat.cli.train import make_settings, read_parts, train
from karat.core.errors import BadInput, UnknownKey
from karat.data.dataset import Dataset, Record
from karat.data.files import write_dataset
from karat.data.read_options import ReadOptions
from karat.potentials.karat_file import load
from karat.potentials.karat_header import read_header
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.training.settings import TrainingSettings

TINY = ["hidden=[4]", "angular=[]", "radial.count=4"]


@pytest.fixture(scope="module")
def springs(tmp_path_factory):
    """Hydrogen molecules as springs: 3 eV/Å² about 0.75 Å, at -30 eV; one trajectory."""
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


def test_a_file_becomes_a_potential_and_json_says_how_good(springs, tmp_path, capsys):
    output = tmp_path / "p.karat"
    options = {"set_": TINY, "setting": ["dtype=float64"], "epochs": 30, "seed": 2}
    train(springs, output, as_json=True, **options)
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert "meV/atom" in captured.err
    assert "meV/Å" in captured.err
    assert document["output"] == str(output)
    assert document["training"]["settings"]["seed"] == 2
    assert document["architecture"]["hidden"] == [4]
    header = read_header(output)
    assert header.level == LevelOfTheory("spring")
    # frames are split in blocks of time, with a gap of one frame
    assert header.training["train_structures"] == 35
    assert header.training["valid_structures"] == 4
    shown = header.training["valid_force_rmse_mev_per_angstrom"]
    whole, valid = read_parts(springs, None, 0.1, ReadOptions(), 2)
    assert not {r.name for r in whole} & {r.name for r in valid}
    found = load(output).predict(valid.structures)
    errors = [f.forces - r.labels.forces for f, r in zip(found, valid)]
    np.testing.assert_allclose(1e3 * np.sqrt(np.mean(np.square(errors))), shown, rtol=1e-6)
    # started again with other settings it refuses, with --fresh it begins anew
    with pytest.raises(BadInput, match="--fresh"):
        train(springs, output, **{**options, "seed": 3})
    train(springs, output, fresh=True, **{**options, "epochs": 2})
    assert "2 epochs done" in capsys.readouterr().out


def test_what_is_not_said_is_what_suits_the_model():
    from karat.potentials.native.mace import Mace

    usual = Mace().usual_settings()
    found = make_settings(Mace(), {"learning_rate": 0.5}, "mace")
    assert found == TrainingSettings(**{**usual, "learning_rate": 0.5})
    assert usual["learning_rate"] != TrainingSettings().learning_rate


def test_values_are_yaml_and_keys_nest():
    assert key_values(["a=1", "b.c=[1, 2]", "b.d=x", "e="], "--set") == {
        "a": 1,
        "b": {"c": [1, 2], "d": "x"},
        "e": "",
    }
    for bad in ("a", "=3", "a=[1"):
        with pytest.raises(BadInput, match="--set"):
            key_values([bad], "--set")
    with pytest.raises(BadInput, match="already has a value"):
        key_values(["a=1", "a.b=2"], "--set")


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"model": "bpn"}, UnknownKey, "did you mean 'bpnn'"),
        ({"set_": ["hiden=[4]"]}, UnknownKey, "did you mean 'hidden'"),
        ({"setting": ["learning_rte=1"]}, UnknownKey, "did you mean 'learning_rate'"),
        ({"epochs": 0}, BadInput, "epochs 0"),
        ({"set_": ["cutoff_angstrom=1000"]}, BadInput, "cutoff_angstrom 1000"),
        ({"valid_fraction": 1.5}, BadInput, "--valid-fraction 1.5"),
        ({"level": "PBE"}, BadInput, "labelled with spring"),
    ],
)
def test_bad_input_is_refused_before_any_work(change, kind, text, springs, tmp_path):
    with pytest.raises(kind, match=text):
        train(springs, tmp_path / "p.karat", **change)
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_are_refused(springs, tmp_path):
    with pytest.raises(BadInput, match="no such"):
        train(tmp_path / "none.xyz", tmp_path / "p.karat")
    with pytest.raises(BadInput, match=r"ends in \.karat"):
        train(springs, tmp_path / "p.pt")
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot write"):
        train(springs, tmp_path / "file" / "p.karat")


@pytest.fixture
def methyls(tmp_path):
    """Hydrogen peroxide as springs between all atoms: a file for training, one for validation."""
    generator = np.random.default_rng(1)
    start = np.array([[0.0, 0, 0], [1.45, 0, 0], [-0.2, 0.9, 0.1], [1.6, -0.5, 0.8]])
    lengths = np.linalg.norm(start[:, None] - start[None], axis=-1)
    paths = []
    for name, count in (("train", 20), ("valid", 6)):
        records = []
        for index in range(count):
            positions = start + generator.normal(0, 0.05, start.shape)
            vectors = positions[:, None] - positions[None]
            distances = np.linalg.norm(vectors, axis=-1) + np.eye(4)
            stretch = distances - lengths - np.eye(4)
            forces = -6.0 * np.sum((stretch / distances)[:, :, None] * vectors, axis=1)
            labels = Labels(energy=-9.0 + 1.5 * float(np.sum(stretch**2)), forces=forces)
            structure = Structure(np.array([8, 8, 1, 1]), positions)
            records.append(Record(structure, labels, f"{name}{index}"))
        paths.append(tmp_path / f"{name}.xyz")
        write_dataset(Dataset(tuple(records), LevelOfTheory("springs")), paths[-1])
    return paths


def test_a_model_that_is_solved_for_becomes_a_file_too(methyls, tmp_path, capsys):
    output = tmp_path / "p.karat"
    train(methyls[0], output, model="sgdml", valid=methyls[1], set_=["sigma=10"])
    out = capsys.readouterr().out
    assert "Solved with σ = 10" in out
    assert "on 6 structures" in out
    header = read_header(output)
    assert header.architecture == "sgdml"
    assert header.training["matrix_rows"] == 20 * 6
    assert header.training["valid_force_rmse_mev_per_angstrom"] < 200
    with pytest.raises(BadInput, match="sgdml is solved for.*epochs"):
        train(methyls[0], output, model="sgdml", valid=methyls[1], epochs=4)


def test_the_doctor_looks_first_and_can_be_overruled(methyls, tmp_path, capsys):
    """Energies in kJ/mol beside forces in eV/Å."""
    spoilt = tmp_path / "spoilt.xyz"
    text = methyls[0].read_text()
    first = text.splitlines()
    frame = "\n".join(first[:6]) + "\n"
    broken = frame.replace("REF_energy=", "REF_energy=-5e9 was=").replace("name=train0", "name=bad")
    spoilt.write_text(text + broken)
    output = tmp_path / "p.karat"
    options = {"model": "sgdml", "valid": methyls[1], "set_": ["sigma=10"]}
    with pytest.raises(BadInput, match=r"the data doctor found[\s\S]*--accept"):
        train(spoilt, output, **options)
    assert not output.exists()
