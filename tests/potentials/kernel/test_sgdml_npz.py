"""Models of the `sgdml` package: read as it predicts, written as it reads; hostile files."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.core.units import BOHR, KCAL_PER_MOL
from karat.potentials.kernel.sgdml_npz import read_sgdml, write_sgdml
from karat.potentials.kernel.sgdml_potential import SgdmlModel
from karat.structures.structure import Structure

MODEL = Path(__file__).parent / "stored" / "methanol_sgdml_1.0.3.npz"


def predictions(potential, stored, scale=1.0):
    found = potential.predict([Structure(stored["z"], scale * r) for r in stored["R"]])
    return np.array([one.energy for one in found]), np.array([one.forces for one in found])


def entries():
    """Arrays of the package's file that hold no pickles."""
    with zipfile.ZipFile(MODEL) as archive:
        found = {}
        for name in archive.namelist():
            try:
                found[name[:-4]] = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
            except ValueError:
                continue
    return found


def test_predicts_as_the_package(stored):
    energies, forces = predictions(read_sgdml(MODEL), stored)
    np.testing.assert_allclose(energies, stored["E"], atol=1e-8)
    np.testing.assert_allclose(forces, stored["F"], atol=1e-8)
    potential = SgdmlModel(str(MODEL)).load()
    assert potential.level.method == "GFN2"
    with pytest.raises(BadInput, match="no deviations"):
        SgdmlModel(str(MODEL), uncertainty=True).load()


def test_what_is_written_is_read_again(stored, tmp_path):
    path = tmp_path / "model.npz"
    potential = read_sgdml(MODEL)
    write_sgdml(path, potential)
    energies, forces = predictions(read_sgdml(path), stored)
    np.testing.assert_allclose(energies, stored["E"], atol=1e-8)
    np.testing.assert_allclose(forces, stored["F"], atol=1e-8)
    ours, theirs = np.load(path), entries()
    for name in ("z", "R_desc", "perms", "sig"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    scale = float(theirs["std"])
    np.testing.assert_allclose(ours["R_d_desc_alpha"], scale * theirs["R_d_desc_alpha"])
    # permuted copies laid end to end, in the package's order of its own permutations
    np.testing.assert_array_equal(ours["tril_perms_lin"], theirs["tril_perms_lin"])


def test_units_are_those_stated_or_asked_for(stored, tmp_path):
    arrays = entries()
    path = tmp_path / "model.npz"
    np.savez(path, **{**arrays, "r_unit": np.array("bohr"), "e_unit": np.array("kcal/mol")})
    energies, forces = predictions(read_sgdml(path), stored, BOHR)
    np.testing.assert_allclose(energies, KCAL_PER_MOL * stored["E"], atol=1e-8)
    np.testing.assert_allclose(forces, KCAL_PER_MOL / BOHR * stored["F"], atol=1e-8)
    del arrays["r_unit"], arrays["e_unit"]
    np.savez(path, **arrays)
    with pytest.raises(BadInput, match="length_unit"):
        read_sgdml(path)
    energies, _ = predictions(read_sgdml(path, "kcal/mol", "angstrom"), stored)
    np.testing.assert_allclose(energies, KCAL_PER_MOL * stored["E"], atol=1e-8)
    with pytest.raises(BadInput, match="energy"):
        read_sgdml(path, "calories", "angstrom")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": np.array("d")}, "type 'd'"),
        ({"z": np.array([6, 8, 1, 1])}, "do not fit"),
        ({"z": np.array([6, 8, 1, 1, 1, 300])}, "do not fit"),
        ({"sig": np.array(-3)}, "not positive"),
        ({"std": np.array(np.nan)}, "NaN"),
        ({"perms": np.zeros((6, 6), int)}, "no permutation"),
        ({"R_desc": np.array("text")}, "readable"),
        ({"R_desc": np.array([{"a": 1}], dtype=object)}, "readable"),
        ({"lattice": np.eye(3)}, "lattice"),
        ({"alphas_E": np.ones(3)}, "alphas_E"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words, tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, **{**entries(), **changes})
    with pytest.raises(BadInput, match=words):
        read_sgdml(path)


def test_damaged_files_are_refused(tmp_path):
    content = MODEL.read_bytes()
    path = tmp_path / "model.npz"
    generator = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for trial in range(300):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 1 + trial % 5):
            damaged[place] = generator.integers(0, 256)
        if trial % 7 == 0:
            damaged = damaged[: generator.integers(1, len(content))]
        path.write_bytes(bytes(damaged))
        try:
            read_sgdml(path)
            outcomes["read"] += 1
        except BadInput:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 100
    # a header that announces more than memory holds
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in entries().items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            data = buffer.getvalue()
            if name == "R_desc":
                data = data.replace(b"(15, 16)", b"(15, 10**10)"[:8].ljust(8))
                data = data.replace(b"(15, 10*", b"(9999999999, 16)"[:8])
            archive.writestr(f"{name}.npy", data)
    with pytest.raises(BadInput):
        read_sgdml(path)
