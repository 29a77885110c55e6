"""Energies of an expansion's features summed up, as polynomials of one-particle functions A.

Products of two A are coupled to functions Q_L that rotate like harmonics; products of three are
Q_L · A_L and of four Q_L · Q_L, so that coefficients enter as matrices between lists of Q and A.
All is written for many atoms at a time, atoms in the last axis.

Source: in the spirit of Dusson et al., J. Comput. Phys. 454, 110946 (2022), section on recursive
evaluation.
Checked: tests/potentials/linear/test_ace_module.py, against features times coefficients.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.potentials.linear.ace_basis import AceBasis, AceSpec, Radial, ace_basis
from karat.potentials.linear.coupling import real_coupling

Mix = Callable[[Array, Array], Array]
"""(centres rows columns), (M columns atoms) → (M rows atoms): with the matrix of each atom."""


@dataclass(frozen=True, eq=False)
class Block:
    """Pairs of one-particle functions with two given l, and the L they are coupled to.

    Attributes:
        degrees: l₁ ≤ l₂.
        runs: channel of the first, and the range of channels of the second; one after the other
            these are the pairs.
        middles: L.
        coupling: from (m₁, m₂) to the M of all L; `None` where l₁ = 0, so that Q = A₁ A₂.
    """

    degrees: tuple[int, int]
    runs: tuple[tuple[int, int, int], ...]
    middles: tuple[int, ...]
    coupling: Float[np.ndarray, "all both"] | None


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix of coefficients: entry [row, column] is the sum of weight · coefficient."""

    shape: tuple[int, int]
    rows: Int[np.ndarray, "entries"]
    columns: Int[np.ndarray, "entries"]
    features: Int[np.ndarray, "entries"]
    weights: Float[np.ndarray, "entries"]

    def fill(
        self, coefficients: Float[Array, "centres features"]
    ) -> Float[Array, "centres rows columns"]:
        """The matrix of each central element."""
        weights = jnp.asarray(self.weights, coefficients.dtype)[None]
        entries = coefficients[:, jnp.asarray(self.features)] * weights
        flat = jnp.zeros((coefficients.shape[0], self.shape[0] * self.shape[1]), entries.dtype)
        flat = flat.at[:, jnp.asarray(self.rows * self.shape[1] + self.columns)].add(entries)
        return flat.reshape(-1, *self.shape)


@dataclass(frozen=True, eq=False)
class Tree:
    """How the polynomial is evaluated.

    Attributes:
        channels: so many occur with l = 0, 1, …
        blocks: see `Block`.
        squares: of each l, the symmetric matrix between A (products of two).
        triples: of each L that occurs, the matrix between Q and A.
        fours: of each L that occurs, the symmetric matrix between Q.
    """

    channels: tuple[int, ...]
    blocks: tuple[Block, ...]
    squares: tuple[Matrix, ...]
    triples: dict[int, Matrix]
    fours: dict[int, Matrix]


@functools.lru_cache(maxsize=8)
def make_tree(spec: AceSpec) -> Tree:
    """The tree of all many-body features of one central element."""
    basis = ace_basis(spec)
    channels = [0] * (basis.highest + 1)
    for factors in basis.members:
        for degree, channel in factors:
            channels[degree] = max(channels[degree], channel + 1)
    blocks = _blocks(basis)
    places = _places(blocks)
    sizes = {middle: 1 + max(table.values()) for middle, table in places.items()}
    squares: dict[int, list] = {degree: [] for degree in range(len(channels))}
    triples: dict[int, list] = {}
    fours: dict[int, list] = {}
    for feature, (factors, trees) in enumerate(zip(basis.members, basis.couplings)):
        if len(factors) == 2:
            (degree, first), (_, second) = factors
            weight = trees[0][1] / sqrt(2 * degree + 1)
            squares[degree] += _both(first, second, feature, weight)
            continue
        for middle, value in trees:
            weight = value / sqrt(2 * middle + 1)
            left = places[middle][factors[0], factors[1]]
            if len(factors) == 3:
                entry = (left, factors[2][1], feature, weight)
                triples.setdefault(middle, []).append(entry)
            else:
                right = places[middle][factors[2], factors[3]]
                fours.setdefault(middle, []).extend(_both(left, right, feature, weight))
    return Tree(
        channels=tuple(channels),
        blocks=blocks,
        squares=tuple(
            _matrix((channels[degree], channels[degree]), entries)
            for degree, entries in squares.items()
        ),
        triples={m: _matrix((sizes[m], channels[m]), e) for m, e in sorted(triples.items())},
        fours={m: _matrix((sizes[m], sizes[m]), e) for m, e in sorted(fours.items())},
    )


def _both(left: int, right: int, feature: int, weight: float) -> list:
    """A symmetric matrix: half of it squared with A is weight · A_left A_right."""
    return [(left, right, feature, weight), (right, left, feature, weight)]


def _matrix(shape: tuple[int, int], entries: list) -> Matrix:
    rows, columns, features, weights = zip(*entries) if entries else ((), (), (), ())
    return Matrix(
        shape,
        np.array(rows, int),
        np.array(columns, int),
        np.array(features, int),
        np.array(weights, float),
    )


def _blocks(basis: AceBasis) -> tuple[Block, ...]:
    """The pairs that products of three and of four need, by their l."""
    needed: dict[tuple[int, int], tuple[set[tuple[int, int]], set[int]]] = {}
    for factors, trees in zip(basis.members, basis.couplings):
        for at in range(0, 4 if len(factors) == 4 else 2 if len(factors) == 3 else 0, 2):
            (l1, first), (l2, second) = factors[at : at + 2]
            pairs, middles = needed.setdefault((l1, l2), (set(), set()))
            pairs.add((first, second))
            middles.update(middle for middle, _ in trees)
    return tuple(
        Block(degrees, _runs(pairs), tuple(sorted(middles)), _coupling(degrees, sorted(middles)))
        for degrees, (pairs, middles) in sorted(needed.items())
    )


def _runs(pairs: set[tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
    runs: list[tuple[int, int, int]] = []
    for first, second in sorted(pairs):
        if runs and runs[-1][0] == first and runs[-1][2] == second:
            runs[-1] = (first, runs[-1][1], second + 1)
        else:
            runs.append((first, second, second + 1))
    return tuple(runs)


def _coupling(degrees: tuple[int, int], middles: list[int]) -> Float[np.ndarray, "all both"] | None:
    if degrees[0] == 0:
        return None
    tables = [real_coupling(*degrees, middle) for middle in middles]
    return np.concatenate([t.reshape(-1, t.shape[2]).T for t in tables])


def _places(blocks: tuple[Block, ...]) -> dict[int, dict[tuple[Radial, Radial], int]]:
    """Of each L, where each pair stands in the list of Q."""
    places: dict[int, dict[tuple[Radial, Radial], int]] = {}
    for block in blocks:
        for middle in block.middles:
            table = places.setdefault(middle, {})
            for first, start, stop in block.runs:
                for second in range(start, stop):
                    key = ((block.degrees[0], first), (block.degrees[1], second))
                    table[key] = len(table)
    return places


def energy_and_slopes(
    tree: Tree,
    coefficients: Float[Array, "centres features"],
    mix: Mix,
    density: Float[Array, "harmonics channels atoms"],
) -> tuple[Float[Array, "atoms"], Float[Array, "harmonics channels atoms"]]:
    """Energies (eV) and their derivatives by the one-particle functions.

    Args:
        mix: multiplies with the matrix of each atom's element.
    """
    own = [
        density[degree * degree : (degree + 1) ** 2, :count]
        for degree, count in enumerate(tree.channels)
    ]
    slopes = [mix(m.fill(coefficients), a) for m, a in zip(tree.squares, own)]
    energies = sum((0.5 * _dot(s, a) for s, a in zip(slopes, own)), jnp.zeros_like(density[0, 0]))
    products = [_product(block, own) for block in tree.blocks]
    coupled = _coupled(tree, products)
    pulls: dict[int, Array] = {}
    for middle, matrix in tree.triples.items():
        filled = matrix.fill(coefficients)
        slope = mix(jnp.swapaxes(filled, 1, 2), coupled[middle])
        energies = energies + _dot(slope, own[middle])
        slopes[middle] = slopes[middle] + slope
        pulls[middle] = mix(filled, own[middle])
    for middle, matrix in tree.fours.items():
        pull = mix(matrix.fill(coefficients), coupled[middle])
        energies = energies + 0.5 * _dot(pull, coupled[middle])
        pulls[middle] = pulls[middle] + pull if middle in pulls else pull
    _pull_back(tree, pulls, own, slopes)
    channels = density.shape[1]
    padded = [jnp.pad(s, ((0, 0), (0, channels - s.shape[1]), (0, 0))) for s in slopes]
    return energies, jnp.concatenate(padded)


def _dot(first: Array, second: Array) -> Float[Array, "atoms"]:
    return jnp.sum(first * second, axis=(0, 1))


def _product(block: Block, own: list[Array]) -> Float[Array, "first second pairs atoms"]:
    """A₁ A₂ of all pairs of a block."""
    left, right = own[block.degrees[0]], own[block.degrees[1]]
    return jnp.concatenate(
        [
            left[:, first][:, None, None] * right[None, :, start:stop]
            for first, start, stop in block.runs
        ],
        axis=2,
    )


def _coupled(tree: Tree, products: list[Array]) -> dict[int, Float[Array, "M pairs atoms"]]:
    """Q of each L: those of all blocks side by side."""
    found: dict[int, list[Array]] = {}
    for block, product in zip(tree.blocks, products):
        pairs, atoms = product.shape[2:]
        if block.coupling is None:
            found.setdefault(block.degrees[1], []).append(product[0])
            continue
        table = jnp.asarray(block.coupling, product.dtype)
        every = _matmul(table, product.reshape(-1, pairs * atoms)).reshape(-1, pairs, atoms)
        start = 0
        for middle in block.middles:
            stop = start + 2 * middle + 1
            found.setdefault(middle, []).append(every[start:stop])
            start = stop
    return {middle: jnp.concatenate(parts, axis=1) for middle, parts in found.items()}


def _pull_back(tree: Tree, pulls: dict[int, Array], own: list[Array], slopes: list[Array]) -> None:
    """Adds ∂E/∂A that comes through Q to `slopes`; `pulls` are ∂E/∂Q of each L."""
    begun = dict.fromkeys(pulls, 0)
    for block in tree.blocks:
        pairs = sum(stop - start for _, start, stop in block.runs)
        parts = []
        for middle in block.middles:
            start = begun[middle]
            parts.append(pulls[middle][:, start : start + pairs])
            begun[middle] = start + pairs
        l1, l2 = block.degrees
        pull = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        if block.coupling is not None:
            table = jnp.asarray(block.coupling.T, pull.dtype)
            pull = _matmul(table, pull.reshape(pull.shape[0], -1))
        pull = pull.reshape(2 * l1 + 1, 2 * l2 + 1, pairs, -1)
        done = 0
        for first, start, stop in block.runs:
            part = pull[:, :, done : done + stop - start]
            done += stop - start
            by_first = jnp.sum(part * own[l2][None, :, start:stop], axis=(1, 2))
            by_second = jnp.sum(part * own[l1][:, first][:, None, None], axis=0)
            slopes[l1] = slopes[l1].at[:, first].add(by_first)
            slopes[l2] = slopes[l2].at[:, start:stop].add(by_second)


def _matmul(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
