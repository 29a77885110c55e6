"""What pair potentials share: parameter tables over species, distances, the smooth switch."""

import abc
from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Array, Float, Int

from karat.core.errors import BadInput, UnknownElement
from karat.potentials.batch import Batch
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


def atomic_number(symbol: str, place: str) -> int:
    """Atomic number of an element symbol.

    Raises:
        UnknownElement: no such element.
    """
    if symbol not in atomic_numbers or symbol == "X":
        raise UnknownElement(f"{place}: '{symbol}' is not an element symbol (e.g. Ar, Si).")
    return atomic_numbers[symbol]


def check_range(
    place: str, onset: float, cutoff: float, first: str = "onset", second: str = "cutoff"
) -> None:
    """Refuse a switch that does not lie between 0 and the cut-off.

    Raises:
        BadInput: with both values and their names.
    """
    if not 0 < onset < cutoff < np.inf:
        raise BadInput(
            f"{place}: {first}_angstrom {onset} must lie between 0 and {second}_angstrom {cutoff}."
        )


def species_of(parameters: Mapping[str, float], place: str) -> tuple[int, ...]:
    """The elements that keys like ``Ar`` or ``Ar-Kr`` name, ascending.

    Raises:
        BadInput: no key; UnknownElement: a key that names none.
    """
    if not parameters:
        raise BadInput(f"{place}: is empty; give one value per element, e.g. {{Ar: 1.0}}.")
    return tuple(sorted({atomic_number(s, place) for key in parameters for s in key.split("-")}))


def pair_table(
    parameters: Mapping[str, float],
    species: tuple[int, ...],
    mix: Literal["geometric", "arithmetic", "none"],
) -> Float[np.ndarray, "species species"]:
    """Symmetric table from values by element (``Ar``) and by pair (``Ar-Kr``).

    Raises:
        BadInput: a pair is given twice, or is missing and cannot be mixed.
    """
    index = {z: i for i, z in enumerate(species)}
    table = np.full((len(species), len(species)), np.nan)
    for key, value in parameters.items():
        parts = key.split("-")
        if len(parts) > 2:
            raise BadInput(f"'{key}': one element or a pair of elements is needed, e.g. Ar-Kr.")
        i, j = index[atomic_number(parts[0], key)], index[atomic_number(parts[-1], key)]
        if not np.isnan(table[i, j]):
            raise BadInput(f"'{key}' is given twice.")
        if not np.isfinite(value):
            raise BadInput(f"'{key}' is {value}; a finite number is needed.")
        table[i, j] = table[j, i] = value
    for i, j in zip(*np.nonzero(np.isnan(table))):
        if mix == "none" or np.isnan(table[i, i]) or np.isnan(table[j, j]):
            raise BadInput(f"No value for the pair of atomic numbers {species[i]}-{species[j]}.")
        own = (table[i, i], table[j, j])
        table[i, j] = np.sqrt(own[0] * own[1]) if mix == "geometric" else 0.5 * (own[0] + own[1])
    return table


def species_index(numbers: Int[Array, "*shape"], species: tuple[int, ...]) -> Int[Array, "*shape"]:
    """Index of each atom's element in `species`; 0 on padding (mask what you compute from it)."""
    lookup = np.zeros(max(species) + 1, np.int32)
    for i, z in enumerate(species):
        lookup[z] = i
    return jnp.asarray(lookup)[numbers]


def pair_species(
    batch: Batch, species: tuple[int, ...]
) -> tuple[Int[Array, "pairs"], Int[Array, "pairs"]]:
    """`species_index` of the centre and of the neighbour of each pair."""
    centre = species_index(batch.numbers, species)[batch.centers]
    return centre, species_index(batch.neighbour_numbers, species)


def by_pair(
    table: Float[Array, "species species"],
    first: Int[Array, "pairs"],
    second: Int[Array, "pairs"],
) -> Float[Array, "*pairs"]:
    """Entries of a table over pairs of species; one number where there is one species."""
    return table[0, 0] if table.shape == (1, 1) else table[first, second]


def distances(vectors: Float[Array, "pairs 3"]) -> Float[Array, "pairs"]:
    """|v|, Å; vectors of a batch are never zero (padding ones are long)."""
    return jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))


def switch(distance: Float[Array, ""], onset: float, cutoff: float) -> Float[Array, ""]:
    """1 below `onset`, 0 above `cutoff`, between them 1 - 10x³ + 15x⁴ - 6x⁵.

    Twice continuously differentiable. Source: GROMACS manual, potential modifiers; LAMMPS.
    """
    x = jnp.clip((distance - onset) / (cutoff - onset), 0.0, 1.0)
    return 1 - x**3 * (10 - 15 * x + 6 * x * x)


class AbstractPairPotential(AbstractNativePotential):
    """A sum over pairs of atoms: the engine of dynamics needs its slope only, not the gradient of
    each pair's vector."""

    @abc.abstractmethod
    def pair_energy(
        self,
        distance: Float[Array, "pairs"],
        first: Int[Array, "pairs"],
        second: Int[Array, "pairs"],
    ) -> Float[Array, "pairs"]:
        """Energy of each pair, eV, exactly zero from the cut-off on.

        Args:
            distance: Å.
            first, second: indices into `species`; in any order.
        """

    def evaluate(self, batch: Batch) -> Outputs:
        """Each atom's half of its pair energies: pairs are listed in both directions."""
        value = self.pair_energy(distances(batch.vectors), *pair_species(batch, self.species))
        return Outputs(batch.sum_pairs(jnp.where(batch.pair_mask, 0.5 * value, 0)))
