import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.analytic.buckingham import Buckingham, steepest_distance
from karat.structures.structure import Structure

OXYGEN = (22764.3, 0.149, 27.88)
A = {"O": 22764.3, "Mg-O": 1428.5, "Mg": 0.0}
RHO = {"O": 0.149, "Mg-O": 0.2945, "Mg": 1.0}
C = {"O": 27.88, "Mg-O": 0.0, "Mg": 0.0}


def magnesia(cutoff, onset, core="linear"):
    return Buckingham(A, RHO, C, cutoff, onset, core=core).load()


def dimers(distances):
    return [
        Structure(numbers=np.array([8, 8]), positions=np.array([[0.0, 0, 0], [d, 0, 0]]))
        for d in distances
    ]


def literal(r):
    a, rho, c = OXYGEN
    return a * np.exp(-r / rho) - c / r**6


def test_formula_above_the_core():
    distances = np.array([1.6, 2.1, 3.3, 5.0])
    for core in ("linear", "literal"):
        labels = magnesia(8.0, 6.0, core).predict(dimers(distances))
        energies = np.array([label.energy for label in labels])
        np.testing.assert_allclose(energies, literal(distances), rtol=1e-12, atol=1e-13)


def test_agrees_with_lammps(lammps_case):
    structure, expected = lammps_case("buckingham")
    labels = magnesia(3.9, 3.8999999).predict([structure], ("forces", "stress"))[0]
    assert labels.energy == pytest.approx(expected.energy, abs=1e-11)
    np.testing.assert_allclose(labels.forces, expected.forces, atol=1e-11)
    np.testing.assert_allclose(labels.stress, expected.stress, atol=1e-12)


def test_linear_core_does_not_collapse_and_literal_does():
    close = dimers([0.05, 0.2, 0.5, 0.8])
    literal_energies = [label.energy for label in magnesia(8.0, 6.0, "literal").predict(close)]
    assert literal_energies[0] < -1e8
    labels = magnesia(8.0, 6.0).predict(close)
    joint = steepest_distance(*OXYGEN, "O-O")
    slope = -OXYGEN[0] / OXYGEN[1] * np.exp(-joint / OXYGEN[1]) + 6 * OXYGEN[2] / joint**7
    for label, distance in zip(labels, (0.05, 0.2, 0.5, 0.8)):
        assert distance < joint
        assert label.energy == pytest.approx(literal(joint) + slope * (distance - joint), rel=1e-12)
        assert label.forces[1, 0] == pytest.approx(-slope, rel=1e-12)  # constant, repulsive
        assert label.forces[1, 0] > 0


def test_core_begins_where_the_repulsion_is_strongest():
    joint = steepest_distance(*OXYGEN, "O-O")
    r = joint + np.linspace(-0.3, 1.5, 2001)
    force = -np.gradient(literal(r), r)
    # grid of 1e-3 Å
    assert r[np.argmax(force)] == pytest.approx(joint, abs=2e-3)


def test_force_constant_is_continuous_where_the_core_begins():
    joint = steepest_distance(*OXYGEN, "O-O")
    h = 1e-5
    labels = magnesia(8.0, 6.0).predict(dimers(joint + h * np.array([-2, -1, 1, 2])))
    f = np.array([label.forces[1, 0] for label in labels])
    # second derivative is zero on both sides, up to h times the third (~1e3 eV/Å³)
    assert abs(f[1] - f[0]) / h < 0.1
    assert abs(f[3] - f[2]) / h < 0.1


@pytest.mark.parametrize(
    ("a", "rho", "c", "words"),
    [
        (1.0, 0.15, 100.0, "attractive at every distance"),
        (0.0, 0.15, 1.0, "attractive at every distance"),
        (-1.0, 0.15, 1.0, "A, C ≥ 0"),
        (1.0, 0.0, 1.0, "ρ > 0"),
    ],
)
def test_parameters_without_a_wall_are_refused(a, rho, c, words):
    with pytest.raises(BadInput, match=words):
        Buckingham({"O": a}, {"O": rho}, {"O": c}, 6.0, 5.0).load()


def test_onset_inside_the_core_is_refused():
    with pytest.raises(BadInput, match="inside the barrier"):
        Buckingham({"O": OXYGEN[0]}, {"O": OXYGEN[1]}, {"O": OXYGEN[2]}, 1.0, 0.5).load()
