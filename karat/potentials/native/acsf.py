"""Atom-centred symmetry functions G2, G4 and G5.

Source: Behler, J. Chem. Phys. 134, 074106 (2011), with the shifted angular functions of n2p2
(Singraber, Behler, Dellago, J. Chem. Theory Comput. 15, 1827 (2019)).

A G5 function is a sum over pairs of neighbours of a polynomial in cos θ times a product of
radial parts, so it is also a product of moments of single neighbours (the multinomial theorem):
its cost grows with the number of pairs, not of triplets. G4 couples the two neighbours through
their distance and needs triplets.

Checked: tests/potentials/native/test_acsf.py, against dscribe and plain loops.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.core.errors import BadInput
from karat.potentials.analytic.pairwise import distances, species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.radial import CONTINUITY, CutoffFunction, cutoff_function
from karat.potentials.native.acsf_moments import (
    expansion,
    monomials,
    products_by_element,
    sum_by_element,
)

MAX_CUTOFF = 100.0
"""Å; padding pairs of batches must stay beyond it."""
MAX_ZETA = 64
MAX_MOMENT_ZETA = 6
"""Up to this ζ a G5 goes through moments (84 of them); above it through triplets."""
MAX_FUNCTIONS = 512


@dataclass(frozen=True)
class Radial:
    """G2 = Σ_j exp(-η (r_ij - r_s)²) f_c(r_ij), one per neighbour element.

    Attributes:
        eta: η, 1/Å².
        shift_angstrom: r_s.
    """

    eta: float
    shift_angstrom: float = 0.0


@dataclass(frozen=True)
class Angular:
    """G4 or G5, one per unordered pair of neighbour elements.

    G5 = 2^(1-ζ) Σ_{j<k} (1 + λ cos θ_jik)^ζ g(r_ij) g(r_ik), G4 the same times g(r_jk), with
    g(r) = exp(-η (r - r_s)²) f_c(r).

    Attributes:
        kind: ``g4`` or ``g5``.
        eta: η, 1/Å².
        zeta: ζ, a positive integer.
        lam: λ, -1 or 1.
        shift_angstrom: r_s, 0 in Behler's paper.
    """

    kind: Literal["g4", "g5"]
    eta: float
    zeta: int
    lam: Literal[-1, 1]
    shift_angstrom: float = 0.0


@dataclass(frozen=True)
class Acsf:
    """A set of symmetry functions for given elements; hashable, a static part of a module.

    The descriptor of an atom is, in this order: for each neighbour element all G2; for each
    unordered pair of neighbour elements all angular functions.

    Attributes:
        cutoff: r_c, Å.
        cutoff_function: see `cutoff_function`.
        radial, angular: the functions.
        species: atomic numbers, ascending.

    Raises:
        BadInput: a parameter outside its range, no function, or too many.
    """

    cutoff: float
    cutoff_function: CutoffFunction
    radial: tuple[Radial, ...]
    angular: tuple[Angular, ...]
    species: tuple[int, ...]

    def __post_init__(self) -> None:
        check_functions(self.cutoff, self.radial, self.angular)

    @property
    def continuity(self) -> int:
        """See `Traits.continuity`."""
        return CONTINUITY[self.cutoff_function]

    @cached_property
    def element_pairs(self) -> tuple[tuple[int, int], ...]:
        """Unordered pairs of indices into `species`."""
        return tuple(combinations_with_replacement(range(len(self.species)), 2))

    @property
    def size(self) -> int:
        """Number of values per atom."""
        pairs = len(self.element_pairs)
        return len(self.species) * len(self.radial) + pairs * len(self.angular)

    def _indices(self, by: str) -> list[int]:
        """Which angular functions are computed by ``moments``, as ``g4`` or ``g5`` triplets."""
        way = [
            "moments" if f.kind == "g5" and f.zeta <= MAX_MOMENT_ZETA else f.kind
            for f in self.angular
        ]
        return [i for i, name in enumerate(way) if name == by]

    @property
    def needs_triplets(self) -> bool:
        """Whether batches must carry triplets."""
        return bool(self._indices("g4") or self._indices("g5"))

    def __call__(self, batch: Batch) -> Float[Array, "atoms size"]:
        """Descriptors of all atoms; exactly zero on padding."""
        distance = distances(batch.vectors)
        decay = cutoff_function(distance, self.cutoff, self.cutoff_function)
        decay = jnp.where(batch.pair_mask, decay, 0.0)
        element = species_index(batch.neighbour_numbers, self.species)
        parts = []
        if self.radial:
            parts.append(self._g2(batch, distance, decay, element))
        if self.angular:
            parts.append(self._angular(batch, distance, decay, element))
        return jnp.concatenate(parts, axis=1)

    def _g2(
        self,
        batch: Batch,
        distance: Float[Array, "pairs"],
        decay: Float[Array, "pairs"],
        element: Int[Array, "pairs"],
    ) -> Float[Array, "atoms functions"]:
        grid = [(f.eta, f.shift_angstrom) for f in self.radial]
        values = _gaussians(distance, grid) * decay[:, None]
        return sum_by_element(batch, values, element, len(self.species))

    def _angular(
        self,
        batch: Batch,
        distance: Float[Array, "pairs"],
        decay: Float[Array, "pairs"],
        element: Int[Array, "pairs"],
    ) -> Float[Array, "atoms functions"]:
        """All angular functions, in the order in which they are listed."""
        blocks, order = [], []
        for way in ("moments", "g4", "g5"):
            indices = self._indices(way)
            if not indices:
                continue
            functions = [self.angular[i] for i in indices]
            grid = _Grid.of(functions)
            radial = _gaussians(distance, grid.radial) * decay[:, None]
            if way == "moments":
                block = self._by_moments(batch, distance, radial, element, grid)
            else:
                block = self._by_triplets(batch, distance, radial, element, grid, way == "g4")
            blocks.append(block[:, :, grid.select])
            order += indices
        values = jnp.concatenate(blocks, axis=2)
        if order != sorted(order):
            values = values[:, :, np.argsort(order)]
        return values.reshape(batch.atoms, -1)

    def _by_moments(
        self,
        batch: Batch,
        distance: Float[Array, "pairs"],
        radial: Float[Array, "pairs grid"],
        element: Int[Array, "pairs"],
        grid: "_Grid",
    ) -> Float[Array, "atoms elementpairs functions"]:
        """Σ_{j<k} (1 + λ cos θ)^ζ g_j g_k from the moments Σ_j g_j x^a y^b z^c.

        The diagonal j = k, where cos θ = 1, is taken out where both elements are the same.
        """
        exponents, weights = expansion(tuple(grid.angular))
        unit = batch.vectors / distance[:, None]
        shape = (batch.atoms, len(self.species), len(grid.radial), len(exponents))
        powers = monomials(unit, exponents)
        moments = products_by_element(batch, radial, powers, element, shape[1])
        moments = moments.reshape(shape)
        own = sum_by_element(batch, radial * radial, element, len(self.species))
        own = own.reshape(shape[:3])
        first, second = np.array(self.element_pairs).T
        dtype = radial.dtype
        # one product after the other: their gradient is four times faster than that of all at once
        total = jnp.stack(
            [
                jnp.matmul(
                    moments[:, i] * moments[:, j], jnp.asarray(weights, dtype), precision="highest"
                )
                for i, j in self.element_pairs
            ],
            axis=1,
        )
        at_zero_angle = np.array([(1.0 + lam) ** zeta for zeta, lam in grid.angular])
        same = (first == second)[None, :, None, None]
        diagonal = own[:, first][..., None] * jnp.asarray(at_zero_angle, dtype)[None, None, None]
        total = jnp.where(same, 0.5 * (total - diagonal), total)
        total = total * jnp.asarray(grid.prefactors, dtype)[None, None, None]
        return total.reshape(batch.atoms, len(first), -1)

    def _by_triplets(
        self,
        batch: Batch,
        distance: Float[Array, "pairs"],
        radial: Float[Array, "pairs grid"],
        element: Int[Array, "pairs"],
        grid: "_Grid",
        coupled: bool,
    ) -> Float[Array, "atoms elementpairs functions"]:
        """The sums over triplets as they stand; `coupled` for the factor g(r_jk) of G4."""
        assert batch.triplets is not None
        assert batch.triplet_mask is not None
        a, b = batch.triplets[:, 0], batch.triplets[:, 1]
        unit = batch.vectors / distance[:, None]
        cosine = jnp.sum(unit[a] * unit[b], axis=1)
        weight = radial[a] * radial[b]
        if coupled:
            across = batch.vectors[a] - batch.vectors[b]
            squared = jnp.where(batch.triplet_mask, jnp.sum(across * across, axis=1), 1.0)
            third = jnp.sqrt(squared)
            decay = cutoff_function(third, self.cutoff, self.cutoff_function)
            weight = weight * _gaussians(third, grid.radial) * decay[:, None]
        weight = jnp.where(batch.triplet_mask[:, None], weight, 0.0)
        powers = jnp.stack([(1.0 + lam * cosine) ** zeta for zeta, lam in grid.angular], axis=1)
        powers = powers * jnp.asarray(grid.prefactors, powers.dtype)[None, :]
        values = (weight[:, :, None] * powers[:, None, :]).reshape(weight.shape[0], -1)
        n = len(self.species)
        table = np.zeros((n, n), np.int32)
        for index, (i, j) in enumerate(self.element_pairs):
            table[i, j] = table[j, i] = index
        block = batch.centers[a] * len(self.element_pairs)
        block = block + jnp.asarray(table)[element[a], element[b]]
        summed = jax.ops.segment_sum(
            values, block, num_segments=batch.atoms * len(self.element_pairs)
        )
        return summed.reshape(batch.atoms, len(self.element_pairs), -1)


@dataclass(frozen=True)
class _Grid:
    """Distinct radial (η, r_s) × distinct angular (ζ, λ) parameters of some functions.

    `select` picks the functions, in their order, out of the flattened product.
    """

    radial: list[tuple[float, float]]
    angular: list[tuple[int, int]]
    select: np.ndarray

    @classmethod
    def of(cls, functions: list[Angular]) -> "_Grid":
        radial = list(dict.fromkeys((f.eta, f.shift_angstrom) for f in functions))
        angular = list(dict.fromkeys((f.zeta, int(f.lam)) for f in functions))
        select = [
            radial.index((f.eta, f.shift_angstrom)) * len(angular)
            + angular.index((f.zeta, int(f.lam)))
            for f in functions
        ]
        return cls(radial, angular, np.array(select))

    @property
    def prefactors(self) -> np.ndarray:
        """2^(1-ζ) of each angular parameter."""
        return np.array([2.0 ** (1 - zeta) for zeta, _ in self.angular])


def check_functions(
    cutoff: float, radial: tuple[Radial, ...], angular: tuple[Angular, ...]
) -> None:
    """Refuse parameters that make no sense or no finite derivative.

    Raises:
        BadInput: naming the value.
    """
    if not 0 < cutoff <= MAX_CUTOFF:
        raise BadInput(f"cutoff_angstrom {cutoff} must lie in 0…{MAX_CUTOFF:g} Å, e.g. 5.0.")
    if not radial and not angular:
        raise BadInput("symmetry functions: neither radial nor angular ones are given.")
    if len(radial) + len(angular) > MAX_FUNCTIONS:
        raise BadInput(
            f"{len(radial)} radial and {len(angular)} angular symmetry functions are more than "
            f"{MAX_FUNCTIONS}. Lower the counts."
        )
    functions: tuple[Radial | Angular, ...] = (*radial, *angular)
    for function in functions:
        if not (math.isfinite(function.eta) and function.eta >= 0):
            raise BadInput(f"symmetry function: eta {function.eta} must be 0 or more (1/Å²).")
        if not (math.isfinite(function.shift_angstrom) and function.shift_angstrom >= 0):
            raise BadInput(f"symmetry function: shift_angstrom {function.shift_angstrom} < 0.")
    for angle in angular:
        if not 1 <= angle.zeta <= MAX_ZETA:
            raise BadInput(f"symmetry function: zeta {angle.zeta} is not in 1…{MAX_ZETA}.")
        if angle.lam not in (-1, 1):
            raise BadInput(f"symmetry function: lam {angle.lam} is neither -1 nor 1.")


def _gaussians(
    distance: Float[Array, "pairs"], grid: list[tuple[float, float]]
) -> Float[Array, "pairs grid"]:
    """exp(-η (r - r_s)²) for each (η, r_s)."""
    eta = jnp.asarray([eta for eta, _ in grid], distance.dtype)
    shift = jnp.asarray([shift for _, shift in grid], distance.dtype)
    return jnp.exp(-eta[None, :] * (distance[:, None] - shift[None, :]) ** 2)
