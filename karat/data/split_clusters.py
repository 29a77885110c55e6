"""Clusters of similar structures: k-means on geometric fingerprints, without n² matrices.

Checked: tests/data/test_split_clusters.py.
"""

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import BadInput

MAX_ROUNDS = 50
"""Rounds of Lloyd's algorithm; it ends before where no structure moves."""

SAMPLE = 20_000
"""Structures among which the first centres are drawn."""

_CHUNK = 8192


def clusters(
    features: Float[np.ndarray, "structures features"], count: int, seed: int
) -> Int[np.ndarray, "structures"]:
    """The cluster of each structure, 0 to k - 1, none empty; k is at most `count`.

    k-means with k-means++ seeding; fewer clusters than asked for where there are fewer distinct
    structures. Time and memory grow as structures × count.

    Raises:
        BadInput: count below 1.

    Source: Arthur & Vassilvitskii, Proc. 18th ACM-SIAM Symp. Discrete Algorithms, 1027 (2007).
    """
    if count < 1:
        raise BadInput(f"clusters is {count}; needs at least 1.")
    from scipy.sparse import csr_matrix

    generator = np.random.default_rng(seed)
    centred = features - features.mean(axis=0)
    centres = _first_centres(centred, count, generator)
    owner = np.full(len(centred), -1)
    for _ in range(MAX_ROUNDS):
        nearest = nearest_of(centred, centres)[0]
        if (nearest == owner).all():
            break
        owner = nearest
        members = csr_matrix(
            (np.ones(len(owner)), (owner, np.arange(len(owner)))), (len(centres), len(owner))
        )
        sums = members @ centred
        sizes = np.bincount(owner, minlength=len(centres))
        kept = sizes > 0
        centres = sums[kept] / sizes[kept, None]
        owner = (np.cumsum(kept) - 1)[owner]
    return np.unique(owner, return_inverse=True)[1]


def _first_centres(features: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Each next one drawn with a chance in proportion to its squared distance from the others."""
    pool = features
    if len(pool) > SAMPLE:
        pool = features[np.sort(generator.choice(len(features), SAMPLE, replace=False))]
    chosen = [int(generator.integers(len(pool)))]
    squared = np.square(pool - pool[chosen[0]]).sum(axis=1)
    while len(chosen) < min(count, len(pool)) and squared.max() > 0.0:
        chosen.append(int(generator.choice(len(pool), p=squared / squared.sum())))
        squared = np.minimum(squared, np.square(pool - pool[chosen[-1]]).sum(axis=1))
    return pool[chosen]


def nearest_of(
    features: Float[np.ndarray, "structures features"],
    others: Float[np.ndarray, "others features"],
) -> tuple[Int[np.ndarray, "structures"], Float[np.ndarray, "structures"]]:
    """For each row the nearest of `others`, and its distance."""
    index = np.empty(len(features), dtype=np.int64)
    distance = np.empty(len(features))
    norms = np.square(others).sum(axis=1)
    step = max(1, _CHUNK * 64 // max(len(others), 1))
    for start in range(0, len(features), step):
        part = features[start : start + step]
        found = np.argmin(norms - 2.0 * part @ others.T, axis=1)
        index[start : start + step] = found
        distance[start : start + step] = np.linalg.norm(part - others[found], axis=1)
    return index, distance
