"""`calculator.py`: the same numbers in ASE, also in a process that knows only the export."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from karat.potentials.karat_file import load
from karat.simulation.export.bundle import import_script
from karat.simulation.export.write import export


def test_calculator_gives_karats_answer(network_file, silicon, tmp_path):
    found = export(str(network_file((14,))), "ase", tmp_path / "out", [silicon])
    assert found.passed
    assert set(found.files) == {
        "calculator.py",
        "net.karat",
        "potential.json",
        "verification.json",
    }
    written = json.loads((found.folder / "verification.json").read_text())
    assert written["passed"] is True
    assert written["routes"][0]["largest"]["forces_ev_per_angstrom"] < 1e-10
    assert written["routes"][0]["largest"]["stress_ev_per_cubic_angstrom"] < 1e-12
    atoms = silicon.to_ase()
    atoms.calc = import_script(found.folder / "calculator.py").calculator()
    expected = load(network_file((14,))).predict([silicon], ("energy", "forces"))[0]
    assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-10)


def test_single_precision_is_compared_with_double(argon_options, mixture, tmp_path):
    options = {**argon_options, "dtype": "float32"}
    found = export("lennard_jones", "ase", tmp_path / "out", [mixture], options)
    largest = found.verifications[0].largest
    assert found.passed
    assert largest.forces_ev_per_angstrom > 1e-10  # not compared with itself
    assert "float32" in found.verifications[0].tolerance.reason


CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ase.io import read
from calculator import calculator
atoms = read("atoms.xyz")
atoms.calc = calculator()
print(json.dumps([atoms.get_potential_energy(), atoms.get_forces().tolist()]))
"""


def test_in_a_process_elsewhere(network_file, molecule, tmp_path):
    """Another working folder; the file that was exported is gone."""
    source = network_file((1, 6, 8), seed=3)
    expected = load(source).predict([molecule])[0]
    folder = export(str(source), "ase", tmp_path / "out", [molecule]).folder
    source.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    molecule.to_ase().write(elsewhere / "atoms.xyz", format="extxyz")
    arguments = [sys.executable, "-c", CODE, str(folder)]
    done = subprocess.run(
        arguments, cwd=elsewhere, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    energy, forces = json.loads(done.stdout)
    # extended XYZ keeps 8 decimals of positions
    assert energy == pytest.approx(expected.energy, abs=1e-5)
    np.testing.assert_allclose(forces, expected.forces, atol=1e-5)
