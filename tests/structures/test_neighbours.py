"""Neighbour lists against a brute-force sum over images and against ASE's list."""

import itertools

import numpy as np
import pytest
from ase.neighborlist import primitive_neighbor_list

from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

CELLS = {
    "cubic": 6.0 * np.eye(3),
    "small": np.diag([2.1, 2.4, 1.9]),
    "skewed": np.array([[4.0, 0, 0], [3.6, 3.0, 0], [-3.1, 2.2, 3.5]]),
    "left-handed": np.array([[0, 4.0, 0], [4.5, 0, 0.3], [0.2, 0, 5.0]]),
    "needle": np.array([[1.5, 0, 0], [0, 9.0, 0], [0, 0, 9.0]]),
}
PERIODIC = {
    "xyz": np.array([True, True, True]),
    "xy": np.array([True, True, False]),
    "z": np.array([False, False, True]),
    "none": np.zeros(3, bool),
}


def structure(cell, periodic, atoms=5):
    """Atoms also outside the cell, as after long dynamics."""
    generator = np.random.default_rng(int(abs(cell).sum() * 100) % 2**31)
    positions = generator.uniform(-1.5, 1.5, size=(atoms, 3)) @ cell
    box = np.where(periodic[:, None], cell, 0.0)
    return Structure(np.full(atoms, 14), positions, box, periodic)


def brute_force(structure, cutoff):
    """{(i, j, shift): vector} over all images that can be within the cut-off."""
    found = {}
    full = structure.cell + np.diag(~structure.periodic * 1.0)
    planes = 1.0 / np.linalg.norm(np.linalg.inv(full), axis=0)
    # an image further away in one direction than the widest pair plus the cut-off cannot count
    reach = np.ceil(cutoff / planes + np.ptp(structure.positions @ np.linalg.inv(full), axis=0))
    counts = np.where(structure.periodic, reach, 0).astype(int)
    shifts = np.array(list(itertools.product(*[range(-n, n + 1) for n in counts])))
    for i, j in itertools.product(range(len(structure)), repeat=2):
        vectors = structure.positions[j] - structure.positions[i] + shifts @ structure.cell
        near = np.linalg.norm(vectors, axis=1) < cutoff
        for shift, vector in zip(shifts[near], vectors[near]):
            if i != j or shift.any():
                found[i, j, *(int(n) for n in shift)] = vector
    return found


@pytest.mark.parametrize("periodic", PERIODIC)
@pytest.mark.parametrize("cell", CELLS)
def test_equals_brute_force_and_ase(cell, periodic):
    one = structure(CELLS[cell], PERIODIC[periodic])
    cutoff = 4.3
    pairs = neighbour_pairs(one, cutoff)
    mine = {
        (int(i), int(j), *(int(n) for n in s)): v
        for i, j, s, v in zip(pairs.centers, pairs.neighbours, pairs.shifts, pairs.vectors)
    }
    assert len(mine) == len(pairs)
    expected = brute_force(one, cutoff)
    assert mine.keys() == expected.keys()
    keys = sorted(mine)
    if keys:
        np.testing.assert_allclose(
            [mine[key] for key in keys], [expected[key] for key in keys], atol=1e-12
        )
    full = one.cell + np.diag(~one.periodic * 1.0)  # ASE wants a cell of full rank
    i, j, s = primitive_neighbor_list("ijS", one.periodic, full, one.positions, cutoff)
    theirs = {(int(a), int(b), *(int(n) for n in c)) for a, b, c in zip(i, j, s)}
    assert mine.keys() == theirs


def test_sorted_and_twice():
    pairs = neighbour_pairs(structure(CELLS["skewed"], PERIODIC["xyz"]), 4.0)
    keys = list(zip(pairs.centers, pairs.neighbours, *pairs.shifts.T))
    assert keys == sorted(keys)
    assert len(keys) > 50
    turned = {(j, i, -a, -b, -c) for i, j, a, b, c in keys}
    assert turned == set(keys)


def test_small_cell_counts_shells():
    """Simple cubic: 6, 12 and 8 neighbours at 1, √2 and √3 lattice constants, from one atom."""
    one = Structure(np.array([84]), np.zeros((1, 3)), 3.0 * np.eye(3), np.ones(3, bool))
    counts = [len(neighbour_pairs(one, 3.0 * r)) for r in (0.99, 1.01, 1.42, 1.74)]
    assert counts == [0, 6, 18, 26]


def test_lone_atom_has_none():
    one = Structure(np.array([1]), np.zeros((1, 3)))
    pairs = neighbour_pairs(one, 5.0)
    assert (len(pairs), pairs.vectors.shape, pairs.shifts.shape) == (0, (0, 3), (0, 3))


def test_pair_at_the_cutoff_is_outside():
    two = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [2.0, 0, 0]]))
    assert len(neighbour_pairs(two, 2.0)) == 0
    assert len(neighbour_pairs(two, np.nextafter(2.0, 3.0))) == 2
