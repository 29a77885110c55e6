"""Which functions an atomic cluster expansion has, and how they are put together; on the host.

A one-particle function v = (z, n, l, m) sums R_n(r) Y_lm over an atom's neighbours of element z;
(z, n) together are its channel, (n - 1) · elements + index of z. A feature is an invariant product
of up to four of them.

Checked: tests/potentials/linear/test_coupling.py.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import BadInput
from karat.potentials.linear.coupling import independent, tensors

Radial = tuple[int, int]
"""(l, channel); sorted so that low l stand first."""
MOST_FEATURES = 20_000
HIGHEST = 12
"""Couplings of higher harmonics are slow to make, and no potential needs them."""


@dataclass(frozen=True)
class AceSpec:
    """All that decides the features of one central element.

    Attributes:
        elements: number of neighbouring elements.
        degrees: highest Σ (n + l_weight · l), n = 1, 2 …, over products of 1, 2, 3, 4 functions;
            the first is the number of pair functions.
        l_weight: how much an l counts in degrees.
    """

    elements: int
    degrees: tuple[int, ...]
    l_weight: float

    def size(self, radial: Radial) -> float:
        """n + l_weight · l."""
        degree, channel = radial
        return channel // self.elements + 1 + self.l_weight * degree


@dataclass(frozen=True, eq=False)
class Products:
    """Σ value Π A over `columns`, added to `rows`: polynomials as lists of monomials."""

    columns: Int[np.ndarray, "terms order"]
    values: Float[np.ndarray, "terms"]
    rows: Int[np.ndarray, "terms"]


@dataclass(frozen=True, eq=False)
class AceBasis:
    """The many-body features of one central element, in the order of `members`.

    Attributes:
        members: factors of each feature.
        couplings: of each feature (intermediate degree, weight) of its trees.
        channels: so many occur, those with low n first.
        highest: l = 0 … highest occur.
        roughness: Σ (n + l_weight · l) of each feature.
    """

    spec: AceSpec
    members: tuple[tuple[Radial, ...], ...]
    couplings: tuple[tuple[tuple[int, float], ...], ...]
    channels: int
    highest: int
    roughness: Float[np.ndarray, "features"]

    @property
    def harmonics(self) -> int:
        """(l, m) pairs."""
        return (self.highest + 1) ** 2

    def column(self, radial: Radial, m: int) -> int:
        """Where A of (l, m = -l … l, channel) stands among (harmonics, channels)."""
        degree, channel = radial
        return (degree * (degree + 1) + m) * self.channels + channel


@functools.lru_cache(maxsize=32)
def ace_basis(spec: AceSpec) -> AceBasis:
    """All independent invariant products below the degrees.

    Raises:
        BadInput: more than `MOST_FEATURES`, or an l above `HIGHEST`.
    """
    for order, limit in enumerate(spec.degrees[1:], 2):
        if limit - order >= 2 * spec.l_weight * (HIGHEST + 1):
            raise BadInput(
                f"ace: degrees {list(spec.degrees)} with l_weight {spec.l_weight} give harmonics "
                f"beyond l = {HIGHEST}; raise l_weight or lower degrees."
            )
    members: list[tuple[Radial, ...]] = []
    couplings: list[tuple[tuple[int, float], ...]] = []
    for order, limit in enumerate(spec.degrees[1:], 2):
        for factors in _multisets(spec, order, float(limit)):
            degrees, labels = zip(*factors)
            middles, combine = independent(degrees, labels)
            for row in combine:
                members.append(factors)
                couplings.append(tuple((m, float(w)) for m, w in zip(middles, row) if w))
            if len(members) > MOST_FEATURES:
                raise BadInput(
                    f"ace: degrees {list(spec.degrees)} of {spec.elements} element(s) give more "
                    f"than {MOST_FEATURES} features for each; lower them."
                )
    radials = {radial for factors in members for radial in factors}
    return AceBasis(
        spec=spec,
        members=tuple(members),
        couplings=tuple(couplings),
        channels=max((channel + 1 for _, channel in radials), default=0),
        highest=max((degree for degree, _ in radials), default=0),
        roughness=np.array([sum(spec.size(radial) for radial in f) for f in members]),
    )


def _multisets(spec: AceSpec, order: int, limit: float) -> Iterator[tuple[Radial, ...]]:
    """Ascending factors with a total degree of at most `limit`."""
    left = limit - order + 1 + 1e-9  # for the largest factor
    singles: list[Radial] = []
    for degree in range(int(max(left, 0) / spec.l_weight) + 1):
        most = int(left - spec.l_weight * degree)
        singles += [(degree, channel) for channel in range(max(most, 0) * spec.elements)]
    sizes = [spec.size(radial) for radial in singles]

    def extend(start: int, left: float, missing: int) -> Iterator[tuple[Radial, ...]]:
        if not missing:
            yield ()
            return
        for i in range(start, len(singles)):
            if sizes[i] + missing - 1 <= left:
                for rest in extend(i, left - sizes[i], missing - 1):
                    yield (singles[i], *rest)

    yield from extend(0, limit + 1e-9, order)


def products(basis: AceBasis) -> list[Products]:
    """The features of each order from two on as lists of monomials."""
    return [_products(basis, order) for order in range(2, len(basis.spec.degrees) + 1)]


def _products(basis: AceBasis, order: int) -> Products:
    """The monomials of all features of one order, those with the same factors added up."""
    columns: list[tuple[int, ...]] = []
    values: list[float] = []
    rows: list[int] = []
    which = [i for i, factors in enumerate(basis.members) if len(factors) == order]
    position = 0
    while position < len(which):
        factors = basis.members[which[position]]
        degrees, labels = zip(*factors)
        for tensor in tensors(degrees, labels):
            merged: dict[tuple[int, ...], float] = {}
            for place in np.argwhere(np.abs(tensor) > 1e-12):
                key = tuple(sorted(basis.column(f, int(m) - f[0]) for f, m in zip(factors, place)))
                merged[key] = merged.get(key, 0.0) + float(tensor[tuple(place)])
            columns += merged.keys()
            values += merged.values()
            rows += [which[position]] * len(merged)
            position += 1
    return Products(
        np.array(columns, int).reshape(-1, order), np.array(values), np.array(rows, int)
    )
