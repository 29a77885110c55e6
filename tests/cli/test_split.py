"""`karat split`: files that read back as the parts, notes that say how, nothing overwritten."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from karat.cli.split import split
from karat.core.errors import BadInput, KaratError
from karat.data.dataset import Dataset, Record
from karat.data.files import read_dataset, write_dataset
from karat.data.splits import Split
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

app = typer.Typer()
app.command()(split)

LEVEL = LevelOfTheory("PBE", "def2-SVP")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six molecules of water, each a trajectory of ten frames."""
    generator = np.random.default_rng(0)
    records = []
    for group in range(6):
        base = np.array([[0.0, 0, 0], [0.9 + 0.1 * group, 0, 0], [0, 0.9 + 0.1 * group, 0]])
        for frame in range(10):
            positions = base + generator.normal(0, 0.01, (3, 3))
            structure = Structure(np.array([8, 1, 1]), positions)
            labels = Labels(energy=-10.0 * group, forces=generator.normal(size=(3, 3)))
            name = f"{group}/{frame}"
            records.append(Record(structure, labels, name, "", f"run {group}", frame))
    path = tmp_path_factory.mktemp("data") / "all.xyz"
    write_dataset(Dataset(tuple(records), LEVEL), path)
    return path


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, KaratError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


@pytest.mark.parametrize("how", ["random", "group", "similarity", "time"])
def test_parts_read_back_and_the_note_says_how(how, data, tmp_path):
    seeds = [0] if how == "time" else [0, 7]
    words = ("--how", how, "--seeds", ",".join(map(str, seeds)), "--valid-fraction", "0.2")
    result = run(data, "-o", tmp_path, *words, "--test-fraction", "0.2", "--json")
    document = json.loads(result.stdout)
    whole = read_dataset(data)
    assert len(document["splits"]) == len(seeds)
    for seed in seeds:
        folder = tmp_path / f"seed-{seed}"
        note = json.loads((folder / "split.json").read_text())
        found = Split.from_dict(note["split"], whole)
        assert note["scheme"]["how"] == how
        assert note["source"]["structures"] == 60
        assert note["level"] == LEVEL.as_dict()
        assert (note["separation"] is not None) == (how == "similarity")
        for name in ("train", "valid", "test"):
            part = read_dataset(folder / f"{name}.xyz.gz")
            assert part.level == LEVEL
            assert part.digest == whole.subset(getattr(found, name)).digest
            assert part.digest == note["parts"][name]["digest"]
    assert not list(tmp_path.glob(".*"))
    first = json.loads((tmp_path / "seed-0" / "split.json").read_text())["split"]["digest"]
    assert first == document["splits"][0]["digest"]


def test_folds_test_each_structure_once(data, tmp_path):
    run(data, "-o", tmp_path / "one", "--how", "group", "--folds", "3")
    tested = [
        i
        for fold in range(3)
        for i in json.loads((tmp_path / f"one/fold-{fold}/split.json").read_text())["split"]["test"]
    ]
    assert sorted(tested) == list(range(60))
    run(data, "-o", tmp_path / "two", "--how", "random", "--folds", "2", "--seeds", "3,4")
    assert (tmp_path / "two/seed-4/fold-1/test.xyz.gz").exists()


def test_the_same_again_is_left_and_anything_else_is_refused(data, tmp_path):
    words = (data, "-o", tmp_path, "--how", "random", "--seeds")
    run(*words, "0")
    before = (tmp_path / "seed-0" / "train.xyz.gz").stat().st_mtime_ns
    again = run(*words, "0,1")
    assert "seed-0: 48 train, 6 valid, 6 test (was there)" in again.stdout
    assert "seed-1: 48 train, 6 valid, 6 test\n" in again.stdout
    assert (tmp_path / "seed-0" / "train.xyz.gz").stat().st_mtime_ns == before
    with pytest.raises(BadInput, match="holds something else"):
        run(*words, "0", "--test-fraction", "0.3")
    (tmp_path / "seed-5").mkdir()
    (tmp_path / "seed-5" / "train.xyz.gz").write_text("mine")
    with pytest.raises(BadInput, match="seed-5: is there already"):
        run(*words, "5")
    assert (tmp_path / "seed-5" / "train.xyz.gz").read_text() == "mine"
    (tmp_path / "seed-1" / "valid.xyz.gz").unlink()
    with pytest.raises(BadInput, match="seed-1: is there already"):
        run(*words, "1")


def test_neighbouring_frames_on_both_sides_are_told(data, tmp_path):
    told = run(data, "-o", tmp_path / "a", "--how", "random", "--test-fraction", "0.2").stderr
    note = json.loads((tmp_path / "a" / "seed-0" / "split.json").read_text())["split"]
    # ten frames each: index // 10 is the trajectory
    train = {(i // 10, i % 10) for i in note["train"]}
    near = [i for i in note["test"] if {(i // 10, i % 10 - 1), (i // 10, i % 10 + 1)} & train]
    assert near
    assert f"seed-0: {len(near)} of 12 test structures" in told
    for how in ("group", "time"):
        assert run(data, "-o", tmp_path / how, "--how", how).stderr == ""


def test_frames_given_up_are_told(data, tmp_path):
    result = run(data, "-o", tmp_path, "--how", "time", "--valid-fraction", "0", "--gap", "2")
    assert "seed-0: 42 train, 6 test, 12 given up" in result.stdout
    assert not (tmp_path / "seed-0" / "valid.xyz.gz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--how", "similar"), "did you mean 'similarity'"),
        (("--how", "random", "--blocks", "3"), "has no 'blocks'"),
        (("--how", "random", "--seeds", "a"), "--seeds a"),
        (("--how", "random", "--seeds", "1,1"), "none twice"),
        (("--how", "random", "--seeds", ""), "--seeds"),
        (("--how", "time", "--seeds", "0,1"), "the same for each"),
        (("--how", "time", "--folds", "2"), "no folds"),
        (("--how", "group", "--folds", "9"), "6 units"),
        (("--how", "random", "--valid-fraction", "1.5"), "valid_fraction is 1.5"),
        (("--how", "random", "--level", "PBE0"), "labelled with"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(words, message, data, tmp_path):
    with pytest.raises(BadInput, match=message):
        run(data, "-o", tmp_path / "new", *words)
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="no such"):
        run(tmp_path / "none.xyz", "-o", tmp_path / "new", "--how", "random")
