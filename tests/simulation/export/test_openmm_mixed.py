"""Mechanical embedding is exact: with the force field's own inside, the total is the force field.

The "learned" potential is the force field's internal energy of the dipeptide, as a contestant
(`OpenMM(system_xml=…)`): then nothing may change, in vacuum and with Ewald sums.
"""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput, UnsuitableStructure
from karat.core.units import KJ_PER_MOL
from karat.potentials.classical.openmm_system import OpenMM
from karat.simulation.export.openmm_force import mixed_system
from karat.simulation.export.openmm_mixed import one_molecule

openmm = pytest.importorskip("openmm")
from openmm import app, unit  # noqa: E402

PEPTIDE = 22
WATER = np.array([[0.0, 0, 0], [0.9572, 0, 0], [-0.24, 0.9266, 0]])
PLACES = np.array([[2.0, -2.5, 0.5], [5.0, 4.5, 4.0], [-2.0, 4.0, -1.0], [8.0, 0.5, -3.0]])
BOX = 24.0


def _peptide_pdb():
    path = Path(__file__).parents[2] / "potentials" / "conftest.py"
    spec = importlib.util.spec_from_file_location("potentials_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dipeptide_pdb().replace("END\n", "")


def _pdb(waters):
    lines = [_peptide_pdb().rstrip()]
    for i, place in enumerate(waters):
        for j, (name, x) in enumerate(zip(("O", "H1", "H2"), WATER + place)):
            lines.append(
                f"HETATM{PEPTIDE + 3 * i + j + 1:5d} {name:>4s} HOH B{i + 1:4d}    "
                f"{x[0]:8.3f}{x[1]:8.3f}{x[2]:8.3f}  1.00  0.00           {name[0]}"
            )
    return app.PDBFile(io.StringIO("\n".join([*lines, "END", ""])))


class Case:
    """Dipeptide and four waters by amber14, and the dipeptide's own energy as a potential."""

    def __init__(self, tmp_path, method=app.NoCutoff, constraints=None, rigid=False):
        pdb, alone = _pdb(PLACES), _pdb([])
        field = app.ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
        self.topology = pdb.topology
        self.topology.setPeriodicBoxVectors(np.eye(3) * BOX / 10 * unit.nanometer)
        self.system = field.createSystem(
            pdb.topology,
            nonbondedMethod=method,
            nonbondedCutoff=1.1 * unit.nanometer,
            constraints=constraints,
            rigidWater=rigid,
        )
        inner = field.createSystem(alone.topology, nonbondedMethod=app.NoCutoff, constraints=None)
        path = tmp_path / "inner.xml"
        path.write_text(openmm.XmlSerializer.serialize(inner))
        self.potential = OpenMM(system_xml=str(path)).load()
        positions = np.array(pdb.positions.value_in_unit(unit.angstrom))
        self.positions = positions + np.random.default_rng(3).normal(0, 0.03, positions.shape)

    def mixed(self, atoms=range(PEPTIDE)):
        return mixed_system(self.potential, self.system, self.topology, list(atoms))

    def answer(self, system):
        reference = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), reference)
        context.setPositions(self.positions / 10)
        state = context.getState(energy=True, forces=True)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        forces = state.getForces(asNumpy=True)
        forces = forces.value_in_unit(unit.kilojoule_per_mole / unit.angstrom)
        return energy * KJ_PER_MOL, np.asarray(forces) * KJ_PER_MOL


@pytest.mark.parametrize("method", [app.NoCutoff, app.PME])
def test_force_field_inside_changes_nothing(tmp_path, method):
    case = Case(tmp_path, method)
    energy, forces = case.answer(case.system)
    mixed = case.mixed()
    found_energy, found_forces = case.answer(mixed)
    # the same sums in another order; exclusions in Ewald sums are exact, whatever the grid
    assert found_energy == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(found_forces, forces, atol=1e-8)
    assert np.abs(forces[:PEPTIDE]).max() > 1
    # without the potential the energy is another one: the inside really was taken out
    mixed.removeForce(mixed.getNumForces() - 1)
    assert abs(case.answer(mixed)[0] - energy) > 0.1


def test_the_system_that_came_in_is_not_changed(tmp_path):
    case = Case(tmp_path)
    before = openmm.XmlSerializer.serialize(case.system)
    case.mixed()
    assert openmm.XmlSerializer.serialize(case.system) == before


def test_constraints_inside_go_and_outside_stay(tmp_path):
    case = Case(tmp_path, constraints=app.HBonds, rigid=True)
    assert case.system.getNumConstraints() == 12 + 12
    mixed = case.mixed()
    assert mixed.getNumConstraints() == 12
    pairs = [mixed.getConstraintParameters(i)[:2] for i in range(12)]
    assert min(min(pair) for pair in pairs) >= PEPTIDE


def test_lennard_jones_as_a_custom_force(tmp_path):
    """Pairs of a CustomNonbondedForce are excluded inside: only the MM ones are left."""
    case = Case(tmp_path)
    custom = openmm.CustomNonbondedForce("0.01/r^6")
    for _ in range(case.system.getNumParticles()):
        custom.addParticle([])
    custom.addExclusion(0, 1)
    without = case.answer(case.mixed())[0]
    case.system.addForce(custom)
    extra = case.answer(case.mixed())[0] - without
    distances = np.linalg.norm(case.positions[:, None] - case.positions[None], axis=2) / 10
    first, second = np.triu_indices(len(distances), 1)
    counted = ~((first < PEPTIDE) & (second < PEPTIDE))
    expected = np.sum(0.01 / distances[first, second][counted] ** 6) * KJ_PER_MOL
    assert extra == pytest.approx(expected, rel=1e-9)


def test_barostat_moves_the_molecule_as_one(tmp_path):
    """Trial boxes move whole molecules: bond lengths stay (the time step is all but zero)."""
    case = Case(tmp_path, app.PME)
    mixed = case.mixed()
    mixed.addForce(openmm.MonteCarloBarostat(3000 * unit.bar, 300 * unit.kelvin, 1))
    integrator = openmm.VerletIntegrator(1e-9)
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(mixed, integrator, reference)
    context.setPositions(case.positions / 10)
    assert sorted(map(len, context.getMolecules())) == [3, 3, 3, 3, PEPTIDE]
    integrator.step(20)
    state = context.getState(positions=True)
    box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
    assert abs(box[0, 0] - BOX) > 1e-3
    moved = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    bonds = [(b[0].index, b[1].index) for b in case.topology.bonds()]
    for first, second in bonds:
        old = np.linalg.norm(case.positions[first] - case.positions[second])
        assert np.linalg.norm(moved[first] - moved[second]) == pytest.approx(old, abs=1e-5)


def test_refusals(tmp_path):
    case = Case(tmp_path)
    with pytest.raises(BadInput, match="bond of the topology joins"):
        case.mixed(range(PEPTIDE - 1))
    case.system.addForce(openmm.GBSAOBCForce())
    with pytest.raises(BadInput, match="GBSAOBCForce"):
        case.mixed()
    periodic = Case(tmp_path, app.PME)
    two = [*range(PEPTIDE, PEPTIDE + 3), *range(PEPTIDE + 6, PEPTIDE + 9)]
    with pytest.raises(UnsuitableStructure, match="one molecule"):
        periodic.mixed(two)


def test_one_molecule():
    bonds = [(0, 1), (1, 2), (3, 4)]
    assert one_molecule([0, 1, 2], bonds)
    assert one_molecule([7], bonds)
    assert not one_molecule([0, 2], bonds)
    assert not one_molecule([0, 1, 3, 4], bonds)
