"""The basis of moment tensor potentials: all contractions up to a level, and how to compute them.

A contraction of at most four moments M_{μν} to a scalar is a graph: a vertex for each moment, with
its μ, and as many edges between two of them as they have indices in common; ν is the number of a
vertex's edges. Its level is Σ (2 + 4μ + ν).

Checked: tests/potentials/native/test_mtp_basis.py, counts against those of MLIP-2's files.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise, permutations, product

import numpy as np
from jaxtyping import Float, Int

MOST_MOMENTS = 4
"""Factors of a contraction, as in MLIP-2."""
Exponents = tuple[int, int, int]
Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Graph:
    """A contraction.

    Attributes:
        mus: μ of each moment, ascending.
        edges: number of indices that moments i and j have in common.
    """

    mus: tuple[int, ...]
    edges: Matrix

    @property
    def ranks(self) -> tuple[int, ...]:
        """ν of each moment."""
        return tuple(map(sum, self.edges))

    @property
    def level(self) -> int:
        """Σ (2 + 4μ + ν)."""
        return 2 * len(self.mus) + 4 * sum(self.mus) + sum(self.ranks)

    def parts(self) -> list[list[int]]:
        """Vertices of each connected part."""
        left, parts = set(range(len(self.mus))), []
        while left:
            part = [min(left)]
            for i in part:
                part += [j for j in sorted(left) if self.edges[i][j] and j not in part]
            left -= set(part)
            parts.append(sorted(part))
        return parts

    def part(self, vertices: list[int]) -> "Graph":
        """The graph of some vertices, in its standard order."""
        mus = tuple(self.mus[i] for i in vertices)
        return _standard(mus, tuple(tuple(self.edges[i][j] for j in vertices) for i in vertices))


def _sums(places: int, most: int) -> Iterator[tuple[int, ...]]:
    """All lists of `places` numbers ≥ 0 with a sum of at most `most`."""
    if not places:
        yield ()
        return
    for first in range(most + 1):
        for rest in _sums(places - 1, most - first):
            yield (first, *rest)


def _standard(mus: tuple[int, ...], edges: Matrix) -> Graph:
    """The same graph whatever the order of its vertices."""
    orders = permutations(range(len(mus)))
    found = min(
        (tuple(mus[i] for i in order), tuple(tuple(edges[i][j] for j in order) for i in order))
        for order in orders
        if all(mus[i] <= mus[j] for i, j in pairwise(order))
    )
    return Graph(*found)


@lru_cache(maxsize=32)
def graphs(level: int) -> tuple[Graph, ...]:
    """All contractions of at most four moments up to this level, by number of moments."""
    found: list[Graph] = []
    for count in range(1, MOST_MOMENTS + 1):
        pairs = list(combinations(range(count), 2))
        spare = level // 2 - count  # of 2 Σ μ + number of edges
        mine = set()
        for mus in (mus for mus in _sums(count, spare // 2) if list(mus) == sorted(mus)):
            for multiplicity in _sums(len(pairs), spare - 2 * sum(mus)):
                edges = [[0] * count for _ in range(count)]
                for (i, j), times in zip(pairs, multiplicity):
                    edges[i][j] = edges[j][i] = times
                mine.add(_standard(mus, tuple(map(tuple, edges))))
        found += sorted(mine, key=lambda graph: (graph.level, graph.mus, graph.edges))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Products:
    """Rows `target` += factor · row `left` · row `right`."""

    left: Int[np.ndarray, "products"]
    right: Int[np.ndarray, "products"]
    factor: Float[np.ndarray, "products"]
    target: Int[np.ndarray, "products"]


@dataclass(frozen=True, eq=False)
class Program:
    """How scalars are computed from components of moments, as products of rows.

    Attributes:
        mus: μ of each row of moments.
        exponents: (a, b, c) of each row of moments: the component Σ f_μ(r) x^a y^b z^c.
        stages: products that give new rows, which follow those at hand; each needs rows of earlier
            stages only; with the number of new rows.
        last: products that add to scalars (`target`) which no other product needs.
        ready: rows and scalars: scalars that are rows.
        scalars: their number.
    """

    mus: Int[np.ndarray, "rows"]
    exponents: Int[np.ndarray, "rows 3"]
    stages: tuple[tuple[Products, int], ...]
    last: Products
    ready: tuple[Int[np.ndarray, "ready"], Int[np.ndarray, "ready"]]
    scalars: int


@lru_cache(maxsize=64)
def monomials(degree: int) -> tuple[Exponents, ...]:
    """Exponents of x, y, z."""
    powers = range(degree, -1, -1)
    return tuple((a, b, degree - a - b) for a in powers for b in range(degree - a, -1, -1))


def _times(m: Exponents) -> int:
    """In how many components of a symmetric tensor these exponents occur."""
    return math.factorial(sum(m)) // math.prod(math.factorial(one) for one in m)


def _added(*ms: Exponents) -> Exponents:
    return sum(m[0] for m in ms), sum(m[1] for m in ms), sum(m[2] for m in ms)


@dataclass(frozen=True)
class _Open:
    """A contraction with indices left over, in groups: those that go to one moment are alike.

    Its component (m_1, m_2, …) is the coefficient of Π u_g^{m_g} where group g is contracted with
    vectors u_g.

    Attributes:
        mus, edges: as of a graph.
        legs: number of indices of each moment in each group.
    """

    mus: tuple[int, ...]
    edges: Matrix
    legs: Matrix

    @property
    def degrees(self) -> tuple[int, ...]:
        return tuple(map(sum, zip(*self.legs)))

    def standard(self) -> tuple["_Open", tuple[int, ...]]:
        """The same whatever the order of moments and groups, and the order of groups in it."""
        count, groups = len(self.mus), len(self.legs[0])
        best = min(
            (
                tuple(self.mus[i] for i in order),
                tuple(tuple(self.edges[i][j] for j in order) for i in order),
                tuple(tuple(self.legs[i][g] for g in places) for i in order),
                places,
            )
            for order in permutations(range(count))
            for places in permutations(range(groups))
        )
        return _Open(*best[:3]), best[3]


class _Compiler:
    """Collects products; rows of one open contraction are computed once."""

    def __init__(self, level: int) -> None:
        self.graphs = graphs(level)
        kinds = {kind for graph in self.graphs for kind in zip(graph.mus, graph.ranks)}
        self.moments = [(mu, m) for mu, nu in sorted(kinds) for m in monomials(nu)]
        self.row = {moment: row for row, moment in enumerate(self.moments)}
        self.stage = [0] * len(self.moments)
        self.open: dict[_Open, dict[tuple[Exponents, ...], int]] = {}
        self.scalar: dict[Graph, int] = {}
        self.products: dict[tuple[int, int, int], int] = {}

    def new_row(self, *factors: int) -> int:
        self.stage.append(1 + max(self.stage[row] for row in factors))
        return len(self.stage) - 1

    def add(self, left: int, right: int, target: int, factor: int) -> None:
        key = (min(left, right), max(left, right), target)
        self.products[key] = self.products.get(key, 0) + factor

    def of(self, graph: Graph) -> int:
        """Row of a scalar."""
        if graph not in self.scalar:
            parts = graph.parts()
            if len(graph.mus) == 1:
                self.scalar[graph] = self.row[graph.mus[0], (0, 0, 0)]
            elif len(parts) > 1:
                rest = [i for part in parts[1:] for i in part]
                left, right = self.of(graph.part(parts[0])), self.of(graph.part(rest))
                self.scalar[graph] = self.new_row(left, right)
                self.add(left, right, self.scalar[graph], 1)
            else:
                order = min(permutations(range(len(graph.mus))), key=lambda o: self.cost(graph, o))
                rows = self.rows(_opened(graph, order, len(order)), graph, order)
                self.scalar[graph] = rows[()]
        return self.scalar[graph]

    def cost(self, graph: Graph, order: tuple[int, ...]) -> int:
        """About the number of products that this order of contraction adds."""
        total = 0
        for count in range(2, len(order) + 1):
            if _opened(graph, order, count).standard()[0] in self.open:
                continue
            before = _opened(graph, order, count - 1).degrees
            new = graph.edges[order[count - 1]]
            degrees = (*before, *(new[i] for i in order[count:]))
            total += math.prod((n + 1) * (n + 2) // 2 for n in degrees)
        return total

    def rows(
        self, wanted: _Open, graph: Graph, order: tuple[int, ...]
    ) -> dict[tuple[Exponents, ...], int]:
        """Row of each component, groups in the order in which `wanted` has them."""
        known, places = wanted.standard()
        if known not in self.open:
            mine: dict[tuple[Exponents, ...], int] = {}
            for left, right, component, factor in self.attached(len(wanted.mus), graph, order):
                key = tuple(component[g] for g in places)
                if key not in mine:
                    mine[key] = self.new_row(left, right)
                self.add(left, right, mine[key], factor)
            self.open[known] = mine
        back = [places.index(g) for g in range(len(places))]
        return {tuple(key[g] for g in back): row for key, row in self.open[known].items()}

    def attached(
        self, count: int, graph: Graph, order: tuple[int, ...]
    ) -> Iterator[tuple[int, int, tuple[Exponents, ...], int]]:
        """Products that contract the first `count` moments of `order`: those before the last one,
        contracted, with the last one."""
        before = _opened(graph, order, count - 1)
        last, others = order[count - 1], order[count:]
        spread = list(product(*(monomials(graph.edges[last][i]) for i in others)))
        for component, (row, times) in self.components(before, graph, order).items():
            shared, kept = component[0], component[1:]
            for own in spread:
                right = self.row[graph.mus[last], _added(shared, *own)]
                together = tuple(_added(a, b) for a, b in zip(kept, own))
                yield row, right, together, times * math.prod(map(_times, own))

    def components(
        self, wanted: _Open, graph: Graph, order: tuple[int, ...]
    ) -> dict[tuple[Exponents, ...], tuple[int, int]]:
        """Row and factor of each component."""
        if len(wanted.mus) > 1:
            return {key: (row, 1) for key, row in self.rows(wanted, graph, order).items()}
        every = product(*map(monomials, wanted.degrees))
        mu = wanted.mus[0]
        return {m: (self.row[mu, _added(*m)], math.prod(map(_times, m))) for m in every}


def _opened(graph: Graph, order: tuple[int, ...], count: int) -> _Open:
    """The first `count` moments of `order`; a group of indices for each of the others."""
    mine, others = order[:count], order[count:]
    return _Open(
        tuple(graph.mus[i] for i in mine),
        tuple(tuple(graph.edges[i][j] for j in mine) for i in mine),
        tuple(tuple(graph.edges[i][j] for j in others) for i in mine),
    )


@lru_cache(maxsize=8)
def program(level: int) -> Program:
    """How the scalars of `graphs(level)`, in that order, are computed."""
    compiler = _Compiler(level)
    rows = [compiler.of(graph) for graph in compiler.graphs]
    products = np.array([(*key, value) for key, value in compiler.products.items()], int)
    products = products.reshape(-1, 4)
    stage = np.array(compiler.stage)
    needed = np.zeros(len(stage), bool)
    needed[: len(compiler.moments)] = True
    needed[products[:, :2].ravel()] = True
    place = np.full(len(stage), -1)
    order = np.flatnonzero(needed)[np.argsort(stage[needed], kind="stable")]
    place[order] = np.arange(len(order))
    stages, first = [], len(compiler.moments)
    for number in range(1, int(stage[needed].max()) + 1):
        size = int(np.sum(stage[needed] == number))
        mine = products[needed[products[:, 2]] & (stage[products[:, 2]] == number)]
        stages.append((_products(mine, place, place[mine[:, 2]] - first), size))
        first += size
    scalar = np.full(len(stage), -1)
    scalar[rows] = np.arange(len(rows))
    final = products[~needed[products[:, 2]]]
    ready = np.flatnonzero(needed[rows])
    return Program(
        mus=np.array([mu for mu, _ in compiler.moments]),
        exponents=np.array([m for _, m in compiler.moments]),
        stages=tuple(stages),
        last=_products(final, place, scalar[final[:, 2]]),
        ready=(place[np.array(rows)[ready]], ready),
        scalars=len(rows),
    )


def _products(table: np.ndarray, place: np.ndarray, target: np.ndarray) -> Products:
    return Products(
        place[table[:, 0]].astype(np.int32),
        place[table[:, 1]].astype(np.int32),
        table[:, 3].astype(float),
        target.astype(np.int32),
    )
