import numpy as np
import pytest
from ase.vibrations import Vibrations

from karat.core.errors import CalculationFailed
from karat.core.units import ACCELERATION, HBAR, INVERSE_CM
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.simulation.modes import hessian, normal_modes
from karat.simulation.relax import relax
from karat.simulation.velocities import masses, rigid_motions
from karat.structures.structure import Structure

TETRAHEDRON = 1.35 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.2]])


def lennard_jones():
    return LennardJones({"Ar": 0.0104, "He": 0.004}, {"Ar": 3.4, "He": 2.6}, 30.0, 25.0).load()


def mixed_cluster():
    return Structure(np.array([18, 18, 2, 18]), TETRAHEDRON)


def test_morse_dimer_has_its_analytic_frequency(morse):
    minimum = Structure(np.array([1, 1]), 0.74 * np.array([[0.0, 0, 0], [0, 0.6, 0.8]]))
    omega = np.sqrt(2 * 4.5 * 1.9**2 * ACCELERATION * 2 / masses(minimum)[0])
    exact = omega * HBAR / INVERSE_CM
    errors = []
    for displacement in (0.02, 0.01):
        modes = normal_modes(morse.load(), minimum, displacement, relax_first=False)
        assert modes.frequencies_cm.shape == (1,)
        errors.append(modes.frequencies_cm[0] / exact - 1)
        assert abs(errors[-1]) < (1.9 * displacement) ** 2
    # central differences: O(h²), their next order is (a h)² = 0.1 % of that
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.01)
    off = minimum.replace(positions=minimum.positions * 1.1)
    relaxed = normal_modes(morse.load(), off)
    # a force of 1e-3 eV/Å leaves 3e-5 Å, i.e. 3 a x / 2 = 1e-4 of ω
    assert relaxed.frequencies_cm[0] == pytest.approx(exact, rel=5e-4)


def test_modes_agree_with_ase(tmp_path):
    potential, start = lennard_jones(), mixed_cluster()
    modes = normal_modes(potential, start)
    atoms = modes.structure.to_ase()
    atoms.set_masses(masses(start))
    atoms.calc = potential.calculator()
    vibrations = Vibrations(atoms, name=str(tmp_path / "vib"), delta=0.01)
    vibrations.run()
    theirs = np.sort(vibrations.get_frequencies().real)[6:]
    # relaxed to 1e-3 eV/Å only, so that ASE's rotations (not projected) mix in: 1e-3 of 60 cm⁻¹;
    # tightened here to see the agreement
    np.testing.assert_allclose(modes.frequencies_cm, theirs, rtol=2e-2)
    tight = normal_modes(
        potential, relax(potential, start, 1e-8).structure, displacement=0.01, relax_first=False
    )
    atoms.positions[:] = tight.structure.positions
    again = Vibrations(atoms, name=str(tmp_path / "tight"), delta=0.01)
    again.run()
    theirs = np.sort(again.get_frequencies().real)[-6:]
    np.testing.assert_allclose(tight.frequencies_cm, theirs, rtol=1e-6)


def test_vectors_are_orthonormal_vibrations():
    modes = normal_modes(lennard_jones(), mixed_cluster())
    flat = modes.vectors.reshape(6, 12)
    np.testing.assert_allclose(flat @ flat.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(flat @ rigid_motions(modes.structure).T, 0, atol=1e-12)
    root = np.repeat(np.sqrt(masses(modes.structure)), 3)
    diagonal = flat @ (modes.hessian / np.outer(root, root)) @ flat.T
    omega = modes.frequencies_cm * INVERSE_CM / HBAR
    np.testing.assert_allclose(diagonal * ACCELERATION, np.diag(omega**2), atol=1e-12)
    assert (np.diff(modes.frequencies_cm) >= 0).all()
    assert np.array_equal(modes.hessian, modes.hessian.T)


def test_a_linear_trimer_keeps_3n_minus_5_and_shows_imaginary_bends():
    potential = lennard_jones()
    length = 3.4 * 2 ** (1 / 6) * 0.998
    line = Structure(np.full(3, 18), length * np.array([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]]))
    modes = normal_modes(potential, line, relax_first=False)
    # bent, the outer two come closer and gain energy: two equal imaginary bends
    assert modes.frequencies_cm.shape == (4,)
    assert (modes.frequencies_cm[:2] < -1).all()
    assert modes.frequencies_cm[0] == pytest.approx(modes.frequencies_cm[1], rel=1e-6)
    assert (modes.frequencies_cm[2:] > 10).all()


def test_hessian_does_not_depend_on_the_orientation():
    potential, start = lennard_jones(), mixed_cluster()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    first = normal_modes(potential, start, relax_first=False)
    turned = start.replace(positions=start.positions @ turn.T)
    second = normal_modes(potential, turned, relax_first=False)
    # central differences along other axes: O(h²) of 30 cm⁻¹
    np.testing.assert_allclose(first.frequencies_cm, second.frequencies_cm, rtol=2e-3, atol=0.05)


def test_a_failed_displacement_is_an_error(foreign):
    with pytest.raises(CalculationFailed):
        hessian(foreign(lennard_jones(), fail_at=1), mixed_cluster())
