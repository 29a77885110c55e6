"""Single points and relaxed structures: many in one batched call.

Checked: tests/campaign/test_compute_properties.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from karat.campaign.compute.protocol import (
    AbstractProperty,
    Case,
    Desk,
    Found,
    Source,
    Value,
    one_per_structure,
)
from karat.core.errors import KaratError
from karat.potentials.protocol import AbstractPotential, Traits, check_suitable, predict_each
from karat.simulation.batched_relax import (
    CellFreedom,
    OptimiserName,
    RelaxedStructure,
    RelaxSettings,
    relax_batch,
)
from karat.simulation.strain import require_crystal
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

UNITS = {
    "energy": ("eV", ()),
    "forces": ("eV/Å", ("atoms", "xyz")),
    "stress": ("eV/Å³", ("xyz", "xyz")),
    "charges": ("e", ("atoms",)),
    "dipole": ("e Å", ("xyz",)),
}
"""Unit and axes of each quantity of `Labels`."""


@dataclass(frozen=True)
class Energy(AbstractProperty):
    """Energy, forces and stress of the structures as they are.

    Attributes:
        quantities: of energy, forces, stress, charges, dipole; by default energy, forces and,
            where potential and structure have it, stress.
    """

    quantities: tuple[Quantity, ...] | None = None

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("energy", "energy_per_atom", "max_force")
    batched: ClassVar[bool] = True

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        check_suitable(potential, case.structure, self._want(potential.traits, case.structure))

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        wants = [self._want(potential.traits, case.structure) for case in cases]
        outcomes: list[Found | KaratError] = [KaratError("not computed")] * len(cases)
        for want in dict.fromkeys(wants):
            places = [place for place, one in enumerate(wants) if one == want]
            structures = [cases[place].structure for place in places]
            for place, labels in zip(places, predict_each(potential, structures, want)):
                outcomes[place] = (
                    labels
                    if isinstance(labels, KaratError)
                    else Found(_values(labels, want, len(cases[place].structure)))
                )
        return outcomes

    def _want(self, traits: Traits, structure: Structure) -> tuple[Quantity, ...]:
        if self.quantities is not None:
            return self.quantities
        stress = structure.periodic.all() and "stress" in traits.quantities
        return ("energy", "forces", "stress") if stress else ("energy", "forces")


def _values(labels: Labels, want: Sequence[Quantity], atoms: int) -> tuple[Value, ...]:
    found = []
    for name in want:
        unit, axes = UNITS[name]
        data = getattr(labels, name)
        found.append(Value(name, np.asarray(data), unit, axes))
        if name == "energy":
            found.append(Value("energy_per_atom", np.asarray(data / atoms), "eV"))
        elif name == "forces":
            longest = np.linalg.norm(data, axis=1).max()
            found.append(Value("max_force", longest, "eV/Å", title="longest force"))
    return tuple(found)


@dataclass(frozen=True)
class Relax(AbstractProperty):
    """Structures at rest: atoms, or atoms and cell.

    Attributes:
        force_tolerance: eV/Å; no force may be longer.
        max_steps: after these, a structure has failed.
        cell: what of the cell is relaxed: fixed (nothing), shape (at constant volume), free.
        stress_tolerance_gpa: GPa; no component of what the cell feels may be larger.
        pressure_gpa: GPa, from outside; only with a cell that is free.
        keep_symmetry: the space group found at the start is kept.
        symmetry_tolerance: Å, for finding it.
        optimiser: how structures are moved: lbfgs, or fire (more steps).
    """

    force_tolerance: float = RelaxSettings.force_tolerance
    max_steps: int = RelaxSettings.max_steps
    cell: CellFreedom = RelaxSettings.cell
    stress_tolerance_gpa: float = RelaxSettings.stress_tolerance_gpa
    pressure_gpa: float = RelaxSettings.pressure_gpa
    keep_symmetry: bool = RelaxSettings.keep_symmetry
    symmetry_tolerance: float = RelaxSettings.symmetry_tolerance
    optimiser: OptimiserName = RelaxSettings.optimiser

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        *("energy", "energy_per_atom", "max_force", "max_stress", "volume", "steps"),
    )
    batched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _ = self.settings  # refuses what does not fit

    @property
    def settings(self) -> RelaxSettings:
        """The settings of `relax_batch`."""
        return RelaxSettings(**{field.name: getattr(self, field.name) for field in fields(self)})

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        if self.cell != "fixed":
            require_crystal(case.structure, "relaxing the cell")
        if self.keep_symmetry:
            require_crystal(case.structure, "keeping the symmetry")
        check_suitable(potential, case.structure, self.settings.want)

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        outcomes = relax_batch(potential, [case.structure for case in cases], self.settings)
        return [one if isinstance(one, KaratError) else _relaxed(one) for one in outcomes]


def _relaxed(relaxed: RelaxedStructure) -> Found:
    structure = relaxed.structure
    values = [
        Value("energy", np.array(relaxed.energy), "eV"),
        Value("energy_per_atom", np.array(relaxed.energy / len(structure)), "eV"),
        Value("max_force", np.array(relaxed.max_force), "eV/Å", title="longest force"),
        Value("steps", np.array(relaxed.steps)),
    ]
    if relaxed.max_stress_gpa is not None:
        size = np.array(relaxed.max_stress_gpa)
        values.append(Value("max_stress", size, "GPa", title="largest stress"))
    if structure.periodic.all():
        values.append(Value("volume", np.array(structure.volume), "Å³"))
    return Found(tuple(values), {"relaxed": structure})


def at_rest(
    potential: AbstractPotential,
    structure: Structure,
    force_tolerance: float,
    max_steps: int,
    symmetry_tolerance: float,
) -> Structure:
    """A crystal with atoms and cell relaxed, its space group kept.

    Raises:
        KaratError: what `relax_batch` ended with.
    """
    settings = RelaxSettings(
        force_tolerance=force_tolerance,
        max_steps=max_steps,
        cell="free",
        stress_tolerance_gpa=1e-3,
        keep_symmetry=True,
        symmetry_tolerance=symmetry_tolerance,
    )
    found = relax_batch(potential, [structure], settings)[0]
    if isinstance(found, KaratError):
        raise found
    return found.structure
