"""Structure ↔ RDKit molecule."""

import numpy as np
import pytest
from rdkit import Chem

from karat.core.errors import UnsuitableStructure
from karat.structures.builders import from_smiles
from karat.structures.rdkit_molecule import from_rdkit, to_rdkit
from karat.structures.topology import Topology


@pytest.mark.parametrize("smiles", ["c1ccccc1[N+](=O)[O-]", "[CH3]", "C[C@H](F)Cl", "[Na+].[Cl-]"])
def test_there_and_back(smiles):
    structure = from_smiles(smiles, seed=3)[0]
    back = from_rdkit(to_rdkit(structure), smiles=smiles)
    assert back.digest == structure.digest
    assert back.topology.digest == structure.topology.digest


def test_atoms_keep_their_order_and_positions():
    structure = from_smiles("OCC", seed=3)[0]
    mol = to_rdkit(structure)
    assert [atom.GetAtomicNum() for atom in mol.GetAtoms()] == structure.numbers.tolist()
    np.testing.assert_array_equal(mol.GetConformer().GetPositions(), structure.positions)


def test_no_bonds_no_molecule():
    structure = from_smiles("O")[0].replace(topology=None)
    with pytest.raises(UnsuitableStructure, match="perceive_topology"):
        to_rdkit(structure)


def test_impossible_bonds_are_refused():
    structure = from_smiles("C")[0]
    old = structure.topology
    wrong = Topology(old.bonds, np.full(4, 2.0), old.formal_charges)
    with pytest.raises(UnsuitableStructure, match="valence"):
        to_rdkit(structure.replace(topology=wrong))


def test_mirror_images_differ():
    structure = from_smiles("C[C@H](F)Cl", seed=3)[0]
    mirror = structure.replace(positions=structure.positions * [1, 1, -1])
    mine, other = (Chem.MolToSmiles(Chem.RemoveHs(to_rdkit(s))) for s in (structure, mirror))
    assert {mine, other} == {"C[C@H](F)Cl", "C[C@@H](F)Cl"}
