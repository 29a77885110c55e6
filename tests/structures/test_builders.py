"""Structures from SMILES: conformers, stereo, charges, spins, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from rdkit import Chem

from karat.core.errors import BadInput
from karat.structures.builders import PRUNE_RMSD, crystal, from_smiles
from karat.structures.rdkit_molecule import to_rdkit

DRUGS = [
    "CC(=O)/C=C(/C)O",
    "CC(=O)Oc1ccccc1C(=O)O",
    "C[C@H](N)C(=O)O",
    "F/C=C\\F",
    "F/C=C/F",
    "C[C@@H]1CC[C@H](O)CC1",
    "[NH3+]CC(=O)[O-]",
    "O=C([O-])c1ccncc1",
    "CS(=O)(=O)N",
    "c1cc[nH]c1",
    "[O-][N+](=O)c1ccccc1",
    "C#N",
    "OCCO.O",
]


def canonical(smiles):
    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize("smiles", DRUGS)
def test_bonds_charges_and_stereo_survive(smiles):
    """The 3D structure, turned into a molecule again (stereo from positions), is the same."""
    for structure in from_smiles(smiles, conformers=3, seed=5):
        mol = Chem.RemoveHs(to_rdkit(structure))
        assert Chem.MolToSmiles(mol) == canonical(smiles)
        assert structure.topology.smiles == smiles
        assert structure.charge == structure.topology.formal_charges.sum()


def test_conformers_are_distinct_and_sorted_by_energy():
    from rdkit.Chem import rdForceFieldHelpers, rdMolAlign

    structures = from_smiles("CCCCO", conformers=6, seed=1)
    assert len(structures) == 6
    mols = [to_rdkit(structure) for structure in structures]
    energies = []
    for mol in mols:
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
        energies.append(field.CalcEnergy())
        # relaxed: RDKit stops at 1e-4 relative, far below a fresh embedding (~50 kcal/mol/Å)
        assert np.abs(field.CalcGrad()).max() < 0.5
    assert np.all(np.diff(energies) > -1e-3)
    closest = min(rdMolAlign.GetBestRMS(mols[i], mols[j]) for i in range(6) for j in range(i))
    assert closest > 0.5 * PRUNE_RMSD  # over all atoms; the criterion leaves hydrogens on C out


def test_rigid_molecules_have_one_conformer():
    assert len(from_smiles("c1ccccc1", conformers=5)) == 1
    assert len(from_smiles("C", conformers=5)) == 1


def test_hydroxyl_rotamers_are_kept():
    """The enol's OH turned in and out of the hydrogen bond are two conformers."""
    assert len(from_smiles("CC(=O)/C=C(/C)O", conformers=4, seed=1)) == 2


def test_open_stereo_is_one_isomer():
    structures = from_smiles("CC(O)C(F)Cl", conformers=8, seed=2)
    isomers = {Chem.MolToSmiles(Chem.RemoveHs(to_rdkit(s))) for s in structures}
    assert len(structures) > 1
    assert len(isomers) == 1
    assert "@" in isomers.pop()


def test_same_seed_same_bits_in_another_process():
    code = (
        "from karat.structures.builders import from_smiles\n"
        "print(*[s.digest for s in from_smiles('CC(O)CN', conformers=3, seed=7)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mine = [structure.digest for structure in from_smiles("CC(O)CN", conformers=3, seed=7)]
    assert done.stdout.split() == mine
    other = [structure.digest for structure in from_smiles("CC(O)CN", conformers=3, seed=8)]
    assert set(mine).isdisjoint(other)


@pytest.mark.parametrize(
    ("smiles", "multiplicity", "formula"),
    [
        ("[CH3]", 2, "CH3"),
        ("[CH2]", 3, "CH2"),
        ("[O][O]", 3, "O2"),
        ("[H]", 2, "H"),
        ("O", None, "H2O"),
    ],
)
def test_radicals(smiles, multiplicity, formula):
    structure = from_smiles(smiles)[0]
    assert (structure.multiplicity, structure.formula) == (multiplicity, formula)


def test_spin_can_be_chosen():
    assert from_smiles("[CH2]", multiplicity=1)[0].multiplicity == 1
    assert from_smiles("c1ccccc1", multiplicity=3)[0].multiplicity == 3


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("CC(=O", ["'CC(=O'", "extra open parentheses", "position 3"]),
        ("CXC", ["'CXC'", "position 2"]),
        ("C1CC", ["unclosed ring"]),
        ("c1cccc1", ["kekulize"]),
        ("C(C)(C)(C)(C)C", ["valence", "5"]),
        ("", ["no atom"]),
        ("*C", ["dummy atom"]),
    ],
)
def test_what_does_not_parse_is_named(smiles, words, capfd):
    with pytest.raises(BadInput) as caught:
        from_smiles(smiles)
    for word in words:
        assert word in str(caught.value)
    assert capfd.readouterr().err == ""  # RDKit's own log is not shown beside it


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"charge": 1}, "total charge \\+0.*charge \\+1"),
        ({"multiplicity": 2}, "do not fit"),
        ({"conformers": 0}, "at least 1"),
    ],
)
def test_charge_and_multiplicity_must_fit(arguments, words):
    with pytest.raises(BadInput, match=words):
        from_smiles("CCO", **arguments)


def test_matching_charge_is_accepted():
    assert from_smiles("[NH4+]", charge=1)[0].charge == 1


def test_impossible_geometry_is_said():
    with pytest.raises(BadInput, match="no 3D conformer"):
        from_smiles("F[C@@]12C[C@]1(Cl)C2")  # bicyclobutane with a twisted bridge


def test_crystals():
    silicon = crystal("Si", "diamond", a=5.43, cubic=True)
    assert (len(silicon), silicon.volume) == (8, pytest.approx(5.43**3))
    assert silicon.periodic.all()
    assert len(crystal("NaCl", "rocksalt", a=5.64, supercell=(2, 1, 1))) == 4
    assert crystal("Cu").volume == pytest.approx(3.61**3 / 4)
    with pytest.raises(BadInput, match="crystal"):
        crystal("NaCl")
