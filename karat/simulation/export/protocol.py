"""What an export is: files for one engine, and the ways in which that engine then computes.

To add an engine: a class derived from `AbstractExporter` in one file here, a line in
`catalogue.py`, and `verify.py` compares its answers with karat's own.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent
from karat.structures.labels import Labels
from karat.structures.structure import Structure


@dataclass(frozen=True)
class Tolerance:
    """Largest deviation from karat's float64 answer with which an export passes.

    Attributes:
        energy_mev_per_atom, forces_ev_per_angstrom, stress_ev_per_cubic_angstrom: the limits.
        reason: why these.
    """

    energy_mev_per_atom: float
    forces_ev_per_angstrom: float
    stress_ev_per_cubic_angstrom: float
    reason: str


EXACT = Tolerance(1e-3, 1e-6, 1e-8, "the same float64 numbers in other units and boxes")
SINGLE = Tolerance(0.1, 5e-3, 1e-5, "the exported potential computes in float32")


def tolerance_of(potential: AbstractPotential) -> Tolerance:
    """For an engine that calls the potential itself: `SINGLE` for float32, else `EXACT`.

    Potentials whose own forces are only good to `Traits.force_tolerance` for another reason
    (an iterated field) are held to a tenth of it.
    """
    if str(getattr(potential, "dtype", "float64")) == "float32":
        return SINGLE
    own = potential.traits.force_tolerance
    if own <= EXACT.forces_ev_per_angstrom:
        return EXACT
    return Tolerance(max(1e-3, own), own / 10, own / 1000, potential.traits.tolerance_reason)


@dataclass(frozen=True)
class Route:
    """One way in which the engine computes the exported potential.

    Attributes:
        name: in the exporter's words, e.g. ``fix external`` or ``pair_style sw``.
        files: it needs, names inside the folder.
        tolerance: it is held to.
    """

    name: str
    files: tuple[str, ...]
    tolerance: Tolerance


class AbstractExporter(abc.ABC):
    """Writes the files of one engine, and lets the engine compute with them."""

    @abc.abstractmethod
    def version(self) -> str:
        """Engine and version.

        Raises:
            MissingDependency: it is not installed.
        """

    @abc.abstractmethod
    def write(
        self, component: AbstractPotentialComponent, potential: AbstractPotential, folder: Path
    ) -> tuple[Route, ...]:
        """Write everything but the potential itself (`bundle.py` does that) into `folder`.

        Raises:
            BadInput: the engine cannot compute this potential.
        """

    @abc.abstractmethod
    def evaluate(self, folder: Path, route: str, structures: Sequence[Structure]) -> list[Labels]:
        """What the engine answers with the exported files: energy, forces, stress if it has one.

        Raises:
            UnsuitableStructure: one that the engine cannot take.
            CalculationFailed: the engine did not finish.
        """
