"""Structures from SMILES strings, from files, and simple crystals.

Checked: tests/structures/test_builders.py.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from karat.core.errors import BadInput
from karat.structures.geometry_files import from_file
from karat.structures.perceive import perceive_topology
from karat.structures.rdkit_molecule import from_rdkit
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["crystal", "from_file", "from_smiles", "perceive_topology"]

PRUNE_RMSD = 0.25
"""Å; conformers closer than this (heavy atoms and hydrogens not on carbon) are one."""

KCAL_DIGITS = 4
"""Force-field energies are compared after rounding to 1e-4 kcal/mol, so that order repeats."""

MAX_MATCHES = 200
"""Symmetry-equivalent numberings tried when two conformers are superposed."""

Lattice = Literal["sc", "fcc", "bcc", "hcp", "diamond", "zincblende", "rocksalt", "cesiumchloride"]


def from_smiles(
    smiles: str,
    conformers: int = 1,
    seed: int = 0,
    charge: int | None = None,
    multiplicity: int | None = None,
) -> tuple[Structure, ...]:
    """Up to `conformers` distinct conformers with bonds, lowest force-field energy first.

    RDKit's ETKDGv3 embeds `max(20, 10·conformers)` candidates with `seed`; MMFF94s (UFF where it
    has no parameters) relaxes them, so that starts are clean; conformers within `PRUNE_RMSD`
    are one (mirror images are two). Stereo that the SMILES string fixes is kept; where it
    leaves a centre or double bond open, all conformers have the stereo of the lowest one.
    Fewer are returned where the molecule has fewer. The same arguments give the same bits.

    Args:
        charge: must equal the sum of formal charges in the string where given.
        multiplicity: 2S+1; by default radical electrons are parallel, else the lowest.

    Raises:
        BadInput: the string does not parse (with the position, where RDKit tells), charge or
            multiplicity do not fit, or no conformer could be embedded.

    Source: Wang et al., J. Chem. Inf. Model. 60, 2044 (2020) (ETKDGv3).
    """
    if conformers < 1:
        raise BadInput(f"conformers is {conformers}; ask for at least 1.")
    mol = _parse_smiles(smiles)
    total = sum(atom.GetFormalCharge() for atom in mol.GetAtoms())
    if charge is not None and charge != total:
        raise BadInput(
            f"SMILES '{smiles}' has total charge {total:+d}, but charge {charge:+d} was asked "
            "for. Write the charges into the string, e.g. '[NH4+]', or leave `charge` out."
        )
    energies = _embed(mol, smiles, max(20, 10 * conformers), seed)
    structures = []
    for index in _distinct(mol, energies, conformers):
        structures.append(from_rdkit(mol, index, smiles=smiles, multiplicity=multiplicity))
    return tuple(structures)


def _parse_smiles(smiles: str) -> "Mol":
    """The molecule with explicit hydrogens, or BadInput with RDKit's words and position."""
    from rdkit import Chem, rdBase

    with rdBase.CaptureErrorLog() as log:
        mol = Chem.MolFromSmiles(smiles)
        said = log.messages
    if mol is not None and mol.GetNumAtoms() > 0:
        if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
            raise BadInput(f"SMILES '{smiles}' has a dummy atom '*'. Name an element instead.")
        return Chem.AddHs(mol)
    words = [line.split("] ", 1)[-1].strip() for line in said.splitlines()]
    words = [line.removeprefix("SMILES Parse Error: ") for line in words]
    words = [line for line in words if line and not line.startswith(("Failed", "~", "^"))]
    reason = "; ".join(dict.fromkeys(line.rstrip(":") for line in words if line != smiles))
    raise BadInput(
        f"SMILES '{smiles}' does not parse: {reason or 'it holds no atom'}. "
        "Correct the string; in a shell, put it in single quotes."
    )


def _embed(mol: "Mol", smiles: str, candidates: int, seed: int) -> np.ndarray:
    """Embed and relax conformers in place; their force-field energies, kcal/mol."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed % 2**31
    parameters.numThreads = 1
    with rdBase.BlockLogs():
        # one try first, so that an impossible molecule is refused in seconds
        if rdDistGeom.EmbedMolecule(Chem.Mol(mol), parameters) < 0:
            parameters.useRandomCoords = True
            if rdDistGeom.EmbedMolecule(Chem.Mol(mol), parameters) < 0:
                raise BadInput(
                    f"SMILES '{smiles}': no 3D conformer could be embedded (strained or impossible "
                    "stereo?). Give the molecule as an SDF file instead."
                )
        rdDistGeom.EmbedMultipleConfs(mol, candidates, parameters)
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            relaxed = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
                mol, numThreads=1, maxIters=2000, mmffVariant="MMFF94s"
            )
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
            relaxed = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=2000)
        else:
            relaxed = [(0, 0.0)] * mol.GetNumConformers()
    energies = np.array([energy for _, energy in relaxed], dtype=np.float64)
    if not np.isfinite(energies).any():
        raise BadInput(f"SMILES '{smiles}': every conformer exploded in the force field.")
    return np.where(np.isfinite(energies), np.round(energies, KCAL_DIGITS), np.inf)


def _distinct(mol: "Mol", energies: np.ndarray, wanted: int) -> list[int]:
    """Conformer indices, lowest energy first, one stereoisomer, no two alike."""
    from rdkit.Chem import rdMolAlign

    skeleton = _without_carbon_hydrogens(mol)
    identifiers = [conformer.GetId() for conformer in mol.GetConformers()]
    order = [identifiers[i] for i in np.argsort(energies, kind="stable") if energies[i] < np.inf]
    isomer = _isomer(mol, order[0])
    kept: list[int] = []
    for index in order:
        if len(kept) == wanted:
            break
        if _isomer(mol, index) != isomer:
            continue
        if all(
            rdMolAlign.GetBestRMS(
                skeleton, skeleton, prbId=index, refId=other, maxMatches=MAX_MATCHES
            )
            > PRUNE_RMSD
            for other in kept
        ):
            kept.append(index)
    return kept


def _without_carbon_hydrogens(mol: "Mol") -> "Mol":
    from rdkit import Chem

    edit = Chem.RWMol(mol)
    for atom in reversed(list(mol.GetAtoms())):
        if atom.GetAtomicNum() == 1 and any(n.GetAtomicNum() == 6 for n in atom.GetNeighbors()):
            edit.RemoveAtom(atom.GetIdx())
    return edit.GetMol()


def _isomer(mol: "Mol", conformer: int) -> str:
    from rdkit import Chem

    copy = Chem.Mol(mol, confId=conformer)
    Chem.AssignStereochemistryFrom3D(copy)
    return Chem.MolToSmiles(copy)


def crystal(
    symbols: str,
    lattice: Lattice | None = None,
    a: float | None = None,
    c: float | None = None,
    cubic: bool = False,
    supercell: tuple[int, int, int] = (1, 1, 1),
) -> Structure:
    """A simple crystal by `ase.build.bulk`, e.g. ``crystal("Si", "diamond", a=5.43)``.

    Args:
        symbols: element or compound, e.g. ``Si``, ``NaCl``.
        lattice: by default the element's own from ASE's table.
        a, c: lattice constants, Å; by default from ASE's table.
        cubic: the conventional cubic cell instead of the primitive one.
        supercell: repetitions.

    Raises:
        BadInput: what ASE cannot build, with its reason.
    """
    from ase.build import bulk

    try:
        atoms = bulk(symbols, lattice, a=a, c=c, cubic=cubic)
    except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise BadInput(
            f"crystal {symbols} {lattice or ''}: {error}. Give `lattice` and `a` (Å)."
        ) from error
    return Structure.from_ase(atoms.repeat(supercell))
