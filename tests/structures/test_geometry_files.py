"""Files: SDF, PDB, extended XYZ (against ASE's reader) and what else ASE reads."""

import gzip
import io
import os
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from rdkit import Chem

from karat.core.errors import BadInput
from karat.structures.builders import from_smiles, perceive_topology
from karat.structures.extended_xyz import parse_frames
from karat.structures.geometry_files import from_file, structures_and_frames
from karat.structures.rdkit_molecule import to_rdkit

DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_sdf(path, *structures):
    blocks = []
    for number, structure in enumerate(structures):
        mol = to_rdkit(structure)
        mol.SetProp("_Name", f"molecule {number}")
        blocks.append(Chem.MolToMolBlock(mol) + f">  <temperature>\n{300 + number}\n\n$$$$\n")
    path.write_text("".join(blocks))
    return path


def test_sdf_of_several_molecules(tmp_path):
    originals = [from_smiles(s)[0] for s in ("C[C@H](N)C(=O)O", "[NH4+]", "[CH3]")]
    path = write_sdf(tmp_path / "three.sdf", *originals)
    for original, (read, frame) in zip(originals, structures_and_frames(path), strict=True):
        np.testing.assert_allclose(read.positions, original.positions, atol=5.1e-5)  # 4 digits
        np.testing.assert_array_equal(read.topology.bonds, original.topology.bonds)
        np.testing.assert_array_equal(read.topology.orders, original.topology.orders)
        assert (read.charge, read.multiplicity) == (original.charge, original.multiplicity)
        assert frame.info["name"].startswith("molecule ")
        assert frame.info["temperature"] in (300, 301, 302)


def test_sdf_zipped(tmp_path):
    plain = write_sdf(tmp_path / "one.sdf", from_smiles("O")[0])
    zipped = tmp_path / "one.sdf.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert from_file(zipped)[0].digest == from_file(plain)[0].digest


def test_bad_sdf_entry_is_numbered(tmp_path):
    path = write_sdf(tmp_path / "two.sdf", from_smiles("O")[0], from_smiles("C")[0])
    path.write_text(path.read_text().replace("1  5  1", "1  9  1"))
    with pytest.raises(BadInput, match="two.sdf, molecule 1"):
        from_file(path)


def test_sdf_without_hydrogens_or_depth(tmp_path):
    mol = Chem.MolFromSmiles("CCO")
    path = tmp_path / "flat.sdf"
    path.write_text(Chem.MolToMolBlock(mol) + "$$$$\n")
    with pytest.raises(BadInput, match="hydrogens are missing"):
        from_file(path)
    from rdkit.Chem import rdDepictor

    full = Chem.AddHs(mol)
    rdDepictor.Compute2DCoords(full)
    path.write_text(Chem.MolToMolBlock(full) + "$$$$\n")
    with pytest.raises(BadInput, match="flat drawing"):
        from_file(path)


def test_pdb_with_residues(tmp_path):
    """Alanine as RDKit writes it: bonds by residue name."""
    mol = Chem.AddHs(Chem.MolFromSequence("AG"), addResidueInfo=True)
    from rdkit.Chem import rdDistGeom

    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    path = tmp_path / "dipeptide.pdb"
    path.write_text(Chem.MolToPDBBlock(mol))
    structure = from_file(path)[0]
    assert set(structure.topology.residues) == {"ALA", "GLY"}
    assert len(structure.topology.bonds) == mol.GetNumBonds()
    assert sorted(structure.topology.orders) == sorted(
        bond.GetBondTypeAsDouble() for bond in mol.GetBonds()
    )


def same(mine, theirs):
    np.testing.assert_array_equal(mine.numbers, theirs.numbers)
    np.testing.assert_array_equal(mine.positions, theirs.positions)
    np.testing.assert_array_equal(mine.periodic, theirs.pbc)
    if theirs.pbc.any():
        np.testing.assert_array_equal(mine.cell, np.asarray(theirs.cell))


@pytest.mark.parametrize(
    "name", ["acac/train_600K", "mlearn/Li_test", "torsions_openff59/torsions", "s24/s24"]
)
def test_extended_xyz_equals_ase(name):
    path = DATA / f"{name}.xyz.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there; set KARAT_DATA to the folder of published data")
    mine = list(structures_and_frames(path))
    theirs = ase.io.read(path, f":{len(mine)}" if len(mine) < 200 else ":60")
    for (structure, frame), atoms in zip(mine, theirs):
        same(structure, atoms)
        assert frame.info.get("REF_energy") == atoms.info.get("REF_energy")
        if "REF_forces" in atoms.arrays:
            np.testing.assert_array_equal(frame.arrays["REF_forces"], atoms.arrays["REF_forces"])
        if "REF_stress" in atoms.info:
            np.testing.assert_array_equal(frame.info["REF_stress"], atoms.info["REF_stress"])


@pytest.mark.parametrize("suffix", ["cif", "vasp", "xyz", "extxyz", "traj", "json"])
def test_formats_of_ase(tmp_path, suffix):
    crystal = ase.build.bulk("NaCl", "rocksalt", a=5.64) * (2, 1, 1)
    path = tmp_path / f"crystal.{suffix}"
    ase.io.write(path, crystal, format="extxyz" if suffix == "xyz" else None)
    structure = from_file(path)[0]
    assert structure.formula == "Cl2Na2"
    assert structure.volume == pytest.approx(crystal.get_volume(), rel=1e-5)


def test_plain_xyz(tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text("3\nwater, a comment\nO 0 0 0\nH 0.96 0 0\nh -0.24 0.93 0\n\n\n")
    structure = from_file(path)[0]
    assert structure.formula == "H2O"
    assert len(perceive_topology(structure).topology.bonds) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2\n\nH 0 0 0\n", "frame 0 .line 1.: 2 atoms announced, 1 lines"),
        ("1\n\nH 0 0 0\n3\n\nH 0 0 0\n", "frame 1 .line 4.: 3 atoms announced, 1 lines"),
        ("H 0 0 0\n", "frame 0 .line 1.: starts with 'H 0 0 0'"),
        ("1\n\nH 0 0 zero\n", "frame 0"),
        ("1\n\nXx 0 0 0\n", "unknown element 'Xx'"),
        ("1\n\nH 0 0 nan\n", "frame 0: positions or cell hold NaN"),
        (
            "1\nProperties=species:S:1:pos:R:3:forces:R:3\nH 0 0 0\n",
            "4 columns, Properties names 7",
        ),
        ("1\ncharge=0.5\nH 0 0 0\n", "charge is 0.5"),
        ("1\ncharge=0 multiplicity=1\nH 0 0 0\n", "do not fit"),
        ('1\nLattice="1 0 0 1 0 0 0 0 1"\nH 0 0 0\n', "linearly dependent"),
        (" \n", "no structure"),
    ],
)
def test_bad_frames_are_numbered(tmp_path, text, words):
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    with pytest.raises(BadInput, match=words) as caught:
        from_file(path)
    assert "bad.xyz" in str(caught.value)


def test_charge_and_spin_are_read():
    text = "1\ncharge=-1 multiplicity=1\nF 0 0 0\n"
    structure = next(iter(parse_frames(io.BytesIO(text.encode()), "here"))).structure("here")
    assert (structure.charge, structure.multiplicity) == (-1, 1)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.xyz", None, "no such structure file"),
        ("empty.xyz", b"", "0 bytes"),
        ("strange.qqq", b"nothing known", "no reader knows"),
        ("broken.cif", b"data_x\nloop_\n_cell", "cannot be read|holds no structure"),
        ("broken.xyz.gz", b"not gzip", "cannot be read as text"),
    ],
)
def test_unreadable_files(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        from_file(path)
