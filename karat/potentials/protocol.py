"""What a potential is: all that upper floors need.

To add one: write a frozen dataclass (the component, with `load`) and the potential in one file,
add a line to `catalogue.py`, pass `conformance.py`.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from karat.core.errors import CalculationFailed, KaratError, UnknownElement, UnsuitableStructure
from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


@dataclass(frozen=True)
class Traits:
    """What a potential declares about itself; the conformance suite holds it to it.

    Attributes:
        species: atomic numbers it knows, ascending; `None` for "any".
        periodic: whether it takes periodic structures; with `molecules`, whether others.
        molecules: whether it takes structures that repeat in no direction.
        quantities: what it predicts.
        cutoff: Å, or `None` for none.
        continuity: order of the highest derivative of the energy that is continuous at the
            cut-off (0: energy, 1: forces, 2: Hessian; 99: smooth); -1 where it is not continuous.
        conservative: whether forces are the gradient of the energy.
        force_tolerance: to which forces equal the gradient, eV/Å.
        tolerance_reason: why not 1e-6 eV/Å.
        needs_topology: whether a structure must bring bonds.
        fixed_atoms: whether it knows one list of atoms only, in one order (a parametrised
            OpenMM system): no permutation, no supercell.
        atoms: that list as atomic numbers, where it is known before a structure is tried.
        native: whether it is a compiled JAX potential.
        level: level of theory it is or was trained to, or `None`.
    """

    species: tuple[int, ...] | None
    periodic: bool
    molecules: bool
    quantities: tuple[Quantity, ...]
    cutoff: float | None = None
    continuity: int = 99
    conservative: bool = True
    force_tolerance: float = 1e-6
    tolerance_reason: str = ""
    needs_topology: bool = False
    fixed_atoms: bool = False
    atoms: tuple[int, ...] | None = None
    native: bool = False
    level: LevelOfTheory | None = None


class AbstractPotential(abc.ABC):
    """Predicts labels of structures."""

    @property
    @abc.abstractmethod
    def traits(self) -> Traits:
        """Its declarations."""

    @abc.abstractmethod
    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        """Labels with at least the wanted quantities, in order.

        Raises:
            UnsuitableStructure, UnknownElement: see `check_suitable`; before any work.
            CalculationFailed: one of them could not be computed (none is returned then;
                `predict_each` returns the others).
        """

    def calculator(self) -> "Calculator":
        """An ASE calculator of this potential."""
        from karat.potentials.external.ase_export import PotentialCalculator

        return PotentialCalculator(self)


class AbstractPotentialComponent(abc.ABC):
    """A frozen dataclass that says which potential: its fields are what a campaign may set."""

    @abc.abstractmethod
    def load(self) -> AbstractPotential:
        """The potential itself: parameters read, foreign packages imported.

        Raises:
            BadInput: files missing, parameters that do not fit together.
            MissingDependency: a package that is not installed.
        """


def check_suitable(
    potential: AbstractPotential, structure: Structure, want: Sequence[Quantity]
) -> None:
    """Refuse what the potential declares that it cannot treat.

    Raises:
        UnknownElement, UnsuitableStructure: naming the value and what is allowed.
    """
    from ase.data import chemical_symbols

    traits = potential.traits
    name = type(potential).__name__
    if traits.species is not None:
        missing = sorted(set(map(int, structure.numbers)) - set(traits.species))
        if missing:
            raise UnknownElement(
                f"{name} has no parameters for {', '.join(chemical_symbols[z] for z in missing)} "
                f"(in {structure.formula}); it knows "
                f"{', '.join(chemical_symbols[z] for z in traits.species)}. "
                "Use another potential, or train one on data with these elements."
            )
    if structure.periodic.any() and not traits.periodic:
        raise UnsuitableStructure(f"{name} takes molecules only; {structure.formula} is periodic.")
    if not structure.periodic.any() and not traits.molecules:
        raise UnsuitableStructure(f"{name} takes crystals only; {structure.formula} is a molecule.")
    if traits.atoms is not None and tuple(structure.numbers.tolist()) != traits.atoms:
        raise UnsuitableStructure(
            f"{name} knows one molecule, {_formula(traits.atoms)}, with its atoms in one order; "
            f"this is {structure.formula}{_elsewhere(structure, traits.atoms)}. Use the training "
            "data's order of atoms, or another potential."
        )
    if traits.needs_topology and structure.topology is None:
        raise UnsuitableStructure(
            f"{name} needs bonds, and {structure.formula} brings none. Build it from SMILES, SDF "
            "or PDB, or let karat.structures.builders.perceive_topology guess them once."
        )
    for quantity in want:
        if quantity not in traits.quantities:
            raise UnsuitableStructure(
                f"{name} does not predict {quantity}; it predicts {', '.join(traits.quantities)}."
            )
    if "stress" in want and not structure.periodic.all():
        raise UnsuitableStructure(f"stress needs three periodic directions: {structure.formula}.")


def _formula(numbers: tuple[int, ...]) -> str:
    return Structure(np.array(numbers), np.zeros((len(numbers), 3))).formula


def _elsewhere(structure: Structure, numbers: tuple[int, ...]) -> str:
    """Where a list of the same atoms first differs."""
    for place, (mine, theirs) in enumerate(zip(structure.numbers.tolist(), numbers)):
        if mine != theirs:
            return f", whose atom {place} has atomic number {mine} instead of {theirs}"
    return ""


def predict_each(
    potential: AbstractPotential, structures: Sequence[Structure], want: Sequence[Quantity]
) -> list[Labels | KaratError]:
    """Labels where they could be computed, the error where not; one failure costs no other."""
    try:
        return list(potential.predict(structures, want))
    except KaratError as error:
        if len(structures) == 1:
            return [error]
    outcome: list[Labels | KaratError] = []
    for structure in structures:
        try:
            outcome += potential.predict([structure], want)
        except KaratError as error:
            outcome.append(error)
    return outcome


def require_finite(labels: Labels, name: str) -> Labels:
    """`labels`, if every number in it is finite.

    Raises:
        CalculationFailed: kind ``not-finite``.
    """
    if not labels.finite():
        raise CalculationFailed(f"{name} returned NaN or infinity.", kind="not-finite")
    return labels
