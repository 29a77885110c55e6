"""The options about reading that commands share."""

import pytest
import typer
from typer.testing import CliRunner

from karat.cli import reading
from karat.cli.reading import read_options
from karat.core.errors import BadInput, UnknownKey
from karat.data.read_options import ReadOptions
from karat.structures.labels import LevelOfTheory


def test_nothing_named():
    assert read_options() == ReadOptions()


def test_everything_named():
    found = read_options("e", "f", "s", "v", "eV", "bohr", "eV/bohr", "GPa", "PBE/def2-SVP")
    level = LevelOfTheory("PBE", "def2-SVP")
    assert found == ReadOptions("e", "f", "s", "v", "eV", "bohr", "eV/bohr", "GPa", level)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"energy_unit": "kcal"}, "did you mean 'kcal/mol'"),
        ({"length_unit": "bor"}, "did you mean 'bohr'"),
        ({"stress_unit": "kbr"}, "did you mean 'kbar'"),
    ],
)
def test_unknown_units(values, words):
    with pytest.raises(UnknownKey, match=words):
        read_options(**values)


def test_wrong_force_unit_and_level():
    with pytest.raises(BadInput, match="write ENERGY/LENGTH"):
        read_options(forces_unit="eV")
    with pytest.raises(BadInput, match="names no method"):
        read_options(level="/def2-SVP")


def test_as_options_of_a_command():
    app = typer.Typer()
    seen = []

    @app.command()
    def command(
        energy_key: reading.EnergyKey = None,
        forces_key: reading.ForcesKey = None,
        stress_key: reading.StressKey = None,
        virial_key: reading.VirialKey = None,
        energy_unit: reading.EnergyUnit = None,
        length_unit: reading.LengthUnit = None,
        forces_unit: reading.ForcesUnit = None,
        stress_unit: reading.StressUnit = None,
        level: reading.Level = None,
    ) -> None:
        seen.append(
            read_options(
                energy_key,
                forces_key,
                stress_key,
                virial_key,
                energy_unit,
                length_unit,
                forces_unit,
                stress_unit,
                level,
            )
        )

    words = "--energy-key E --forces-unit hartree/bohr --level HF"
    assert CliRunner().invoke(app, words.split()).exit_code == 0
    level = LevelOfTheory("HF")
    assert seen == [ReadOptions(energy_key="E", forces_unit="hartree/bohr", level=level)]
