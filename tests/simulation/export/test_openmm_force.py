"""The potential alone in OpenMM: karat's numbers, a conserved energy, a working barostat."""

import json

import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownElement, UnsuitableStructure
from karat.core.units import KJ_PER_MOL
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.simulation.export.bundle import import_script
from karat.simulation.export.openmm_engine import topology_of
from karat.simulation.export.openmm_force import mixed_system, potential_force, potential_system
from karat.simulation.export.write import export
from karat.structures.structure import Structure

openmm = pytest.importorskip("openmm")
from openmm import app, unit  # noqa: E402


def context_of(system, positions, integrator=None, platform="Reference"):
    context = openmm.Context(
        system,
        integrator or openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName(platform),
    )
    context.setPositions(positions / 10)
    return context


def energy_ev(context):
    state = context.getState(energy=True)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL


def test_export_equals_karat(network_file, silicon, tmp_path):
    """Crystal in a skewed cell and a cluster."""
    cluster = silicon.replace(cell=np.zeros((3, 3)), periodic=np.zeros(3, bool))
    found = export(str(network_file((14,))), "openmm", tmp_path / "out", [silicon, cluster])
    largest = found.verifications[0].largest
    assert found.passed
    # kJ/mol and back: rounding of energies near -1e4 eV
    assert largest.energy_mev_per_atom < 1e-6
    assert largest.forces_ev_per_angstrom < 1e-8
    assert largest.stress_ev_per_cubic_angstrom is None
    document = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert document["engine"].startswith("OpenMM 8")


def test_energy_is_conserved(argon_options, mixture):
    """Velocity-Verlet-like leapfrog, 0.2 ps at 5 fs with atoms that cross the box."""
    topology, rotation = topology_of(mixture)
    system = potential_system(LennardJones(**argon_options).load(), topology)
    context = context_of(system, mixture.positions @ rotation, openmm.VerletIntegrator(0.002))
    context.setVelocitiesToTemperature(50, 3)
    totals = []
    for _ in range(10):
        context.getIntegrator().step(10)
        state = context.getState(energy=True)
        both = state.getPotentialEnergy() + state.getKineticEnergy()
        totals.append(both.value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL)
    # kinetic energy is 0.7 eV; leapfrog's error at 2 fs is 1e-4 of it
    assert np.ptp(totals) < 1e-3


def test_barostat_compresses(argon_options, mixture):
    """10 kbar on a crystal at zero pressure: it shrinks, and stays karat's energy."""
    topology, rotation = topology_of(mixture)
    potential = LennardJones(**argon_options).load()
    system = potential_system(potential, topology)
    system.addForce(openmm.MonteCarloBarostat(10000 * unit.bar, 20 * unit.kelvin, 2))
    integrator = openmm.LangevinMiddleIntegrator(20, 5, 0.002)
    integrator.setRandomNumberSeed(1)
    context = context_of(system, mixture.positions @ rotation, integrator)
    before = mixture.volume
    integrator.step(150)
    state = context.getState(positions=True, energy=True)
    cell = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
    assert abs(np.linalg.det(cell)) < 0.97 * before
    now = mixture.replace(
        positions=state.getPositions(asNumpy=True).value_in_unit(unit.angstrom), cell=cell
    )
    assert energy_ev(context) == pytest.approx(potential.predict([now])[0].energy, abs=1e-9)


def test_force_on_a_part_sees_that_part_alone(argon_options, mixture):
    """On every third atom, given in reverse order."""
    topology, rotation = topology_of(mixture)
    potential = LennardJones(**argon_options).load()
    part = list(range(0, 108, 3))[::-1]
    system = openmm.System()
    for _ in mixture.numbers:
        system.addParticle(1.0)
    system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
    system.addForce(potential_force(potential, topology, True, part))
    context = context_of(system, mixture.positions @ rotation)
    alone = mixture.replace(numbers=mixture.numbers[part], positions=mixture.positions[part])
    expected = potential.predict([alone])[0]
    assert energy_ev(context) == pytest.approx(expected.energy, abs=1e-10)
    forces = context.getState(forces=True).getForces(asNumpy=True)
    found = np.asarray(forces.value_in_unit(unit.kilojoule_per_mole / unit.angstrom))
    found = found @ rotation.T * KJ_PER_MOL
    np.testing.assert_allclose(found[part], expected.forces, atol=1e-10)
    np.testing.assert_array_equal(np.delete(found, part, axis=0), 0)


def test_script_of_an_export_makes_systems(argon_options, mixture, tmp_path):
    export("lennard_jones", "openmm", tmp_path / "out", [mixture], argon_options)
    script = import_script(tmp_path / "out" / "potential.py")
    topology, rotation = topology_of(mixture)
    context = context_of(script.create_system(topology), mixture.positions @ rotation)
    own = LennardJones(**argon_options).load().predict([mixture])[0]
    assert energy_ev(context) == pytest.approx(own.energy, abs=1e-10)
    assert script.create_force(topology, True).usesPeriodicBoundaryConditions()


def test_refusals(argon_options, mixture, silicon):
    potential = LennardJones(**argon_options).load()
    topology, _ = topology_of(mixture)
    with pytest.raises(UnknownElement, match="Si"):
        potential_system(potential, topology_of(silicon)[0])
    with pytest.raises(BadInput, match="no atom 108"):
        potential_force(potential, topology, True, [3, 108])
    with pytest.raises(BadInput, match="twice"):
        potential_force(potential, topology, True, [3, 3])
    with pytest.raises(BadInput, match="particles"):
        mixed_system(potential, openmm.System(), topology, [0])
    slab = mixture.replace(periodic=np.array([True, True, False]))
    with pytest.raises(UnsuitableStructure, match="2 directions"):
        topology_of(slab)
    empty = app.Topology()
    empty.addAtom("M", None, empty.addResidue("X", empty.addChain()))
    with pytest.raises(UnsuitableStructure, match="virtual site"):
        potential_force(potential, empty, False)


def test_charge_is_handed_on(tmp_path):
    """GFN2 on H3O+."""
    positions = np.array(
        [[0.0, 0, 0.1], [0.94, 0, -0.2], [-0.47, 0.82, -0.2], [-0.47, -0.82, -0.2]]
    )
    ion = Structure(np.array([8, 1, 1, 1]), positions, charge=1)
    found = export("gfn2_xtb", "openmm", tmp_path / "out", [ion])
    assert found.passed
    assert found.verifications[0].largest.energy_mev_per_atom < 1e-3


def test_a_step_that_fails_says_why(argon_options, mixture):
    topology, _ = topology_of(mixture)
    system = potential_system(LennardJones(**argon_options).load(), topology)
    broken = np.array(mixture.positions)
    broken[7] = np.nan
    context = context_of(system, broken)
    with pytest.raises(openmm.OpenMMException, match="exploded"):
        context.getState(energy=True)
