"""Atomic environment vectors: radial and angular functions of neighbours, by their elements.

Triplets exist within the angular cut-off only, which holds few of the neighbours. Those are first
written into a table of a fixed number of places for each atom; the smallest of `PLACES` that holds
all is chosen at run time, so that results do not depend on it.

Source: Smith, Isayev, Roitberg, Chem. Sci. 8, 3192 (2017), eqs. 3 and 4, with NeuroChem's factors
¼ before radial functions and 0.95 before cos θ.
Checked: tests/potentials/native/test_ani.py, by plain loops; tests/peers/test_torchani.py.
"""

import math
from collections.abc import Callable
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

PLACES = (12, 24, 48, 128)
"""Neighbours within the angular cut-off for which there may be room; of more (a mean distance near
1 Å) the environment vector is NaN, which potentials refuse."""
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
        before = jnp.cumsum(counts) - counts
        rank = jnp.cumsum(inside.astype(jnp.int32)) - 1 - before[batch.centers]
        decay = cutoff_function(distance, self.angular_cutoff, "cosine")
        unit = batch.vectors / distance[:, None]
        rows = jnp.concatenate([unit, jnp.stack([distance, decay], axis=1)], axis=1)

        def with_room(
            places: int, rows: Float[Array, "pairs 5"]
        ) -> Float[Array, "atoms functions"]:
            kept = inside & (rank < places)
            slot = jnp.where(kept, rank * batch.atoms + batch.centers, places * batch.atoms)
            pairs = jnp.arange(rank.size, dtype=jnp.int32)
            table = jnp.zeros(places * batch.atoms + 1, jnp.int32).at[slot].set(pairs)
            table = table[:-1].reshape(places, batch.atoms)
            full = jnp.arange(places, dtype=jnp.int32)[:, None] < counts[None, :]
            values = jnp.moveaxis(rows[table], 2, 0)
            values = jnp.concatenate([values[:4], jnp.where(full, values[4], 0.0)[None]])
            return self._sums(Near(values, element[table]))

        rooms: list[Callable[[Array], Array]] = [partial(with_room, PLACES[0])]
        # what larger tables would keep for the gradient is computed anew: it is seldom there
        rooms += [jax.checkpoint(partial(with_room, places)) for places in PLACES[1:]]
        most = jnp.max(counts)
        choice = sum((most > places).astype(jnp.int32) for places in PLACES[:-1])
        found = jax.lax.switch(choice, rooms, rows)
        return jnp.where(most > PLACES[-1], jnp.nan, found)

    def _sums(self, near: Near) -> Float[Array, "atoms functions"]:
        """All angular functions, summed over the pairs of an atom's places."""
        places, atoms = near.element.shape
        first, second = np.triu_indices(places, 1)
        a, b = near.values[:, first], near.values[:, second]
        cosine = BEND * (a[0] * b[0] + a[1] * b[1] + a[2] * b[2])
        sine = jnp.sqrt(1 - cosine * cosine)
        mean, weight = 0.5 * (a[3] + b[3]), 2 * a[4] * b[4]
        angles = np.pi * (np.arange(self.sections) + 0.5) / self.sections
        bends = [
            weight * self._sharpened(0.5 + (0.5 * math.cos(s)) * cosine + (0.5 * math.sin(s)) * sine)
            for s in angles
        ]
        shifts = jnp.asarray(self._shifts(self.angular_cutoff, self.angular_count), mean.dtype)
        away = mean[None] - shifts[:, None, None]
        radial = jnp.exp(-self.angular_eta * away * away)
        own = self._of_pairs(near.element[first], near.element[second]).astype(mean.dtype)
        left = (own[:, None] * radial[None]).reshape(-1, len(first), atoms)
        # one small product for each atom: (element pairs × distances) by angles
        found = jnp.matmul(
            jnp.transpose(left, (2, 0, 1)),
            jnp.transpose(jnp.stack(bends), (2, 1, 0)),
            precision="highest",
        )
        return found.reshape(atoms, -1)

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
