import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownElement
from karat.potentials.analytic.zbl import Zbl
from karat.structures.structure import Structure


def dimer(first, second, distance):
    return Structure(
        numbers=np.array([first, second]), positions=np.array([[0.0, 0, 0], [distance, 0, 0]])
    )


def screened(first, second, r):
    """ZBL in atomic units throughout: independent of the code's constants."""
    bohr, hartree = 0.529177210903, 27.211386245988
    length = 0.8854 / (first**0.23 + second**0.23)
    x = r / bohr / length
    phi = (
        0.18175 * np.exp(-3.1998 * x)
        + 0.50986 * np.exp(-0.94229 * x)
        + 0.28022 * np.exp(-0.4029 * x)
        + 0.02817 * np.exp(-0.20162 * x)
    )
    return hartree * first * second * bohr / r * phi


def test_formula_below_the_switch():
    potential = Zbl(("H", "C", "Si", "U"), 1.5, 2.5).load()
    distances = np.array([0.05, 0.2, 0.5, 1.0, 1.4])
    pairs = [(14, 14), (6, 14), (1, 92)]
    labels = potential.predict([dimer(*pair, d) for pair in pairs for d in distances])
    energies = np.array([label.energy for label in labels]).reshape(len(pairs), -1)
    expected = np.array([screened(*pair, distances) for pair in pairs])
    # below the switch a constant is added: compare differences; the screening length is
    # rounded to 1e-4 (0.46850 Å), which moves the energy by less than 3e-4
    np.testing.assert_allclose(np.diff(energies), np.diff(expected), rtol=3e-4)


def test_limits():
    potential = Zbl(("Si",), 1.5, 2.5).load()
    distances = (1e-6, 2.48, 2.49, 2.5, 2.6)
    close, near, nearer, *beyond = potential.predict([dimer(14, 14, d) for d in distances])
    # φ(0) = 1: Z₁Z₂ 14.3996 eV Å/r up to φ'(0) r/a ~ 1e-5
    assert close.energy == pytest.approx(14**2 * 14.399645e6, rel=2e-5)
    # energy, force and curvature vanish at the outer radius: E ~ gap³, half of it an eighth
    assert near.energy / nearer.energy == pytest.approx(8, rel=0.05)
    for label in beyond:
        assert label.energy == 0
        np.testing.assert_array_equal(label.forces, 0)


def test_agrees_with_lammps(lammps_case):
    structure, expected = lammps_case("zbl")
    labels = Zbl(("C", "Si"), 1.2, 2.2).load().predict([structure], ("forces", "stress"))[0]
    # LAMMPS' e²/(4πε₀) is 14.399645 eV Å, 3.3e-8 less
    assert labels.energy == pytest.approx(expected.energy, rel=4e-8)
    np.testing.assert_allclose(labels.forces, expected.forces, atol=1e-6)
    np.testing.assert_allclose(labels.stress, expected.stress, atol=2e-7)


def test_bad_input():
    with pytest.raises(BadInput, match="inner_angstrom 2"):
        Zbl(("Si",), 2.0, 1.0)
    with pytest.raises(BadInput, match="is empty"):
        Zbl((), 1.0, 2.0)
    with pytest.raises(UnknownElement, match="'Xx'"):
        Zbl(("Xx",), 1.0, 2.0).load()
