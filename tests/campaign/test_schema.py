"""Campaigns are parsed strictly, and written out completely."""

import json
from pathlib import Path

import pytest

from karat.campaign.loading import parse_yaml
from karat.campaign.schema import load_campaign, parse_campaign
from karat.core.errors import BadInput, UnknownKey

TEXT = """
name: water
seed: 3
system: {smiles: "O"}
reference: {engine: gfn2_xtb, options: {accuracy: 0.1}}
data:
  sample:
    - {sampler: rattle, options: {copies: 12}}
  split: {by: random, valid: 0.1, test: 0.3}
train:
  - {name: small, model: bpnn, size: 6, options: {hidden: [4]}, settings: {epochs: 2}}
contestants:
  - {name: MMFF94s, potential: mmff94, options: {variant: MMFF94s}}
assays:
  - assay: energy_forces
resources: {workers: 2}
"""


def parse(text=TEXT, folder=Path("/"), **changes):
    values = parse_yaml(text, "c.yaml")
    values.update(changes)
    return parse_campaign(values, folder, "c.yaml")


def test_written_out_and_read_again_it_is_the_same():
    campaign = parse()
    resolved = json.loads(json.dumps(campaign.as_dict()))
    assert parse_campaign(resolved, Path("/elsewhere")) == campaign
    assert resolved["contestants"][0]["options"] == {"variant": "MMFF94s"}
    assert resolved["data"]["split"]["blocks"] == 1  # a default, written out


def test_the_trainer_gets_the_seed_of_the_campaign_unless_it_has_its_own():
    assert parse().train[0].settings.seed == 3
    own = parse(TEXT.replace("{epochs: 2}", "{epochs: 2, seed: 8}"))
    assert own.train[0].settings.seed == 8


def test_what_is_not_said_of_the_trainer_is_what_suits_the_model():
    text = TEXT.replace("model: bpnn", "model: mace").replace("{hidden: [4]}", "{channels: 4}")
    settings = parse(text).train[0].settings
    assert (settings.optimiser, settings.epochs, settings.seed) == ("muon", 2, 3)
    own = parse(text.replace("epochs: 2", "optimiser: adam")).train[0].settings
    assert own.optimiser == "adam"


def test_paths_are_those_beside_the_campaign_file(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "name: x\nsystem: {file: a/b.cif}\nassays: [{assay: cost}]\n"
        "contestants: [{potential: karat_file, options: {path: m.karat}}]\n"
    )
    campaign = load_campaign(tmp_path / "c.yaml")
    assert campaign.system.file == str(tmp_path / "a/b.cif")
    assert campaign.contestants[0].potential.component.path == str(tmp_path / "m.karat")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed: 3", "sede: 3", "c.yaml has no key 'sede'; did you mean 'seed'"),
        ("smiles:", "smile:", "system has no 'smile'; did you mean 'smiles'"),
        ("accuracy", "acuracy", "reference.options has no 'acuracy'; did you mean 'accuracy'"),
        ("engine: gfn2_xtb", "engine: gfn2xtb", "did you mean 'gfn2_xtb'"),
        ("sampler: rattle", "sampler: ratle", "did you mean 'rattle'"),
        ("by: random", "bye: random", "data.split has no 'bye'; did you mean 'by'"),
        ("size: 6", "sice: 6", r"train\[0\] has no key 'sice'; did you mean 'size'"),
        ("hidden", "hiden", r"train\[0\].options has no 'hiden'; did you mean 'hidden'"),
        ("epochs", "epoch", r"train\[0\].settings has no 'epoch'; did you mean 'epochs'"),
        ("potential: mmff94", "potential: mmf94", "did you mean 'mmff94'"),
        ("energy_forces", "energy_force", "did you mean 'energy_forces'"),
        ("workers", "worker", "resources has no 'worker'; did you mean 'workers'"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(old, new, words):
    assert old in TEXT
    with pytest.raises(UnknownKey, match=words):
        parse(TEXT.replace(old, new))


def test_messages_name_the_line():
    with pytest.raises(UnknownKey, match=r"c\.yaml:11: train\[0\]"):
        parse(TEXT.replace("size: 6", "sice: 6"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name must be text"),
        ({"name": "a/b"}, "without slashes"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"system": {"smiles": "O", "file": "x"}}, "either 'smiles' or 'file'"),
        ({"system": {"smiles": "O", "conformers": 0}}, "at least 1"),
        ({"system": "O"}, "is a mapping"),
        ({"system": None}, "needs a 'system'"),
        ({"reference": None}, "no 'reference' to label them"),
        ({"data": None}, "'train' needs 'data'"),
        ({"data": {"sample": []}}, "names no sampler"),
        ({"data": {"split": {}}}, "needs the key 'sample'"),
        ({"assays": []}, "assays is empty"),
        ({"assays": {}}, "is a list"),
        ({"assays": ["cost"]}, "is a mapping"),
        ({"train": None, "contestants": None}, "nobody takes part"),
        ({"contestants": [{"potential": "uff"}, {"potential": "uff"}]}, "named 'uff'"),
        ({"resources": {"workers": 0}}, "at least 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, words):
    with pytest.raises(BadInput, match=words):
        parse(**changes)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("size: 6", "size: 0", "at least 1"),
        ("size: 6", "size: true", "whole number"),
        ("valid: 0.1, test: 0.3", "valid: 0.6, test: 0.5", "leave something to train on"),
        ("variant: MMFF94s", "variant: MMFF95", r"contestants\[0\].options.*MMFF95"),
        ("accuracy: 0.1", "accuracy: high", "reference.options.*high"),
    ],
)
def test_values_out_of_range_are_refused(old, new, words):
    with pytest.raises(BadInput, match=words):
        parse(TEXT.replace(old, new))
