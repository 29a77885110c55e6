"""`karat init` writes campaigns that `karat run` takes."""

import sys

import numpy as np
import pytest

from karat.campaign.schema import load_campaign
from karat.campaign.validation import validate
from karat.cli.main import main
from karat.data.dataset import Dataset, Record
from karat.data.files import write_dataset
from karat.structures.builders import crystal, from_smiles
from karat.structures.labels import Labels, LevelOfTheory


@pytest.fixture
def init(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["karat", "init", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        said = capsys.readouterr()
        return ending.value.code or 0, said.out, said.err

    return call


def test_a_molecule(init, tmp_path):
    code, out, err = init("--smiles", "CC(=O)O", "-o", "acetic.yaml")
    assert (code, out) == (0, "acetic.yaml\n")
    assert "karat run acetic.yaml" in err
    campaign = load_campaign(tmp_path / "acetic.yaml")
    assert campaign.system.smiles == "CC(=O)O"
    assert campaign.reference.name == "gfn2_xtb"
    assert len(campaign.assays) == 5
    validate(campaign)


def test_it_does_not_overwrite(init, tmp_path):
    (tmp_path / "x.yaml").write_text("precious")
    code, _, err = init("--smiles", "O", "-o", "x.yaml")
    assert code == 2
    assert "--force" in err
    assert (tmp_path / "x.yaml").read_text() == "precious"
    assert init("--smiles", "O", "-o", "x.yaml", "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--smiles", "C1CC"], "does not parse"),
        (["--smiles", "O", "--crystal", "x.cif"], "give one of"),
        (["--crystal", "none.cif"], "none.cif: no such"),
        (["--data", "none.xyz", "--test", "t.xyz", "--level", "PBE"], ".xyz: no such"),
        (["--smiles", "O", "--engine", "gfn2"], "did you mean 'gfn2_xtb'"),
    ],
)
def test_bad_flags_write_nothing(init, tmp_path, arguments, words):
    code, _, err = init(*arguments)
    assert code == 2
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_labelled_data(init, tmp_path):
    water = from_smiles("O")[0]
    for name in ("train", "test"):
        records = tuple(
            Record(
                water.replace(positions=water.positions + 0.01 * i),
                Labels(energy=-1.0 * i, forces=np.zeros((3, 3))),
                name=f"{name}{i}",
            )
            for i in range(6)
        )
        write_dataset(Dataset(records, LevelOfTheory("PBE")), tmp_path / f"{name}.xyz")
    code, _, err = init("--data", "train.xyz")
    assert code == 2
    assert "--test" in err
    code, _, err = init("--data", "train.xyz", "--test", "test.xyz", "-o", "mine.yaml")
    assert code == 0, err
    assert load_campaign(tmp_path / "mine.yaml").data.level.method == "PBE"  # the file says so


def test_a_crystal(init, tmp_path):
    crystal("Si", "diamond", a=5.43).to_ase().write(tmp_path / "si.cif")
    code, _, err = init("--crystal", "si.cif")
    assert code == 0, err
    campaign = load_campaign(tmp_path / "si.yaml")
    assert list(campaign.contestants[0].potential.component.epsilon_ev) == ["Si"]


def test_questions(init, monkeypatch, tmp_path):
    import typer

    answers = iter(["molecule", "O", "gfn1_xtb"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: next(answers))
    code, _, err = init("-o", "asked.yaml")
    assert code == 0, err
    assert load_campaign(tmp_path / "asked.yaml").reference.name == "gfn1_xtb"


def test_without_a_terminal_it_does_not_ask(init, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    code, _, err = init()
    assert code == 2
    assert "--smiles, --crystal or --data" in err
