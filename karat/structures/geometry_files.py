"""Geometries from files: SDF and PDB with bonds by RDKit, anything else by ASE.

Checked: tests/structures/test_geometry_files.py.
"""

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.structures.extended_xyz import Frame, parse_frames
from karat.structures.rdkit_molecule import from_rdkit
from karat.structures.structure import Structure

if TYPE_CHECKING:
    import ase
    from rdkit.Chem import Mol

EXTENDED_XYZ: Final = (".xyz", ".extxyz", ".exyz")
UNSAFE_FORMATS: Final = ("bundletrajectory", "db", "mysql", "postgresql", "gpw", "vti", "vtu")
"""ASE's formats that open databases, follow other files or need further programs."""
MAX_BLOCK: Final = 2**26
"""Bytes of one molecule of an SDF file, or of a PDB file."""
_BUFFER = 2**16


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
    if file_format(path) in EXTENDED_XYZ:
        yield from _xyz_frames(path)
        return
    count = 0
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
        count += 1
    if not count:
        raise BadInput(f"{path}: holds no structure.")


@contextmanager
def text_stream(path: Path) -> Iterator[io.BufferedIOBase]:
    """The bytes of a text file, unzipped on the way where the name ends in ``.gz``.

    Raises:
        BadInput: it cannot be opened or unzipped (also while the stream is read).
    """
    try:
        with ExitStack() as stack:
            stream: io.BufferedIOBase = stack.enter_context(path.open("rb"))
            if path.suffix.lower() == ".gz":
                unzipped = stack.enter_context(gzip.GzipFile(fileobj=stream, mode="rb"))
                stream = stack.enter_context(io.BufferedReader(unzipped, _BUFFER))
            yield stream
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read as text ({error}).") from error


def _xyz_frames(path: Path) -> Iterator[Frame]:
    count = 0
    with text_stream(path) as stream:
        for frame in parse_frames(stream, str(path)):
            yield frame
            count += 1
    if not count:
        raise BadInput(f"{path}: holds no structure.")


def _read_atoms(path: Path) -> Iterator["ase.Atoms"]:
    """One frame after another, by ASE; formats that run or unpickle code are refused."""
    import ase.io
    from ase.io.formats import UnknownFileTypeError, filetype

    count = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = filetype(str(path))
            if kind in UNSAFE_FORMATS:
                raise BadInput(
                    f"{path}: ASE's format '{kind}' is not read. "
                    "Convert it where you trust it: ase convert FILE frames.extxyz"
                )
            for atoms in ase.io.iread(
                str(path), index=":", format=kind, do_not_split_by_at_sign=True
            ):
                yield atoms
                count += 1
    except (BadInput, GeneratorExit):
        raise
    except UnknownFileTypeError as error:
        raise BadInput(
            f"{path}: no reader knows this format. Name the file after its format, e.g. "
            "frames.xyz, molecule.sdf, crystal.cif, POSCAR."
        ) from error
    except Exception as error:  # ASE's readers raise whatever their parsing met
        raise BadInput(
            f"{path}: cannot be read after {count} good frames "
            f"({type(error).__name__}: {str(error)[:200]}). Check the file there."
        ) from error


def _read_sdf(path: Path) -> Iterator[tuple[Structure, Frame]]:
    """One molecule after another; blocks end with ``$$$$``."""
    from rdkit import Chem, rdBase

    count = 0
    for index, block in enumerate(_sdf_blocks(path)):
        with rdBase.CaptureErrorLog() as log:
            supplier = Chem.SDMolSupplier()
            try:
                supplier.SetData(block, removeHs=False)
                mol = next(iter(supplier), None)
            except Exception as error:  # RDKit's own kinds, RuntimeError among them
                raise BadInput(
                    f"{path}, molecule {index}: RDKit cannot read it ({str(error)[:300]})."
                ) from error
            said = log.messages.strip()[:300]
        if mol is None:
            raise BadInput(f"{path}, molecule {index}: RDKit cannot read it ({said}).")
        complete = _with_hydrogens(mol, path, index)
        info = dict(mol.GetPropsAsDict())
        if mol.HasProp("_Name") and mol.GetProp("_Name"):
            info["name"] = mol.GetProp("_Name")
        yield _with_info(_structure(complete, path, index), info)
        count += 1
    if not count:
        raise BadInput(f"{path}: holds no molecule.")


def _sdf_blocks(path: Path) -> Iterator[str]:
    with text_stream(path) as stream:
        lines: list[bytes] = []
        size = index = 0
        while line := stream.readline(MAX_BLOCK):
            lines.append(line)
            size += len(line)
            if size >= MAX_BLOCK:
                raise BadInput(f"{path}, molecule {index}: longer than {MAX_BLOCK} bytes.")
            if line.startswith(b"$$$$"):
                yield _decoded(b"".join(lines), path)
                lines, size, index = [], 0, index + 1
        if b"".join(lines).strip():
            yield _decoded(b"".join(lines), path)


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: cannot be read as text ({error}).") from error


def _read_pdb(path: Path) -> Iterator[tuple[Structure, Frame]]:
    """Bonds of standard residues by name, of others by distance and CONECT records."""
    from rdkit import Chem, rdBase

    with text_stream(path) as stream:
        content = stream.read(MAX_BLOCK)
    if len(content) == MAX_BLOCK:
        raise BadInput(f"{path}: longer than {MAX_BLOCK} bytes. Cut it into smaller files.")
    with rdBase.CaptureErrorLog() as log:
        try:
            mol = Chem.MolFromPDBBlock(_decoded(content, path), removeHs=False)
        except BadInput:
            raise
        except Exception as error:  # RDKit's own kinds, RuntimeError among them
            raise BadInput(f"{path}: RDKit cannot read it ({str(error)[:300]}).") from error
        said = log.messages.strip()[:300]
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
