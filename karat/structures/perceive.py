"""Bonds from positions alone: guessed once, then carried along.

Checked: tests/structures/test_perceive.py.
"""

from typing import TYPE_CHECKING

from karat.core.errors import BadInput
from karat.structures.rdkit_molecule import topology_of
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from rdkit.Chem import Mol


def perceive_topology(structure: Structure) -> Structure:
    """The structure with a topology guessed from distances and the total charge.

    Raises:
        BadInput: periodic, atoms closer than bonds, or no bond orders fit the total charge.

    Source: xyz2mol (Kim & Kim, Bull. Korean Chem. Soc. 36, 1769 (2015)) as in RDKit's
    rdDetermineBonds.
    """
    if structure.periodic.any():
        raise BadInput(f"{structure.formula}: bonds are perceived for molecules, not crystals.")
    mol = None
    for charged_fragments in (True, False):  # ions such as zwitterions first, then radicals
        try:
            mol = _determine_bonds(structure, charged_fragments)
            break
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
    if mol is None:
        raise BadInput(
            f"{structure.formula} with charge {structure.charge}: no bonds fit these positions "
            f"({reason}). Check the charge, or give the molecule as SMILES or SDF."
        )
    return structure.replace(topology=topology_of(mol))


def _determine_bonds(structure: Structure, charged_fragments: bool) -> "Mol":
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    lines = [str(len(structure)), ""]
    lines += [
        f"{symbol} {x:.12f} {y:.12f} {z:.12f}"
        for symbol, (x, y, z) in zip(structure.symbols, structure.positions.tolist())
    ]
    with rdBase.BlockLogs():
        mol = Chem.MolFromXYZBlock("\n".join(lines) + "\n")
        if len(structure) == 1:
            mol.GetAtomWithIdx(0).SetFormalCharge(structure.charge)
        else:
            rdDetermineBonds.DetermineBonds(
                mol,
                charge=structure.charge,
                allowChargedFragments=charged_fragments,
                embedChiral=False,
            )
        Chem.SanitizeMol(mol)
    return mol
