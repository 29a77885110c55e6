"""g(r) of an ideal gas and of crystals, ASE's, explicit images, a molecule with exact distances."""

import ase.build
import numpy as np
import pytest
from ase.geometry.rdf import get_rdf

from karat.core.errors import BadInput, UnknownElement, UnsuitableStructure
from karat.simulation.analysis.structure_functions import (
    coordination_number,
    pair_distances,
    radial_distributions,
)
from karat.simulation.dynamics import Trajectory
from karat.structures.structure import Structure

TRICLINIC = np.array([[11.0, 0, 0], [3.0, 12.0, 0], [-2.0, 4.0, 13.0]])


def gas(numbers, cell, seed):
    fractional = np.random.default_rng(seed).uniform(size=(len(numbers), 3))
    return Structure(np.array(numbers), fractional @ cell, cell, np.ones(3, bool))


def test_an_ideal_gas_is_one():
    # 200 independent frames: 20 Ar, 30 Kr. Counts are Poisson to a good part: standard error of a
    # bin 1/√counts. 3 × 20 bins within 4.5 σ: false alarm 4e-4.
    cell = 0.8 * TRICLINIC  # narrowest width 6.8 Å: 5 Å is beyond half the cell
    frames = [gas([18] * 20 + [36] * 30, cell, seed) for seed in range(200)]
    volume = abs(np.linalg.det(cell))
    for found in radial_distributions(frames, 5.0, bins=20):
        a, b = ({"Ar": 20, "Kr": 30}[symbol] for symbol in found.elements)
        same = found.elements[0] == found.elements[1]
        expected = (a - 1) / a if same else 1.0
        shells = 4 * np.pi / 3 * np.diff(found.edges_angstrom**3)
        independent = 200 * a * (a - 1) / 2 if same else 200 * a * b
        sigma = expected / np.sqrt(independent * shells / volume)
        assert np.abs((found.g - expected) / sigma)[1:].max() < 4.5
        density = (b - 1 if same else b) / volume
        ball = 4 * np.pi / 3 * 5.0**3 * density
        assert found.coordination[-1] == pytest.approx(ball, rel=0.05)
        # 95 % intervals from 10 blocks of independent frames: 18 of 20 bins or so
        inside = (found.g_low < expected) & (expected < found.g_high)
        assert inside[2:].sum() >= 13


@pytest.mark.parametrize("cubic", [False, True])
def test_shells_of_fcc_are_exact(cubic):
    # one atom or four in the cell; 12 neighbours at a/√2, 6 at a, 24 at a √(3/2), 12 at a √2
    atoms = ase.build.bulk("Cu", "fcc", a=3.605, cubic=cubic)
    (found,) = radial_distributions([Structure.from_ase(atoms)], 5.4, bins=540)
    filled = np.flatnonzero(found.g)
    radii = 3.605 * np.sqrt([0.5, 1.0, 1.5, 2.0])
    np.testing.assert_array_equal(filled, np.floor(radii / 0.01).astype(int))
    np.testing.assert_allclose(found.coordination[filled], [12, 18, 42, 54], rtol=1e-14)
    shells = 4 * np.pi / 3 * np.diff(found.edges_angstrom**3)[filled]
    np.testing.assert_allclose(
        found.g[filled], np.array([12, 6, 24, 12]) * 3.605**3 / 4 / shells, rtol=1e-12
    )
    assert found.g_low is None
    assert "1 blocks" in found.why_no_interval


def test_equals_ase_where_that_is_valid():
    rng = np.random.default_rng(1)
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat(3)
    atoms.positions += rng.normal(scale=0.2, size=atoms.positions.shape)
    structure = Structure.from_ase(atoms)
    for found in radial_distributions([structure], 8.0, bins=80):
        other = get_rdf(atoms, 8.0, 80, elements=list(found.elements), no_dists=True)
        np.testing.assert_allclose(found.g, other, rtol=1e-12, atol=1e-14)
    pairs = radial_distributions([structure], 8.0, bins=80, elements=[("Na", "Cl"), ("Cl", "Na")])
    np.testing.assert_array_equal(pairs[0].g, pairs[1].g)


def test_far_images_and_unwrapped_atoms():
    # against explicit sums over images, four times beyond half the cell, atoms anywhere
    structure = gas([18, 18, 36, 36, 36], 0.4 * TRICLINIC, seed=2)
    steps = np.array([[0, 0, 0], [5, -7, 2], [1, 0, 0], [0, -3, 9], [2, 2, 2]])
    moved = structure.positions + steps @ structure.cell
    grid = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3), axis=-1).reshape(-1, 3) @ structure.cell
    for found in radial_distributions([structure.replace(positions=moved)], 9.0, bins=90):
        numbers = [{"Ar": 18, "Kr": 36}[symbol] for symbol in found.elements]
        centres, others = (structure.positions[structure.numbers == z] for z in numbers)
        vectors = others[None, :, None] + grid[None, None] - centres[:, None, None]
        distances = np.linalg.norm(vectors, axis=-1)
        distances = distances[distances > 1e-9]
        counts, _ = np.histogram(distances, found.edges_angstrom)
        np.testing.assert_allclose(found.coordination, np.cumsum(counts) / len(centres), rtol=1e-12)


def test_supercells_and_changing_cells():
    structure = gas([18] * 4, 0.5 * TRICLINIC, seed=3)
    larger = Structure.from_ase(structure.to_ase().repeat((2, 1, 3)))
    (one,) = radial_distributions([structure], 7.0, 70)
    (many,) = radial_distributions([larger], 7.0, 70)
    np.testing.assert_allclose(many.g, one.g, rtol=1e-9, atol=1e-12)
    stretched = structure.replace(positions=1.1 * structure.positions, cell=1.1 * structure.cell)
    (both,) = radial_distributions([structure, stretched], 7.0, 70)
    (second,) = radial_distributions([stretched], 7.0, 70)
    np.testing.assert_allclose(both.g, (one.g + second.g) / 2, rtol=1e-12)


def test_a_trajectory_is_read():
    rng = np.random.default_rng(4)
    start = Structure.from_ase(ase.build.bulk("Al", "fcc", a=4.05, cubic=True).repeat(2))
    positions = start.positions + rng.normal(scale=0.05, size=(40, len(start), 3))
    zeros = np.zeros(40)
    run = Trajectory(
        start,
        np.arange(40.0),
        positions,
        np.zeros_like(positions),
        zeros,
        zeros,
        zeros,
        None,
        None,
        None,
        0.0,
    )
    (found,) = radial_distributions(run, 6.0, 60)
    (listed,) = radial_distributions([run.structure(k) for k in range(40)], 6.0, 60)
    np.testing.assert_array_equal(found.g, listed.g)
    # the first shell (2.86 ± 0.07 Å) is all below 3.4 Å, the second (4.05) above
    number = coordination_number(run, ("Al", "Al"), 3.4)
    assert number.mean.value == 12.0
    assert number.mean.why_no_interval == "all values are the same"
    # where atoms cross the cut-off there is an interval
    edge = coordination_number(run, ("Al", "Al"), 2.86)
    assert edge.mean.low < edge.mean.value < edge.mean.high
    assert edge.per_frame.shape == (40,)


def test_coordination_by_element():
    rocksalt = Structure.from_ase(ase.build.bulk("NaCl", "rocksalt", a=5.6))
    assert coordination_number([rocksalt], ("Na", "Cl"), 3.0).mean.value == 6.0
    assert coordination_number([rocksalt], ("Na", "Na"), 4.5).mean.value == 12.0
    water = Structure.from_ase(ase.build.molecule("H2O"))
    assert coordination_number([water], ("O", "H"), 1.2).mean.value == 2.0
    assert coordination_number([water], ("H", "O"), 1.2).mean.value == 1.0


def test_distances_within_a_molecule():
    water = Structure.from_ase(ase.build.molecule("H2O"))
    by_pair = {found.elements: found for found in pair_distances([water] * 20, 3.0, bins=30)}
    assert set(by_pair) == {("H", "O"), ("H", "H")}  # there is one oxygen only
    atoms = water.to_ase()
    for elements, (i, j) in {("H", "O"): (0, 1), ("H", "H"): (1, 2)}.items():
        expected = np.zeros(30)
        expected[int(atoms.get_distance(i, j) / 0.1)] = 10.0
        np.testing.assert_allclose(by_pair[elements].density_per_angstrom, expected, rtol=1e-12)
        np.testing.assert_allclose(by_pair[elements].low, expected, rtol=1e-12)
    # share of all pairs: those beyond the last edge are not hidden by the normalisation
    short = pair_distances([water], 1.2, bins=12, elements=[("H", "H")])[0]
    assert short.density_per_angstrom.sum() == 0.0
    assert short.low is None


def test_bad_input_is_named():
    water = Structure.from_ase(ase.build.molecule("H2O"))
    crystal = Structure.from_ase(ase.build.bulk("NaCl", "rocksalt", a=5.6))
    with pytest.raises(UnsuitableStructure, match="use pair_distances"):
        radial_distributions([water], 5.0)
    with pytest.raises(UnsuitableStructure, match="use radial_distributions"):
        pair_distances([crystal], 5.0)
    with pytest.raises(UnsuitableStructure, match="one atom of O"):
        pair_distances([water], 5.0, elements=[("O", "O")])
    with pytest.raises(UnknownElement, match="no atom of 'K'; it has Cl, Na"):
        coordination_number([crystal], ("K", "Cl"), 3.0)
    with pytest.raises(BadInput, match="no frames"):
        radial_distributions([], 5.0)
    with pytest.raises(BadInput, match="0 bins"):
        radial_distributions([crystal], 5.0, bins=0)
    other = crystal.replace(numbers=crystal.numbers[::-1])
    with pytest.raises(BadInput, match="frame 1"):
        radial_distributions([crystal, other], 5.0)
