"""`karat check`: table, JSON, exit status, repair, strange names."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from doctor_example import change, crystals, molecules

from karat.cli import check as module
from karat.cli.check import check
from karat.core.errors import BadInput, UnknownKey
from karat.core.units import KCAL_PER_MOL
from karat.data.readers.catalogue import iterate
from karat.data.writers import write_entries

app = typer.Typer()
app.command()(check)


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def write(tmp_path):
    def write(name, entries):
        path = tmp_path / name
        write_entries(entries, path)
        return path

    return write


def test_clean_data_ends_with_zero(write):
    result = run(write("good.xyz", molecules()))
    assert result.exit_code == 0
    assert "summary" in result.stdout
    assert "error" not in result.stdout
    assert result.stderr == ""


def test_leakage_ends_with_one_and_is_told_in_json(write):
    train = write("train.xyz", molecules())
    test = write("test.xyz", [*molecules(20, seed=11, name="other"), molecules()[0]])
    result = run(train, test, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (document["errors"], document["warnings"]) == (1, 0)
    finding = document["findings"][0]
    assert (finding["code"], finding["offenders"]) == ("leakage", ["run:0"])
    assert document["fix"] is None
    assert result.stderr == ""
    table = run(train, test)
    assert (table.exit_code, "leakage" in table.stdout) == (1, True)


def test_units_may_be_named(write):
    foreign = [
        dataclasses.replace(e, energy=e.energy / KCAL_PER_MOL, forces=e.forces / KCAL_PER_MOL)
        for e in molecules()
    ]
    path = write("kcal.xyz", foreign)
    assert "energies are in kcal/mol" in " ".join(run(path, "--json").stdout.split())
    assert run(path, "--energy-unit", "kcal/mol").exit_code == 0
    with pytest.raises(UnknownKey, match="kcal/mol"):
        run(path, "--energy-unit", "kcal/mool")


def test_level_may_be_named(write):
    path = write("data.xyz", [dataclasses.replace(e, level=None) for e in molecules()])
    assert "unknown-level" in run(path, "--json").stdout
    assert "unknown-level" not in run(path, "--json", "--level", "PBE/def2-SVP").stdout


def test_fix_writes_what_can_be_repaired(write, tmp_path):
    entries = change(molecules(), [3], lambda e: {"forces": e.forces * np.nan})
    path = write("bad.xyz", [*entries, entries[7]])
    output = tmp_path / "deep" / "good.xyz.gz"
    result = run(path, "--fix", output)
    assert result.exit_code == 1
    assert "1 structures with NaN or infinity in their labels dropped" in result.stdout
    assert "1 exact duplicates dropped" in result.stdout
    assert len(list(iterate(output))) == 79
    after = run(output, "--json", "--fix", tmp_path / "again.xyz")
    assert after.exit_code == 0
    assert json.loads(after.stdout)["fix"]["done"] == {}
    assert "nothing needed repair" in run(output, "--fix", tmp_path / "again.xyz").stdout


def test_fix_removes_leaked_frames_from_the_first_file(write, tmp_path):
    train, test = write("a.xyz", molecules()), write("b.xyz", molecules(20))
    output = tmp_path / "clean.xyz"
    result = run(train, test, "--json", "--fix", output)
    assert json.loads(result.stdout)["fix"]["done"] == {"leakage": 20}
    assert "leakage" not in {
        finding["code"] for finding in json.loads(run(output, test, "--json").stdout)["findings"]
    }


def test_fix_never_writes_over_an_input_or_nothing(write, tmp_path):
    path = write("data.xyz", molecules())
    before = path.read_bytes()
    with pytest.raises(BadInput, match="names an input"):
        run(path, "--fix", path)
    with pytest.raises(BadInput, match="no structure"):
        run(path, path, "--fix", tmp_path / "none.xyz")
    assert path.read_bytes() == before
    assert not (tmp_path / "none.xyz").exists()


@pytest.mark.parametrize("text", ["", "not a file of structures\n", "3\n\nH 0 0 0\n"])
def test_unreadable_files_are_bad_input(tmp_path, text):
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    with pytest.raises(BadInput, match="bad"):
        run(path)
    with pytest.raises(BadInput, match=r"missing\.xyz"):
        run(tmp_path / "missing.xyz")


def test_names_that_look_like_markup_are_shown_as_they_are(write):
    strange = change(
        crystals(), [4], lambda e: {"name": "[red]x[/bold] [/]", "energy": float("nan")}
    )
    text = run(write("strange.xyz", strange)).stdout
    assert "[red]x[/bold] [/]" in text.replace("\n", "")


def test_progress_is_shown_after_a_while_on_standard_error_only(write, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    path = write("data.xyz", molecules())
    result = run(path)
    assert "reading data.xyz: 80 structures" in result.stderr
    assert "reading" not in result.stdout
    assert run(path, "--json").stderr == ""
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    assert run(path).stderr == ""


def test_live_progress_survives_markup_in_file_names(write, monkeypatch, capsys):
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with module._display(plain=False, silent=False) as show:
        show("reading a[/red].xyz")(7)
    assert "reading a[/red].xyz: 7 structures" in capsys.readouterr().err
