"""`karat export`: words, JSON, exit status."""

import json

import pytest
import typer
from ase.build import bulk
from typer.testing import CliRunner

from karat.cli.export import export
from karat.core.errors import BadInput
from karat.simulation.export import ase_calculator

app = typer.Typer()
app.command()(export)


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def crystal(tmp_path):
    path = tmp_path / "si.xyz"
    bulk("Si", "diamond", a=5.431).write(path, format="extxyz")
    return path


SILICON = ("stillinger_weber", "--set", "preset=Si")


def test_rattled_structures_and_words(crystal, tmp_path):
    result = run(*SILICON, "--to", "ase", "--rattle", crystal, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "calculator: agrees" in result.stdout
    assert "5 structures" in result.stdout
    assert "stress" in result.stdout
    assert json.loads((tmp_path / "out" / "verification.json").read_text())["passed"]


def test_json(crystal, tmp_path):
    result = run(*SILICON, "--to", "ase", "--check", crystal, "-o", tmp_path / "out", "--json")
    document = json.loads(result.stdout)
    assert document["passed"] is True
    assert len(document["routes"][0]["deviations"]) == 1
    assert "calculator.py" in document["files"]


def test_beyond_the_tolerance_ends_with_one(crystal, tmp_path, monkeypatch):
    """A script that multiplies the energy: what is exported is what is compared."""
    wrong = ase_calculator.SCRIPT.replace(
        "    return PotentialCalculator(load_bundle(Path(__file__).parent), topology)",
        "    found = PotentialCalculator(load_bundle(Path(__file__).parent), topology)\n"
        "    inner = found.calculate\n"
        "    def calculate(*given):\n"
        "        inner(*given)\n"
        "        found.results['energy'] *= 1.001\n"
        "    found.calculate = calculate\n"
        "    return found",
    )
    assert wrong != ase_calculator.SCRIPT
    monkeypatch.setattr(ase_calculator, "SCRIPT", wrong)
    result = run(*SILICON, "--to", "ase", "--check", crystal, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "DOES NOT AGREE" in result.stdout
    assert not json.loads((tmp_path / "out" / "verification.json").read_text())["passed"]


def test_one_source_of_structures(crystal, tmp_path):
    for given in ((), ("--check", crystal, "--rattle", crystal)):
        with pytest.raises(BadInput, match="either --check"):
            run(*SILICON, "--to", "ase", "-o", tmp_path / "out", *given)
    assert not (tmp_path / "out").exists()
