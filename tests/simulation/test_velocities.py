import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.md.velocitydistribution import Stationary, ZeroRotation

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, BOLTZMANN
from karat.simulation.velocities import (
    degrees_of_freedom,
    kinetic_energy,
    kinetic_temperature,
    masses,
    rigid_motions,
    thermal_velocities,
)
from karat.structures.structure import Structure

CASES = {
    "H": (Atoms("H"), 3),
    "N2": (molecule("N2"), 1),
    "CO2": (molecule("CO2"), 4),
    "H2O": (molecule("H2O"), 3),
    "ethanol": (molecule("CH3CH2OH"), 21),
    "Si8": (bulk("Si", cubic=True), 21),
}


@pytest.mark.parametrize("name", CASES)
def test_overall_motion_is_taken_out_and_the_temperature_is_exact(name):
    atoms, free = CASES[name]
    structure = Structure.from_ase(atoms)
    velocities = thermal_velocities(structure, 350.0, seed=4)
    mass = masses(structure)
    assert degrees_of_freedom(structure) == free
    kinetic = float(kinetic_energy(mass, velocities))
    assert kinetic_temperature(kinetic, free) == pytest.approx(350.0, rel=1e-12)
    if name == "H":
        return
    scale = np.abs(mass[:, None] * velocities).max()
    assert np.abs(mass @ velocities).max() < 1e-13 * scale
    if not structure.periodic.any():
        arms = structure.positions - mass @ structure.positions / mass.sum()
        angular = np.sum(mass[:, None] * np.cross(arms, velocities), axis=0)
        assert np.abs(angular).max() < 1e-12 * scale * np.abs(arms).max()


def test_overall_motion_is_what_ase_takes_out():
    atoms = molecule("CH3CH2OH")
    structure = Structure.from_ase(atoms)
    mass = masses(structure)
    raw = np.random.default_rng(2).normal(size=(9, 3))
    atoms.set_masses(mass)
    atoms.set_velocities(raw)
    Stationary(atoms, preserve_temperature=False)
    ZeroRotation(atoms, preserve_temperature=False)
    rigid = rigid_motions(structure)
    flat = (np.sqrt(mass)[:, None] * raw).ravel()
    mine = (flat - rigid.T @ (rigid @ flat)).reshape(-1, 3) / np.sqrt(mass)[:, None]
    np.testing.assert_allclose(mine, atoms.get_velocities(), rtol=0, atol=1e-12)


def test_kinetic_energy_is_that_of_ase():
    atoms = molecule("H2O")
    velocities = np.random.default_rng(0).normal(scale=0.01, size=(3, 3))
    atoms.set_velocities(velocities / ase.units.fs)
    mine = float(kinetic_energy(atoms.get_masses(), velocities))
    # ase.units is CODATA 2014: 1e-8 away
    assert mine == pytest.approx(atoms.get_kinetic_energy(), rel=1e-7)


def test_components_are_normal_with_variance_kt_over_m():
    # 200 seeds, 64 argon and helium-like atoms in a cell: overall motion is 3 of 192 components.
    crystal = bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 4)
    crystal.numbers[::2] = 2
    structure = Structure.from_ase(crystal)
    mass = masses(structure)
    squares = np.array([thermal_velocities(structure, 90.0, s) for s in range(200)]) ** 2
    for z in (2, 18):
        chosen = structure.numbers == z
        mean = squares[:, chosen].mean()
        expected = BOLTZMANN * 90.0 * ACCELERATION / mass[chosen][0]
        # 19200 squares of normal numbers: relative standard error √(2/19200) = 1.0 %, and the
        # centre of mass takes 4.6 % · 3/192 off at most; 5 standard errors: false alarm 1e-6
        assert mean == pytest.approx(expected, rel=0.052)


def test_bad_arguments_are_refused():
    structure = Structure.from_ase(molecule("N2"))
    with pytest.raises(BadInput, match="-1"):
        thermal_velocities(structure, -1.0, 0)
    assert not thermal_velocities(structure, 0.0, 0).any()
