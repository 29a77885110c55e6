"""`compress`: the file it writes, what it says about it, what it refuses."""

import ase.build
import numpy as np
import pytest

import karat.potentials.compression as compression
from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.conformance.architecture import random_dataset, random_potential
from karat.potentials.karat_file import load, save
from karat.potentials.karat_header import read_header
from karat.potentials.native.bpnn import Bpnn
from karat.potentials.native.deeppot import DeepPot
from karat.potentials.native_protocol import NativePotential
from karat.structures.structure import Structure

STRUCTURES = [Structure.from_ase(ase.build.molecule(name)) for name in ("CH3OH", "H2CO")]
SMALL = DeepPot(cutoff_angstrom=3.0, embedding=(3, 6, 12), axis=2, fitting=(8, 8))


@pytest.fixture
def saved(tmp_path):
    def write(architecture):
        data = random_dataset(STRUCTURES)
        path = tmp_path / "potential.karat"
        potential = random_potential(architecture, STRUCTURES)
        save(path, architecture.completed(data), potential, data.digest, {"epochs": 3})
        return path

    return write


def test_the_file_predicts_what_the_original_does(saved, tmp_path):
    path, output = saved(SMALL), tmp_path / "small.karat"
    found = compression.compress(path, STRUCTURES, output)
    modules = [load(p).module for p in (path, output)]
    first, second = (NativePotential(module).predict(STRUCTURES) for module in modules)
    energies = [abs(a.energy - b.energy) / len(s) for a, b, s in zip(first, second, STRUCTURES)]
    forces = [np.abs(a.forces - b.forces).max() for a, b in zip(first, second)]
    assert 0 < found.energy_ev_per_atom == max(energies) <= found.allowed_ev_per_atom == 1e-6
    assert found.forces_ev_per_angstrom == pytest.approx(max(forces), rel=1e-6)
    assert (found.structures, found.atoms) == (2, 10)
    whole = load(output).predict(STRUCTURES)[0].energy
    assert whole == pytest.approx(load(path).predict(STRUCTURES)[0].energy, abs=1e-6)
    header, original = read_header(output), read_header(path)
    assert header.training["compression"] == found.as_dict()
    assert header.training["epochs"] == 3
    assert header.training_data == original.training_data != ""
    assert header.species == original.species


def test_too_large_a_change_is_refused_and_nothing_written(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "ALLOWED", -1.0)
    output = tmp_path / "small.karat"
    with pytest.raises(CalculationFailed, match="changes energies by up to"):
        compression.compress(saved(SMALL), STRUCTURES, output)
    assert not output.exists()


def test_other_architectures_and_empty_lists_are_refused(saved, tmp_path):
    with pytest.raises(BadInput, match="no structure to compare"):
        compression.compress(saved(SMALL), [], tmp_path / "small.karat")
    with pytest.raises(BadInput, match="'bpnn' cannot be compressed"):
        compression.compress(saved(Bpnn(hidden=(4,))), STRUCTURES, tmp_path / "small.karat")


def test_damaged_settings_are_refused():
    from karat.potentials.native.deeppot_compressed import DeepPotCompressed

    kind = DeepPotCompressed(3.0, 0.5, 2, (8, 8), (3, 2))
    with pytest.raises(BadInput, match="the table has shape"):
        kind.frame((1, 6), "float64", {"table": (64, 7)})
    with pytest.raises(BadInput, match="slots"):
        kind.frame((1,), "float64", {"table": (64, 12)})
