import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.morse import MorsePotential
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from karat.potentials.analytic.morse import Morse
from karat.potentials.classical.rdkit_ff import Mmff94
from karat.potentials.external.ase_export import PotentialCalculator
from karat.potentials.external.engine_potential import Gfn2
from karat.structures.builders import from_smiles

COPPER = Morse({"Cu": 0.3429}, {"Cu": 1.3588}, {"Cu": 2.866}, 5.5, 4.0)


def crystal():
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def test_agrees_with_ases_own_calculator():
    """Energy, forces, stress with sign and Voigt order."""
    atoms, own = crystal(), crystal()
    atoms.set_cell(atoms.cell @ (np.eye(3) + [[0, 0.03, 0], [0, 0, 0.05], [0.01, 0, 0]]), True)
    own.set_cell(atoms.cell, True)
    atoms.calc = COPPER.load().calculator()
    own.calc = MorsePotential(
        epsilon=0.3429, r0=2.866, rho0=1.3588 * 2.866, rcut1=4.0 / 2.866, rcut2=5.5 / 2.866
    )
    assert atoms.get_potential_energy() == pytest.approx(own.get_potential_energy(), abs=1e-11)
    np.testing.assert_allclose(atoms.get_forces(), own.get_forces(), atol=1e-11)
    np.testing.assert_allclose(atoms.get_stress(), own.get_stress(), atol=1e-12)
    assert np.ptp(atoms.get_stress()) > 1e-3


def test_relaxation_of_atoms_and_cell_ends_without_forces_and_stress():
    """A wrong sign of the stress would drive the cell away."""
    atoms = crystal()
    atoms.calc = COPPER.load().calculator()
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-5, steps=100)
    assert np.abs(atoms.get_forces()).max() < 1e-4
    assert np.abs(atoms.get_stress()).max() < 1e-6


def energy_error(timestep_fs):
    atoms = crystal()
    atoms.calc = COPPER.load().calculator()
    start, errors = atoms.get_total_energy(), []
    dynamics = VelocityVerlet(atoms, timestep=timestep_fs * units.fs)
    dynamics.attach(lambda: errors.append(abs(atoms.get_total_energy() - start)))
    dynamics.run(round(80 / timestep_fs))
    assert atoms.get_kinetic_energy() > 0.05
    return max(errors)


def test_energy_error_of_verlet_is_of_second_order():
    # 1/4 in the limit of small steps
    assert energy_error(1.0) / energy_error(2.0) == pytest.approx(0.25, abs=0.02)


def test_charge_is_part_of_the_state():
    """ASE compares arrays only: a changed charge must not return the old energy."""
    pytest.importorskip("tblite")
    atoms = molecule("OH")
    atoms.info["charge"] = -1
    atoms.calc = Gfn2().load().calculator()
    anion = atoms.get_potential_energy()
    assert atoms.get_potential_energy() == anion
    atoms.info["charge"] = 0
    radical = atoms.get_potential_energy()
    assert abs(radical - anion) > 1
    atoms.info["multiplicity"] = 4
    assert abs(atoms.get_potential_energy() - radical) > 1


def test_topology_travels_beside_atoms():
    structure = from_smiles("CO")[0]
    potential = Mmff94().load()
    atoms = structure.to_ase()
    atoms.calc = PotentialCalculator(potential, structure.topology)
    assert atoms.get_potential_energy() == potential.predict([structure])[0].energy
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
