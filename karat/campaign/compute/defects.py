"""Formation energies of vacancies and interstitials, energies of surfaces.

Checked: tests/campaign/test_compute_properties.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from karat.campaign.compute.points import at_rest
from karat.campaign.compute.protocol import (
    AbstractProperty,
    Case,
    Desk,
    Found,
    Source,
    Value,
    defaults,
    each,
    one_per_structure,
    positive,
)
from karat.core.errors import BadInput, KaratError, suggestion
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.simulation.batched_relax import RelaxSettings
from karat.simulation.defects import PointDefect, interstitial, surface, vacancy
from karat.simulation.strain import require_crystal
from karat.structures.structure import Structure

_SURFACE = defaults(surface)
LEAST_WIDTH = 10.0
"""Å between opposite faces of a supercell that nobody has chosen."""


@dataclass(frozen=True)
class Vacancy(AbstractProperty):
    """Formation energy of a missing atom.

    Attributes:
        atom: of the given cell, counted from 0.
        supercell: repeats of the cell; by default as many as make it 10 Å wide everywhere.
        chemical_potentials_ev: eV by element, e.g. {Ga: -3.2}; of an element, by default, the
            crystal's own energy per atom.
        relax_first: relax atoms and cell of the crystal before, symmetry kept; needs stress.
        relax_ions: relax the ions around the defect, the supercell's size kept.
        force_tolerance: eV/Å.
        max_steps: of a relaxation.
        symmetry_tolerance: Å, for finding the space group of the first relaxation.
    """

    atom: int = 0
    supercell: tuple[int, int, int] | None = None
    chemical_potentials_ev: Mapping[str, float] = field(default_factory=dict)
    relax_first: bool = True
    relax_ions: bool = True
    force_tolerance: float = RelaxSettings.force_tolerance
    max_steps: int = RelaxSettings.max_steps
    symmetry_tolerance: float = RelaxSettings.symmetry_tolerance

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("formation_energy", "chemical_potential", "max_force")

    def __post_init__(self) -> None:
        positive(self, "vacancy", "force_tolerance", "max_steps", "symmetry_tolerance")
        _check_supercell("vacancy", self.supercell)
        _numbers(self.chemical_potentials_ev)

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        crystal = case.structure
        require_crystal(crystal, "a vacancy")
        if not 0 <= self.atom < len(crystal):
            raise BadInput(
                f"vacancy.atom is {self.atom}; {crystal.formula} has 0 to {len(crystal) - 1}."
            )
        _need_chemical_potential(crystal, crystal.symbols[self.atom], self.chemical_potentials_ev)
        _check_potential(potential, crystal, self.relax_first)

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        def one(crystal: Structure) -> Found:
            crystal = _start(self, potential, crystal)
            found = vacancy(
                potential,
                crystal,
                self.supercell or wide_supercell(crystal),
                self.atom,
                _numbers(self.chemical_potentials_ev),
                _ions(self),
            )
            return _point_defect(found)

        return each(one, cases)


@dataclass(frozen=True)
class Interstitial(AbstractProperty):
    """Formation energy of an additional atom.

    Attributes:
        element: of the additional atom.
        position: in fractions of the given cell's lattice vectors.
        supercell: repeats of the cell; by default as many as make it 10 Å wide everywhere.
        chemical_potentials_ev: eV by element; of an element, by default, the crystal's own
            energy per atom.
        relax_first: relax atoms and cell of the crystal before, symmetry kept; needs stress.
        relax_ions: relax the ions around the defect, the supercell's size kept.
        force_tolerance: eV/Å.
        max_steps: of a relaxation.
        symmetry_tolerance: Å, for finding the space group of the first relaxation.
    """

    element: str
    position: tuple[float, float, float]
    supercell: tuple[int, int, int] | None = None
    chemical_potentials_ev: Mapping[str, float] = field(default_factory=dict)
    relax_first: bool = True
    relax_ions: bool = True
    force_tolerance: float = RelaxSettings.force_tolerance
    max_steps: int = RelaxSettings.max_steps
    symmetry_tolerance: float = RelaxSettings.symmetry_tolerance

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("formation_energy", "chemical_potential", "max_force")

    def __post_init__(self) -> None:
        positive(self, "interstitial", "force_tolerance", "max_steps", "symmetry_tolerance")
        _check_supercell("interstitial", self.supercell)
        _numbers({self.element: 0.0, **self.chemical_potentials_ev})

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        crystal = case.structure
        require_crystal(crystal, "an interstitial")
        _need_chemical_potential(crystal, self.element, self.chemical_potentials_ev)
        _check_potential(potential, crystal, self.relax_first)
        number = atomic_number(self.element)
        extra = crystal.replace(numbers=np.full(len(crystal), number), multiplicity=None)
        check_suitable(potential, extra, ("energy", "forces"))

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        def one(crystal: Structure) -> Found:
            crystal = _start(self, potential, crystal)
            found = interstitial(
                potential,
                crystal,
                self.supercell or wide_supercell(crystal),
                atomic_number(self.element),
                np.array(self.position, float),
                _numbers(self.chemical_potentials_ev),
                _ions(self),
            )
            return _point_defect(found)

        return each(one, cases)


@dataclass(frozen=True)
class Slab(AbstractProperty):
    """Energy of a crystal's face, from a slab with two of them.

    Attributes:
        miller: indices of the face, of the given cell: give the conventional one.
        layers: of the slab, as `ase.build.surface` counts them; enlarge until it stands still.
        vacuum_angstrom: Å, on either side.
        relax_first: relax atoms and cell of the crystal before, symmetry kept; needs stress.
        relax_ions: relax the ions of the slab.
        force_tolerance: eV/Å.
        max_steps: of a relaxation.
        symmetry_tolerance: Å, for finding the space group of the first relaxation.
    """

    miller: tuple[int, int, int]
    layers: int
    vacuum_angstrom: float = _SURFACE["vacuum_angstrom"]
    relax_first: bool = True
    relax_ions: bool = True
    force_tolerance: float = RelaxSettings.force_tolerance
    max_steps: int = RelaxSettings.max_steps
    symmetry_tolerance: float = RelaxSettings.symmetry_tolerance

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("energy", "energy_si", "area", "atoms")

    def __post_init__(self) -> None:
        names = ("layers", "vacuum_angstrom", "force_tolerance", "max_steps", "symmetry_tolerance")
        positive(self, "surface", *names)
        if not any(self.miller):
            raise BadInput("surface.miller: the indices must not all be zero.")

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        require_crystal(case.structure, "a surface")
        _check_potential(potential, case.structure, self.relax_first)

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        def one(crystal: Structure) -> Found:
            crystal = _start(self, potential, crystal)
            found = surface(
                potential, crystal, self.miller, self.layers, self.vacuum_angstrom, _ions(self)
            )
            values = (
                Value("energy", np.array(found.energy), "eV/Å²"),
                Value("energy_si", np.array(found.energy_j_per_m2), "J/m²"),
                Value("area", np.array(found.area), "Å²", title="of one face"),
                Value("atoms", np.array(len(found.slab))),
            )
            return Found(values, {"slab": found.slab, "crystal": crystal})

        return each(one, cases)


def wide_supercell(crystal: Structure, width: float = LEAST_WIDTH) -> tuple[int, int, int]:
    """The fewest repeats that make opposite faces at least `width` (Å) apart."""
    cell = crystal.cell
    areas = [np.linalg.norm(np.cross(cell[(i + 1) % 3], cell[(i + 2) % 3])) for i in range(3)]
    first, second, third = (
        max(1, int(np.ceil(width * area / crystal.volume - 1e-9))) for area in areas
    )
    return first, second, third


def atomic_number(element: str) -> int:
    """Of an element's symbol.

    Raises:
        BadInput: no such element.
    """
    from ase.data import atomic_numbers

    known = {symbol: number for symbol, number in atomic_numbers.items() if number > 0}
    if element not in known:
        raise BadInput(f"'{element}' is no element; {suggestion(element, known)}")
    return int(known[element])


def _numbers(by_element: Mapping[str, float]) -> dict[int, float]:
    return {atomic_number(element): value for element, value in by_element.items()}


def _check_supercell(place: str, supercell: tuple[int, int, int] | None) -> None:
    if supercell is not None and min(supercell) < 1:
        raise BadInput(f"{place}.supercell {list(supercell)}: every number must be positive.")


def _check_potential(potential: AbstractPotential, crystal: Structure, relax_first: bool) -> None:
    try:
        want = ("energy", "forces", "stress") if relax_first else ("energy", "forces")
        check_suitable(potential, crystal, want)  # type: ignore[arg-type]
    except BadInput as error:
        if "stress" in potential.traits.quantities or not relax_first:
            raise
        raise type(error)(f"{error} Without stress: --set relax_first=false.") from error


def _need_chemical_potential(crystal: Structure, element: str, given: Mapping[str, float]) -> None:
    if element not in given and set(crystal.symbols) != {element}:
        raise BadInput(
            f"the chemical potential of {element} in {crystal.formula} is not its energy per "
            f"atom; give it: --set chemical_potentials_ev.{element}=…"
        )


def _start(
    settings: Vacancy | Interstitial | Slab, potential: AbstractPotential, crystal: Structure
) -> Structure:
    if not settings.relax_first:
        return crystal
    return at_rest(
        potential,
        crystal,
        settings.force_tolerance,
        settings.max_steps,
        settings.symmetry_tolerance,
    )


def _ions(settings: Vacancy | Interstitial | Slab) -> RelaxSettings | None:
    if not settings.relax_ions:
        return None
    return RelaxSettings(force_tolerance=settings.force_tolerance, max_steps=settings.max_steps)


def _point_defect(found: PointDefect) -> Found:
    values = [
        Value("formation_energy", np.array(found.formation_energy), "eV"),
        Value("chemical_potential", np.array(found.chemical_potential), "eV"),
        Value("atoms", np.array(len(found.perfect)), title="of the perfect supercell"),
    ]
    if found.max_force is not None:
        values.append(Value("max_force", np.array(found.max_force), "eV/Å", title="left"))
    return Found(tuple(values), {"defective": found.defective, "perfect": found.perfect})
