import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.simulation.relax import relax
from karat.structures.structure import Structure


def dimer(distance):
    return Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, distance]]))


def test_morse_dimer_finds_its_minimum(morse):
    found = relax(morse.load(), dimer(0.95), force_tolerance=1e-6)
    length = np.linalg.norm(found.structure.positions[1] - found.structure.positions[0])
    # a force of 1e-6 eV/Å over a stiffness of 2 D a² = 32 eV/Å²
    assert length == pytest.approx(0.74, abs=1e-7)
    assert found.energy == pytest.approx(-4.5, abs=1e-9)
    assert found.converged
    assert found.max_force <= 1e-6
    assert found.steps > 0


def test_lennard_jones_cluster_has_its_known_energy():
    # ten icosahedral neighbours are missing: 4 atoms make a tetrahedron with 6 bonds of ε
    potential = LennardJones({"Ar": 0.01}, {"Ar": 3.4}, 30.0, 25.0).load()
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    start = Structure(np.full(4, 18), 1.5 * corners)
    found = relax(potential, start, force_tolerance=1e-7, max_steps=200)
    assert found.energy == pytest.approx(-0.06, abs=1e-10)


def test_not_converged_is_an_error_with_its_kind(morse):
    with pytest.raises(CalculationFailed, match="after 1 steps") as caught:
        relax(morse.load(), dimer(0.95), force_tolerance=1e-6, max_steps=1)
    assert caught.value.kind == "not-converged"


def test_what_the_potential_raises_passes(morse, foreign):
    with pytest.raises(CalculationFailed, match="SCF") as caught:
        relax(foreign(morse.load(), fail_at=2), dimer(0.95))
    assert caught.value.kind == "not-converged"


def test_bad_settings_are_refused(morse):
    with pytest.raises(BadInput, match="force_tolerance"):
        relax(morse.load(), dimer(0.9), force_tolerance=0.0)
