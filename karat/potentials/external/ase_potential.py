"""Any ASE calculator as a contestant, with what its user declares about it.

Checked: tests/potentials/external/test_ase_potential.py and the conformance suite.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ase.data import atomic_numbers

from karat.core.errors import BadInput, UnknownElement
from karat.potentials.external.engine_potential import EnginePotential, declared_traits
from karat.potentials.protocol import AbstractPotentialComponent
from karat.reference.ase_engine import AseCalculator


@dataclass(frozen=True)
class Ase(AbstractPotentialComponent):
    """A calculator by import path, e.g. ``ase.calculators.emt:EMT`` or a foreign learned model.

    It is created once and kept (`reuse`): its results must not depend on what it did before.
    Files among the arguments need absolute paths.

    Source: Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017).

    Attributes:
        calculator: ``module:Class``.
        arguments: of the class, as plain data; objects among them as
            ``{class: module:Class, arguments: {…}}``.
        species: symbols of the elements it knows; empty for any.
        periodic, molecules: which structures it takes.
        cutoff_angstrom: where interactions end, or `None` for none or unknown.
        continuity: see `Traits.continuity`; 0 promises a continuous energy only.
        conservative: whether its forces are the gradient of its energy.
        force_tolerance: to which they are, eV/Å.
        tolerance_reason: why not 1e-6 eV/Å.
        method, basis, dispersion: level of theory it is or was trained to; "" for none.
        charge_argument, multiplicity_argument: arguments that take the structure's; without
            them charged structures and triplets are refused.
        reuse: `False` to create it anew for every structure.
    """

    calculator: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    species: tuple[str, ...] = ()
    periodic: bool = True
    molecules: bool = True
    cutoff_angstrom: float | None = None
    continuity: int = 0
    conservative: bool = True
    force_tolerance: float = 1e-3
    tolerance_reason: str = "declared for a foreign calculator"
    method: str = ""
    basis: str = ""
    dispersion: str = ""
    charge_argument: str = ""
    multiplicity_argument: str = ""
    reuse: bool = True

    def __post_init__(self) -> None:
        for symbol in self.species:
            if symbol not in atomic_numbers or symbol == "X":
                raise UnknownElement(f"ase.species: '{symbol}' is not an element symbol (e.g. Cu).")
        if not (self.periodic or self.molecules):
            raise BadInput("ase: with periodic and molecules both false it could treat nothing.")

    def load(self) -> EnginePotential:
        engine = AseCalculator(
            calculator=self.calculator,
            method=self.method or "unknown",
            arguments=self.arguments,
            basis=self.basis,
            dispersion=self.dispersion,
            charge_argument=self.charge_argument,
            multiplicity_argument=self.multiplicity_argument,
            reuse=self.reuse,
        )
        species = tuple(sorted({int(atomic_numbers[symbol]) for symbol in self.species}))
        return EnginePotential(
            engine,
            replace(
                declared_traits(engine, self.force_tolerance),
                species=species or None,
                periodic=self.periodic,
                molecules=self.molecules,
                cutoff=self.cutoff_angstrom,
                continuity=self.continuity,
                conservative=self.conservative,
                tolerance_reason=self.tolerance_reason,
                level=engine.level if self.method else None,
            ),
        )
