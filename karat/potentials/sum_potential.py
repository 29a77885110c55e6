"""Sums of potentials: a repulsive core, dispersion, a learned correction on a force field, …

Checked: tests/potentials/test_sum_potential.py, tests/potentials/native/test_sum_model.py.
"""

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.catalogue import potential_component
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, Outputs
from karat.potentials.protocol import (
    AbstractPotential,
    AbstractPotentialComponent,
    Traits,
    check_suitable,
)
from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.structure import Structure


@dataclass(frozen=True)
class Term:
    """One potential of a sum.

    Attributes:
        potential: name in the catalogue, or ``module:Class``.
        options: its fields.
    """

    potential: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SumPotential(AbstractPotentialComponent):
    """The sum of its terms; native terms are fused into one compiled potential.

    The sum knows the elements that every term knows; its level of theory is that of the one
    trained term, or `None` where terms of different levels are added.

    Attributes:
        terms: at least one.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise BadInput("sum.terms: is empty; name at least one potential.")

    def load(self) -> AbstractPotential:
        return add_potentials(
            [
                potential_component(term.potential, term.options, f"sum.terms.{i}").load()
                for i, term in enumerate(self.terms)
            ]
        )


def add_potentials(potentials: Sequence[AbstractPotential]) -> AbstractPotential:
    """One potential that is the sum; native (`NativePotential`) where all of them are, with forces
    that are gradients.

    Raises:
        BadInput: no element that all know, or native terms of different precision.
    """
    species = _common_species(potentials)
    natives = [
        p for p in potentials if isinstance(p, NativePotential) and p.module.conservative
    ]  # forces that are no gradient are added to the others' on the host
    if len(natives) < len(potentials):
        return SummedPotential(tuple(potentials))
    precisions = sorted({str(p.dtype) for p in natives})
    if len(precisions) > 1:
        raise BadInput(f"sum: terms are in {' and '.join(precisions)}; give all the same dtype.")
    assert species is not None
    offsets = [p.reference_energies for p in natives]
    return NativePotential(
        fused([p.module for p in natives], species),
        reference_energies={z: sum(offset.get(z, 0.0) for offset in offsets) for z in species},
        level=_common_level(potentials),
        dtype=precisions[0],
    )


def fused(
    modules: Sequence[AbstractNativePotential],
    species: tuple[int, ...],
    shift: Float[Array, "species"] | None = None,
) -> "SumModule":
    """The sum of modules; it is as smooth at its cut-off as the least smooth of them."""
    return SumModule(
        terms=tuple(modules),
        species=species,
        cutoff=max(module.cutoff for module in modules),
        continuity=min(module.continuity for module in modules),
        needs_triplets=any(module.needs_triplets for module in modules),
        shift=shift,
    )


def _common_species(potentials: Sequence[AbstractPotential]) -> tuple[int, ...] | None:
    known = [set(p.traits.species) for p in potentials if p.traits.species is not None]
    if not known:
        return None
    common = tuple(sorted(known[0].intersection(*known[1:])))
    if not common:
        raise BadInput("sum: there is no element that all terms know. Give terms for the same.")
    return common


def _common_level(potentials: Sequence[AbstractPotential]) -> LevelOfTheory | None:
    levels = [p.traits.level for p in potentials if p.traits.level is not None]
    same = levels and all(levels[0].same_as(level) for level in levels[1:])
    return levels[0] if same else None


class SumModule(AbstractNativePotential):
    """Native terms on one neighbour list: each gives zero beyond its own cut-off.

    Attributes:
        terms: see above.
        shift: added to the energy of each atom, eV by element, or `None`; see `sum_model`.
    """

    terms: tuple[AbstractNativePotential, ...]
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)
    shift: Float[Array, "species"] | None = None

    def evaluate(self, batch: Batch) -> Outputs:
        """Atom energies, and charges where one term has them: charges are not added up."""
        parts = [term.evaluate(batch) for term in self.terms]
        energies = functools.reduce(operator.add, [part.atom_energies for part in parts])
        if self.shift is not None:
            own = self.shift[species_index(batch.numbers, self.species)]
            energies = energies + jnp.where(batch.atom_mask, own, 0.0)
        charges = [part.charges for part in parts if part.charges is not None]
        return Outputs(atom_energies=energies, charges=charges[0] if len(charges) == 1 else None)

    def prepared(self, species: tuple[int, ...]) -> "SumModule":
        terms = tuple(term.prepared(species) for term in self.terms)
        return eqx.tree_at(lambda m: m.terms, self, terms)


class SummedPotential(AbstractPotential):
    """Sum of predictions, where a term is not native."""

    def __init__(self, terms: tuple[AbstractPotential, ...]) -> None:
        self.terms = terms

    @property
    def traits(self) -> Traits:
        parts = [term.traits for term in self.terms]
        cutoffs = [part.cutoff for part in parts]
        additive: tuple[Quantity, ...] = ("energy", "forces", "stress")
        reasons = dict.fromkeys(part.tolerance_reason for part in parts if part.tolerance_reason)
        return Traits(
            species=_common_species(self.terms),
            periodic=all(part.periodic for part in parts),
            molecules=all(part.molecules for part in parts),
            quantities=tuple(q for q in additive if all(q in part.quantities for part in parts)),
            cutoff=None if None in cutoffs else max(c for c in cutoffs if c is not None),
            continuity=min(part.continuity for part in parts),
            conservative=all(part.conservative for part in parts),
            force_tolerance=sum(part.force_tolerance for part in parts),
            tolerance_reason="; ".join(["errors of terms add up", *reasons]),
            needs_topology=any(part.needs_topology for part in parts),
            fixed_atoms=any(part.fixed_atoms for part in parts),
            atoms=next((part.atoms for part in parts if part.atoms is not None), None),
            level=_common_level(self.terms),
        )

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        for structure in structures:
            check_suitable(self, structure, want)
        parts = [term.predict(structures, want) for term in self.terms]
        return [_add_labels(labels, want) for labels in zip(*parts)]


def _add_labels(labels: Sequence[Labels], want: Sequence[Quantity]) -> Labels:
    return Labels(**{name: sum(getattr(one, name) for one in labels) for name in {"energy", *want}})
