"""Buckingham (exp-6) pair potential, with a stated guard against its collapse.

Checked: tests/potentials/analytic/test_buckingham.py, against LAMMPS and the literal formula.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
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

Core = Literal["linear", "literal"]


@dataclass(frozen=True)
class Buckingham(AbstractPotentialComponent):
    """A e^(-r/ρ) - C/r⁶ between every two atoms, times a switch; no Coulomb term.

    Every pair of elements must be given, by element (``O``) or pair (``Mg-O``): there is no
    accepted mixing rule. A pair without interaction has A = C = 0.

    At short distance the literal formula falls to minus infinity: atoms that come over the
    barrier collapse. With ``core: linear`` the energy goes on as a straight line below the
    distance where the repulsion is strongest (the inner zero of the second derivative, so that
    the Hessian stays continuous); above it the formula is untouched. ``core: literal`` keeps
    the formula everywhere.

    Source: Buckingham, Proc. R. Soc. A 168, 264 (1938).

    Attributes:
        a_ev: A.
        rho_angstrom: ρ.
        c_ev_angstrom6: C, eV Å⁶.
        cutoff_angstrom: where the energy becomes zero.
        onset_angstrom: where the switch begins; twice continuously differentiable.
        core: what holds inside the barrier.
    """

    a_ev: Mapping[str, float]
    rho_angstrom: Mapping[str, float]
    c_ev_angstrom6: Mapping[str, float]
    cutoff_angstrom: float
    onset_angstrom: float
    core: Core = "linear"
    dtype: str = "float64"

    def __post_init__(self) -> None:
        check_range("buckingham", self.onset_angstrom, self.cutoff_angstrom)

    def load(self) -> NativePotential:
        species = species_of(self.a_ev, "buckingham.a_ev")
        tables = []
        for name in ("a_ev", "rho_angstrom", "c_ev_angstrom6"):
            values = getattr(self, name)
            if species_of(values, f"buckingham.{name}") != species:
                raise BadInput(f"buckingham: a_ev and {name} name other elements.")
            tables.append(pair_table(values, species, mix="none"))
        a, rho, c = tables
        joint = np.zeros_like(a)
        for i, j in np.ndindex(a.shape):
            pair = f"buckingham: the pair {species[i]}-{species[j]} (atomic numbers)"
            values = float(a[i, j]), float(rho[i, j]), float(c[i, j])
            _check_pair(*values, pair)
            if self.core == "linear":
                joint[i, j] = steepest_distance(*values, pair)
        if joint.max() >= self.onset_angstrom:
            raise BadInput(
                f"buckingham: onset_angstrom {self.onset_angstrom} lies inside the barrier at "
                f"{joint.max():.3f} Å. Choose a larger onset_angstrom."
            )
        return NativePotential(
            BuckinghamModule(
                a=jnp.asarray(a),
                rho=jnp.asarray(rho),
                c=jnp.asarray(c),
                joint=jnp.asarray(joint),
                species=species,
                cutoff=self.cutoff_angstrom,
                onset=self.onset_angstrom,
            ),
            dtype=self.dtype,
        )


def _check_pair(a: float, rho: float, c: float, pair: str) -> None:
    if a < 0 or c < 0 or rho <= 0:
        raise BadInput(
            f"{pair} has A = {a} eV, ρ = {rho} Å, C = {c} eV Å⁶; needed: A, C ≥ 0, ρ > 0."
        )


def steepest_distance(a: float, rho: float, c: float, pair: str) -> float:
    """Distance (Å) inside the well where the repulsive force is largest; 0 where C = 0.

    The second derivative (A/ρ²) e^(-r/ρ) - 42 C/r⁸ changes sign at the two solutions of
    r⁸ e^(-r/ρ) = 42 C ρ²/A, one on either side of r = 8ρ; this is the inner one.

    Raises:
        BadInput: no distance is repulsive: there is no wall to continue.
    """
    from scipy.optimize import brentq

    if c == 0:
        return 0.0

    def excess(r: float) -> float:
        return float(8 * np.log(r) - r / rho - np.log(42 * c * rho**2 / a))

    if a > 0 and excess(8 * rho) > 0:
        inner = float(brentq(excess, 1e-3 * rho, 8 * rho, xtol=1e-14))
        if -a / rho * np.exp(-inner / rho) + 6 * c / inner**7 < 0:
            return inner
    raise BadInput(
        f"{pair} is attractive at every distance (A = {a} eV, ρ = {rho} Å, C = {c} eV Å⁶): atoms "
        "would collapse. Check the units of A and C."
    )


class BuckinghamModule(AbstractPairPotential):
    """The pure function; `joint` is where the straight line begins (0: literal formula)."""

    a: Float[Array, "species species"]
    rho: Float[Array, "species species"]
    c: Float[Array, "species species"]
    joint: Float[Array, "species species"]
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
        a, rho, c = (
            by_pair(self.a, first, second),
            by_pair(self.rho, first, second),
            by_pair(self.c, first, second),
        )
        base = jnp.maximum(distance, by_pair(self.joint, first, second))
        wall = a * jnp.exp(-base / rho)
        attraction = c / base**6
        slope = -wall / rho + 6 * attraction / base
        pair = wall - attraction + slope * (distance - base)
        return pair * jax.vmap(lambda r: switch(r, self.onset, self.cutoff))(distance)
