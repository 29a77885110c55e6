"""Permutational symmetries of one molecule, recovered from its own trajectory.

Checked: tests/potentials/kernel/test_permutations.py, against groups known from chemistry and
against what the `sgdml` package finds.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

from karat.core.errors import BadInput

MAX_GROUP = 100
"""Closures that grow beyond it come from a wrong match, not from a molecule."""

MAX_STRUCTURES = 1000
"""So many structures are matched at most: the number of pairs grows with the square."""


def find_permutations(
    positions: Float[np.ndarray, "frames atoms 3"],
    numbers: Int[np.ndarray, "atoms"],
    progress: Callable[[int, int], None] | None = None,
) -> Int[np.ndarray, "permutations atoms"]:
    """The group of permutations of like atoms that the structures show to be feasible.

    Each pair of structures is matched (the assignment of atoms whose distance matrices are most
    alike in their eigenvectors' magnitudes, kept where it brings the distance matrices closer);
    the matches along the minimum spanning tree of the pairs generate the group. Symmetries that
    no transition between the structures shows (the two enantiomers of a rigid group, say) are
    not found: that is the method's aim.

    Returns:
        Rows π with (P x)_a = x_π(a); ascending, the identity first.

    Source: Chmiela et al., Nat. Commun. 9, 3887 (2018), "Multipartite matching"; matching by
    Umeyama, IEEE PAMI 10, 695 (1988).
    """
    frames = np.asarray(positions, dtype=np.float64)[:MAX_STRUCTURES]
    identity = np.arange(len(numbers))
    matches, costs = _match_pairs(frames, np.asarray(numbers), progress)
    if not matches:
        return identity[None]
    rows, columns = np.triu_indices(len(frames), 1)
    # csgraph reads a zero as "no edge": equal structures are joined at the smallest cost instead
    weights = np.maximum(costs[rows, columns], np.finfo(float).tiny)
    graph = coo_matrix((weights, (rows, columns)), shape=costs.shape).tocsr()
    tree = minimum_spanning_tree(graph).tocoo()
    edges = {(int(min(i, j)), int(max(i, j))) for i, j in zip(tree.row, tree.col)}
    generators = sorted({matches[edge] for edge in edges if edge in matches})
    group = close_group(generators, len(numbers))
    if group is None:
        group = close_group(_compatible(generators), len(numbers))
    return identity[None] if group is None else group


def _match_pairs(
    frames: np.ndarray, numbers: np.ndarray, progress: Callable[[int, int], None] | None
) -> tuple[dict[tuple[int, int], tuple[int, ...]], np.ndarray]:
    """Permutations of pairs (i < j) that are not the identity, and the distance that is left."""
    count, atoms = frames.shape[:2]
    distances = np.linalg.norm(frames[:, :, None] - frames[:, None], axis=-1)
    _, vectors = np.linalg.eigh(distances)
    magnitudes = np.abs(vectors[:, :, ::-1])
    # far above any sum of products of unit vectors' entries: unlike atoms are never exchanged
    forbidden = np.where(numbers[:, None] != numbers[None], 1.0e3, 0.0)
    flat = distances.reshape(count, -1)
    costs = np.zeros((count, count))
    matches: dict[tuple[int, int], tuple[int, ...]] = {}
    for i in range(count):
        if progress is not None:
            progress(i, count)
        before = np.linalg.norm(flat[i] - flat[i + 1 :], axis=1)
        similarity = magnitudes[i] @ magnitudes[i + 1 :].transpose(0, 2, 1)
        for step, (unmatched, alike) in enumerate(zip(before, similarity)):
            j = i + 1 + step
            order = linear_sum_assignment(forbidden - alike)[1]
            # order[a]: the atom of j that is a of i; distances of i in j's order are compared
            permutation = np.empty(atoms, dtype=int)
            permutation[order] = np.arange(atoms)
            moved = distances[i][np.ix_(permutation, permutation)]
            matched = np.linalg.norm(moved - distances[j])
            costs[i, j] = min(matched, unmatched)
            if matched < unmatched and not np.isclose(matched, unmatched):
                matches[i, j] = tuple(permutation.tolist())
    return matches, costs


def close_group(
    generators: list[tuple[int, ...]], atoms: int, limit: int = MAX_GROUP
) -> np.ndarray | None:
    """The group that permutations generate, ascending; `None` where it exceeds `limit`."""
    group = {tuple(range(atoms))}
    fresh = list(group)
    while fresh:
        products = {tuple(g[i] for i in one) for one in fresh for g in generators}
        fresh = sorted(products - group)
        group |= set(fresh)
        if len(group) > limit:
            return None
    return np.array(sorted(group), dtype=np.int64)


def check_group(
    permutations: Int[np.ndarray, "permutations atoms"], numbers: Int[np.ndarray, "atoms"]
) -> None:
    """Refuse rows that are no group of permutations of like atoms.

    Raises:
        BadInput: naming the row.
    """
    rows = [tuple(row) for row in permutations.tolist()]
    atoms = list(range(len(numbers)))
    for row in rows:
        if sorted(row) != atoms:
            raise BadInput(f"sgdml: {list(row)} is no permutation of 0 … {len(atoms) - 1}.")
        if not np.array_equal(numbers[list(row)], numbers):
            raise BadInput(f"sgdml: the permutation {list(row)} exchanges unlike atoms.")
    group = set(rows)
    closed = all(tuple(a[i] for i in b) in group for a in rows for b in rows)
    if len(group) != len(rows) or not closed or tuple(atoms) not in group:
        raise BadInput(f"sgdml: the {len(rows)} permutations are not a group.")


def _compatible(generators: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Generators none of whose cycles shares an atom with a longer cycle of another: a wrong
    match joins atoms of several true cycles or breaks one up."""
    cycles = {one: [c for c in _cycles(one) if len(c) > 1] for one in generators}
    longest = [set(cycle) for found in cycles.values() for cycle in found]
    return [
        one
        for one, found in cycles.items()
        if not any(len(c) < len(other) and other & set(c) for c in found for other in longest)
    ]


def _cycles(permutation: tuple[int, ...]) -> list[list[int]]:
    left, found = set(range(len(permutation))), []
    while left:
        start = min(left)
        cycle = [start]
        while permutation[cycle[-1]] != start:
            cycle.append(permutation[cycle[-1]])
        left -= set(cycle)
        found.append(cycle)
    return found
