import numpy as np
import pytest

from karat.core.errors import UnknownElement, UnsuitableStructure
from karat.core.units import KCAL_PER_MOL
from karat.potentials.classical.rdkit_ff import Mmff94, Uff
from karat.structures.builders import from_smiles
from karat.structures.structure import Structure
from karat.structures.topology import Topology

# aromatic, charged, zwitterionic, sulphur, amide, two fragments
SMILES = [
    "c1ccncc1",
    "C[NH3+]",
    "[NH3+]CC(=O)[O-]",
    "CS(=O)(=O)N",
    "CC(=O)NC",
    "O.CO",
    "N#Cc1ccccc1",
]


def rattled(smiles, seed=0, amount=0.08):
    structure = from_smiles(smiles)[0]
    rng = np.random.default_rng(seed)
    moved = structure.positions + rng.normal(0, amount, structure.positions.shape)
    if "." in smiles:  # embedded on top of each other
        moved[fragment_of_first_atom(structure)] += 3.0
    return structure.replace(positions=moved)


def fragment_of_first_atom(structure):
    found = {0}
    for _ in structure.topology.bonds:
        for a, b in structure.topology.bonds.tolist():
            if a in found or b in found:
                found |= {a, b}
    return sorted(found)


def from_rdkit_alone(smiles, structure, kind):
    """Energy, eV, of RDKit's own molecule from the SMILES string (no karat topology)."""
    from rdkit import Chem
    from rdkit.Chem import rdForceFieldHelpers as helpers
    from rdkit.Geometry import Point3D

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    conformer = Chem.Conformer(mol.GetNumAtoms())
    for i, position in enumerate(structure.positions.tolist()):
        conformer.SetAtomPosition(i, Point3D(*position))
    mol.AddConformer(conformer)
    if kind == "UFF":
        field = helpers.UFFGetMoleculeForceField(mol, ignoreInterfragInteractions=False)
    else:
        properties = helpers.MMFFGetMoleculeProperties(mol, mmffVariant=kind)
        field = helpers.MMFFGetMoleculeForceField(
            mol, properties, ignoreInterfragInteractions=False
        )
    return field.CalcEnergy() * KCAL_PER_MOL


@pytest.mark.parametrize("smiles", SMILES)
@pytest.mark.parametrize("kind", ["MMFF94", "MMFF94s", "UFF"])
def test_energies_equal_rdkit(smiles, kind):
    structure = rattled(smiles)
    potential = Uff().load() if kind == "UFF" else Mmff94(kind).load()
    labels = potential.predict([structure])[0]
    assert labels.energy == pytest.approx(from_rdkit_alone(smiles, structure, kind), abs=1e-10)


@pytest.mark.parametrize("smiles", SMILES)
@pytest.mark.parametrize("component", [Mmff94(), Uff()])
def test_forces_are_the_gradient(smiles, component):
    structure, potential, h = rattled(smiles), component.load(), 1e-4
    forces = potential.predict([structure])[0].forces
    direction = np.random.default_rng(1).standard_normal(structure.positions.shape)
    plus, minus = potential.predict(
        [structure.replace(positions=structure.positions + s * h * direction) for s in (1, -1)]
    )
    # truncation h² · 1e3 eV/Å³ (bond stretching) · 30 components
    slope = (plus.energy - minus.energy) / (2 * h)
    assert slope == pytest.approx(-float((forces * direction).sum()), abs=2e-4)


def test_variants_differ():
    """MMFF94s flattens delocalised nitrogens: other out-of-plane terms for aniline."""
    aniline = rattled("Nc1ccccc1")
    energies = [Mmff94(v).load().predict([aniline])[0].energy for v in ("MMFF94", "MMFF94s")]
    assert abs(energies[0] - energies[1]) > 1e-3


@pytest.mark.parametrize("component", [Mmff94(), Uff()])
def test_energy_does_not_depend_on_the_first_structure(component):
    """RDKit leaves out pairs that are far apart in the conformer that a field is built from."""
    near = rattled("O.CO", seed=1)
    moved = np.array(near.positions)
    moved[fragment_of_first_atom(near)] += 150.0
    far = near.replace(positions=moved)
    fresh, used = component.load(), component.load()
    apart = used.predict([far])[0].energy
    together = fresh.predict([near])[0].energy
    assert used.predict([near])[0].energy == together
    assert abs(apart - together) > 1e-4


def test_geometry_dependent_terms_are_rebuilt():
    """UFF names axial neighbours of a five-fold centre by geometry: no memory of another one."""
    numbers = np.array([15, 9, 9, 9, 9, 9])
    topology = Topology(
        bonds=np.array([[0, i] for i in range(1, 6)]),
        orders=np.ones(5),
        formal_charges=np.zeros(6, int),
    )
    angles = np.radians([0, 120, 240])
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=1)
    shape = 1.55 * np.concatenate([np.zeros((1, 3)), ring, [[0, 0, 1.0], [0, 0, -1.0]]])
    one = Structure(numbers=numbers, positions=shape, topology=topology)
    other = one.replace(positions=shape[[0, 4, 2, 3, 1, 5]])
    used, fresh = Uff().load(), Uff().load()
    used.predict([other])
    assert used.predict([one])[0].energy == fresh.predict([one])[0].energy
    assert used.predict([other])[0].energy == pytest.approx(used.predict([one])[0].energy)


@pytest.mark.parametrize(
    ("component", "smiles", "atom"),
    [
        (Mmff94(), "[H][H]", r"atom 0 \(H\)"),
        (Mmff94(), "FP(F)(F)(F)F", r"atom 1 \(P\)"),
        (Uff(), "O=[U]=O", r"atom 1 \(U\)"),
        (Uff(), "[He]", r"atom 0 \(He\)"),
    ],
)
def test_missing_parameters_name_the_atom(component, smiles, atom):
    with pytest.raises(UnsuitableStructure, match=atom):
        component.load().predict([_without_embedding(smiles)])


def _without_embedding(smiles):
    """Bonds of a SMILES string, atoms in a row: parameters are looked up before geometry."""
    from rdkit import Chem

    from karat.structures.rdkit_molecule import from_rdkit

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles, sanitize=True))
    conformer = Chem.Conformer(mol.GetNumAtoms())
    for i in range(mol.GetNumAtoms()):
        conformer.SetAtomPosition(i, (1.5 * i, 0.1 * i * i, 0.0))
    mol.AddConformer(conformer)
    return from_rdkit(mol)


def test_unsuitable_structures_are_refused():
    potential = Mmff94().load()
    structure = rattled("CO")
    numbers = np.where(structure.numbers == 8, 34, structure.numbers)
    with pytest.raises(UnknownElement, match="Se"):
        potential.predict([structure.replace(numbers=numbers)])
    with pytest.raises(UnsuitableStructure, match="needs bonds"):
        potential.predict([structure.replace(topology=None)])
    with pytest.raises(UnsuitableStructure, match="molecules only"):
        potential.predict([structure.replace(cell=20 * np.eye(3), periodic=np.ones(3, bool))])
    with pytest.raises(UnsuitableStructure, match=r"add up to \+0, but its charge is \+1"):
        potential.predict([structure.replace(charge=1)])


def test_fields_are_kept_and_bounded(monkeypatch):
    from karat.potentials.classical import rdkit_ff

    monkeypatch.setattr(rdkit_ff, "MAX_FIELDS", 2)
    potential = Mmff94().load()
    molecules = [rattled(s) for s in ("C", "CC", "CCC")]
    potential.predict(molecules * 2)
    assert len(potential._fields) == 2
    before = {key: id(kept.field) for key, kept in potential._fields.items()}
    potential.predict([rattled("CCC", seed=5)])
    assert {key: id(kept.field) for key, kept in potential._fields.items()} == before
