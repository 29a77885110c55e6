"""Vibrations and torsions of molecules, curves of two atoms.

Checked: tests/campaign/test_compute_properties.py.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.campaign.compute.defects import atomic_number
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
from karat.core.errors import BadInput, KaratError, UnsuitableStructure, unknown_key
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.results.figure import Figure, Series
from karat.simulation.diatomic import FEWEST_DISTANCES, diatomic_curve
from karat.simulation.modes import normal_modes
from karat.simulation.torsions import Torsion, TorsionScan, find_torsions, torsion_scan
from karat.structures.labels import Quantity
from karat.structures.structure import Structure

PLAIN: tuple[Quantity, ...] = ("energy", "forces")
_MODES, _TORSION, _DIATOMIC = (
    defaults(function) for function in (normal_modes, torsion_scan, diatomic_curve)
)


@dataclass(frozen=True)
class MolecularModes(AbstractProperty):
    """Harmonic vibrations of molecules (of crystals: at Γ, the cell as it is).

    Attributes:
        displacement: Å, of the central differences.
        relax_first: relax the atoms before; else the modes are those of the given structure.
    """

    displacement: float = _MODES["displacement"]
    relax_first: bool = _MODES["relax_first"]

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("vibrations", "lowest", "highest", "imaginary")

    def __post_init__(self) -> None:
        positive(self, "modes", "displacement")

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        check_suitable(potential, case.structure, PLAIN)
        if len(case.structure) < 2:
            raise UnsuitableStructure(f"{case.structure.formula}: one atom does not vibrate.")

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        def one(structure: Structure) -> Found:
            found = normal_modes(potential, structure, self.displacement, self.relax_first)
            waves = found.frequencies_cm
            values = (
                Value("frequencies", waves, "cm⁻¹", ("modes",), "imaginary ones negative"),
                Value("vibrations", np.array(len(waves)), title="number of modes"),
                Value("lowest", np.array(waves.min()), "cm⁻¹"),
                Value("highest", np.array(waves.max()), "cm⁻¹"),
                Value("imaginary", np.array(int(np.sum(waves < 0))), title="imaginary modes"),
                Value(
                    "vectors",
                    found.vectors,
                    "",
                    ("modes", "atoms", "xyz"),
                    "mass-weighted, orthonormal",
                ),
                Value("hessian", found.hessian, "eV/Å²", ("components", "components")),
            )
            return Found(values, {"minimum" if self.relax_first else "given": found.structure})

        return each(one, cases)


@dataclass(frozen=True)
class TorsionProfile(AbstractProperty):
    """Relaxed energy profile around each bond of a molecule that can turn.

    Attributes:
        only: names of torsions, e.g. [O3-C2-C4-C5]; by default all.
        guess_bonds: guess the bonds of structures that bring none, from distances and charge.
        points: of a whole turn.
        both_ways: go round in both directions; the lower energy counts.
        force_tolerance: eV/Å.
        max_steps: of a relaxation.
    """

    only: tuple[str, ...] = ()
    guess_bonds: bool = False
    points: int = _TORSION["points"]
    both_ways: bool = _TORSION["both_ways"]
    force_tolerance: float = _TORSION["force_tolerance"]
    max_steps: int = _TORSION["max_steps"]

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("barrier", "points", "failed_points")

    def __post_init__(self) -> None:
        positive(self, "torsion", "force_tolerance", "max_steps")
        if self.points < 3:
            raise BadInput(f"torsion.points is {self.points}; at least 3 are needed.")

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        found = []
        known: set[str] = set()
        for plain in one_per_structure(sources):
            structure = self._with_bonds(plain)
            torsions = _torsions(plain.name, structure)
            known |= {torsion.name for torsion in torsions}
            found += [
                Case(f"{plain.name} {torsion.name}", (structure,), torsion.name)
                for torsion in torsions
                if not self.only or torsion.name in self.only
            ]
        for name in self.only:
            if name not in known:
                raise unknown_key("torsion.only: the set of these molecules", name, known)
        if not found:
            raise UnsuitableStructure("torsion: no molecule has a bond that can turn.")
        return tuple(found)

    def _with_bonds(self, case: Case) -> Structure:
        if case.structure.topology is not None or not self.guess_bonds:
            return case.structure
        from karat.structures.perceive import perceive_topology

        try:
            return perceive_topology(case.structure)
        except BadInput as error:
            raise type(error)(f"{case.name}: {error}") from error

    def check(self, potential: AbstractPotential, case: Case) -> None:
        check_suitable(potential, case.structure, PLAIN)

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        case = cases[0]

        def one(structure: Structure) -> Found:
            torsion = next(t for t in find_torsions(structure) if t.name == case.variant)
            scan = torsion_scan(
                potential,
                structure,
                torsion,
                self.points,
                self.both_ways,
                self.force_tolerance,
                self.max_steps,
            )
            return _scan(scan)

        return each(one, cases)


def _torsions(name: str, structure: Structure) -> tuple[Torsion, ...]:
    try:
        return find_torsions(structure)
    except UnsuitableStructure as error:
        bonds = not structure.periodic.any() and structure.topology is None
        hint = " On the command line: --set guess_bonds=true." if bonds else ""
        raise UnsuitableStructure(f"{name}: {error}{hint}") from error


def _scan(scan: TorsionScan) -> Found:
    height = scan.energies - scan.energies.min()
    axes = ("points",)
    values = (
        Value("angles", scan.angles_degree, "°", axes),
        Value("energies", scan.energies, "eV", axes),
        Value("barrier", np.array(height.max()), "eV", title="highest above lowest point"),
        Value("points", np.array(len(height))),
        Value("failed_points", np.array(len(scan.failures))),
        Value("atoms", np.array(scan.torsion.atoms), "", ("four",), "counted from 0"),
    )
    profile = Series("energy", tuple(scan.angles_degree.tolist()), tuple(height.tolist()))
    figure = Figure(
        "lines",
        "torsion",
        f"Torsion {scan.torsion.name}",
        "angle, °",
        "energy above the lowest point, eV",
        (profile,),
    )
    roles = {f"{angle:.1f}°": one for angle, one in zip(scan.angles_degree, scan.structures)}
    return Found(values, roles, scan.failures, (figure,))


@dataclass(frozen=True)
class Diatomic(AbstractProperty):
    """Energy and force of two atoms over their distance, and how smooth they are.

    Attributes:
        pairs: e.g. [Si-Si, Si-O]; by default every pair of elements in the files.
        shortest_angstrom: Å.
        longest_angstrom: Å.
        distances: how many, evenly spaced.
        difference_step: Å, of the central differences.
    """

    pairs: tuple[str, ...] = ()
    shortest_angstrom: float = 0.8
    longest_angstrom: float = 6.0
    distances: int = 105
    difference_step: float = _DIATOMIC["difference_step"]

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        *("minimum", "well_depth", "force_error", "force_flips", "tortuosity"),
    )

    def __post_init__(self) -> None:
        positive(self, "diatomic", "shortest_angstrom", "difference_step")
        if not (self.shortest_angstrom < self.longest_angstrom < np.inf):
            raise BadInput(
                f"diatomic: from {self.shortest_angstrom} to {self.longest_angstrom} Å: the "
                "longest distance must be larger."
            )
        if self.distances < FEWEST_DISTANCES:
            raise BadInput(
                f"diatomic.distances: {self.distances}; take {FEWEST_DISTANCES} or more."
            )
        for pair in self.pairs:
            _elements(pair)

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        pairs = [_elements(pair) for pair in self.pairs]
        if not pairs:
            numbers = sorted({int(z) for s in sources for one in s.structures for z in one.numbers})
            pairs = list(itertools.combinations_with_replacement(numbers, 2))
        if not pairs:
            raise BadInput("diatomic: name pairs, e.g. --set 'pairs=[Si-Si]', or give files.")
        found = []
        for pair in pairs:
            ends = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, self.shortest_angstrom]])
            dimer = Structure(np.array(pair), ends)
            found.append(Case("-".join(dimer.symbols), (dimer,)))
        return tuple(found)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        check_suitable(potential, case.structure, PLAIN)

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        lengths = np.linspace(self.shortest_angstrom, self.longest_angstrom, self.distances)

        def one(dimer: Structure) -> Found:
            first, second = dimer.numbers.tolist()
            found = diatomic_curve(
                potential, (first, second), lengths.tolist(), self.difference_step
            )
            axes = ("distances",)
            values = [
                Value("distances", found.distances, "Å", axes),
                Value("energies", found.energies, "eV", axes),
                Value("forces", found.forces, "eV/Å", axes, "positive: pushes apart"),
                Value("force_error", np.array(found.force_error), "eV/Å"),
                Value("sideways_force", np.array(found.sideways_force), "eV/Å"),
                Value("force_flips", np.array(found.force_flips), title="changes of sign"),
                Value("energy_jump", np.array(found.energy_jump), "eV"),
                Value("tortuosity", np.array(found.tortuosity)),
                Value("well_depth", found.energies[-1] - found.energies.min(), "eV"),
            ]
            notes = {}
            if found.minimum is None:
                notes["minimum"] = "none: the lowest energy lies at an end of the distances"
            else:
                values.append(Value("minimum", np.array(found.minimum), "Å"))
            above = found.energies - found.energies[-1]
            shown = found.distances >= found.distances[np.argmax(above < WALL)]
            curve = Series(
                "energy", tuple(found.distances[shown].tolist()), tuple(above[shown].tolist())
            )
            name = "-".join(found.symbols)
            figure = Figure(
                "lines",
                f"diatomic {name}",
                f"Two atoms: {name}",
                "distance, Å",
                "energy above the longest distance, eV",
                (curve,),
                note=f"Drawn below {WALL:g} eV.",
            )
            return Found(tuple(values), figures=(figure,), notes=notes)

        return each(one, cases)


WALL = 20.0
"""eV; how much of the repulsive wall is drawn."""


def _elements(pair: str) -> tuple[int, int]:
    first, dash, second = pair.partition("-")
    if not dash:
        raise BadInput(f"diatomic.pairs: '{pair}': write two elements, e.g. Si-O.")
    return atomic_number(first), atomic_number(second)
