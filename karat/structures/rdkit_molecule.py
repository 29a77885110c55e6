"""`Structure` ↔ RDKit molecule: the one place that speaks both.

Checked: tests/structures/test_rdkit_molecule.py.
"""

from typing import TYPE_CHECKING

import numpy as np

from karat.core.errors import BadInput, UnsuitableStructure
from karat.structures.structure import Structure
from karat.structures.topology import Topology

if TYPE_CHECKING:
    from rdkit.Chem import Mol


def to_rdkit(structure: Structure) -> "Mol":
    """An RDKit molecule with the structure's atoms (same order), bonds, charges and positions.

    Sanitised; every hydrogen is an atom; stereochemistry is read from the positions; radicals
    follow from bonds and formal charges.

    Raises:
        UnsuitableStructure: no topology, or bonds that RDKit refuses (valence, aromaticity).
    """
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    topology = structure.topology
    if topology is None:
        raise UnsuitableStructure(
            f"{structure.formula} brings no bonds. Build it from SMILES, SDF or PDB, or call "
            "karat.structures.builders.perceive_topology once."
        )
    mol = Chem.RWMol()
    for number, charge in zip(structure.numbers, topology.formal_charges):
        atom = Chem.Atom(int(number))
        atom.SetFormalCharge(int(charge))
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for (first, second), order in zip(topology.bonds, topology.orders):
        mol.AddBond(int(first), int(second), _bond_type(float(order)))
        if order == 1.5:
            for index in (int(first), int(second)):
                mol.GetAtomWithIdx(index).SetIsAromatic(True)
            mol.GetBondBetweenAtoms(int(first), int(second)).SetIsAromatic(True)
    conformer = Chem.Conformer(len(structure))
    for index, position in enumerate(structure.positions):
        conformer.SetAtomPosition(index, Point3D(*(float(x) for x in position)))
    mol.AddConformer(conformer, assignId=True)
    _sanitise(mol, structure)
    Chem.AssignStereochemistryFrom3D(mol)
    return mol.GetMol()


def _bond_type(order: float):
    from rdkit.Chem import BondType

    types = {
        0.0: BondType.ZERO,
        1.0: BondType.SINGLE,
        1.5: BondType.AROMATIC,
        2.0: BondType.DOUBLE,
        3.0: BondType.TRIPLE,
        4.0: BondType.QUADRUPLE,
    }
    if order not in types:
        raise BadInput(f"topology: bond order {order} is unknown; allowed: {sorted(types)}.")
    return types[order]


def _sanitise(mol: "Mol", structure: Structure) -> None:
    from rdkit import Chem, rdBase

    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(mol)
    except (Chem.MolSanitizeException, ValueError) as error:
        raise UnsuitableStructure(
            f"RDKit refuses the bonds of {structure.formula}: {error}. "
            "Correct the bond orders or formal charges of its topology."
        ) from error


def topology_of(mol: "Mol", smiles: str = "") -> Topology:
    """Bonds (lower index first, sorted), orders, formal charges and residues of a molecule."""
    bonds = sorted(
        (*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())), bond.GetBondTypeAsDouble())
        for bond in mol.GetBonds()
    )
    residues = tuple(
        "" if atom.GetPDBResidueInfo() is None else atom.GetPDBResidueInfo().GetResidueName()
        for atom in mol.GetAtoms()
    )
    return Topology(
        bonds=np.array([bond[:2] for bond in bonds], dtype=np.int64).reshape(-1, 2),
        orders=np.array([bond[2] for bond in bonds], dtype=np.float64),
        formal_charges=np.array([a.GetFormalCharge() for a in mol.GetAtoms()], dtype=np.int64),
        residues=residues if any(residues) else (),
        smiles=smiles,
    )


def from_rdkit(
    mol: "Mol", conformer: int = -1, smiles: str = "", multiplicity: int | None = None
) -> Structure:
    """A structure of one conformer of an RDKit molecule with all its hydrogens.

    Charge is the sum of formal charges. Multiplicity: the given one, else the number of radical
    electrons plus one (all spins parallel), else `None` where there is none.

    Raises:
        BadInput: a multiplicity that does not fit the number of electrons.
    """
    radicals = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    if multiplicity is None and radicals:
        multiplicity = radicals + 1
    return Structure(
        numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64),
        positions=np.array(mol.GetConformer(conformer).GetPositions(), dtype=np.float64),
        charge=sum(atom.GetFormalCharge() for atom in mol.GetAtoms()),
        multiplicity=multiplicity,
        topology=topology_of(mol, smiles),
    )
