"""A contestant whose errors are known, and which fails on demand; named `assay_example:Shifted`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karat.core.errors import CalculationFailed
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent, Traits
from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.structure import Structure

LEVEL = LevelOfTheory("spring")


def spring(structure: Structure) -> Labels:
    """H2: 3 eV/Å² about 0.75 Å, at -30 eV."""
    vector = structure.positions[1] - structure.positions[0]
    length = float(np.linalg.norm(vector))
    pull = 3.0 * (length - 0.75) * vector / length
    return Labels(-30.0 + 1.5 * (length - 0.75) ** 2, np.array([pull, -pull]))


@dataclass(frozen=True)
class Shifted(AbstractPotentialComponent):
    """The spring with every force component `error_ev_per_angstrom` too large.

    Attributes:
        fails_beyond_angstrom: longer molecules cannot be computed.
    """

    error_ev_per_angstrom: float = 0.0
    fails_beyond_angstrom: float = 100.0

    def load(self) -> "ShiftedPotential":
        return ShiftedPotential(self)


class ShiftedPotential(AbstractPotential):
    def __init__(self, component: Shifted) -> None:
        self.component = component

    @property
    def traits(self) -> Traits:
        return Traits((1,), False, True, ("energy", "forces"), conservative=False, level=LEVEL)

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        found = []
        for structure in structures:
            length = np.linalg.norm(structure.positions[1] - structure.positions[0])
            if length > self.component.fails_beyond_angstrom:
                raise CalculationFailed("too long", kind="too-long")
            exact = spring(structure)
            forces = exact.forces + self.component.error_ev_per_angstrom
            found.append(Labels(exact.energy, forces))
        return found
