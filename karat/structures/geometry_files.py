"""Geometries from files: SDF and PDB with bonds by RDKit, anything else by ASE.

Checked: tests/structures/test_geometry_files.py.
"""

import gzip
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.structures.extended_xyz import Frame, parse_frames
from karat.structures.rdkit_molecule import from_rdkit
from karat.structures.structure import Structure

if TYPE_CHECKING:
    import ase
    from rdkit.Chem import Mol


def from_file(path: Path | str) -> tuple[Structure, ...]:
    """Every structure in a file, in order.

    SDF and MOL (several molecules) and PDB bring a topology; extended XYZ (read here) and what
    else ASE reads (CIF, POSCAR, …, also .gz) bring none: see `perceive_topology`.

    Raises:
        BadInput: missing, empty, or not readable, with the number of the bad entry.
    """
    return tuple(structure for structure, _ in structures_and_frames(Path(path)))


def structures_and_frames(path: Path) -> Iterator[tuple[Structure, Frame]]:
    """Each structure with what else the file says about it (properties of SDF under `info`).

    Raises:
        BadInput: see `from_file`.
    """
    readable_file(path, "structure file")
    suffix = file_format(path)
    if suffix in (".sdf", ".mol", ".sd"):
        yield from _read_sdf(path)
    elif suffix in (".pdb", ".ent"):
        yield from _read_pdb(path)
    else:
        for index, frame in enumerate(read_frames(path)):
            yield frame.structure(f"{path}, frame {index}"), frame


def file_format(path: Path) -> str:
    """The suffix in lower case, `.gz` left out; "" where there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def read_frames(path: Path) -> Iterator[Frame]:
    """Every frame: extended XYZ by karat, other formats by ASE (labels of its calculators too).

    Raises:
        BadInput: not readable; the message names the frame where it stopped.
    """
    readable_file(path, "structure file")
    if file_format(path) in (".xyz", ".extxyz", ".exyz"):
        text = _text(path)
        if not text.strip():
            raise BadInput(f"{path}: holds no structure.")
        yield from parse_frames(text, str(path))
        return
    for atoms in _read_atoms(path):
        arrays = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
        info = dict(atoms.info)
        for name, value in (atoms.calc.results if atoms.calc is not None else {}).items():
            (arrays if np.shape(value)[:1] == (len(atoms),) else info)[name] = value
        yield Frame(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=np.asarray(atoms.cell),
            periodic=np.asarray(atoms.pbc),
            arrays=arrays,
            info=info,
        )


def _read_atoms(path: Path) -> list["ase.Atoms"]:
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    frames: list[ase.Atoms] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames.extend(ase.io.iread(str(path), index=":"))
    except UnknownFileTypeError as error:
        raise BadInput(
            f"{path}: no reader knows this format. Name the file after its format, e.g. "
            "frames.xyz, molecule.sdf, crystal.cif, POSCAR."
        ) from error
    except Exception as error:  # ASE's readers raise whatever their parsing met
        raise BadInput(
            f"{path}: cannot be read after {len(frames)} good frames "
            f"({type(error).__name__}: {error}). Check the file there."
        ) from error
    if not frames:
        raise BadInput(f"{path}: holds no structure.")
    return frames


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix.lower() == ".gz" else content).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as text ({error}).") from error


def _read_sdf(path: Path) -> Iterator[tuple[Structure, Frame]]:
    from rdkit import Chem, rdBase

    with rdBase.CaptureErrorLog() as log:
        supplier = Chem.SDMolSupplier()
        supplier.SetData(_text(path), removeHs=False)
        mols = list(supplier)
        said = log.messages.strip()
    if not mols:
        raise BadInput(f"{path}: holds no molecule.")
    for index, mol in enumerate(mols):
        if mol is None:
            raise BadInput(f"{path}, molecule {index}: RDKit cannot read it ({said}).")
        complete = _with_hydrogens(mol, path, index)
        info = dict(mol.GetPropsAsDict())
        if mol.HasProp("_Name") and mol.GetProp("_Name"):
            info["name"] = mol.GetProp("_Name")
        yield _with_info(_structure(complete, path, index), info)


def _read_pdb(path: Path) -> Iterator[tuple[Structure, Frame]]:
    """Bonds of standard residues by name, of others by distance and CONECT records."""
    from rdkit import Chem, rdBase

    with rdBase.CaptureErrorLog() as log:
        mol = Chem.MolFromPDBBlock(_text(path), removeHs=False)
        said = log.messages.strip()
    if mol is None or mol.GetNumAtoms() == 0:
        raise BadInput(f"{path}: RDKit cannot read it ({said or 'no atoms'}).")
    for index, conformer in enumerate(mol.GetConformers()):
        one = Chem.Mol(mol, confId=conformer.GetId())
        yield _with_info(_structure(_with_hydrogens(one, path, index), path, index), {})


def _with_hydrogens(mol: "Mol", path: Path, index: int) -> "Mol":
    """`mol`, if it is three-dimensional and no hydrogen is only implied."""
    missing = sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    if missing:
        raise BadInput(
            f"{path}, molecule {index}: {missing} hydrogens are missing, or bond orders are "
            "(a PDB file has none for unknown residues). Add hydrogens, or give an SDF file."
        )
    if mol.GetNumConformers() == 0 or (
        mol.GetNumAtoms() > 1 and not np.ptp(mol.GetConformer().GetPositions(), axis=0).any()
    ):
        raise BadInput(f"{path}, molecule {index}: has no positions. Write it with coordinates.")
    if not mol.GetConformer().Is3D() and mol.GetNumAtoms() > 3:
        raise BadInput(
            f"{path}, molecule {index}: is a flat drawing (2D), not a geometry. "
            "Give its SMILES string, or a file with 3D positions."
        )
    return mol


def _with_info(structure: Structure, info: dict) -> tuple[Structure, Frame]:
    frame = Frame(structure.numbers, structure.positions, structure.cell, structure.periodic)
    return structure, replace(frame, info=info)


def _structure(mol: "Mol", path: Path, index: int) -> Structure:
    try:
        return from_rdkit(mol)
    except BadInput as error:
        raise BadInput(f"{path}, molecule {index}: {error}") from error
