"""Stillinger-Weber: pairs and angles, smooth to all orders at the cut-off.

Checked: tests/potentials/analytic/test_stillinger_weber.py, against matscipy, LAMMPS (Si and
GaN) and the published cohesive energy of silicon.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.analytic.angle_moments import angle_energies
from karat.potentials.analytic.pairwise import (
    atomic_number,
    by_pair,
    distances,
    pair_species,
)
from karat.potentials.batch import Batch
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, Outputs
from karat.potentials.protocol import AbstractPotentialComponent


@dataclass(frozen=True)
class StillingerWeberTerm:
    """Parameters of one triple of elements, letters as in the paper (and in LAMMPS).

    Attributes:
        epsilon_ev: ε.
        sigma_angstrom: σ.
        a: cut-off in units of σ.
        lambda3: λ, strength of the three-body term.
        gamma: γ, its decay.
        cos_theta0: cosine of the angle that costs nothing.
        A, B, p, q: of the two-body term.
    """

    epsilon_ev: float
    sigma_angstrom: float
    a: float
    lambda3: float
    gamma: float
    cos_theta0: float
    A: float
    B: float
    p: float
    q: float

    def __post_init__(self) -> None:
        if self.sigma_angstrom < 0 or self.a < 0:
            raise BadInput("stillinger_weber: sigma_angstrom and a must not be negative.")


PRESETS: Mapping[str, Mapping[str, StillingerWeberTerm]] = {
    "Si": {
        "Si-Si-Si": StillingerWeberTerm(
            epsilon_ev=2.1683,
            sigma_angstrom=2.0951,
            a=1.80,
            lambda3=21.0,
            gamma=1.20,
            cos_theta0=-1 / 3,
            A=7.049556277,
            B=0.6022245584,
            p=4.0,
            q=0.0,
        )
    }
}
"""Si: Stillinger & Weber (1985), Table I; ε (50 kcal/mol there) as LAMMPS and matscipy use it."""

PAIR_NAMES = ("epsilon_ev", "sigma_angstrom", "a", "gamma", "A", "B", "p", "q")
ANGULAR = ("epsilon_ev", "lambda3", "cos_theta0")
SYMMETRIC = ("epsilon_ev", "sigma_angstrom", "a", "A", "B", "p", "q")


@dataclass(frozen=True)
class StillingerWeber(AbstractPotentialComponent):
    """Σ A ε [B (σ/r)^p - (σ/r)^q] e^(σ/(r-aσ)) + Σ λ ε (cos θ - cos θ₀)² e^(γσ/(r-aσ)) e^(…).

    Several elements as in LAMMPS: `terms` has one entry for each ordered triple, the centre
    first. The pair i-j takes its parameters from ``i-j-j``, which must equal those of
    ``j-i-i`` (γ may differ); the angle j-i-k takes ε, λ and cos θ₀ from ``i-j-k``, where
    ``i-k-j`` may be left out.

    Source: Stillinger & Weber, Phys. Rev. B 31, 5262 (1985); LAMMPS manual, pair_style sw.

    Attributes:
        preset: published parameters: ``Si``.
        terms: own parameters instead, e.g. ``{"Si-Si-Si": {…}}``.
    """

    preset: Literal["Si"] | None = None
    terms: Mapping[str, StillingerWeberTerm] | None = None
    dtype: str = "float64"

    def __post_init__(self) -> None:
        if (self.preset is None) == (not self.terms):
            raise BadInput("stillinger_weber: give either `preset` or `terms`.")

    def load(self) -> NativePotential:
        terms = PRESETS[self.preset] if self.preset is not None else self.terms
        assert terms is not None
        species, table = _table(terms)
        size = range(len(species))
        pair = {
            name: np.array([[getattr(table[i, j, j], name) for j in size] for i in size])
            for name in PAIR_NAMES
        }
        strength, cosine = np.zeros((2, len(species), len(species), len(species)))
        for key, term in table.items():
            strength[key], cosine[key] = term.lambda3 * term.epsilon_ev, term.cos_theta0
        return NativePotential(
            StillingerWeberModule(
                strength=jnp.asarray(pair["epsilon_ev"] * pair["A"]),
                repulsion=jnp.asarray(pair["B"]),
                powers=jnp.asarray(np.stack([pair["p"], pair["q"]])),
                sigma=jnp.asarray(pair["sigma_angstrom"]),
                decay=jnp.asarray(pair["gamma"] * pair["sigma_angstrom"]),
                reach=jnp.asarray(pair["a"] * pair["sigma_angstrom"]),
                angle_strength=jnp.asarray(strength),
                cosine=jnp.asarray(cosine),
                species=species,
                cutoff=float((pair["a"] * pair["sigma_angstrom"]).max()),
            ),
            dtype=self.dtype,
        )


def _table(
    terms: Mapping[str, StillingerWeberTerm],
) -> tuple[tuple[int, ...], dict[tuple[int, int, int], StillingerWeberTerm]]:
    """Species and the terms of every ordered triple of species indices."""
    given: dict[tuple[int, ...], StillingerWeberTerm] = {}
    for key, term in terms.items():
        parts = key.split("-")
        if len(parts) != 3:
            raise BadInput(f"stillinger_weber.terms: '{key}' is not a triple such as Si-C-C.")
        given[tuple(atomic_number(s, "stillinger_weber.terms") for s in parts)] = term
    species = tuple(sorted({z for key in given for z in key}))
    table = {}
    for i, j, k in itertools.product(range(len(species)), repeat=3):
        triple, mirrored = (
            (species[i], species[j], species[k]),
            (species[i], species[k], species[j]),
        )
        name = "-".join(chemical_symbols[z] for z in triple)
        found = given.get(triple) or given.get(mirrored)
        if found is None:
            raise BadInput(f"stillinger_weber.terms: '{name}' is missing. Give every triple.")
        _check_agree(found, given.get(mirrored, found), name, ANGULAR)
        table[i, j, k] = found
    for i, j in itertools.product(range(len(species)), repeat=2):
        pair = f"pair {chemical_symbols[species[i]]}-{chemical_symbols[species[j]]}"
        _check_agree(table[i, j, j], table[j, i, i], pair, SYMMETRIC)
    return species, table


def _check_agree(
    one: StillingerWeberTerm, other: StillingerWeberTerm, name: str, fields: tuple[str, ...]
) -> None:
    for field in fields:
        values = getattr(one, field), getattr(other, field)
        if values[0] != values[1]:
            raise BadInput(
                f"stillinger_weber.terms: {field} of the {name} is {values[0]} in one order of "
                f"elements and {values[1]} in the other. Give the same value."
            )


class StillingerWeberModule(AbstractNativePotential):
    """The pure function; tables over (centre, neighbour) and (centre, neighbour, neighbour).

    Lengths in Å, energies in eV. The exponential has all its derivatives zero at the cut-off,
    hence `continuity` 99.
    """

    strength: Float[Array, "species species"]
    repulsion: Float[Array, "species species"]
    powers: Float[Array, "2 species species"]
    sigma: Float[Array, "species species"]
    decay: Float[Array, "species species"]
    reach: Float[Array, "species species"]
    angle_strength: Float[Array, "species species species"]
    cosine: Float[Array, "species species species"]
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True, default=99)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def evaluate(self, batch: Batch) -> Outputs:
        centre, other = pair_species(batch, self.species)

        def of(table: Float[Array, "species species"]) -> Float[Array, "*pairs"]:
            return by_pair(table, centre, other)

        distance = distances(batch.vectors)
        inside = batch.pair_mask & (distance < of(self.reach))
        # -1 Å outside: exp and its derivatives stay finite there, and are masked
        gap = jnp.where(inside, distance - of(self.reach), -1.0)
        ratio = jnp.log(of(self.sigma) / distance)  # powers through one logarithm
        bracket = of(self.repulsion) * jnp.exp(of(self.powers[0]) * ratio)
        bracket = bracket - jnp.exp(of(self.powers[1]) * ratio)
        pair = of(self.strength) * bracket * jnp.exp(of(self.sigma) / gap)
        pair = batch.sum_pairs(jnp.where(inside, 0.5 * pair, 0.0))
        decay = jnp.where(inside, jnp.exp(of(self.decay) / gap), 0.0)
        inverse = 1 / distance
        geometry = (decay, *(batch.vectors[:, axis] * inverse for axis in range(3)))
        angles = angle_energies(
            geometry, (self.angle_strength, self.cosine), batch, (centre, other)
        )
        return Outputs(atom_energies=jnp.where(batch.atom_mask, pair + angles, 0.0))
