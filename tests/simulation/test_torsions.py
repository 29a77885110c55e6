import numpy as np
import pytest
from ase.build import bulk

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.potentials.classical.rdkit_ff import Mmff94
from karat.simulation.relax import relax
from karat.simulation.torsions import find_torsions, torsion_scan, wrap
from karat.structures.builders import from_smiles
from karat.structures.rdkit_molecule import to_rdkit
from karat.structures.structure import Structure


def molecule(smiles):
    return from_smiles(smiles, conformers=1, seed=1)[0]


def turning_bonds(smiles):
    """Elements of the inner two atoms of each torsion, sorted."""
    structure = molecule(smiles)
    return sorted(
        "-".join(sorted(structure.symbols[a] for a in torsion.atoms[1:3]))
        for torsion in find_torsions(structure)
    )


@pytest.mark.parametrize(
    ("smiles", "bonds"),
    [
        ("CC(=O)/C=C(/C)O", ["C-C", "C-C", "C-C", "C-O"]),  # two methyls, the chain, hydroxyl
        ("CCO", ["C-C", "C-O"]),
        ("C", []),
        ("O", []),
        ("C1CCCCC1", []),  # rings do not turn
        ("c1ccccc1-c1ccccc1", ["C-C"]),
        ("Cc1ccccc1", ["C-C"]),
        ("CC#CC", []),  # angles at linear centres are not defined
        ("C=C=C", []),
        ("CC#N", []),
        ("CC(=O)NC", ["C-C", "C-N", "C-N"]),
    ],
)
def test_the_bonds_that_turn(smiles, bonds):
    assert turning_bonds(smiles) == bonds


def test_names_are_unique_and_say_which_atoms():
    structure = molecule("CC(=O)/C=C(/C)O")
    torsions = find_torsions(structure)
    assert len({torsion.name for torsion in torsions}) == len(torsions)
    chain = next(t for t in torsions if set(t.atoms[1:3]) == {1, 3})
    assert chain.name == "O3-C2-C4-C5"  # oxygen is heavier than the methyl carbon


def test_angles_are_those_of_ase_and_turning_keeps_all_bonds():
    structure = molecule("CC(=O)/C=C(/C)O")
    first, second = structure.topology.bonds.T
    for torsion in find_torsions(structure):
        theirs = structure.to_ase().get_dihedral(*torsion.atoms)
        assert wrap(torsion.angle(structure) - theirs) == pytest.approx(0, abs=1e-9)
        turned = torsion.turned(structure, -100.0)
        assert turned.to_ase().get_dihedral(*torsion.atoms) == pytest.approx(260, abs=1e-9)
        for each in (structure, turned):
            lengths = np.linalg.norm(each.positions[first] - each.positions[second], axis=1)
        before = np.linalg.norm(structure.positions[first] - structure.positions[second], axis=1)
        np.testing.assert_allclose(lengths, before, rtol=0, atol=1e-12)
        still = np.setdiff1d(np.arange(15), torsion.moved)
        assert np.array_equal(turned.positions[still], structure.positions[still])


def test_wrap():
    assert [wrap(a) for a in (180.0, -180.0, 181.0, 540.0, 0.0, -90.0)] == [
        180.0, 180.0, -179.0, 180.0, 0.0, -90.0,
    ]  # fmt: skip


def test_structures_without_torsions_to_find_are_refused():
    with pytest.raises(UnsuitableStructure, match="periodic"):
        find_torsions(Structure.from_ase(bulk("Si")))
    with pytest.raises(UnsuitableStructure, match="bonds"):
        find_torsions(Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0.74, 0, 0]])))


def rdkit_profile(structure, torsion, angles):
    """The same scan by RDKit's own minimiser with a restraint of 1 kcal/mol/degree², in eV.

    Torques of 0.05 kcal/mol/degree leave it 0.03 degrees, 1e-3 kcal/mol, off.
    """
    from rdkit.Chem import rdForceFieldHelpers as helpers

    from karat.core.units import KCAL_PER_MOL

    mol = to_rdkit(structure)
    properties = helpers.MMFFGetMoleculeProperties(mol)
    energies = []
    for angle in angles:
        for atom, position in enumerate(torsion.turned(structure, angle).positions):
            mol.GetConformer().SetAtomPosition(atom, position.tolist())
        field = helpers.MMFFGetMoleculeForceField(mol, properties)
        field.Initialize()
        field.MMFFAddTorsionConstraint(*torsion.atoms, False, angle, angle, 1.0)
        field.Minimize(maxIts=10_000, forceTol=1e-6, energyTol=1e-10)
        energies.append(
            helpers.MMFFGetMoleculeForceField(mol, properties).CalcEnergy() * KCAL_PER_MOL
        )
    return np.array(energies)


def test_ethanol_scan_agrees_with_rdkit():
    structure = molecule("CCO")
    potential = Mmff94().load()
    torsion = find_torsions(structure)[1]
    assert set(torsion.atoms[1:3]) == {1, 2}
    scan = torsion_scan(potential, structure, torsion, points=8, force_tolerance=0.002)
    assert scan.failures == ()
    assert len(scan.angles_degree) == 8
    np.testing.assert_allclose(np.diff(scan.angles_degree), 45, rtol=0, atol=1e-9)
    found = [torsion.angle(each) for each in scan.structures]
    # held to rounding
    np.testing.assert_allclose(found, scan.angles_degree, rtol=0, atol=1e-6)
    labels = potential.predict(scan.structures)
    energies = [label.energy for label in labels]
    np.testing.assert_allclose(scan.energies, energies, rtol=0, atol=1e-10)
    theirs = rdkit_profile(structure, torsion, scan.angles_degree)
    # forces of 2e-3 eV/Å over soft modes of 0.1 eV/Å²: 2e-5 eV each
    mine = scan.energies - scan.energies.min()
    np.testing.assert_allclose(mine, theirs - theirs.min(), rtol=0, atol=3e-4)
    assert np.ptp(scan.energies) > 0.03


def test_ethane_scan_has_the_symmetry_of_ethane():
    """Mirror images at ±φ; three equal minima and barriers. (Between them the three wells differ
    by 0.3 meV: only one of nine H-C-C-H angles is held.)"""
    structure = molecule("CC")
    (torsion,) = find_torsions(structure)
    scan = torsion_scan(Mmff94().load(), structure, torsion, points=12, force_tolerance=0.001)
    wells = scan.energies.reshape(3, 4)
    staggered, eclipsed = np.argmin(wells[0]), np.argmax(wells[0])
    # each point is 1e-5 eV above its minimum at most
    for column in (staggered, eclipsed):
        assert np.ptp(wells[:, column]) < 2e-5
    angles = np.round(scan.angles_degree).astype(int).tolist()
    for angle in (30, 90, 150):
        pair = [scan.energies[angles.index(sign * angle)] for sign in (1, -1)]
        assert pair[0] == pytest.approx(pair[1], abs=2e-5)
    # staggered to eclipsed: 0.13 eV in nature
    assert 0.08 < wells[0, eclipsed] - wells[0, staggered] < 0.18


def test_both_ways_is_never_above_one_way():
    structure = molecule("OO")
    (torsion,) = find_torsions(structure)
    potential = Mmff94().load()
    once = torsion_scan(potential, structure, torsion, points=6)
    twice = torsion_scan(potential, structure, torsion, points=6, both_ways=True)
    np.testing.assert_allclose(once.angles_degree, twice.angles_degree, atol=1e-9)
    # each relaxed to 0.02 eV/Å: below a meV
    assert (twice.energies <= once.energies + 1e-3).all()
    assert np.ptp(twice.energies) > 0.05


class Failing:
    """Wraps `relax`: points beyond 100° do not converge."""

    def __init__(self, torsion):
        self.torsion = torsion

    def __call__(self, potential, structure, *args, **kwargs):
        if abs(self.torsion.angle(structure)) > 100 and kwargs:
            raise CalculationFailed("no", kind="not-converged")
        return relax(potential, structure, *args, **kwargs)


def test_points_that_fail_are_recorded(monkeypatch):
    structure = molecule("CCO")
    torsion = find_torsions(structure)[1]
    monkeypatch.setattr("karat.simulation.torsions.relax", Failing(torsion))
    scan = torsion_scan(Mmff94().load(), structure, torsion, points=8)
    assert len(scan.angles_degree) + len(scan.failures) == 8
    assert len(scan.failures) >= 2
    assert np.isfinite(scan.energies).all()
    for failure in scan.failures:
        assert failure.kind == "not-converged"
        assert failure.case.startswith(torsion.name)
        assert abs(float(failure.case.split()[-1][:-1])) > 100


def test_a_broken_bond_is_a_failure(monkeypatch):
    structure = molecule("CCO")
    torsion = find_torsions(structure)[1]

    def breaking(potential, start, *args, **kwargs):
        found = relax(potential, start, *args, **kwargs)
        if not kwargs or abs(torsion.angle(start)) < 100:
            return found
        positions = found.structure.positions.copy()
        positions[8] += (positions[8] - positions[2]) * 0.5
        return type(found)(found.structure.replace(positions=positions), found.energy, 0.0, 1, True)

    monkeypatch.setattr("karat.simulation.torsions.relax", breaking)
    scan = torsion_scan(Mmff94().load(), structure, torsion, points=8)
    assert {failure.kind for failure in scan.failures} == {"bond-broken"}
    assert "O3-H9 broke" in scan.failures[0].reason


def test_too_few_points_are_refused():
    structure = molecule("CCO")
    with pytest.raises(BadInput, match="2 points"):
        torsion_scan(Mmff94().load(), structure, find_torsions(structure)[0], points=2)


@pytest.mark.slow
def test_scans_with_xtb_find_the_hydrogen_bond():
    engine = pytest.importorskip("karat.potentials.external.engine_potential")
    structure = molecule("CC(=O)/C=C(/C)O")
    potential = engine.Gfn2().load()
    for torsion in find_torsions(structure):
        scan = torsion_scan(potential, structure, torsion, points=12)
        assert scan.failures == ()
        relative = scan.energies - scan.energies.min()
        if 6 not in torsion.atoms[1:3]:
            assert relative.max() > 0.005
            continue
        # turning the hydroxyl away breaks the hydrogen bond: 0.3 to 0.8 eV at any level of theory
        opposite = np.argmin(np.abs(np.abs(scan.angles_degree) - 180))
        assert 0.3 < relative[opposite] < 0.8
        assert relative[np.argmin(np.abs(scan.angles_degree))] < 1e-6
