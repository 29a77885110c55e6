"""Ziegler-Biersack-Littmark screened nuclear repulsion, for atoms that come very close.

Checked: tests/potentials/analytic/test_zbl.py, against LAMMPS and an independent NumPy formula.
"""

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.core.errors import BadInput
from karat.core.units import COULOMB
from karat.potentials.analytic.pairwise import (
    AbstractPairPotential,
    atomic_number,
    by_pair,
    check_range,
)
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotentialComponent

WEIGHTS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
"""Universal screening function: weights, which add up to one."""
DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])
"""Universal screening function: decay constants in units of the inverse screening length."""
SCREENING_ANGSTROM = 0.46850
"""0.8854 bohr, as LAMMPS rounds it; divided by Z₁^0.23 + Z₂^0.23 it is the screening length."""
SCREENING_POWER = 0.23


@dataclass(frozen=True)
class Zbl(AbstractPotentialComponent):
    """Z₁Z₂e²/(4πε₀r) φ(r/a) between every two atoms, switched off as LAMMPS does.

    The switch adds a constant below `inner_angstrom` and a quartic polynomial above it, chosen
    so that energy, force and curvature vanish at `outer_angstrom`.

    Source: Ziegler, Biersack & Littmark, The Stopping and Range of Ions in Matter (1985);
    switch: LAMMPS manual, pair_style zbl.

    Attributes:
        elements: symbols of the elements it acts between.
        inner_angstrom: where the polynomial begins.
        outer_angstrom: where energy, force and curvature become zero.
    """

    elements: tuple[str, ...]
    inner_angstrom: float
    outer_angstrom: float
    dtype: str = "float64"

    def __post_init__(self) -> None:
        check_range("zbl", self.inner_angstrom, self.outer_angstrom, "inner", "outer")
        if not self.elements:
            raise BadInput("zbl.elements: is empty; name the elements, e.g. [Si, C].")

    def load(self) -> NativePotential:
        species = tuple(sorted({atomic_number(s, "zbl.elements") for s in self.elements}))
        numbers = np.array(species, dtype=np.float64)
        length = SCREENING_ANGSTROM / np.add.outer(
            numbers**SCREENING_POWER, numbers**SCREENING_POWER
        )
        strength = COULOMB * np.multiply.outer(numbers, numbers)
        cubic, quartic, constant = _switch(
            strength, length, self.inner_angstrom, self.outer_angstrom
        )
        return NativePotential(
            ZblModule(
                strength=jnp.asarray(strength),
                length=jnp.asarray(length),
                cubic=jnp.asarray(cubic),
                quartic=jnp.asarray(quartic),
                constant=jnp.asarray(constant),
                species=species,
                inner=self.inner_angstrom,
                cutoff=self.outer_angstrom,
            ),
            dtype=self.dtype,
        )


def _switch(
    strength: np.ndarray, length: np.ndarray, inner: float, outer: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of (r-inner)³, (r-inner)⁴ and 1 that cancel E, E' and E'' at `outer`."""
    terms = WEIGHTS * np.exp(-DECAYS * (outer / length)[..., None])
    decays = DECAYS / length[..., None]
    value, first, second = (np.sum(terms * (-decays) ** k, axis=-1) for k in range(3))
    energy = strength * value / outer
    slope = strength * (first / outer - value / outer**2)
    curvature = strength * (second / outer - 2 * first / outer**2 + 2 * value / outer**3)
    width = outer - inner
    cubic = (-3 * slope + width * curvature) / (3 * width**2)
    quartic = (2 * slope - width * curvature) / (4 * width**3)
    constant = -energy + width * slope / 2 - width**2 * curvature / 12
    return cubic, quartic, constant


class ZblModule(AbstractPairPotential):
    """The pure function; parameters are tables over pairs of species."""

    strength: Float[Array, "species species"]
    length: Float[Array, "species species"]
    cubic: Float[Array, "species species"]
    quartic: Float[Array, "species species"]
    constant: Float[Array, "species species"]
    species: tuple[int, ...] = eqx.field(static=True)
    inner: float = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True, default=2)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def pair_energy(
        self,
        distance: Float[Array, "pairs"],
        first: Int[Array, "pairs"],
        second: Int[Array, "pairs"],
    ) -> Float[Array, "pairs"]:
        weights = jnp.asarray(WEIGHTS, dtype=distance.dtype)
        decays = jnp.asarray(DECAYS, dtype=distance.dtype)
        scaled = distance / by_pair(self.length, first, second)
        screening = jnp.exp(-scaled[:, None] * decays[None, :]) @ weights
        bare = by_pair(self.strength, first, second) / distance * screening
        beyond = jnp.maximum(distance - self.inner, 0.0)
        smooth = beyond**3 * (
            by_pair(self.cubic, first, second) + by_pair(self.quartic, first, second) * beyond
        )
        pair = bare + smooth + by_pair(self.constant, first, second)
        return jnp.where(distance < self.cutoff, pair, 0)
