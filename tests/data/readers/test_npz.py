"""npz as MD17, rMD17, sGDML and QM9 come; what is refused."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.files import read_dataset
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate
from karat.structures.labels import LevelOfTheory

KCAL = 0.0433641042418009  # eV per kcal/mol, by hand from CODATA 2018
KCAL_ANGSTROM = ReadOptions(energy_unit="kcal/mol", length_unit="angstrom")
Z = np.array([8, 1, 1], np.uint8)


@pytest.fixture
def numbers():
    generator = np.random.default_rng(5)
    return generator.normal(size=(7, 3, 3)), generator.normal(size=(7, 3, 3)), np.arange(7.0) - 5e4


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_md17(tmp_path, numbers, save):
    positions, forces, energies = numbers
    save(tmp_path / "md17.npz", R=positions, F=forces, E=energies[:, None], z=Z)
    entries = list(iterate(tmp_path / "md17.npz", KCAL_ANGSTROM))
    assert [(e.group, e.frame) for e in entries] == [("md17", i) for i in range(7)]
    np.testing.assert_array_equal([e.positions for e in entries], positions)
    np.testing.assert_allclose([e.forces for e in entries], forces * KCAL, rtol=1e-14)
    np.testing.assert_allclose([e.energy for e in entries], energies * KCAL, rtol=1e-14)
    assert entries[0].numbers.tolist() == [8, 1, 1]


def test_rmd17_keeps_its_indices(tmp_path, numbers):
    positions, forces, energies = numbers
    indices = np.array([30, 10, 99, 98, 5, 7, 2])
    path = tmp_path / "rmd17_x.npz"
    np.savez(
        path,
        nuclear_charges=Z,
        coords=np.asfortranarray(positions),
        energies=energies,
        forces=forces.astype(np.float32),
        old_indices=indices,
        old_energies=energies,
    )
    dataset = read_dataset(path, options=KCAL_ANGSTROM)
    assert [record.frame for record in dataset] == indices.tolist()
    np.testing.assert_array_equal(dataset.records[3].structure.positions, positions[3])
    assert dataset.records[3].labels.energy == pytest.approx(energies[3] * KCAL, rel=1e-14)


def test_units_are_asked_for(tmp_path, numbers):
    positions, _, energies = numbers
    np.savez(tmp_path / "a.npz", R=positions, E=energies, z=Z)
    words = "unit of energy and of length. Name it: --energy-unit ENERGY --length-unit LENGTH.*MD17"
    with pytest.raises(BadInput, match=words):
        list(iterate(tmp_path / "a.npz"))
    with pytest.raises(BadInput, match="unit of energy. Name it: --energy-unit ENERGY\\."):
        list(iterate(tmp_path / "a.npz", ReadOptions(length_unit="bohr")))


def test_sgdml_states_its_units(tmp_path, numbers):
    positions, forces, energies = numbers
    cell = np.array([[9.0, 0, 0], [1, 8, 0], [0, 2, 7]])
    path = tmp_path / "s.npz"
    np.savez(path, type="d", name="x", theory="PBE0", R=positions, F=forces, E=energies, z=Z,
             r_unit="Ang", e_unit="kcal/mol", lattice=cell.T)  # fmt: skip
    entry = next(iter(iterate(path)))
    assert entry.energy == pytest.approx(energies[0] * KCAL, rel=1e-14)
    assert entry.level == LevelOfTheory("PBE0")
    np.testing.assert_array_equal(entry.cell, cell)
    assert entry.periodic.all()


def test_qm9_end_to_end_and_padded(tmp_path):
    positions = np.random.default_rng(1).normal(size=(5, 3))
    both = {"U0": np.array([-40.0, -76.0]), "H": np.array([1.0, 2.0])}
    flat = {"R": positions, "Z": np.array([6, 1, 8, 1, 1]), "N": np.array([2, 3])}
    padded_positions = np.zeros((2, 4, 3))
    padded_positions[0, :2], padded_positions[1, :3] = positions[:2], positions[2:]
    padded = {"positions": padded_positions, "charges": np.array([[6, 1, 0, 0], [8, 1, 1, 0]])}
    options = ReadOptions(energy_key="U0", energy_unit="hartree", length_unit="angstrom")
    for name, arrays in (("flat", flat), ("padded", padded)):
        np.savez(tmp_path / f"{name}.npz", **arrays, **both)
        with pytest.raises(BadInput, match="2 kinds of energy .U0, H.. Name.*--energy-key U0"):
            list(iterate(tmp_path / f"{name}.npz", KCAL_ANGSTROM))
        entries = list(iterate(tmp_path / f"{name}.npz", options))
        assert [e.numbers.tolist() for e in entries] == [[6, 1], [8, 1, 1]]
        np.testing.assert_array_equal(entries[1].positions, positions[2:])
        assert entries[1].energy == pytest.approx(-76 * 27.211386245988, rel=1e-14)
        assert [e.frame for e in entries] == [-1, -1]
        assert entries[0].group != entries[1].group


def test_streams(tmp_path):
    z = np.ones(400, int)
    for name, frames in (("few", 20), ("many", 2000)):
        positions = np.zeros((frames, 400, 3))
        np.savez_compressed(tmp_path / f"{name}.npz", R=positions, E=np.zeros(frames), z=z)
    peaks = []
    for name, frames in (("few", 20), ("few", 20), ("many", 2000)):
        tracemalloc.start()
        assert sum(1 for _ in iterate(tmp_path / f"{name}.npz", KCAL_ANGSTROM)) == frames
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 19 MB of positions; a piece has 4 MB, and is held up to three times while it is read
    assert peaks[2] < peaks[1] + 13e6


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_pickles_are_never_opened(tmp_path):
    marker = tmp_path / "marker"
    objects = np.array([Payload(marker)], dtype=object)
    np.savez(tmp_path / "a.npz", R=np.zeros((1, 1, 3)), z=np.array([1]), E=objects)
    with pytest.raises(BadInput, match="array 'E' holds Python objects"):
        list(iterate(tmp_path / "a.npz", KCAL_ANGSTROM))
    assert not marker.exists()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def npy(array, shape=None):
    stream = io.BytesIO()
    np.save(stream, array)
    content = stream.getvalue()
    if shape is not None:
        old = str(array.shape).encode()
        content = content.replace(old, shape, 1).replace(b" " * (len(shape) - len(old)), b"", 1)
    return content


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (b"(9000000000000, 1, 3)", "announces 216000000000000 bytes"),
        (b"(3, 1, 3)", "announces 72 bytes .shape .3, 1, 3.., holds 48"),
        (b"(-2, 1, 3)", "holds Python objects or mixed columns .or its header is broken"),
    ],
)
def test_headers_that_lie(tmp_path, shape, words):
    path = archive(tmp_path / "a.npz", R=npy(np.zeros((2, 1, 3)), shape), z=npy(np.ones(1)))
    with pytest.raises(BadInput, match=words):
        list(iterate(path, KCAL_ANGSTROM))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"R": np.zeros((2, 3, 3))}, "has no elements"),
        ({"z": Z}, "has no positions"),
        ({"R": np.zeros((2, 4, 3)), "z": Z}, "have shape .2, 4, 3. and elements 'z' .3,."),
        ({"R": np.zeros((2, 3, 3)), "z": Z, "E": np.zeros(3)}, "'E' has shape .3,., needs 2 rows"),
        ({"R": np.zeros((2, 3, 3)), "z": Z, "F": np.zeros((2, 9))}, "forces have shape .9,."),
        ({"R": np.zeros((2, 3, 3)), "z": Z / 3}, "'z' must hold whole numbers"),
        ({"R": np.zeros((3, 3)), "Z": Z, "N": np.array([2, 2])}, "a molecule of 2 atoms, 1 left"),
        ({"R": np.zeros((3, 3)), "Z": Z, "N": np.array([2])}, "1 atoms belong to no molecule"),
        ({"R": np.zeros((2, 3, 3)), "z": Z, "E": np.array(["a", "b"])}, "'?energy'? holds text"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput, match=words) as caught:
        list(iterate(tmp_path / "a.npz", KCAL_ANGSTROM))
    assert "a.npz" in str(caught.value)


def test_not_an_archive(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(BadInput, match="cannot be read as npz"):
        list(iterate(tmp_path / "a.npz"))
