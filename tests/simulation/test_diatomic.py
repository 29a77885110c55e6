import dataclasses

import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownElement
from karat.potentials.protocol import AbstractPotential, Traits
from karat.simulation.diatomic import diatomic_curve
from karat.structures.labels import Labels

LENGTHS = np.linspace(0.4, 4.0, 60)


class Curve(AbstractPotential):
    """Any curve E(r) with forces f(r), right or wrong."""

    traits = Traits(species=None, periodic=False, molecules=True, quantities=("energy", "forces"))

    def __init__(self, energy, force):
        self.energy, self.force = energy, force

    def predict(self, structures, want=("energy", "forces")):
        found = []
        for structure in structures:
            way = structure.positions[1] - structure.positions[0]
            length = np.linalg.norm(way)
            push = self.force(length) * way / length
            found.append(Labels(self.energy(length), np.stack([-push, push])))
        return found


def test_morse_is_one_smooth_well(morse):
    found = diatomic_curve(morse.load(), (1, 1), LENGTHS.tolist())
    grown = np.exp(-1.9 * (LENGTHS - 0.74))
    np.testing.assert_allclose(found.energies, 4.5 * ((1 - grown) ** 2 - 1), atol=1e-10)
    np.testing.assert_allclose(found.forces, -9.0 * 1.9 * grown * (1 - grown), atol=1e-9)
    # E''' near 1e3 eV/Å³ · h²/6 = 2e-6
    assert found.force_error < 1e-5
    assert found.sideways_force < 1e-10
    assert found.force_flips == 1
    assert found.tortuosity == pytest.approx(1, abs=1e-12)
    # parabola through three points 0.06 Å apart: a step² · E'''/E'' = 3 a h²/6 off at most
    assert found.minimum == pytest.approx(0.74, abs=0.005)
    assert found.symbols == ("H", "H")
    # trapezium: h³/12 · E''' at the shortest distance
    steepest = 9.0 * 1.9**3 * (4 * grown[0] ** 2 - grown[0])
    assert found.energy_jump <= (LENGTHS[1] - LENGTHS[0]) ** 3 / 12 * steepest


def test_lennard_jones_beyond_its_cutoff_has_no_flips(argon):
    found = diatomic_curve(argon(cutoff=7.0), (18, 18), np.linspace(3, 9, 61).tolist())
    assert found.force_flips == 1
    assert found.tortuosity == pytest.approx(1, abs=1e-9)
    assert found.minimum == pytest.approx(3.4 * 2 ** (1 / 6), abs=0.01)


def test_forces_that_are_no_gradient_are_seen():
    curve = Curve(lambda r: (r - 1.0) ** 2, lambda r: -2.2 * (r - 1.0))
    found = diatomic_curve(curve, (6, 8), LENGTHS.tolist())
    # 10 % too large: 0.2 · 3 Å at the longest distance
    assert found.force_error == pytest.approx(0.6, abs=1e-6)


def test_a_jump_and_a_second_well_are_seen():
    jump = Curve(lambda r: (r - 1.0) ** 2 + 0.5 * (r > 2.025), lambda r: -2.0 * (r - 1.0))
    found = diatomic_curve(jump, (6, 8), LENGTHS.tolist())
    assert found.energy_jump == pytest.approx(0.5, abs=1e-9)
    wavy = Curve(lambda r: np.cos(np.pi * r), lambda r: np.pi * np.sin(np.pi * r))
    found = diatomic_curve(wavy, (6, 8), np.linspace(0.5, 4.5, 401).tolist())
    assert found.force_flips == 4
    # four ups and downs of 2 (two of them halves) over the 1 + 1 that one well needs
    assert found.tortuosity == pytest.approx(8 / 2, rel=1e-3)


def test_no_minimum_inside(argon):
    found = diatomic_curve(argon(), (18, 18), np.linspace(2.5, 3.7, 12).tolist())
    assert found.minimum is None
    assert found.force_flips == 0


def test_bad_input_is_refused(morse):
    potential = morse.load()
    with pytest.raises(BadInput, match="8 or more"):
        diatomic_curve(potential, (1, 1), [1.0, 2.0])
    with pytest.raises(BadInput, match="ascending"):
        diatomic_curve(potential, (1, 1), LENGTHS[::-1].tolist())
    with pytest.raises(BadInput, match="difference_step"):
        diatomic_curve(potential, (1, 1), LENGTHS.tolist(), difference_step=0.5)
    with pytest.raises(UnknownElement, match="C"):
        diatomic_curve(potential, (1, 6), LENGTHS.tolist())
    with pytest.raises(BadInput, match="multiplicity"):
        diatomic_curve(potential, (1, 1), LENGTHS.tolist(), multiplicity=2)
    far = dataclasses.replace(morse, cutoff_angstrom=2.0, onset_angstrom=1.5).load()
    with pytest.raises(BadInput, match="same at all distances"):
        diatomic_curve(far, (1, 1), np.linspace(3, 4, 10).tolist())
