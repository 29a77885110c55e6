import numpy as np
import pytest

from karat.potentials.batch import PADDING_DISTANCE, make_batch, pad, round_up, triplet_indices
from karat.structures.builders import crystal
from karat.structures.structure import Structure

WATER = Structure(
    numbers=np.array([8, 1, 1]),
    positions=np.array([[0.0, 0, 0], [0.97, 0.05, 0], [-0.25, 0.93, 0.03]]),
)
ATOM = Structure(numbers=np.array([2]), positions=np.zeros((1, 3)))


def test_padding_keeps_its_promises():
    structures = [WATER, ATOM, crystal("Si"), WATER, WATER]
    batch = make_batch(structures, 3.0, np.float64, with_triplets=True)
    real = np.asarray(batch.pair_mask)
    pairs = int(real.sum())
    assert np.asarray(batch.atom_mask).sum() == 12
    assert pairs == 3 * 6 + 8
    assert pairs < len(real)
    assert real[:pairs].all()
    last = batch.atoms - 1
    assert not batch.atom_mask[last]
    assert batch.system[last] == batch.systems - 1
    np.testing.assert_array_equal(batch.centers[pairs:], last)
    np.testing.assert_array_equal(batch.neighbours[pairs:], last)
    lengths = np.linalg.norm(batch.vectors, axis=1)
    np.testing.assert_array_equal(lengths[pairs:], PADDING_DISTANCE)
    assert lengths[:pairs].max() < 3.0
    assert np.all(np.diff(batch.centers) >= 0)
    np.testing.assert_array_equal(batch.system[:12], [0, 0, 0, 1, 2, 2, 3, 3, 3, 4, 4, 4])
    assert float(batch.volume[0]) == 1.0
    assert float(batch.volume[2]) == pytest.approx(5.43**3 / 4)


def test_pairs_and_vectors_are_those_of_the_structure():
    batch = make_batch([ATOM, WATER], 3.0, np.float64, with_triplets=False)
    assert batch.triplets is None
    positions = np.concatenate([ATOM.positions, WATER.positions])
    found = {}
    for i, j, v in zip(
        *(np.asarray(a)[:6] for a in (batch.centers, batch.neighbours, batch.vectors))
    ):
        found[int(i), int(j)] = v
    assert set(found) == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3) if i != j}
    for (i, j), vector in found.items():
        np.testing.assert_allclose(vector, positions[j] - positions[i], atol=1e-15)


def test_triplets_share_a_centre_and_come_once():
    centers = np.array([0, 0, 0, 2, 2, 5])
    triplets = triplet_indices(centers)
    expected = [(a, b) for a in range(6) for b in range(a + 1, 6) if centers[a] == centers[b]]
    assert {tuple(t) for t in triplets.tolist()} == set(expected)
    assert len(triplets) == len(expected)
    assert np.all(np.diff(centers[triplets[:, 0]]) >= 0)
    assert triplet_indices(np.zeros(0, int)).shape == (0, 2)


def test_no_pairs_at_all():
    batch = make_batch([ATOM], 3.0, np.float64, with_triplets=True)
    assert not np.asarray(batch.pair_mask).any()
    assert not np.asarray(batch.triplet_mask).any()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 17, 100, 1000, 12345])
def test_rounding_up_wastes_at_most_a_quarter(size):
    rounded = round_up(size)
    assert max(size, 1) <= rounded <= 1.25 * max(size, 1)
    assert round_up(rounded) == rounded


def test_few_distinct_sizes():
    assert len({round_up(n) for n in range(1000, 2001)}) <= 6


def test_pad():
    np.testing.assert_array_equal(pad(np.array([1, 2]), 4, 9), [1, 2, 9, 9])


def test_given_sizes_and_lists_are_used():
    from karat.structures.neighbours import neighbour_pairs

    batch = make_batch(
        [WATER],
        3.0,
        np.float32,
        with_triplets=True,
        pair_lists=[neighbour_pairs(WATER, 1.2)],
        sizes=(9, 20, 7, 4),
    )
    assert (batch.atoms, len(batch.centers), len(batch.triplets), batch.systems) == (9, 20, 7, 4)
    assert int(batch.pair_mask.sum()) == 4
    assert batch.vectors.dtype == np.float32
