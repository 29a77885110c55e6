"""`karat import` and `karat environments`: refusals and words; the import itself is tested in
tests/potentials/external/mace_torch/."""

import json

import pytest
import typer
from typer.testing import CliRunner

from karat.cli.environments import environments
from karat.cli.import_model import import_model
from karat.core.errors import BadInput, UnknownKey

app = typer.Typer()
app.command("import")(import_model)
app.command("environments")(environments)


def call(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_file_that_is_no_torch_file_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("KARAT_HOME", str(tmp_path / "home"))
    file = tmp_path / "a.model"
    file.write_text("no archive")
    with pytest.raises(BadInput, match=r"a\.model"):
        call("import", file, "--trust", "--output", tmp_path / "a.karat")
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "a.karat").exists()


def test_a_level_without_a_method_is_refused(tmp_path):
    with pytest.raises(BadInput, match="names no method"):
        call("import", tmp_path / "a.model", "--level", "/x", "--output", tmp_path / "a.karat")


def test_no_environments_is_said_and_an_unknown_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KARAT_HOME", str(tmp_path))
    assert "none in" in call("environments").stdout
    assert json.loads(call("environments", "--json").stdout) == []
    with pytest.raises(UnknownKey, match="nothing"):
        call("environments", "--delete", "nothing")
