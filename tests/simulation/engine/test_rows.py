"""Neighbour rows of the device against the host's lists (vesin)."""

import itertools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk, molecule

from karat.simulation.engine.plan import fullest_cell, longest_row, make_plan
from karat.simulation.engine.rows import build_rows, image_vectors, images_of, wrap
from karat.simulation.engine.systems import pack_cells, pack_systems
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

built = eqx.filter_jit(build_rows)


def rattled(atoms, seed, scale=0.2):
    atoms = atoms.copy()
    atoms.rattle(scale, seed=seed)
    return Structure.from_ase(atoms)


def skewed(atoms):
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell[:] @ [[1, 0, 0], [0.9, 1, 0], [-0.7, 0.8, 1]], scale_atoms=True)
    return atoms


def slab():
    atoms = bulk("Cu", cubic=True) * (2, 3, 2)
    atoms.pbc = [True, True, False]
    atoms.center(vacuum=8.0, axis=2)
    return atoms


CASES = {
    "large": (bulk("Cu", cubic=True) * (6, 5, 4), 4.0),
    "two cells a side": (bulk("Cu", cubic=True) * (3, 3, 3), 4.5),
    "skewed": (skewed(bulk("Cu", cubic=True) * (4, 4, 4)), 4.0),
    "primitive with many images": (bulk("Cu"), 9.0),
    "flat primitive": (skewed(bulk("Cu") * (1, 1, 3)), 7.0),
    "slab": (slab(), 5.0),
    "molecule": (molecule("C60"), 3.0),
    "wire": (molecule("C60", cell=[9.0, 0, 0], pbc=[True, False, False]), 5.0),
}


def listed(structures, reach, loose=False, shift=0.0, width=None, shrink=1.0):
    """(centre, neighbour, vector) of every pair that the device lists, and the rows."""
    width = width or longest_row(structures, reach)
    args = {
        "periodic": np.array([s.periodic for s in structures]),
        "sizes": np.array([len(s) for s in structures]),
        "positions": np.concatenate([s.positions for s in structures]),
        "cells": pack_cells(structures)[:-1],
        "reach": reach,
        "loose": loose,
        "dtype": np.dtype("float64"),
    }
    _, grid = make_plan(**args, width=width, capacity=1)
    plan, grid = make_plan(**args, width=width, capacity=fullest_cell(grid, structures) + 1)
    systems = pack_systems(structures, np.dtype("float64"))
    cells = jnp.asarray(pack_cells(structures) * shrink)
    moved = (args["positions"] + shift) * shrink
    positions = jnp.asarray(np.concatenate([moved, np.zeros((1, 3))]))
    rows = built(plan, grid, systems, positions, cells)
    wrapped = np.asarray(wrap(positions, rows.wraps, systems, cells))
    images = np.asarray(image_vectors(plan, cells))
    neighbours, codes = np.asarray(rows.neighbours), np.asarray(rows.images)
    last = systems.atoms - 1
    centre, slot = np.nonzero((neighbours != last) & (np.arange(len(neighbours)) < last)[:, None])
    other = neighbours[centre, slot]
    system = np.asarray(systems.system)[centre]
    vectors = wrapped[other] - wrapped[centre]
    vectors = vectors + images[system * images_of(plan) + codes[centre, slot]]
    return centre, other, vectors, rows, plan


def sorted_pairs(centers, neighbours, vectors):
    order = np.lexsort((*np.round(vectors, 6).T, neighbours, centers))
    return centers[order], neighbours[order], vectors[order]


def assert_same(structures, reach, found):
    offset, parts = 0, []
    for structure in structures:
        pairs = neighbour_pairs(structure, reach)
        parts.append((pairs.centers + offset, pairs.neighbours + offset, pairs.vectors))
        offset += len(structure)
    expected = sorted_pairs(*(np.concatenate(column) for column in zip(*parts)))
    got = sorted_pairs(*found[:3])
    assert np.array_equal(got[0], expected[0])
    assert np.array_equal(got[1], expected[1])
    # rounding of positions of 10 Å
    np.testing.assert_allclose(got[2], expected[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_host_finds_the_same_pairs(name):
    atoms, reach = CASES[name]
    structure = rattled(atoms, seed=len(name))
    found = listed([structure], reach)
    assert bool(found[3].fits)
    assert_same([structure], reach, found)


def test_different_systems_side_by_side():
    structures = [rattled(atoms, seed=i) for i, (atoms, _) in enumerate(CASES.values())]
    found = listed(structures, 3.2)
    assert bool(found[3].fits)
    assert_same(structures, 3.2, found)


def test_wide_cells_take_nearest_images():
    """Few atoms in cells wider than twice the reach: no grid, and the same pairs."""
    wide = [skewed(bulk("Si", cubic=True) * (2, 2, 2)), bulk("Si", cubic=True) * (2, 3, 2)]
    structures = [rattled(atoms, seed=i) for i, atoms in enumerate([*wide, molecule("C60")])]
    reach = 0.49 * min(
        1 / np.linalg.norm(np.linalg.inv(s.cell), axis=0).max() for s in structures[:2]
    )
    found = listed(structures, reach)
    assert found[4].nearest
    assert bool(found[3].fits)
    assert_same(structures, reach, found)
    assert not bool(listed(structures, reach, shrink=0.97)[3].fits)


def test_atoms_outside_the_cell_are_wrapped():
    structure = rattled(CASES["skewed"][0], seed=5)
    moved = listed([structure], 4.0, shift=np.array([37.0, -51.0, 16.0]))
    assert_same([structure], 4.0, moved)


def test_what_does_not_fit_is_said():
    structure = rattled(CASES["large"][0], seed=1)
    widest = int(np.bincount(neighbour_pairs(structure, 4.0).centers).max())
    rows = listed([structure], 4.0, width=widest - 1)[3]
    assert not bool(rows.fits)
    assert int(rows.needed[0]) == widest
    assert bool(listed([structure], 4.0, width=widest)[3].fits)


def test_a_cell_that_shrank_below_its_grid_is_said():
    structure = rattled(CASES["large"][0], seed=2)
    args = {
        "periodic": structure.periodic[None],
        "sizes": np.array([len(structure)]),
        "positions": structure.positions,
        "cells": structure.cell[None],
        "reach": 4.0,
        "width": 40,
        "capacity": 40,
        "dtype": np.dtype("float64"),
    }
    systems = pack_systems([structure], np.dtype("float64"))
    cells = pack_cells([structure])
    outcome = {}
    for loose, factor in itertools.product((False, True), (1.0, 0.9)):
        plan, grid = make_plan(**args, loose=loose)
        positions = np.concatenate([structure.positions * factor, np.zeros((1, 3))])
        rows = built(plan, grid, systems, jnp.asarray(positions), jnp.asarray(cells * factor))
        outcome[loose, factor] = bool(rows.fits)
    assert outcome == {(False, 1.0): True, (False, 0.9): False, (True, 1.0): True,
                       (True, 0.9): True}  # fmt: skip
