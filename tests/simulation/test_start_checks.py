"""Inputs that no dynamics can start from."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION
from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.simulation.dynamics import Dynamics, run_dynamics
from karat.simulation.start_checks import check_overlap, check_timestep, highest_frequency
from karat.simulation.velocities import masses
from karat.structures.structure import Structure


def test_atoms_on_top_of_each_other_are_named():
    atoms = molecule("CH3CH2OH")
    atoms.positions[5] = atoms.positions[2] + [0.1, 0, 0]
    with pytest.raises(BadInput, match=r"atoms 2 \(O\) and 5 \(H\) are 0.100 Å apart"):
        check_overlap(Structure.from_ase(atoms))
    check_overlap(Structure.from_ase(molecule("CH3CH2OH")))
    check_overlap(Structure.from_ase(bulk("Si")))


def test_an_image_on_top_of_an_atom_is_found():
    atoms = bulk("Si", cubic=True)
    atoms.positions[0] = [0.05, 0, 0]
    atoms.positions[1] = [atoms.cell[0, 0] - 0.05, 0, 0]
    with pytest.raises(BadInput, match="0.100 Å apart"):
        check_overlap(Structure.from_ase(atoms))


def test_highest_frequency_of_springs_is_exact(springs):
    # N atoms tied pairwise: one frequency, ω² = N k / m
    random = np.random.default_rng(0)
    start = Structure(np.full(7, 6), random.normal(scale=0.5, size=(7, 3)))
    expected = np.sqrt(7 * 2.5 * ACCELERATION / masses(start)[0])
    # the finite difference of a linear force is exact; 12 iterations damp the translation
    assert highest_frequency(springs(2.5), start) == pytest.approx(expected, rel=1e-9)


def test_highest_frequency_of_silicon_is_that_of_its_optical_phonons():
    # 17.83 THz at Γ by phonopy with matscipy and LAMMPS (../shared/NOTES.md)
    start = Structure.from_ase(bulk("Si", cubic=True))
    found = highest_frequency(StillingerWeber(preset="Si").load(), start) / (2 * np.pi) * 1e3
    # from below, within a few per cent
    assert 17.83 * 0.95 < found < 17.84


def test_an_unstable_time_step_is_refused_with_the_frequency(springs):
    start = Structure(np.array([6, 6]), np.array([[0.0, 0, 0], [0.5, 0, 0]]))
    stiffness = float(masses(start)[0] / 2 / ACCELERATION)  # ω = 1/fs
    check_timestep(springs(stiffness), start, Dynamics(timestep_fs=1.99))
    with pytest.raises(BadInput, match=r"period of 6.3 fs \(5309 cm⁻¹\): steps above 2.00 fs"):
        check_timestep(springs(stiffness), start, Dynamics(timestep_fs=2.02))
    # and it truly is
    run = run_dynamics(springs(stiffness), start, Dynamics("nve", 0.0, 2.02, 300, 1))
    assert run.stopped is not None
    run = run_dynamics(springs(stiffness), start, Dynamics("nve", 0.0, 1.99, 300, 1))
    assert run.stopped is None


def test_the_inner_step_counts(springs):
    start = Structure(np.array([6, 6]), np.array([[0.0, 0, 0], [0.5, 0, 0]]))
    settings = Dynamics(timestep_fs=3.0, inner_steps=2)
    check_timestep(springs(float(6.0 / ACCELERATION)), start, settings)
    with pytest.raises(BadInput, match=r"2.5 \(inner\)"):
        check_timestep(
            springs(float(6.0 / ACCELERATION)), start, Dynamics(timestep_fs=5.0, inner_steps=2)
        )
