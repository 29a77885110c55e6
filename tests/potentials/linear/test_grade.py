"""Active sets: determinants that no swap improves, and grades of atoms inside and outside."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from karat.potentials.linear.design import Design
from karat.potentials.linear.grade import ATOMS, THRESHOLD, find_active_set, grades
from karat.structures.structure import Structure


def in_blocks(features, size=100):
    return lambda: (features[i : i + size] for i in range(0, len(features), size))


def test_no_swap_enlarges_the_determinant_by_much():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)) * np.array([1, 10, 1e-3, 1, 5, 1e4])
    found = find_active_set(in_blocks(features))
    best = abs(np.linalg.det(found.rows))
    for row, atom in itertools.product(range(6), range(300)):
        swapped = found.rows.copy()
        swapped[row] = features[atom]
        # |det| changes by the weight of the atom in that row
        assert abs(np.linalg.det(swapped)) <= THRESHOLD * best * (1 + 1e-9)
    np.testing.assert_allclose(found.rows @ found.inverse, np.eye(6), atol=1e-9)
    assert grades(features, found.inverse).max() <= THRESHOLD * (1 + 1e-9)
    assert found.largest <= THRESHOLD
    rows = {tuple(row) for row in features}
    assert all(tuple(row) in rows for row in found.rows)


def test_the_determinant_is_near_the_largest_of_all():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(14, 3))
    found = find_active_set(in_blocks(features, 5))
    best = max(abs(np.linalg.det(features[list(c)])) for c in itertools.combinations(range(14), 3))
    # MaxVol guarantees a factor of 3^(3/2); it is mostly near one
    assert abs(np.linalg.det(found.rows)) > 0.5 * best


def test_blocks_and_repetitions_do_not_matter_for_what_holds():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(3 * ATOMS, 8))
    first, again = find_active_set(in_blocks(features)), find_active_set(in_blocks(features))
    np.testing.assert_array_equal(first.inverse, again.inverse)
    other = find_active_set(in_blocks(features, 700))
    assert grades(features, other.inverse).max() <= THRESHOLD * (1 + 1e-9)


def test_in_one_dimension_it_is_the_ratio_to_the_largest():
    features = np.array([[0.5], [-2.0], [1.0]])
    found = find_active_set(in_blocks(features))
    np.testing.assert_allclose(
        grades(np.array([[1.0], [-4.0]]), found.inverse), [0.5, 2.0], rtol=1e-12
    )


def test_directions_without_data_extrapolate():
    """Features that never vary: an atom that leaves their span has a huge grade."""
    rng = np.random.default_rng(3)
    features = np.column_stack([rng.normal(size=(50, 2)), np.zeros(50)])
    features = np.column_stack([features, features[:, 0] + features[:, 1]])
    found = find_active_set(in_blocks(features))
    inside = grades(features, found.inverse)
    assert inside.max() <= THRESHOLD * (1 + 1e-6)
    outside = np.array([[0.1, 0.1, 0.3, 0.2], [0.1, 0.1, 0.0, 0.3]])
    assert (grades(outside, found.inverse) > 1e3).all()


def test_more_features_than_atoms_are_no_error():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(5, 12))
    found = find_active_set(in_blocks(features))
    assert grades(features, found.inverse).max() <= THRESHOLD * (1 + 1e-6)
    assert grades(rng.normal(size=(3, 12)), found.inverse).min() > 1e3


def test_elements_have_active_sets_of_their_own():
    rng = np.random.default_rng(5)
    one, two = rng.normal(size=(60, 3)), 10 * rng.normal(size=(60, 3))
    both = np.zeros((120, 6))
    both[::2, :3], both[1::2, 3:] = one, two
    found = find_active_set(in_blocks(both))
    own = np.abs(found.rows[:, :3]).max(axis=1) > 0
    assert own.sum() == 3
    assert not found.inverse[3:][:, own].any()
    # an atom of the first element as large as those of the second extrapolates
    assert grades(np.array([[20.0, 20, 20, 0, 0, 0]]), found.inverse)[0] > 3


def test_compressed_crystals_and_foreign_phases_stand_out(gaussians, make_crystal):
    rng = np.random.default_rng(6)
    module = gaussians(radials=6).basis((29,), "float64")
    design = Design(module, derivatives=False)
    train = [make_crystal(rng) for _ in range(20)]
    test = [make_crystal(rng) for _ in range(10)]
    compressed = [Structure(s.numbers, 0.8 * s.positions, 0.8 * s.cell, s.periodic) for s in test]
    foreign = [_simple_cubic(rng) for _ in range(10)]
    found = find_active_set(lambda: (rows.atoms for rows in design.rows(train)))

    def largest(structures):
        return [grades(rows.atoms, found.inverse).max() for rows in design.rows(structures)]

    inside = largest(test)
    for outside in (largest(compressed), largest(foreign)):
        truth = [0] * len(inside) + [1] * len(outside)
        assert roc_auc_score(truth, inside + outside) > 0.95
    assert np.median(inside) < 2


def _simple_cubic(rng):
    """Rattled simple cubic at the volume per atom of the fcc crystals."""
    lattice = 3.6 / 4 ** (1 / 3)
    places = np.array(list(np.ndindex(4, 4, 4)))
    positions = lattice * places + rng.normal(0, 0.1, (len(places), 3))
    return Structure(np.full(64, 29), positions, 4 * lattice * np.eye(3), np.ones(3, bool))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_of_features_do_not_matter(scale):
    rng = np.random.default_rng(7)
    features = rng.normal(size=(200, 5))
    units = np.array([1.0, scale, 1.0, scale**0.5, 1.0])
    plain = find_active_set(in_blocks(features))
    scaled = find_active_set(in_blocks(features * units))
    probe = 3 * rng.normal(size=(10, 5))
    np.testing.assert_allclose(
        grades(probe, plain.inverse), grades(probe * units, scaled.inverse), rtol=1e-8
    )
