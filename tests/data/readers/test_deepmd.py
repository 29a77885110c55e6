"""DeePMD folders written by numpy as the documentation says."""

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.files import read_dataset
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate

CELL = np.array([[5.0, 0, 0], [1, 6, 0], [0, 0, 7]])


def system(folder, sets=(3, 2), seed=0, **changes):
    """A folder of two sets; returns its arrays, one after another."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "type.raw").write_text("0 1\n1\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    whole = {name: [] for name in ("coord", "force", "energy", "virial", "box")}
    for number, frames in enumerate(sets):
        part = folder / f"set.{number:03d}"
        part.mkdir()
        arrays = {
            "coord": generator.normal(size=(frames, 9)).astype(np.float32),
            "force": generator.normal(size=(frames, 9)),
            "energy": generator.normal(size=frames) - 1e4,
            "virial": generator.normal(size=(frames, 9)),
            "box": np.tile(CELL.ravel(), (frames, 1)),
        } | {name: value(frames) for name, value in changes.items()}
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)
            whole.setdefault(name, []).append(array)
    return {name: np.concatenate(parts) for name, parts in whole.items() if parts}


def test_frames_in_order_and_sign_of_virial(tmp_path):
    arrays = system(tmp_path / "water")
    entries = list(iterate(tmp_path / "water"))
    assert [(e.group, e.frame) for e in entries] == [("water", i) for i in range(5)]
    np.testing.assert_array_equal([e.positions.ravel() for e in entries], arrays["coord"])
    np.testing.assert_array_equal([e.forces.ravel() for e in entries], arrays["force"])
    np.testing.assert_array_equal([e.energy for e in entries], arrays["energy"])
    assert entries[4].numbers.tolist() == [8, 1, 1]
    np.testing.assert_array_equal(entries[4].cell, CELL)
    # the volume is 5 · 6 · 7 Å³
    expected = -arrays["virial"][4].reshape(3, 3) / 210
    np.testing.assert_allclose(entries[4].stress, expected, rtol=1e-13)


def test_folder_of_systems_and_missing_labels(tmp_path):
    system(tmp_path / "all" / "b", sets=(1,))
    system(tmp_path / "all" / "a", sets=(2,))
    for name in ("force", "virial"):
        (tmp_path / "all" / "b" / "set.000" / f"{name}.npy").unlink()
    entries = list(iterate(tmp_path / "all"))
    assert [(e.group, e.frame) for e in entries] == [("all/a", 0), ("all/a", 1), ("all/b", 0)]
    assert entries[2].forces is None
    assert entries[2].stress is None
    assert entries[1].stress is not None


def test_molecules(tmp_path):
    system(tmp_path / "m", sets=(2,))
    (tmp_path / "m" / "set.000" / "virial.npy").unlink()
    (tmp_path / "m" / "nopbc").touch()
    dataset = read_dataset(tmp_path / "m")
    assert not dataset.records[0].structure.periodic.any()


def test_mixed_types_with_virtual_atoms(tmp_path):
    types = np.array([[0, 1, 1], [1, 0, -1], [1, 1, 1]])
    arrays = system(tmp_path / "x", sets=(3,), real_atom_types=lambda frames: types[:frames])
    entries = list(iterate(tmp_path / "x"))
    assert [e.numbers.tolist() for e in entries] == [[8, 1, 1], [1, 8], [1, 1, 1]]
    np.testing.assert_array_equal(entries[1].forces.ravel(), arrays["force"][1, :6])


def test_other_units_and_keys(tmp_path):
    arrays = system(tmp_path / "x", dft=lambda frames: np.ones(frames))
    options = ReadOptions(energy_key="dft", energy_unit="hartree", length_unit="bohr")
    entry = next(iter(iterate(tmp_path / "x", options)))
    assert entry.energy == 27.211386245988
    np.testing.assert_allclose(
        entry.forces.ravel(), arrays["force"][0] * 27.211386245988 / 0.529177210903, rtol=1e-14
    )
    for key, words in (("other", "no set holds 'other.npy'"), ("../../x", "must be the name")):
        with pytest.raises(BadInput, match=words):
            list(iterate(tmp_path / "x", ReadOptions(energy_key=key)))


def truncate(folder):
    path = folder / "set.000" / "force.npy"
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "type_map.raw").unlink(), "says which atom is which element"),
        (lambda f: (f / "type_map.raw").write_text("O\n"), "not all in type_map.raw"),
        (lambda f: (f / "type_map.raw").write_text("O\nWater\n"), "unknown element 'Water'"),
        (lambda f: (f / "type.raw").write_text("0\n1\n"), "has 9 numbers in a frame, needs .2, 3."),
        (lambda f: (f / "type.raw").write_text("a b c"), "cannot be read as DeePMD folder"),
        (lambda f: (f / "set.000" / "box.npy").unlink(), "Periodic systems need it"),
        (lambda f: (f / "set.000" / "coord.npy").unlink(), "coord.npy: is missing"),
        (truncate, "force.npy' announces 216 bytes"),
        (lambda f: np.save(f / "set.000" / "energy.npy", np.ones(9)), "needs 3 rows"),
        (lambda f: np.save(f / "set.000" / "box.npy", np.zeros((3, 9))), "cell has no volume"),
    ],
)
def test_broken_folders(tmp_path, spoil, words):
    system(tmp_path / "x")
    spoil(tmp_path / "x")
    with pytest.raises(BadInput, match=words):
        list(iterate(tmp_path / "x"))


def test_folder_of_something_else(tmp_path):
    with pytest.raises(BadInput, match="is a folder and holds no file type.raw"):
        list(iterate(tmp_path))


def test_published_water_has_a_plausible_pressure(published):
    """The sign −V σ: liquid water at its density is within 2 GPa of no pressure either way."""
    dataset = read_dataset(published("water_deepmd/liquid_water_128_dplr.xyz.gz"))
    pressures = [-np.trace(r.labels.stress) / 3 / 0.0062415 for r in dataset]
    assert abs(np.mean(pressures)) < 2
