"""Morse pair potential, switched off smoothly.

Checked: tests/potentials/analytic/test_morse.py, against ASE (same switch) and LAMMPS.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from karat.core.errors import BadInput
from karat.potentials.analytic.pairwise import (
    AbstractPairPotential,
    by_pair,
    check_range,
    pair_table,
    species_of,
    switch,
)
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotentialComponent


@dataclass(frozen=True)
class Morse(AbstractPotentialComponent):
    """D [e^(-2a(r-r₀)) - 2 e^(-a(r-r₀))] between every two atoms, times a switch.

    Every pair of elements must be given, by element (``Cu``) or pair (``Cu-Ni``): there is no
    accepted mixing rule for Morse parameters.

    Source: Morse, Phys. Rev. 34, 57 (1929); Girifalco & Weizer, Phys. Rev. 114, 687 (1959).

    Attributes:
        depth_ev: D, well depth.
        width_per_angstrom: a.
        distance_angstrom: r₀, where the well is deepest.
        cutoff_angstrom: where the energy becomes zero.
        onset_angstrom: where the switch begins; twice continuously differentiable.
    """

    depth_ev: Mapping[str, float]
    width_per_angstrom: Mapping[str, float]
    distance_angstrom: Mapping[str, float]
    cutoff_angstrom: float
    onset_angstrom: float
    dtype: str = "float64"

    def __post_init__(self) -> None:
        check_range("morse", self.onset_angstrom, self.cutoff_angstrom)

    def load(self) -> NativePotential:
        species = species_of(self.depth_ev, "morse.depth_ev")
        tables = {}
        for name in ("depth_ev", "width_per_angstrom", "distance_angstrom"):
            values = getattr(self, name)
            if species_of(values, f"morse.{name}") != species:
                raise BadInput(f"morse: depth_ev and {name} name other elements.")
            tables[name] = jnp.asarray(pair_table(values, species, mix="none"))
        return NativePotential(
            MorseModule(
                depth=tables["depth_ev"],
                width=tables["width_per_angstrom"],
                distance=tables["distance_angstrom"],
                species=species,
                cutoff=self.cutoff_angstrom,
                onset=self.onset_angstrom,
            ),
            dtype=self.dtype,
        )


class MorseModule(AbstractPairPotential):
    """The pure function; parameters are tables over pairs of species."""

    depth: Float[Array, "species species"]
    width: Float[Array, "species species"]
    distance: Float[Array, "species species"]
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    onset: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True, default=2)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def pair_energy(
        self,
        distance: Float[Array, "pairs"],
        first: Int[Array, "pairs"],
        second: Int[Array, "pairs"],
    ) -> Float[Array, "pairs"]:
        beyond = distance - by_pair(self.distance, first, second)
        decay = jnp.exp(-by_pair(self.width, first, second) * beyond)
        pair = by_pair(self.depth, first, second) * (decay * decay - 2 * decay)
        return pair * jax.vmap(lambda r: switch(r, self.onset, self.cutoff))(distance)
