"""`karat label`: writes a dataset, counts failures, goes on where it was, refuses bad input."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from karat.cli.label import label, make_engine
from karat.core.errors import BadInput, KaratError, UnknownKey
from karat.data.files import read_dataset
from karat.reference.xtb import Gfn2Xtb

app = typer.Typer()
app.command()(label)

XYZ = """3
charge=0 config_type=warm
O 0.0 0.0 0.{0}
H 0.0 0.76 -0.48
H 0.0 -0.76 -0.48
"""


@pytest.fixture
def waters(tmp_path):
    path = tmp_path / "waters.xyz"
    path.write_text("".join(XYZ.format(digit) for digit in (10, 11, 12)))
    return path


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, KaratError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def test_labels_a_file(waters, tmp_path):
    output = tmp_path / "out" / "labelled.xyz"
    result = run(waters, "--engine", "gfn2_xtb", "--output", output, "--set", "accuracy=0.5")
    assert result.exit_code == 0
    assert "3 of 3 structures labelled with GFN2-xTB (semi-empirical)" in result.stdout
    assert "label: 3/3 done, 0 failed" in result.stderr
    dataset = read_dataset(output)
    engine = Gfn2Xtb(accuracy=0.5)
    assert dataset.level == engine.level
    assert [record.kind for record in dataset] == ["warm"] * 3
    for record in dataset:
        expected = engine.compute(record.structure, ("energy", "forces"))
        assert record.labels.energy == expected.energy
        np.testing.assert_array_equal(record.labels.forces, expected.forces)


def test_failures_are_counted_and_listed(waters, tmp_path):
    output = tmp_path / "labelled.xyz"
    words = (waters, "--engine", "gfn2_xtb", "--output", output, "--attempts", 1, "--json")
    result = run(*words, "--set", "max_iterations=1")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["structures"], document["labelled"], document["output"]) == (3, 0, None)
    assert {failure["kind"] for failure in document["failures"]} == {"not-converged"}
    listed = json.loads((tmp_path / "labelled.xyz.failures.json").read_text())
    assert listed == document["failures"]
    assert not output.exists()
    result = run(*words)  # better settings: all is well, the old list goes
    assert result.exit_code == 0
    assert json.loads(result.stdout)["labelled"] == 3
    assert not (tmp_path / "labelled.xyz.failures.json").exists()


def test_started_again_it_does_only_what_is_missing(waters, tmp_path):
    output = tmp_path / "labelled.xyz"
    words = (waters, "--engine", "gfn1_xtb", "--output", output, "--plain")
    run(*words)
    first = output.read_bytes()
    store = tmp_path / "labelled.xyz.labels"
    files = sorted(store.glob("*.json"))
    assert len(files) == 3
    files[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in files[1:]}
    result = run(*words)
    assert "label: 2/3 done" in result.stderr
    assert output.read_bytes() == first
    assert {path: path.stat().st_mtime_ns for path in files[1:]} == times


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "gfn3_xtb"], "did you mean"),
        (["--engine", "gfn2_xtb", "--set", "acuracy=1"], "did you mean 'accuracy'"),
        (["--engine", "gfn2_xtb", "--set", "accuracy"], "key=value"),
        (["--engine", "gfn2_xtb", "--set", "accuracy=[1"], "not YAML"),
        (["--engine", "gfn2_xtb", "--want", "energi"], "one or more of"),
        (["--engine", "gfn2_xtb", "--want", "stress"], "three periodic directions"),
        (["--engine", "gfn2_xtb", "--workers", "0"], "at least 1"),
        (["--engine", "karat.core.units:GPA"], "not an engine"),
    ],
)
def test_bad_input_before_work(waters, tmp_path, words, message):
    with pytest.raises(BadInput, match=message):
        run(waters, "--output", tmp_path / "labelled.xyz", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["waters.xyz"]


def test_missing_and_empty_files(tmp_path):
    (tmp_path / "empty.xyz").touch()
    for name in ("empty.xyz", "missing.xyz"):
        with pytest.raises(BadInput, match=name):
            run(tmp_path / name, "--engine", "gfn2_xtb", "--output", tmp_path / "labelled.xyz")


def test_nested_settings():
    engine = make_engine(
        "ase",
        ["calculator=ase.calculators.lj:LennardJones", "method=LJ", "arguments.rc=7.5",
         "arguments.epsilon=0.5"],
    )  # fmt: skip
    assert engine.arguments == {"rc": 7.5, "epsilon": 0.5}
    with pytest.raises(BadInput, match="already has a value"):
        make_engine("ase", ["calculator=x", "calculator.y=1"])
    with pytest.raises(UnknownKey):
        make_engine("ase", ["calculator=x", "method=y", "kpts=1"])


def test_docstring_examples_name_real_engines():
    from karat.reference.catalogue import CATALOGUE

    words = (label.__doc__ or "").split()
    named = [words[i + 1] for i, word in enumerate(words) if word == "--engine"]
    assert named
    assert set(named) <= set(CATALOGUE.members)
