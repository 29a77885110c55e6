"""Symmetric contractions: equivariant polynomials of degree 1 to 3 in an atom's features.

B_LM = Σ_paths w_path · [A ⊗ … ⊗ A]_path,LM, channel by channel, with weights by element. Paths are
the coupling trees ((l₁ l₂) l' l₃) L that MACE's own code counts: all of them, in its order, those
included that symmetry makes zero or linearly dependent. What is computed are independent trees
only; a constant matrix takes the weights of paths to weights of these.

Source: Batatia et al., NeurIPS 35, 11423 (2022), eq. 10; Dusson et al., J. Comput. Phys. 454,
110946 (2022).
Checked: tests/potentials/blocks/test_contraction.py.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.blocks.products import Terms, dense, elementwise, merged, terms_of
from karat.potentials.linear.coupling import real_coupling

Path = tuple[int, ...]
"""(l₁,), (l₁, l₂) or (l₁, l₂, l', l₃)."""

HIGHEST_CORRELATION = 3


def paths(highest: int, correlation: int, degree: int) -> list[Path]:
    """Paths to `degree` of exactly `correlation` features with l = 0 … highest.

    A feature of degree l changes sign under inversion as (-1)^l, and so does the result;
    intermediate degrees may have either parity.

    Raises:
        BadInput: a correlation other than 1, 2, 3.
    """
    if not 1 <= correlation <= HIGHEST_CORRELATION:
        raise BadInput(f"correlation {correlation} is not possible: 1, 2 or 3 are.")
    degrees = range(highest + 1)
    if correlation == 1:
        return [(degree,)] if degree <= highest else []
    if correlation == 2:
        return [
            (a, b)
            for a, b in itertools.product(degrees, degrees)
            if abs(a - b) <= degree <= a + b and (a + b + degree) % 2 == 0
        ]
    return [
        (a, b, middle, c)
        for a, b in itertools.product(degrees, degrees)
        for middle in range(abs(a - b), a + b + 1)
        for c in degrees
        if abs(middle - c) <= degree <= middle + c and (a + b + c + degree) % 2 == 0
    ]


def path_tensor(highest: int, path: Path, degree: int) -> Float[np.ndarray, "..."]:
    """Coefficients over (component of each factor …, M), made symmetric in the factors."""
    size = (highest + 1) ** 2
    order = {1: 1, 2: 2, 4: 3}[len(path)]
    tensor = np.zeros((size,) * order + (2 * degree + 1,))
    block = [slice(x * x, (x + 1) ** 2) for x in path]
    if order == 1:
        tensor[block[0]] = np.eye(2 * degree + 1)
    elif order == 2:
        tensor[block[0], block[1]] = real_coupling(path[0], path[1], degree)
    else:
        first = real_coupling(path[0], path[1], path[2])
        second = real_coupling(path[2], path[3], degree)
        tensor[block[0], block[1], block[3]] = np.einsum("abm,mcd->abcd", first, second)
    orders = list(itertools.permutations(range(order)))
    return np.mean([np.transpose(tensor, (*p, order)) for p in orders], axis=0)


@dataclass(frozen=True, eq=False)
class Expansion:
    """Weights of all paths to one degree → weights of independent trees.

    Attributes:
        paths: of correlation `highest`, … 2, 1, as the weights count them.
        trees: independent ones.
        matrix: path weights times it are tree weights.
    """

    paths: tuple[Path, ...]
    trees: tuple[Path, ...]
    matrix: Float[np.ndarray, "paths trees"]


@functools.cache
def expansion(highest: int, correlation: int, degree: int) -> Expansion:
    """For features with l = 0 … highest, products of 1 … correlation of them, one L."""
    all_paths: list[Path] = []
    all_trees: list[Path] = []
    blocks = []
    for order in range(correlation, 0, -1):
        found = paths(highest, order, degree)
        flat = np.array([path_tensor(highest, p, degree).ravel() for p in found])
        trees = [_canonical(p) for p in found]
        candidates = sorted(set(trees), key=lambda p: (sum(p), p))
        chosen = _independent(candidates, found, flat)
        rows = [found.index(tree) for tree in chosen]
        if rows:
            blocks.append(np.linalg.lstsq(flat[rows].T, flat.T, rcond=None)[0].T)
        else:
            blocks.append(np.zeros((len(found), 0)))
        all_paths += found
        all_trees += chosen
    matrix = np.zeros((len(all_paths), len(all_trees)))
    row = column = 0
    for block in blocks:
        matrix[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    matrix[np.abs(matrix) < 1e-12] = 0
    return Expansion(tuple(all_paths), tuple(all_trees), matrix)


def _canonical(path: Path) -> Path:
    """The same product with its first two factors in ascending order."""
    return path if len(path) == 1 else (*sorted(path[:2]), *path[2:])


def _independent(
    candidates: list[Path], found: list[Path], flat: Float[np.ndarray, "paths entries"]
) -> list[Path]:
    """The first candidates that are linearly independent."""
    chosen: list[Path] = []
    basis = np.zeros((0, flat.shape[1] if len(flat) else 0))
    for candidate in candidates:
        vector = flat[found.index(candidate)]
        rest = vector - basis.T @ (basis @ vector)
        rest = rest - basis.T @ (basis @ rest)
        size = np.linalg.norm(rest)
        if size > 1e-8:
            chosen.append(candidate)
            basis = np.vstack([basis, rest / size])
    return chosen


@dataclass(frozen=True)
class Contraction:
    """Contractions of features with l = 0 … highest to several degrees at once.

    Attributes:
        highest: of the features.
        correlation: most factors in a product.
        degrees: L of the results.
        unrolled: write all terms out: fastest where only first derivatives are wanted, slow to
            compile where second derivatives are.
    """

    highest: int
    correlation: int
    degrees: tuple[int, ...]
    unrolled: bool = False

    def weight_count(self, degree: int) -> int:
        """Number of paths to `degree`."""
        return len(expansion(self.highest, self.correlation, degree).paths)

    def tree_weights(
        self, degree: int, weights: Float[Array, "species paths channels"]
    ) -> Float[Array, "species trees channels"]:
        """Weights of the independent trees to `degree`."""
        matrix = expansion(self.highest, self.correlation, degree).matrix.T
        return jnp.matmul(jnp.asarray(matrix, weights.dtype), weights, precision="highest")

    def __call__(
        self,
        features: Float[Array, "components atoms channels"],
        weights: Sequence[Float[Array, "_ atoms channels"]],
    ) -> list[Float[Array, "_ atoms channels"]]:
        """Results of each degree.

        Args:
            features: at l² + l + m.
            weights: of each degree's trees (`tree_weights`), for each atom's element.
        """
        plan = _plan(self.highest, self.correlation, self.degrees)
        pairs = self._product(features, features, plan.pair_terms, plan.pair_count)
        return [
            self._one(features, pairs, weight, degree, plan)
            for degree, weight in zip(self.degrees, weights)
        ]

    def _product(self, first: Array, second: Array, terms: Terms, count: int) -> Array:
        if not terms:
            return jnp.zeros((count, *first.shape[1:]), first.dtype)
        if self.unrolled:
            return elementwise(first, second, terms, count, 0)
        return dense(first, second, terms, count)

    def _one(
        self, features: Array, pairs: Array, weight: Array, degree: int, plan: "_Plan"
    ) -> Array:
        trees = expansion(self.highest, self.correlation, degree).trees
        own = slice(degree * degree, (degree + 1) ** 2)
        groups: dict[tuple[int, int], Array] = {}
        result = jnp.zeros((2 * degree + 1, *features.shape[1:]), features.dtype)
        for index, tree in enumerate(trees):
            w = weight[index][None]
            if len(tree) == 1:
                result = result + w * features[own]
                continue
            if len(tree) == 4:
                at = plan.pair_at[tree[0], tree[1], tree[2]]
                left, key = pairs[at : at + 2 * tree[2] + 1], (tree[2], tree[3])
            else:
                left, key = features[tree[0] ** 2 : (tree[0] + 1) ** 2], (tree[0], tree[1])
            groups[key] = w * left if key not in groups else groups[key] + w * left
        if groups:
            keys = tuple(sorted(groups))
            terms = _last_terms(keys, degree)
            stacked = jnp.concatenate([groups[key] for key in keys])
            result = result + self._product(stacked, features, terms, 2 * degree + 1)
        return result


@dataclass(frozen=True, eq=False)
class _Plan:
    pair_terms: Terms
    pair_count: int
    pair_at: dict[tuple[int, int, int], int]


@functools.cache
def _plan(highest: int, correlation: int, degrees: tuple[int, ...]) -> _Plan:
    """All products of two features that trees to any of `degrees` begin with."""
    wanted = sorted(
        {
            (tree[0], tree[1], tree[2])
            for degree in degrees
            for tree in expansion(highest, correlation, degree).trees
            if len(tree) == 4
        }
    )
    terms, at, count = [], {}, 0
    for first, second, middle in wanted:
        at[first, second, middle] = count
        terms += [
            (count + o, first * first + i, second * second + j, c)
            for o, i, j, c in terms_of(real_coupling(first, second, middle))
        ]
        count += 2 * middle + 1
    return _Plan(merged(terms, symmetric=True), count, at)


@functools.cache
def _last_terms(keys: tuple[tuple[int, int], ...], degree: int) -> Terms:
    """Coupling of the groups, one after the other, with the last factor."""
    terms, at = [], 0
    for middle, last in keys:
        terms += [
            (o, at + i, last * last + j, c)
            for o, i, j, c in terms_of(real_coupling(middle, last, degree))
        ]
        at += 2 * middle + 1
    return merged(terms)
