"""Any engine of karat.reference as a potential; GFN2- and GFN1-xTB as contestants.

Checked: tests/potentials/external/test_engine_potential.py and the conformance suite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from karat.core import components
from karat.core.errors import BadInput
from karat.potentials.protocol import (
    AbstractPotential,
    AbstractPotentialComponent,
    Traits,
    check_suitable,
    require_finite,
)
from karat.reference.catalogue import CATALOGUE
from karat.reference.protocol import AbstractEngine
from karat.reference.xtb import (
    ACCURACY,
    ITERATIONS,
    LAST_ELEMENT,
    SHORTEST_SPACING,
    TEMPERATURE_K,
    AbstractTblite,
    Gfn1Xtb,
    Gfn2Xtb,
)
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

TOLERANCE = 1e-3
TOLERANCE_REASON = "a self-consistent field converged to finite accuracy"


@dataclass(frozen=True)
class Engine(AbstractPotentialComponent):
    """An engine as a contestant, at its own level of theory.

    Attributes:
        engine: name in the catalogue of engines, or ``module:Class``.
        options: its fields.
        force_tolerance: eV/Å, to which its forces are the gradient of its energy.
    """

    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    force_tolerance: float = TOLERANCE

    def make(self) -> AbstractEngine:
        """The engine itself."""
        cls = CATALOGUE.resolve(self.engine)
        engine = components.parse(cls, self.options, f"engine.options ({self.engine})")
        if not isinstance(engine, AbstractEngine):
            raise BadInput(f"engine: '{self.engine}' is not an engine (an AbstractEngine).")
        return engine

    def load(self) -> "EnginePotential":
        engine = self.make()
        return EnginePotential(engine, declared_traits(engine, self.force_tolerance))


@dataclass(frozen=True)
class Gfn2(AbstractPotentialComponent):
    """GFN2-xTB as a contestant: semi-empirical, H to Rn, molecules and large periodic cells.

    Source: Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15, 1652 (2019).

    Attributes:
        accuracy, electronic_temperature_k, max_iterations, shortest_spacing: see
            `karat.reference.xtb.Gfn2Xtb`.
    """

    accuracy: float = ACCURACY
    electronic_temperature_k: float = TEMPERATURE_K
    max_iterations: int = ITERATIONS
    shortest_spacing: float = SHORTEST_SPACING

    def make(self) -> Gfn2Xtb:
        """The engine itself."""
        return Gfn2Xtb(**vars(self))

    def load(self) -> "EnginePotential":
        engine = self.make()
        return EnginePotential(engine, declared_traits(engine, TOLERANCE))


@dataclass(frozen=True)
class Gfn1(AbstractPotentialComponent):
    """GFN1-xTB as a contestant: semi-empirical, H to Rn, molecules and large periodic cells.

    Source: Grimme, Bannwarth & Shushkov, J. Chem. Theory Comput. 13, 1989 (2017).

    Attributes:
        accuracy, electronic_temperature_k, max_iterations, shortest_spacing: see
            `karat.reference.xtb.Gfn1Xtb`.
    """

    accuracy: float = ACCURACY
    electronic_temperature_k: float = TEMPERATURE_K
    max_iterations: int = ITERATIONS
    shortest_spacing: float = SHORTEST_SPACING

    def make(self) -> Gfn1Xtb:
        """The engine itself."""
        return Gfn1Xtb(**vars(self))

    def load(self) -> "EnginePotential":
        engine = self.make()
        return EnginePotential(engine, declared_traits(engine, TOLERANCE))


def engine_of(component: Any) -> AbstractEngine | None:
    """The engine behind a component of this file, `None` for any other component."""
    return component.make() if isinstance(component, (Engine, Gfn1, Gfn2)) else None


def declared_traits(engine: AbstractEngine, force_tolerance: float) -> Traits:
    """What an engine says about itself; structures that it refuses, its own `check` names."""
    known = isinstance(engine, AbstractTblite)
    return Traits(
        species=tuple(range(1, LAST_ELEMENT + 1)) if known else None,
        periodic=True,
        molecules=True,
        quantities=engine.quantities,
        force_tolerance=force_tolerance,
        tolerance_reason=TOLERANCE_REASON,
        level=engine.level,
    )


class EnginePotential(AbstractPotential):
    """An engine behind the interface of potentials.

    Args:
        engine: what computes.
        traits: what is declared about it, e.g. by `declared_traits`.
    """

    def __init__(self, engine: AbstractEngine, traits: Traits) -> None:
        self.engine = engine
        self._traits = traits

    @property
    def traits(self) -> Traits:
        return self._traits

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        for structure in structures:
            check_suitable(self, structure, want)
            self.engine.check(structure, want)
        name = type(self.engine).__name__
        return [require_finite(self.engine.compute(s, want), name) for s in structures]
