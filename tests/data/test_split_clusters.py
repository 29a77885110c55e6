"""Clusters: known ones are found, sizes are bounded, large sets are quick."""

import time

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.split_clusters import clusters, nearest_of


def blobs(count, each, size=16, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(count, size)) * 10
    owner = np.repeat(np.arange(count), each)
    return centres[owner] + generator.normal(size=(count * each, size)) * 0.1, owner


def test_separate_clouds_are_found_whatever_the_seed():
    features, owner = blobs(6, 40)
    for seed in range(5):
        # k-means++ may put two first centres in one cloud; with twice as many clusters than
        # clouds no cluster may span two
        found = clusters(features, 12, seed)
        for cluster in range(found.max() + 1):
            assert len(set(owner[found == cluster].tolist())) == 1
        assert (clusters(features, 12, seed) == found).all()


def test_every_structure_is_with_its_nearest_centre():
    features = np.random.default_rng(1).normal(size=(500, 8))
    found = clusters(features, 7, seed=3)
    assert sorted(set(found.tolist())) == list(range(7))
    centres = np.array([features[found == c].mean(axis=0) for c in range(7)])
    distances = np.linalg.norm(features[:, None] - centres, axis=2)
    assert (distances.argmin(axis=1) == found).mean() > 0.99  # Lloyd's algorithm has converged


def test_alike_structures_give_fewer_clusters():
    features = np.repeat(np.eye(3), 5, axis=0)
    assert sorted(set(clusters(features, 10, 0).tolist())) == [0, 1, 2]
    assert set(clusters(np.ones((4, 2)), 3, 0).tolist()) == {0}
    with pytest.raises(BadInput, match="clusters is 0"):
        clusters(features, 0, 0)


def test_nearest_is_the_nearest():
    generator = np.random.default_rng(2)
    features, others = generator.normal(size=(700, 5)), generator.normal(size=(900, 5))
    index, distance = nearest_of(features, others)
    full = np.linalg.norm(features[:, None] - others, axis=2)
    np.testing.assert_array_equal(index, full.argmin(axis=1))
    np.testing.assert_allclose(distance, full.min(axis=1), rtol=1e-12)


@pytest.mark.slow
def test_a_hundred_thousand_structures():
    """Seconds and no n² matrix: 1e5² numbers would be 80 GB."""
    features = np.random.default_rng(0).normal(size=(100_000, 64))
    start = time.process_time()
    found = clusters(features, 50, seed=0)
    assert found.max() == 49
    assert time.process_time() - start < 60.0
