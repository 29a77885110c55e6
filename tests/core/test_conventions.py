"""One test for each line of karat/core/conventions.md."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.constants as si

import karat
from karat.core import units
from karat.data.files import read_dataset
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.reference.xtb import Gfn2Xtb
from karat.results.metric import Metric
from karat.results.statistics import bootstrap, paired_difference
from karat.structures.builders import crystal, from_smiles
from karat.structures.labels import Labels
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

PAGE = Path(karat.__file__).parent / "core" / "conventions.md"
NAMES = re.findall(r"^- \*\*([a-z0-9-]+)\*\*: \S", PAGE.read_text(), flags=re.MULTILINE)
TESTS = {}


def convention(name):
    def keep(function):
        assert name not in TESTS
        TESTS[name] = function
        return function

    return keep


def test_every_line_has_a_test_and_every_test_a_line():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("- ")]
    assert len(lines) == len(NAMES) == len(set(NAMES)) > 20
    assert set(NAMES) == set(TESTS)


@pytest.mark.parametrize("name", NAMES)
def test_convention(name, tmp_path):
    TESTS[name](tmp_path)


SIGMA, EPSILON = 3.4, 0.0104
R_MIN = 2 ** (1 / 6) * SIGMA


def argon():
    """The switch begins beyond every distance used here."""
    return LennardJones({"Ar": EPSILON}, {"Ar": SIGMA}, 12.0, 11.0).load()


def dimers(*distances):
    """Argon dimers 100 Å apart, along x."""
    positions = [[x, 100.0 * number, 0.0] for number, d in enumerate(distances) for x in (0.0, d)]
    return Structure(np.full(2 * len(distances), 18), np.array(positions))


def numbers(text):
    return f"""2
Lattice="5 0 0 0 6 0 0 0 7" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-1 {text}
Ar 0 0 0 0 0 0
Ar 2 0 0 0 0 0
"""


@convention("length")
def _(_folder):
    # the minimum of the Lennard-Jones dimer is at 2^(1/6) σ, σ given in Å
    assert abs(argon().predict([dimers(R_MIN)])[0].forces).max() < 1e-12
    assert pytest.approx(si.value("Bohr radius") * 1e10, rel=1e-8) == units.BOHR


@convention("energy")
def _(_folder):
    # exact: −ε for one dimer, −2 ε for two; a per-atom energy would give −ε/2 twice
    energies = [x.energy for x in argon().predict([dimers(R_MIN), dimers(R_MIN, R_MIN)])]
    np.testing.assert_allclose(energies, [-EPSILON, -2 * EPSILON], rtol=1e-12)
    assert pytest.approx(si.value("Hartree energy in eV"), rel=1e-8) == units.HARTREE


@convention("force")
def _(_folder):
    r = 3.7
    slope = 4 * EPSILON * (-12 * SIGMA**12 / r**13 + 6 * SIGMA**6 / r**7)  # eV/Å
    forces = argon().predict([dimers(r)])[0].forces
    np.testing.assert_allclose(forces, [[slope, 0, 0], [-slope, 0, 0]], rtol=1e-10, atol=1e-15)


@convention("stress-unit")
def _(_folder):
    assert 1e9 / si.e * 1e-30 == pytest.approx(units.GPA, rel=1e-9)


@convention("mass-and-time")
def _(_folder):
    metres_per_second_squared = si.e / 1e-10 / si.value("atomic mass constant")
    assert metres_per_second_squared * 1e10 * 1e-30 == pytest.approx(units.ACCELERATION, rel=1e-8)


@convention("temperature")
def _(_folder):
    assert si.k / si.e == pytest.approx(units.BOLTZMANN, rel=1e-12)


@convention("charge")
def _(_folder):
    assert from_smiles("[NH4+]")[0].electrons == 7 + 4 - 1
    assert from_smiles("[OH-]")[0].electrons == 8 + 1 + 1
    # two unit charges at 1 Å
    assert si.e / (4 * np.pi * si.epsilon_0 * 1e-10) == pytest.approx(units.COULOMB, rel=1e-8)


@convention("multiplicity")
def _(_folder):
    oxygen = Structure(np.array([8, 8]), np.array([[0.0, 0, 0], [0, 0, 1.2]]))
    assert oxygen.replace(multiplicity=3).unpaired_electrons == 2
    assert oxygen.unpaired_electrons == 0
    assert Structure(np.array([1]), np.zeros((1, 3))).unpaired_electrons == 1


@convention("dipole")
def _(_folder):
    # LiH is Li⁺ H⁻: with Li above H the dipole points up; 5.9 D experimentally, 1 e Å = 4.803 D
    molecule = Structure(np.array([1, 3]), np.array([[0.0, 0, 0], [0, 0, 1.6]]))
    dipole = Gfn2Xtb().compute(molecule, ("energy", "dipole")).dipole
    assert 0.6 < dipole[2] < 2.0
    assert abs(dipole[:2]).max() < 1e-6


@convention("wavenumber")
def _(_folder):
    assert si.h * si.c * 100 / si.e == pytest.approx(units.INVERSE_CM, rel=1e-9)
    assert si.hbar / si.e * 1e15 == pytest.approx(units.HBAR, rel=1e-9)


@convention("unit-in-name")
def _(_folder):
    names = [field.name for field in dataclasses.fields(LennardJones)]
    assert {"epsilon_ev", "sigma_angstrom", "cutoff_angstrom"} <= set(names)


@convention("force-sign")
def _(_folder):
    near, far = (argon().predict([dimers(r)])[0].forces for r in (R_MIN - 0.3, R_MIN + 0.3))
    assert near[1, 0] > 0 > near[0, 0]  # pushed apart
    assert far[1, 0] < 0 < far[0, 0]  # pulled together


@convention("stress-sign")
def _(_folder):
    stretched, squeezed = (
        argon().predict([crystal("Ar", "fcc", a=a, cubic=True)], ("stress",))[0].stress
        for a in (5.6, 5.0)
    )
    assert (np.diag(stretched) > 0).all()
    assert (np.diag(squeezed) < 0).all()
    start = crystal("Ar", "fcc", a=5.4, cubic=True)
    strain = np.zeros((2, 3, 3))
    strain[:, 0, 1] = strain[:, 1, 0] = (1e-4, -1e-4)
    strain[:, 2, 2] = (1e-4, -1e-4)
    moved = [
        start.replace(
            positions=start.positions @ (np.eye(3) + s), cell=start.cell @ (np.eye(3) + s)
        )
        for s in strain
    ]
    plus, minus = (x.energy for x in argon().predict(moved))
    stress = argon().predict([start], ("stress",))[0].stress
    # dE/dλ = V Σ σ:ε; truncation ~1e-8 relative, rounding ~1e-12/1e-4
    found = (plus - minus) / 2e-4 / start.volume
    assert found == pytest.approx(2 * stress[0, 1] + stress[2, 2], abs=1e-8)


@convention("virial-sign")
def _(folder):
    path = folder / "virial.xyz"
    path.write_text(numbers('REF_virial="-21 0 0 0 -42 0 0 0 63"'))
    stress = read_dataset(path).records[0].labels.stress
    np.testing.assert_allclose(stress, np.diag([0.1, 0.2, -0.3]), rtol=1e-14)


@convention("pair-vector")
def _(_folder):
    cell = np.array([[4.0, 0, 0], [1.0, 5.0, 0], [0, 0, 6.0]])
    structure = Structure(
        np.array([6, 8]), np.array([[0.1, 0, 0], [3.5, 0.2, 0.3]]), cell, np.ones(3, bool)
    )
    pairs = neighbour_pairs(structure, 7.0)
    expected = (
        structure.positions[pairs.neighbours]
        + pairs.shifts @ structure.cell
        - structure.positions[pairs.centers]
    )
    np.testing.assert_allclose(pairs.vectors, expected, atol=1e-13)
    assert np.linalg.norm(pairs.vectors, axis=1).max() < 7.0


@convention("difference")
def _(_folder):
    good, bad = np.full(10, 1.0), np.full(10, 3.0)
    assert paired_difference(good, bad, "mean", seed=0).value == -2.0


@convention("cell-rows")
def _(_folder):
    cell = np.array([[3.0, 0, 0], [1.0, 4.0, 0], [0, 0, 50.0]])
    one = Structure(np.array([2]), np.zeros((1, 3)), cell, np.ones(3, bool))
    pairs = neighbour_pairs(one, 4.2)
    vectors = {tuple(int(n) for n in s): tuple(v) for s, v in zip(pairs.shifts, pairs.vectors)}
    assert vectors[0, 1, 0] == (1.0, 4.0, 0.0)
    assert vectors[1, 0, 0] == (3.0, 0.0, 0.0)


@convention("volume")
def _(_folder):
    cell = np.diag([2.0, 3.0, 4.0])
    left = cell[[1, 0, 2]]
    assert np.linalg.det(left) < 0
    for one in (cell, left):
        structure = Structure(np.array([2]), np.zeros((1, 3)), one, np.ones(3, bool))
        assert structure.volume == pytest.approx(24.0, rel=1e-14)


@convention("axes")
def _(_folder):
    structure = dimers(4.0, 5.0)
    labels = argon().predict([structure])[0]
    assert structure.positions.shape == labels.forces.shape == (4, 3)
    assert structure.positions[3, 0] == 5.0


@convention("zero-based")
def _(_folder):
    water = from_smiles("O")[0]
    assert water.numbers[0] == 8
    assert water.topology.bonds.tolist() == [[0, 1], [0, 2]]


@convention("full-pairs")
def _(_folder):
    pairs = neighbour_pairs(dimers(4.0), 5.0)
    assert list(zip(pairs.centers.tolist(), pairs.neighbours.tolist())) == [(0, 1), (1, 0)]
    alone = Structure(np.array([2]), np.zeros((1, 3)), 3 * np.eye(3), np.ones(3, bool))
    assert len(neighbour_pairs(alone, 3.1)) == 6


@convention("voigt")
def _(folder):
    path = folder / "voigt.xyz"
    path.write_text(numbers('REF_stress="1 2 3 4 5 6"'))
    stress = read_dataset(path).records[0].labels.stress
    np.testing.assert_array_equal(stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])


@convention("stress-symmetric")
def _(_folder):
    start = crystal("Ar", "fcc", a=5.4, cubic=True)
    positions = start.positions + np.random.default_rng(3).normal(0, 0.1, (4, 3))
    stress = argon().predict([start.replace(positions=positions)], ("stress",))[0].stress
    assert stress.shape == (3, 3)
    assert abs(stress[0, 1]) > 1e-6
    np.testing.assert_allclose(stress, stress.T, atol=1e-16)


@convention("none")
def _(_folder):
    labels = Labels(energy=-1.0)
    assert labels.forces is None
    assert labels.quantities == ("energy",)
    assert labels.finite()


@convention("interval")
def _(_folder):
    from karat.core.errors import BadInput

    assert bootstrap(np.arange(5.0), "mean", seed=0).why_no_interval
    interval = bootstrap(np.arange(50.0), "mean", seed=0)
    assert interval.low < interval.value < interval.high
    with pytest.raises(BadInput, match="neither an interval nor the reason"):
        Metric("x", 1.0, "eV", None, None, 3, "lower")
