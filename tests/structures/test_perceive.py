"""Bonds guessed from positions equal the ones the molecule was built with."""

import os
from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.structures.builders import crystal, from_smiles, perceive_topology
from karat.structures.geometry_files import structures_and_frames

DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    "smiles",
    [
        "CC(=O)/C=C(/C)O",
        "c1cc[nH]c1",
        "CC(=O)Oc1ccccc1C(=O)O",
        "[NH3+]CC(=O)[O-]",
        "O=C([O-])c1ccncc1",
        "[CH3]",
        "CC#N",
        "[H][H]",
        "[He]",
        "[NH4+]",
    ],
)
def test_equals_what_it_was_built_from(smiles):
    structure = from_smiles(smiles, seed=4)[0]
    found = perceive_topology(structure.replace(topology=None)).topology
    np.testing.assert_array_equal(found.bonds, structure.topology.bonds)
    assert found.formal_charges.sum() == structure.charge
    # a carboxylate's two oxygens are equivalent: which is charged is a choice
    assert sorted(found.orders) == sorted(structure.topology.orders)


def test_charge_that_does_not_fit():
    structure = from_smiles("CCO")[0].replace(topology=None, charge=4)
    with pytest.raises(BadInput, match="charge 4"):
        perceive_topology(structure)


def test_crystals_are_refused():
    with pytest.raises(BadInput, match="not crystals"):
        perceive_topology(crystal("Si"))


def test_charged_molecules_of_the_torsion_set():
    """Bonds of the published scans are those of their own SMILES strings, ions included."""
    path = DATA / "torsions_openff59" / "torsions.xyz.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there; set KARAT_DATA to the folder of published data")
    import csv

    from rdkit import Chem

    with (path.parent / "torsions.csv").open() as stream:
        smiles = {row["torsion_id"]: row["mapped_smiles"] for row in csv.DictReader(stream)}
    seen, right = set(), 0
    for structure, frame in structures_and_frames(path):
        name = str(frame.info["torsion_id"])
        if name in seen:
            continue
        seen.add(name)
        parameters = Chem.SmilesParserParams()
        parameters.removeHs = False
        mol = Chem.MolFromSmiles(smiles[name], parameters)
        place = {atom.GetIdx(): atom.GetAtomMapNum() - 1 for atom in mol.GetAtoms()}
        expected = {
            frozenset((place[b.GetBeginAtomIdx()], place[b.GetEndAtomIdx()]))
            for b in mol.GetBonds()
        }
        found = perceive_topology(structure).topology
        right += expected == {frozenset(pair) for pair in found.bonds.tolist()}
    assert right == len(seen) == 31
