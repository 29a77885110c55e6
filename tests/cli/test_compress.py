"""`karat compress`: what it prints, on a file and structures on disk."""

import json

import ase.build
import ase.io
import pytest
import typer
from typer.testing import CliRunner

from karat.cli.compress import compress
from karat.potentials.conformance.architecture import random_dataset, random_potential
from karat.potentials.karat_file import save
from karat.potentials.native.deeppot import DeepPot
from karat.structures.structure import Structure


@pytest.mark.parametrize("as_json", [True, False])
def test_the_deviations_are_printed(tmp_path, as_json):
    molecule = ase.build.molecule("CH3OH")
    structures = [Structure.from_ase(molecule)]
    architecture = DeepPot(cutoff_angstrom=3.0, embedding=(2, 4), axis=2, fitting=(6,))
    potential = random_potential(architecture, structures)
    data = random_dataset(structures)
    save(tmp_path / "one.karat", architecture.completed(data), potential, data.digest, {})
    ase.io.write(tmp_path / "check.xyz", molecule)
    app = typer.Typer()
    app.command()(compress)
    words = [str(tmp_path / "one.karat"), "--check", str(tmp_path / "check.xyz")]
    words += ["-o", str(tmp_path / "small.karat"), *(["--json"] if as_json else [])]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert (tmp_path / "small.karat").exists()
    if as_json:
        assert json.loads(done.stdout)["energy_ev_per_atom"] < 1e-6
    else:
        assert "energies differ by at most" in done.stdout
