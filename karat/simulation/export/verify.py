"""An export compared with karat's own float64 answer on real structures.

Checked: tests/simulation/export/test_verify.py.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from karat.potentials.protocol import AbstractPotential
from karat.simulation.export.protocol import Route, Tolerance
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

COPIES = 5
AMPLITUDE = 0.05
"""Å; standard deviation of each coordinate of a rattled copy."""


def rattled(structure: Structure, seed: int = 0) -> list[Structure]:
    """`COPIES` copies with normal displacements, standard deviation `AMPLITUDE` Å."""
    rng = np.random.default_rng(seed)
    shape = structure.positions.shape
    return [
        structure.replace(positions=structure.positions + rng.normal(0, AMPLITUDE, shape))
        for _ in range(COPIES)
    ]


@dataclass(frozen=True)
class Deviation:
    """Engine minus karat, absolute; `None` where the engine or the structure has no stress."""

    energy_mev_per_atom: float
    forces_ev_per_angstrom: float
    stress_ev_per_cubic_angstrom: float | None


@dataclass(frozen=True)
class Verification:
    """One route's deviations.

    Attributes:
        route: its name.
        deviations: one per structure.
        largest: of each quantity over the structures.
        tolerance: what is allowed.
    """

    route: str
    deviations: tuple[Deviation, ...]
    largest: Deviation
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        """Whether every largest deviation is within its limit (NaN is not)."""
        stress = self.largest.stress_ev_per_cubic_angstrom
        limit = self.tolerance
        return bool(
            self.largest.energy_mev_per_atom <= limit.energy_mev_per_atom
            and self.largest.forces_ev_per_angstrom <= limit.forces_ev_per_angstrom
            and (stress is None or stress <= limit.stress_ev_per_cubic_angstrom)
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "passed": self.passed}


def own_labels(potential: AbstractPotential, structures: Sequence[Structure]) -> list[Labels]:
    """karat's answers: energy, forces, and stress where potential and structure have one.

    Raises:
        UnsuitableStructure, UnknownElement: before any work.
    """
    found = []
    for structure in structures:
        stressed = "stress" in potential.traits.quantities and structure.periodic.all()
        want: tuple[Quantity, ...] = ("energy", "forces")
        if stressed:
            want += ("stress",)
        found += potential.predict([structure], want)
    return found


def compare(route: Route, expected: Sequence[Labels], found: Sequence[Labels]) -> Verification:
    """Deviations of `found` (the engine's) from `expected` (karat's), in order."""
    deviations = tuple(_deviation(a, b) for a, b in zip(expected, found, strict=True))
    stresses = [
        d.stress_ev_per_cubic_angstrom
        for d in deviations
        if d.stress_ev_per_cubic_angstrom is not None
    ]
    largest = Deviation(
        float(np.max([d.energy_mev_per_atom for d in deviations])),
        float(np.max([d.forces_ev_per_angstrom for d in deviations])),
        float(np.max(stresses)) if stresses else None,
    )
    return Verification(route.name, deviations, largest, route.tolerance)


def _deviation(expected: Labels, found: Labels) -> Deviation:
    assert expected.forces is not None
    assert found.forces is not None
    stress = None
    if expected.stress is not None and found.stress is not None:
        stress = float(np.abs(found.stress - expected.stress).max())
    assert expected.energy is not None
    assert found.energy is not None
    return Deviation(
        1000 * abs(found.energy - expected.energy) / len(expected.forces),
        float(np.abs(found.forces - expected.forces).max()),
        stress,
    )
