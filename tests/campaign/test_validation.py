"""Bad input: one clear message, exit status 2, before any work starts, nothing written."""

import sys
from pathlib import Path

import numpy as np
import pytest

from karat.campaign.loading import parse_yaml
from karat.campaign.schema import parse_campaign
from karat.campaign.sections import MadeData
from karat.campaign.validation import most_training, validate
from karat.cli.main import main
from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.data.files import write_dataset
from karat.structures.builders import crystal, from_smiles
from karat.structures.labels import Labels, LevelOfTheory

TEXT = """
name: water
seed: 3
system: {smiles: "O"}
reference: {engine: gfn2_xtb}
data:
  sample: [{sampler: rattle, options: {copies: 30}}]
  split: {by: random, valid: 0.1, test: 0.3}
train:
  - {name: small, model: bpnn, size: 6}
contestants:
  - {name: UFF, potential: uff}
assays:
  - assay: energy_forces
"""
PBE = LevelOfTheory("PBE")
LJ = (
    "{potential: lennard_jones, options: {epsilon_ev: {Ar: 0.01}, sigma_angstrom: {Ar: 3.4}, "
    "onset_angstrom: 8, cutoff_angstrom: 9}}"
)


def files(folder, structures, names=("train", "test")):
    """Labelled files of the same structures, slightly moved."""
    random = np.random.default_rng(1)
    for name in names:
        records = []
        for index, structure in enumerate(structures):
            moved = structure.replace(
                positions=structure.positions + random.normal(0, 0.02, (len(structure), 3))
            )
            forces = random.normal(0, 1, (len(structure), 3))
            labels = Labels(energy=float(-index), forces=forces)
            records.append(Record(moved, labels, name=f"{name}{index}"))
        write_dataset(Dataset(tuple(records), PBE), folder / f"{name}.xyz")


GIVEN = """
name: given
data: {train: train.xyz, test: test.xyz, level: {method: PBE}}
train:
  - {name: small, model: bpnn, size: 4}
contestants:
  - {name: UFF, potential: uff}
assays:
  - assay: energy_forces
"""


def run_cli(monkeypatch, capsys, *arguments):
    """Exit status and what was said on both streams."""
    monkeypatch.setattr(sys, "argv", ["karat", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main()
    said = capsys.readouterr()
    return ending.value.code, said.out, said.err


def refused(tmp_path, monkeypatch, capsys, text, *more):
    """The one message with which `karat run` refuses a campaign."""
    (tmp_path / "c.yaml").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    arguments = ["run", tmp_path / "c.yaml", *more]
    if "--output" not in more:
        arguments += ["--output", tmp_path / "out"]
    code, out, err = run_cli(monkeypatch, capsys, *arguments)
    assert code == 2, err
    assert out == ""
    assert err.startswith("karat: ")
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("copies: 30", "copys: 30", ("did you mean 'copies'", "data.sample[0].options")),
        ('O"', 'C1CC"', ("SMILES 'C1CC' does not parse", "Correct the string")),
        ('O"', 'O", charge: 1', ("total charge +0", "charge +1")),
        ('O"', 'O", multiplicity: 2', ("multiplicity 2", "must be odd")),
        ("size: 6", "size: 19", ("train[0] small", "size 19", "18 training structures")),
        (
            "size: 6",
            "size: 6, options: {cutoff_angstrom: 8.0}",
            ("cutoff_angstrom 8 is larger than the data allow", "Use at most 6.0"),
        ),
        (
            "{name: UFF, potential: uff}",
            LJ,
            ("contestants[0] lennard_jones", "no parameters for H, O", "it knows Ar"),
        ),
        (
            "{name: UFF, potential: uff}",
            "{potential: karat_file, options: {path: none.karat}}",
            ("none.karat: no such file",),
        ),
        ('smiles: "O"', "file: none.xyz", ("none.xyz: no such file",)),
        ("valid: 0.1", "valid: 0.01", ("leaves none for 'valid'",)),
        (
            "engine: gfn2_xtb",
            "engine: pyscf, options: {method: hf, basis: no-such-basis}",
            ("no-such-basis",),
        ),
    ],
)
def test_bad_campaigns(tmp_path, monkeypatch, capsys, old, new, words):
    assert old in TEXT
    message = refused(tmp_path, monkeypatch, capsys, TEXT.replace(old, new))
    for word in words:
        assert word in message


def test_missing_and_empty_data(tmp_path, monkeypatch, capsys):
    files(tmp_path, [from_smiles("O")[0]] * 6)
    (tmp_path / "test.xyz").unlink()
    message = refused(tmp_path, monkeypatch, capsys, GIVEN)
    assert "test.xyz: no such file" in message
    (tmp_path / "test.xyz").touch()
    message = refused(tmp_path, monkeypatch, capsys, GIVEN)
    assert "test.xyz" in message
    assert "empty" in message
    (tmp_path / "test.xyz").write_text("nonsense\n")
    assert "test.xyz" in refused(tmp_path, monkeypatch, capsys, GIVEN)


def test_given_data_that_do_not_fit(tmp_path, monkeypatch, capsys):
    files(tmp_path, [from_smiles("O")[0]] * 6)
    message = refused(tmp_path, monkeypatch, capsys, GIVEN.replace("size: 4", "size: 6"))
    assert "size 6 is more than the 5 training structures" in message  # one validates
    mixed = GIVEN + "reference: {engine: gfn2_xtb}\n"
    message = refused(tmp_path, monkeypatch, capsys, mixed)
    assert "PBE" in message
    assert "GFN2-xTB" in message
    assert "never mixed" in message


def test_a_cut_off_that_crystals_do_not_allow(tmp_path, monkeypatch, capsys):
    files(tmp_path, [crystal("Si", "diamond", a=5.43, cubic=True, supercell=(2, 2, 2))] * 3)
    text = GIVEN.replace("size: 4", "size: 1, options: {cutoff_angstrom: 20.0}")
    message = refused(tmp_path, monkeypatch, capsys, text)
    assert "cutoff_angstrom 20 is larger than the data allow" in message
    assert "triplets" in message


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    output = str(tmp_path / "file" / "out")
    message = refused(tmp_path, monkeypatch, capsys, TEXT, "--output", output)
    assert "cannot write into this folder" in message
    assert "Name another" in message


def test_good_campaigns_pass_and_nothing_is_written(tmp_path):
    for text in (TEXT, GIVEN):
        files(tmp_path, [from_smiles("O")[0]] * 6)
        before = sorted(tmp_path.rglob("*"))
        validate(parse_campaign(parse_yaml(text, "c"), tmp_path, "c"))
        assert sorted(tmp_path.rglob("*")) == before


def test_a_contestant_that_cannot_treat_the_system_is_no_error(tmp_path):
    files(tmp_path, [crystal("Si", "diamond", a=5.43)] * 6)
    text = GIVEN.replace("{name: UFF, potential: uff}", "{name: MMFF, potential: mmff94}")
    validate(parse_campaign(parse_yaml(text, "c"), tmp_path, "c"))


def test_training_structures_are_counted_as_the_split_will_part_them():
    text = TEXT.replace(
        "{sampler: rattle, options: {copies: 30}}",
        "{sampler: dynamics, options: {steps: 400, every: 10, equilibration_steps: 0}}",
    ).replace("by: random", "by: time_block")
    campaign = parse_campaign(parse_yaml(text, "c"), Path("/"), "c")
    assert isinstance(campaign.data, MadeData)
    # 40 frames: 12 test, 4 valid, and one given up at each of the two borders
    assert most_training(campaign.data, from_smiles("O")) == 40 - 12 - 4 - 2


def test_unknown_samplers_are_not_guessed():
    from karat.campaign.sections import Chosen, SplitSettings

    class Foreign:
        pass

    data = MadeData((Chosen("m:Foreign", Foreign()),), SplitSettings())
    assert most_training(data, from_smiles("O")) is None


def test_levels_must_be_known_to_be_mixed():
    assert not PBE.same_as(LevelOfTheory("unknown"))
    with pytest.raises(BadInput, match="needs the key 'level'"):
        parse_campaign(parse_yaml(GIVEN.replace(", level: {method: PBE}", ""), "c"), Path("/"), "c")
