"""Each check finds what was planted, says nothing on clean data, and agrees with what is known
of published sets."""

import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from data_example import trajectories

from karat.cli.check import check as command
from karat.data.dataset import Dataset, Record
from karat.data.doctor import CHECKS, PAIR_CHECKS, check
from karat.data.files import read_dataset, write_dataset
from karat.structures.builders import crystal, from_smiles
from karat.structures.labels import Labels, LevelOfTheory

LEVEL = LevelOfTheory("PBE")


def clean(count=20, seed=0):
    """Rattled ethanol with forces that sum to zero and energies that scatter a little."""
    generator = np.random.default_rng(seed)
    start = from_smiles("CCO", seed=1)[0]
    records = []
    for index in range(count):
        positions = start.positions + generator.normal(0, 0.03, (9, 3))
        forces = generator.normal(0, 1, (9, 3))
        labels = Labels(
            energy=-4200 + generator.normal() * 0.1, forces=forces - forces.mean(axis=0)
        )
        structure = start.replace(positions=positions)
        records.append(Record(structure, labels, f"c{seed}:{index}", group=f"run {seed}", frame=-1))
    return records


def dataset(records, level=LEVEL):
    return Dataset(tuple(records), level)


def found(*sets):
    return {finding.code: finding for finding in check(*sets)}


def relabel(record, **labels):
    old = {name: getattr(record.labels, name) for name in record.labels.quantities}
    return replace(record, labels=Labels(**(old | labels)))


def test_clean_data_has_no_complaint():
    findings = check(dataset(clean()), dataset(clean(seed=9)))
    assert {finding.severity for finding in findings} == {"info"}
    assert {finding.code for finding in findings} == {"summary", "large-totals", "same-system"}


def spoiled(code):
    """A dataset with one fault, and the names of the faulty."""
    records = clean()
    victim = records[4]
    if code == "not-finite":
        victim = relabel(victim, energy=float("nan"))
    elif code == "missing-forces":
        victim = relabel(victim, forces=None)
    elif code == "no-labels":
        victim = replace(victim, labels=Labels())
    elif code == "duplicates":
        victim = replace(records[2], name=victim.name)
    elif code == "equivalent":
        mirror = records[2].structure.positions * [1, 1, -1]
        labels = Labels(
            energy=records[2].labels.energy, forces=records[2].labels.forces * [1, 1, -1]
        )
        victim = replace(
            victim, structure=victim.structure.replace(positions=mirror), labels=labels
        )
    elif code == "overlapping-atoms":
        positions = victim.structure.positions.copy()
        positions[5] = positions[6] + [0.2, 0, 0]
        victim = replace(victim, structure=victim.structure.replace(positions=positions))
    elif code == "large-forces":
        victim = relabel(victim, forces=victim.labels.forces * 200)
    elif code == "net-force":
        victim = relabel(victim, forces=victim.labels.forces + 0.1)
    elif code == "energy-outliers":
        victim = relabel(victim, energy=victim.labels.energy + 50)
    records[4] = victim
    return dataset(records), (victim.name,)


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("not-finite", "error"),
        ("missing-forces", "warning"),
        ("no-labels", "error"),
        ("duplicates", "warning"),
        ("equivalent", "info"),
        ("overlapping-atoms", "warning"),
        ("large-forces", "warning"),
        ("net-force", "warning"),
        ("energy-outliers", "warning"),
    ],
)
def test_planted_faults_are_found_and_named(code, severity):
    data, names = spoiled(code)
    finding = found(data)[code]
    assert (finding.severity, finding.offenders) == (severity, names)
    assert "1 of 20" in finding.message
    assert code not in found(dataset(clean()))


def test_left_handed_cell():
    silicon = crystal("Si")
    left = silicon.replace(cell=silicon.cell[[1, 0, 2]])
    records = [Record(s, Labels(energy=-10.0 + i)) for i, s in enumerate((silicon, left))]
    assert "left-handed-cell" in found(dataset(records))
    assert "left-handed-cell" not in found(dataset(records[:1]))


def test_relative_energies_and_unknown_level():
    records = [relabel(record, energy=0.1 * i + 0.1) for i, record in enumerate(clean())]
    codes = found(dataset(records, LevelOfTheory("unknown")))
    assert {"relative-energies", "unknown-level"} <= set(codes)


def test_train_against_test():
    train, test = clean(), clean(seed=9)
    assert found(dataset(train), dataset(test + train[3:5]))["leakage"].offenders == (
        "c0:3",
        "c0:4",
    )
    mirrored = replace(
        train[3],
        name="mirror",
        structure=train[3].structure.replace(positions=train[3].structure.positions * [1, 1, -1]),
        labels=Labels(energy=train[3].labels.energy, forces=train[3].labels.forces * [1, 1, -1]),
    )
    alike = found(dataset(train), dataset([*test, mirrored]))
    assert alike["equivalent-leakage"].offenders == ("mirror",)
    assert "leakage" not in alike
    other = dataset(test, LevelOfTheory("PBE0"))
    assert found(dataset(train), other)["different-levels"].severity == "error"
    silicon = Record(crystal("Si"), Labels(energy=-10.0))
    assert "Si" in found(dataset(train), dataset([*test, silicon]))["new-elements"].message


def test_neighbouring_frames():
    whole = trajectories([30, 30])
    train = whole.subset(range(0, 25))
    assert "neighbouring-frames" in found(train, whole.subset(range(26, 30)))
    assert "neighbouring-frames" not in found(train, whole.subset(range(27, 60)))


def test_errors_come_first_and_every_check_is_listed():
    data, _ = spoiled("not-finite")
    assert check(data)[0].code == "not-finite"
    assert len(CHECKS) == len(set(CHECKS)) >= 12
    assert len(PAIR_CHECKS) >= 5


def test_published_findings(published):
    """What the folder's README says a check should find."""

    def codes(name, *others):
        sets = [read_dataset(published(f"{one}.xyz.gz"), LEVEL) for one in (name, *others)]
        return found(*sets)

    lithium = codes("mlearn/Li_train", "mlearn/Li_test")
    assert "3 of 29" in lithium["equivalent-leakage"].message
    assert "equivalent" in lithium
    assert "equivalent" in codes("mlearn/Si_train")
    for name in ("Mo", "Cu", "Ni"):  # nothing of weight
        findings = check(
            read_dataset(published(f"mlearn/{name}_train.xyz.gz"), LEVEL),
            read_dataset(published(f"mlearn/{name}_test.xyz.gz"), LEVEL),
        )
        assert {finding.severity for finding in findings} == {"info"}
    assert "net-force" in codes("water_deepmd/liquid_water_64")
    assert "relative-energies" in codes("qm22/malonaldehyde_test")
    molecule = codes("acac/train_300K", "acac/test_MD_300K")
    assert {"large-totals", "same-system"} <= set(molecule)


def run(capsys, *arguments, **options):
    with pytest.raises(typer.Exit) as stopped:
        command(*arguments, **options)
    return stopped.value.exit_code, capsys.readouterr().out


def test_command(tmp_path, capsys):
    good, bad = tmp_path / "good.xyz", tmp_path / "bad.xyz"
    write_dataset(dataset(clean()), good)
    write_dataset(dataset([*clean(seed=9), clean()[0]]), bad)
    code, text = run(capsys, good, None, False)
    assert code == 0
    assert "summary" in text
    code, text = run(capsys, good, bad, True)
    document = json.loads(text)
    assert (code, document["errors"]) == (1, 1)
    assert document["findings"][0]["code"] == "leakage"
    assert document["findings"][0]["offenders"] == ["c0:0"]
    code, text = run(capsys, good, bad, False)
    assert (code, "leakage" in text) == (1, True)
