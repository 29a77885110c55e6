"""Labelled files: what is read, what is refused, and that writing loses no bit."""

import subprocess
import sys

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from data_example import LEVEL, full_dataset, full_records

from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.data.files import read_dataset, read_structures, write_dataset
from karat.structures.builders import from_smiles
from karat.structures.labels import Labels, LevelOfTheory


@pytest.mark.parametrize("name", ["all.xyz", "all.extxyz", "all.xyz.gz"])
def test_written_and_read_bit_by_bit(tmp_path, name):
    dataset = full_dataset()
    path = tmp_path / name
    write_dataset(dataset, path)
    back = read_dataset(path)
    assert back.level == dataset.level
    for mine, theirs in zip(dataset, back, strict=True):
        assert theirs.digest == mine.digest
        assert (theirs.name, theirs.structure.multiplicity) == (
            mine.name,
            mine.structure.multiplicity,
        )
        if mine.structure.topology is None:
            assert theirs.structure.topology is None
        else:
            assert theirs.structure.topology.digest == mine.structure.topology.digest
    assert back.digest == dataset.digest


def test_written_twice_is_the_same_file(tmp_path):
    for name in ("a.xyz.gz", "b.xyz.gz"):
        write_dataset(full_dataset(), tmp_path / name)
    assert (tmp_path / "a.xyz.gz").read_bytes() == (tmp_path / "b.xyz.gz").read_bytes()


def test_ase_reads_what_karat_writes(tmp_path):
    write_dataset(full_dataset(), tmp_path / "all.xyz")
    for atoms, record in zip(ase.io.read(tmp_path / "all.xyz", ":"), full_records(), strict=True):
        np.testing.assert_array_equal(atoms.positions, record.structure.positions)
        np.testing.assert_array_equal(atoms.numbers, record.structure.numbers)
        if record.labels.forces is not None:
            np.testing.assert_array_equal(atoms.arrays["REF_forces"], record.labels.forces)
        if record.labels.energy is not None:
            assert atoms.info["REF_energy"] == record.labels.energy
        assert atoms.info["level"] == LEVEL.as_dict()


def test_reads_what_ase_writes(tmp_path):
    """ASE's own keys `energy`, `forces`, `stress`; its format keeps eight decimals."""
    crystal = ase.Atoms("SiGe", [[0, 0, 0], [1.4, 1.4, 1.4]], cell=[4, 5, 6], pbc=True)
    stress = np.array([0.01, 0.02, 0.03, 0.004, 0.005, 0.006])  # xx yy zz yz xz xy
    forces = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    crystal.calc = SinglePointCalculator(crystal, energy=-10.5, forces=forces, stress=stress)
    for name in ("one.xyz", "one.traj"):
        ase.io.write(tmp_path / name, crystal)
        labels = read_dataset(tmp_path / name).records[0].labels
        assert labels.energy == -10.5
        np.testing.assert_allclose(labels.forces, forces, atol=1e-8)
        expected = [[0.01, 0.006, 0.005], [0.006, 0.02, 0.004], [0.005, 0.004, 0.03]]
        np.testing.assert_allclose(labels.stress, expected, atol=1e-8)


def write(path, *comments, atoms="H 0 0 0 1 2 3\nH 0 0 1 -1 -2 -3\n"):
    header = "Properties=species:S:1:pos:R:3:forces:R:3"
    path.write_text("".join(f"2\n{header} {comment}\n{atoms}" for comment in comments))
    return path


def test_ref_keys_win_and_keys_may_be_named(tmp_path):
    path = write(tmp_path / "a.xyz", "energy=-1 REF_energy=-2 dft=-3")
    assert read_dataset(path).records[0].labels.energy == -2.0
    labels = read_dataset(path, energy_key="dft", forces_key="forces").records[0].labels
    assert labels.energy == -3.0
    assert labels.forces[1, 2] == -3.0


@pytest.mark.parametrize("text", ["1 2 3 4 5 6", "1 6 5 6 2 4 5 4 3"])
@pytest.mark.parametrize("key", ["stress", "REF_stress"])
def test_stress_of_six_or_nine_numbers(tmp_path, key, text):
    path = write(tmp_path / "a.xyz", f'energy=-1 Lattice="4 0 0 0 5 0 0 0 6" {key}="{text}"')
    stress = read_dataset(path).records[0].labels.stress
    np.testing.assert_array_equal(stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])


@pytest.mark.parametrize(
    ("comments", "words"),
    [
        (["energy=nan"], "frame 0: energy holds NaN"),
        (["energy=-1", 'energy="1 2"'], "frame 1: energy has 2 values"),
        (["energy=-1", "energy=none"], "frame 1: energy is 'none'"),
        (['energy=-1 stress="1 2 3"'], "stress has 3 numbers"),
        (['energy=-1 stress="1 2 3 4 5 6 7 8 9"'], "stress is not symmetric"),
        (['energy=-1 virial="1 0 0 0 1 0 0 0 1"'], "virial but is not periodic"),
        (['energy=-1 level="_JSON {\\"methode\\": 1}"'], "level is"),
    ],
)
def test_bad_labels_are_numbered(tmp_path, comments, words):
    path = write(tmp_path / "bad.xyz", *comments)
    with pytest.raises(BadInput, match=words) as caught:
        read_dataset(path)
    assert "bad.xyz" in str(caught.value)


def test_nan_force_is_numbered(tmp_path):
    path = write(tmp_path / "bad.xyz", "energy=1", atoms="H 0 0 0 1 2 nan\nH 0 0 1 -1 -2 -3\n")
    with pytest.raises(BadInput, match="frame 0: forces holds NaN"):
        read_dataset(path)


def test_no_labels_at_all_or_in_one_frame(tmp_path):
    path = tmp_path / "bare.xyz"
    path.write_text("1\n\nH 0 0 0\n")
    with pytest.raises(BadInput, match="none of its 1 structures has labels.*karat label"):
        read_dataset(path)
    path.write_text("1\nenergy=-1\nH 0 0 0\n1\n\nH 0 0 0\n")
    with pytest.raises(BadInput, match="frame 1: has neither energy nor forces"):
        read_dataset(path)


@pytest.mark.parametrize(("name", "words"), [("none.xyz", "no such"), ("empty.xyz", "0 bytes")])
def test_missing_and_empty_files(tmp_path, name, words):
    (tmp_path / "empty.xyz").touch()
    for read in (read_dataset, read_structures):
        with pytest.raises(BadInput, match=words):
            read(tmp_path / name)


def test_levels_are_never_mixed(tmp_path):
    path = tmp_path / "level.xyz"
    write_dataset(full_dataset(), path)
    same = LevelOfTheory("pbe", "def2-svp", "d3(bj)")
    assert read_dataset(path, same).level == LEVEL
    with pytest.raises(BadInput, match="was labelled with PBE-D3.*but PBE was named"):
        read_dataset(path, LevelOfTheory("PBE"))
    other = tmp_path / "other.xyz"
    write_dataset(Dataset(full_records()[:1], LevelOfTheory("HF")), other)
    path.write_text(path.read_text() + other.read_text())
    with pytest.raises(BadInput, match="2 levels of theory .HF, PBE-D3"):
        read_dataset(path)


def test_level_by_argument_or_unknown(tmp_path):
    path = write(tmp_path / "a.xyz", "energy=-1")
    assert read_dataset(path).level.method == "unknown"
    assert read_dataset(path, LevelOfTheory("B3LYP")).level.method == "B3LYP"


def test_groups_frames_and_names(tmp_path):
    path = write(tmp_path / "run.xyz", *["energy=1"] * 3)
    found = read_structures(path)
    assert [(f.name, f.group, f.frame) for f in found] == [(f"run:{i}", "run", i) for i in range(3)]
    path = write(tmp_path / "two.xyz", "config_type=a", "config_type=b", "config_type=a name=x")
    found = read_structures(path)
    assert [(f.name, f.kind, f.group, f.frame) for f in found] == [
        ("two:0", "a", "two", 0),
        ("two:1", "b", "two/b/H2", 0),
        ("x", "a", "two", 1),
    ]


def test_names_are_unique_and_isomers_are_groups_of_their_own(tmp_path):
    one, other = (from_smiles(s)[0] for s in ("CO", "OC"))
    records = [Record(s, Labels(energy=-1.0), "same") for s in (one, other, one)]
    path = tmp_path / "iso.xyz"
    write_dataset(Dataset(tuple(records), LEVEL), path)
    text = path.read_text()
    for key in ('group="_JSON \\"\\""', "frame=-1"):
        assert text.count(key) == 3
        text = text.replace(key, "")
    path.write_text(text)
    found = read_structures(path)
    assert [f.name for f in found] == ["same", "same#2", "same#3"]
    assert [f.group for f in found] == ["iso", "iso/CH4O (2)", "iso"]


def test_sdf_has_structures_but_no_labels(tmp_path):
    from rdkit import Chem

    from karat.structures.rdkit_molecule import to_rdkit

    mol = to_rdkit(from_smiles("CCO")[0])
    mol.SetProp("_Name", "ethanol")
    path = tmp_path / "mol.sdf"
    path.write_text(Chem.MolToMolBlock(mol) + "$$$$\n")
    found = read_structures(path)
    assert [(f.name, f.group, f.structure.formula) for f in found] == [("ethanol", "mol", "C2H6O")]
    assert found[0].structure.topology is not None
    with pytest.raises(BadInput, match="has labels"):
        read_dataset(path)


def test_published_sets(published):
    dataset = read_dataset(published("mlearn/Si_train.xyz.gz"), LevelOfTheory("PBE"))
    assert len(dataset) == 214
    first = dataset.records[0]
    # first lines of the file, read by eye
    assert (first.kind, first.structure.formula) == ("Vacancy", "Si63")
    assert first.labels.energy == -295.49753016
    assert first.labels.forces[0, 0] == -2.981873
    assert first.labels.stress[0, 1] == -0.005671550665533216
    assert first.structure.cell[1].tolist() == [0, 9.055935, 0.272179]
    dataset = read_dataset(published("acac/train_300K.xyz.gz"))
    assert {r.group for r in dataset} == {"train_300K"}
    assert [r.frame for r in dataset] == list(range(500))
    torsions = read_structures(published("torsions_openff59/torsions.xyz.gz"))
    assert (len(torsions), torsions[0].structure.charge) == (744, -1)
    dimers = read_dataset(published("ethanol/test_dimers.xyz.gz"))
    assert dimers.records[0].labels.forces is None
    with pytest.raises(BadInput, match="none of its 57 structures"):
        read_dataset(published("bh28/bh28.xyz.gz"))


def test_reads_the_same_in_another_process(tmp_path):
    write_dataset(full_dataset(), tmp_path / "all.xyz")
    code = (
        "import sys\nfrom karat.data.files import read_dataset\n"
        "print(read_dataset(sys.argv[1]).digest)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "all.xyz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == full_dataset().digest
