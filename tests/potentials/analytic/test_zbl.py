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


@pytest.mark.parametrize(("first", "second"), [(14, 14), (6, 14), (1, 92)])
def test_formula_below_the_switch(first, second):
    elements = {1: "H", 6: "C", 14: "Si", 92: "U"}
    potential = Zbl((elements[first], elements[second]), 1.5, 2.5).load()
    distances = np.array([0.05, 0.2, 0.5, 1.0, 1.4])
    labels = potential.predict([dimer(first, second, d) for d in distances])
    energies = np.array([label.energy for label in labels])
    # below the switch a constant is added: compare differences; the screening length is
    # rounded to 1e-4 (0.46850 Å), which moves the energy by less than 3e-4
    expected = screened(first, second, distances)
    np.testing.assert_allclose(np.diff(energies), np.diff(expected), rtol=3e-4)


def test_approaches_coulomb_repulsion():
    """φ(0) = 1: at 1e-6 Å the energy is Z₁Z₂ 14.3996 eV Å/r up to φ'(0) r/a ~ 1e-5."""
    energy = Zbl(("Si",), 1.5, 2.5).load().predict([dimer(14, 14, 1e-6)])[0].energy
    assert energy == pytest.approx(14**2 * 14.399645e6, rel=2e-5)


def test_energy_force_and_curvature_vanish_at_the_outer_radius():
    potential = Zbl(("Si",), 1.5, 2.5).load()
    gaps = np.array([0.02, 0.01])
    labels = potential.predict([dimer(14, 14, 2.5 - gap) for gap in gaps])
    energies = np.array([label.energy for label in labels])
    # E ~ gap³: halving it divides by 8
    assert energies[0] / energies[1] == pytest.approx(8, rel=0.05)
    beyond = potential.predict([dimer(14, 14, 2.5), dimer(14, 14, 2.6)])
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
