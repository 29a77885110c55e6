"""Atomic environment vectors: radial and angular functions of neighbours, by their elements.

Triplets exist within the angular cut-off only, which holds few of the neighbours. These are first
written into a table with `places` columns; the rest, where there is one, is summed in a loop that
is skipped else.

Source: Smith, Isayev, Roitberg, Chem. Sci. 8, 3192 (2017), eqs. 3 and 4, with NeuroChem's factors
¼ before radial functions and 0.95 before cos θ.
Checked: tests/potentials/native/test_ani.py, by plain loops; tests/peers/test_torchani.py.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from karat.potentials.analytic.pairwise import distances, species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.radial import cutoff_function, gaussians
from karat.potentials.native.acsf_moments import sum_by_element

MOST = 128
"""Neighbours within the angular cut-off; of more (3.5 Å hold them at a mean distance near 1 Å) the
environment vector is NaN, which potentials refuse."""
BEND = 0.95
"""cos θ is multiplied by it, so that the angle has a slope where three atoms stand in line."""


class Near(NamedTuple):
    """Neighbours within the angular cut-off, place by place.

    Attributes:
        values: unit vector, distance (Å) and cut-off function (0 in empty places).
        element: index of the element.
    """

    values: Float[Array, "5 places atoms"]
    element: Int[Array, "places atoms"]

    def take(self, places: Int[Array | np.ndarray, "pairs"]) -> "Near":
        """Those in these places."""
        return Near(self.values[:, places], self.element[places])


@dataclass(frozen=True)
class Aev:
    """Environment vectors for given elements; hashable, a static part of a module.

    The vector of an atom is, in this order: for each neighbour element
    ¼ Σ_j exp(−η (r_ij − R_s)²) f_c(r_ij) with `radial_count` distances R_s; for each unordered pair
    of neighbour elements 2 Σ_{j<k} [(1 + cos(θ − θ_s))/2]^ζ exp(−η ((r_ij + r_ik)/2 − R_s)²) f_c
    f_c with `angular_count` distances R_s, for each of them `sections` angles θ_s.

    Attributes:
        cutoff, angular_cutoff: Å.
        start: smallest R_s, Å; the others follow in even steps that would reach the cut-off.
        radial_eta, angular_eta: η, 1/Å².
        zeta: ζ.
        places: neighbours within the angular cut-off that most atoms do not exceed; a matter of
            speed only.
        species: atomic numbers, ascending.
    """

    cutoff: float
    angular_cutoff: float
    start: float
    radial_eta: float
    radial_count: int
    angular_eta: float
    angular_count: int
    zeta: float
    sections: int
    places: int
    species: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values per atom."""
        elements = len(self.species)
        pairs = elements * (elements + 1) // 2
        return elements * self.radial_count + pairs * self.angular_count * self.sections

    def __call__(self, batch: Batch) -> Float[Array, "atoms size"]:
        """Environment vectors of all atoms; exactly zero on padding."""
        distance = distances(batch.vectors)
        element = species_index(batch.neighbour_numbers, self.species)
        decay = cutoff_function(distance, self.cutoff, "cosine")
        shifts = jnp.asarray(self._shifts(self.cutoff, self.radial_count), distance.dtype)
        values = gaussians(distance, shifts, self.radial_eta)
        values = values * (0.25 * jnp.where(batch.pair_mask, decay, 0.0))[:, None]
        radial = sum_by_element(batch, values, element, len(self.species))
        return jnp.concatenate([radial, self._angular(batch, distance, element)], axis=1)

    def _shifts(self, cutoff: float, count: int) -> Float[np.ndarray, "count"]:
        return self.start + (cutoff - self.start) / count * np.arange(count)

    def _angular(
        self, batch: Batch, distance: Float[Array, "pairs"], element: Int[Array, "pairs"]
    ) -> Float[Array, "atoms functions"]:
        inside = batch.pair_mask & (distance < self.angular_cutoff)
        counts = batch.sum_pairs(inside.astype(jnp.int32))
        radial_size = len(self.species) * self.radial_count
        decay = cutoff_function(distance, self.angular_cutoff, "cosine")
        unit = batch.vectors / distance[:, None]
        rows = jnp.concatenate([unit, jnp.stack([distance, decay], axis=1)], axis=1)

        table = self._table(batch, inside, counts)
        full = jnp.arange(MOST, dtype=jnp.int32)[:, None] < counts[None, :]
        most = jnp.max(counts)

        def near(places: int, rows: Float[Array, "pairs 5"]) -> Near:
            values = jnp.moveaxis(rows[table[:places]], 2, 0)
            decay = jnp.where(full[:places], values[4], 0.0)
            return Near(jnp.concatenate([values[:4], decay[None]]), element[table[:places]])

        @jax.checkpoint
        def rest(rows: Float[Array, "pairs 5"]) -> Float[Array, "atoms functions"]:
            every = near(MOST, rows)

            def with_last(total: Array, last: Array) -> tuple[Array, None]:
                sums = partial(self._with_last, every, last)
                return total + jax.lax.cond(last < most, sums, lambda: jnp.zeros_like(total)), None

            start = jnp.zeros((batch.atoms, self.size - radial_size), rows.dtype)
            lasts = jnp.arange(self.places, MOST, dtype=jnp.int32)
            return jax.lax.scan(jax.checkpoint(with_last), start, lasts)[0]

        few = near(self.places, rows)
        first, second = np.triu_indices(self.places, 1)
        found = self._sums(few.take(first), few.take(second))
        more = jax.lax.cond(most > self.places, rest, lambda _: jnp.zeros_like(found), rows)
        return jnp.where(most > MOST, jnp.nan, found + more)

    def _table(
        self, batch: Batch, inside: Bool[Array, "pairs"], counts: Int[Array, "atoms"]
    ) -> Int[Array, "places atoms"]:
        """Pairs within the angular cut-off of each atom, in their order; 0 in empty places."""
        before = jnp.cumsum(counts) - counts
        rank = jnp.cumsum(inside.astype(jnp.int32)) - 1 - before[batch.centers]
        slot = jnp.where(
            inside & (rank < MOST), rank * batch.atoms + batch.centers, MOST * batch.atoms
        )
        pairs = jnp.arange(inside.size, dtype=jnp.int32)
        table = jnp.zeros(MOST * batch.atoms + 1, jnp.int32).at[slot].set(pairs)
        return table[:-1].reshape(MOST, batch.atoms)

    def _with_last(self, every: Near, last: Int[Array, ""]) -> Float[Array, "atoms functions"]:
        """Sums over the pairs of place `last` and each one before it."""
        before = jnp.arange(MOST, dtype=jnp.int32) < last
        decay = jnp.where(before[:, None], every.values[4], 0.0)
        first = Near(jnp.concatenate([every.values[:4], decay[None]]), every.element)
        return self._sums(first, every.take(jnp.full(MOST, last)))

    def _sums(self, first: Near, second: Near) -> Float[Array, "atoms functions"]:
        """All angular functions, summed over these pairs of neighbours."""
        a, b = first.values, second.values
        cosine = BEND * (a[0] * b[0] + a[1] * b[1] + a[2] * b[2])
        sine = jnp.sqrt(1 - cosine * cosine)
        mean, weight = 0.5 * (a[3] + b[3]), 2 * a[4] * b[4]
        angles = np.pi * (np.arange(self.sections) + 0.5) / self.sections
        along, across = (
            jnp.asarray(0.5 * part, mean.dtype)[:, None, None]
            for part in (np.cos(angles), np.sin(angles))
        )
        bends = weight[None] * self._sharpened(0.5 + along * cosine[None] + across * sine[None])
        shifts = jnp.asarray(self._shifts(self.angular_cutoff, self.angular_count), mean.dtype)
        away = mean[None] - shifts[:, None, None]
        radial = jnp.exp(-self.angular_eta * away * away)
        own = self._of_pairs(first.element, second.element).astype(mean.dtype)
        left = (own[:, None] * radial[None]).reshape(-1, *mean.shape)
        # one small product for each atom: (element pairs × distances) by angles
        found = jnp.matmul(
            jnp.transpose(left, (2, 0, 1)),
            jnp.transpose(bends, (2, 1, 0)),
            precision="highest",
        )
        return found.reshape(mean.shape[1], -1)

    def _sharpened(self, half: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """(1 + cos(θ − θ_s))/2 to the power ζ; it is never below (1 − 0.95)/2."""
        if self.zeta == int(self.zeta):
            return half ** int(self.zeta)
        return jnp.exp(self.zeta * jnp.log(half))

    def _of_pairs(
        self, first: Int[Array, "*shape"], second: Int[Array, "*shape"]
    ) -> Bool[Array, "pairs *shape"]:
        """True at each pair of neighbours' own pair of elements."""
        elements = len(self.species)
        low, high = jnp.minimum(first, second), jnp.maximum(first, second)
        index = low * elements - low * (low - 1) // 2 + (high - low)
        kinds = jnp.arange(elements * (elements + 1) // 2, dtype=index.dtype)
        return index[None] == kinds.reshape(-1, *(1,) * index.ndim)
