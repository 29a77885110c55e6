"""HDF5 written by h5py as ANI-1x, ANI-1, SPICE, MD17 and QM9 come, with known numbers."""

import h5py
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.files import read_dataset
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate
from karat.data.readers.hdf5_groups import charge_of
from karat.structures.labels import LevelOfTheory

HARTREE, BOHR = 27.211386245988, 0.529177210903
ATOMIC = ReadOptions(energy_unit="hartree", length_unit="angstrom")


@pytest.fixture
def ani(tmp_path):
    generator = np.random.default_rng(7)
    path = tmp_path / "ani1x.h5"
    with h5py.File(path, "w") as file:
        for formula, numbers in (("C1H4", [6, 1, 1, 1, 1]), ("H2O1", [8, 1, 1])):
            group = file.create_group(formula)
            atoms = len(numbers)
            group["atomic_numbers"] = np.array(numbers, np.uint8)
            group["coordinates"] = generator.normal(size=(4, atoms, 3)).astype(np.float32)
            group["wb97x_dz.energy"] = np.array([-40.0, -40.1, -40.2, -40.3])
            group["wb97x_dz.forces"] = np.ones((4, atoms, 3), np.float32)
            group["ccsd(t)_cbs.energy"] = np.array([np.nan, -40.4, np.nan, np.nan])
    return path


def test_ani1x_level_is_named(ani):
    with pytest.raises(BadInput, match="energies of 2 levels .*--energy-key"):
        list(iterate(ani, ATOMIC))
    options = ReadOptions(
        energy_key="wb97x_dz.energy", energy_unit="hartree", length_unit="angstrom"
    )
    entries = list(iterate(ani, options))
    assert len(entries) == 8
    assert entries[1].energy == pytest.approx(-40.1 * HARTREE, rel=1e-14)
    np.testing.assert_allclose(entries[1].forces, HARTREE, rtol=1e-14)
    assert entries[1].level == LevelOfTheory("wB97X", "6-31G(d)")
    assert [e.group for e in entries[::4]] == ["ani1x/C1H4", "ani1x/H2O1"]
    assert {e.frame for e in entries} == {-1}


def test_ani1x_nan_is_missing(ani):
    options = ReadOptions(
        energy_key="ccsd(t)_cbs.energy", energy_unit="hartree", length_unit="angstrom"
    )
    dataset = read_dataset(ani, options=options)
    assert [record.name for record in dataset] == ["ani1x/C1H4:1", "ani1x/H2O1:1"]
    assert dataset.level == LevelOfTheory("CCSD(T)", "CBS")
    assert dataset.records[0].labels.forces is None


def test_ani1x_units_and_keys_are_asked_for(ani):
    with pytest.raises(BadInput, match="ANI-1x hartree and angstrom"):
        list(iterate(ani, ReadOptions(energy_key="wb97x_dz.energy")))
    with pytest.raises(BadInput, match="did you mean 'wb97x_dz.energy'"):
        list(iterate(ani, ReadOptions(energy_key="wb97x_dz.enrgy")))


def test_ani1_species_and_deeper_groups(tmp_path):
    with h5py.File(tmp_path / "ani.h5", "w") as file:
        group = file.create_group("gdb11_s01/gdb11_s01-0")
        group["species"] = np.array([b"N", b"H", b"H", b"H"])
        group["coordinates"] = np.zeros((2, 4, 3))
        group["energies"] = np.array([-56.5, -56.4])
    entries = list(iterate(tmp_path / "ani.h5", ATOMIC))
    assert [e.numbers.tolist() for e in entries] == [[7, 1, 1, 1]] * 2
    assert entries[1].energy == pytest.approx(-56.4 * HARTREE, rel=1e-14)


def test_spice(tmp_path):
    generator = np.random.default_rng(8)
    positions, gradient = generator.normal(size=(2, 3, 4, 3))
    with h5py.File(tmp_path / "spice.hdf5", "w") as file:
        group = file.create_group("[NH4+] alone")
        group["atomic_numbers"] = np.array([7, 1, 1, 1], np.int16)
        group["smiles"] = ["[N+:1]([H:2])([H:3])[H:4]"]
        group["subset"] = ["SPICE Ion Pairs"]
        group["formation_energy"] = np.zeros(3)
        for key, value, unit in (
            ("conformations", positions, "bohr"),
            ("dft_total_energy", np.array([-56.0, -56.1, -56.2]), "hartree"),
            ("dft_total_gradient", gradient, "hartree/bohr"),
        ):
            group[key] = value
            group[key].attrs["units"] = unit
    entry = list(iterate(tmp_path / "spice.hdf5"))[2]
    np.testing.assert_allclose(entry.positions, positions[2] * BOHR, rtol=1e-14)
    assert entry.energy == pytest.approx(-56.2 * HARTREE, rel=1e-14)
    np.testing.assert_allclose(entry.forces, -gradient[2] * HARTREE / BOHR, rtol=1e-14)
    assert (entry.kind, entry.charge, entry.level) == ("SPICE Ion Pairs", 1, None)


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [
        ("CCO", 0),
        ("[NH4+:1]", 1),
        ("[O-:3][S:1](=O)(=O)[O-:2]", -2),
        ("[Mg+2].[Cl-].[Cl-]", 0),
        ("[Fe+++:1]", 3),
        ("[C@@H:1]([13CH3])F", 0),
    ],
)
def test_charge_of_smiles(smiles, charge):
    assert charge_of(smiles) == charge


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_arrays_like_md17(tmp_path, compression):
    generator = np.random.default_rng(9)
    positions = generator.normal(size=(50, 3, 3))
    with h5py.File(tmp_path / "md.h5", "w") as file:
        file["z"] = [8, 1, 1]
        file.create_dataset("R", data=positions, compression=compression)
        file.create_dataset("F", data=-positions, compression=compression)
        file["E"] = np.arange(50.0)
    entries = list(iterate(tmp_path / "md.h5", ATOMIC))
    np.testing.assert_array_equal([e.positions for e in entries], positions)
    np.testing.assert_allclose([e.forces for e in entries], -positions * HARTREE, rtol=1e-14)
    assert [e.frame for e in entries] == list(range(50))
    with pytest.raises(BadInput, match="does not say its unit"):
        list(iterate(tmp_path / "md.h5"))


def test_qm9_padded(tmp_path):
    with h5py.File(tmp_path / "qm9.h5", "w") as file:
        file["charges"] = [[6, 1, 0], [8, 1, 1]]
        file["positions"] = np.ones((2, 3, 3))
        file["U0"] = [-1.0, -2.0]
    entries = list(iterate(tmp_path / "qm9.h5", ATOMIC))
    assert [len(e) for e in entries] == [2, 3]


def test_shapes_that_do_not_fit(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("x")
        group["atomic_numbers"] = [1, 1]
        group["coordinates"] = np.zeros((4, 3, 3))
    with pytest.raises(BadInput, match="group /x: positions have shape .4, 3, 3. for 2 elements"):
        list(iterate(tmp_path / "a.h5", ATOMIC))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["nothing"] = [1, 1]
    with pytest.raises(BadInput, match="no group of it holds elements and positions"):
        list(iterate(tmp_path / "b.h5", ATOMIC))
