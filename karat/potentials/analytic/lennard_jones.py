"""Lennard-Jones 12-6, switched off smoothly.

Checked: tests/potentials/analytic/test_lennard_jones.py, against ASE's calculator.
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
class LennardJones(AbstractPotentialComponent):
    """4 ε [(σ/r)¹² - (σ/r)⁶] between every two atoms, times a switch from `onset` to `cutoff`.

    Source: Jones, Proc. R. Soc. A 106, 463 (1924); Allen & Tildesley, ch. 1.

    Attributes:
        epsilon_ev, sigma_angstrom: by element or by pair, e.g. ``{"Ar": 0.0104}`` or
            ``{"Ar-Kr": 0.012}``; missing mixed pairs follow Lorentz and Berthelot.
        cutoff_angstrom: where the energy becomes zero.
        onset_angstrom: where the switch begins; twice continuously differentiable.
    """

    epsilon_ev: Mapping[str, float]
    sigma_angstrom: Mapping[str, float]
    cutoff_angstrom: float
    onset_angstrom: float
    dtype: str = "float64"

    def __post_init__(self) -> None:
        check_range("lennard_jones", self.onset_angstrom, self.cutoff_angstrom)

    def load(self) -> NativePotential:
        species = species_of(self.epsilon_ev, "lennard_jones.epsilon_ev")
        if species != species_of(self.sigma_angstrom, "lennard_jones.sigma_angstrom"):
            raise BadInput("lennard_jones: epsilon_ev and sigma_angstrom name other elements.")
        epsilon = pair_table(self.epsilon_ev, species, mix="geometric")
        sigma = pair_table(self.sigma_angstrom, species, mix="arithmetic")
        return NativePotential(
            LennardJonesModule(
                epsilon=jnp.asarray(epsilon),
                sigma=jnp.asarray(sigma),
                species=species,
                cutoff=self.cutoff_angstrom,
                onset=self.onset_angstrom,
            ),
            dtype=self.dtype,
        )


class LennardJonesModule(AbstractPairPotential):
    """The pure function; ε and σ are tables over pairs of species."""

    epsilon: Float[Array, "species species"]
    sigma: Float[Array, "species species"]
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
        sixth = (by_pair(self.sigma, first, second) / distance) ** 6
        pair = 4 * by_pair(self.epsilon, first, second) * (sixth * sixth - sixth)
        return pair * jax.vmap(lambda r: switch(r, self.onset, self.cutoff))(distance)
