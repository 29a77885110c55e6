"""Torsions of a molecule, found from its bonds, and relaxed scans around them.

Checked: tests/simulation/test_torsions.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.potentials.protocol import AbstractPotential
from karat.results.metric import Failure
from karat.simulation.relax import Quadruple, bond_lengths, relax
from karat.structures.structure import Structure
from karat.structures.topology import Topology

SCAN_FORCE = 0.02
"""eV/Å, to which every point of a scan is relaxed."""
STRETCHED = 1.3
"""A bond longer than this many times its length in the relaxed start is broken."""


@dataclass(frozen=True)
class Torsion:
    """Rotation around the bond between the two inner atoms.

    Attributes:
        atoms: indices; the outer two are the heaviest neighbours (then the lowest index).
        name: elements with places counted from 1, e.g. ``O3-C2-C4-C5``.
        moved: atoms on the last one's side of the bond.
    """

    atoms: Quadruple
    name: str
    moved: tuple[int, ...]

    def angle(self, structure: Structure) -> float:
        """Degrees in (-180, 180]; positive clockwise along the bond (IUPAC)."""
        first, second, third, fourth = structure.positions[list(self.atoms)]
        axis = third - second
        axis = axis / np.linalg.norm(axis)
        left = np.cross(second - first, axis)
        right = np.cross(axis, fourth - third)
        sine = np.dot(np.cross(left, right), axis)
        return wrap(float(np.degrees(np.arctan2(sine, np.dot(left, right)))))

    def turned(self, structure: Structure, angle_degree: float) -> Structure:
        """`structure` with its `moved` part turned around the bond to this angle."""
        origin, end = structure.positions[[self.atoms[1], self.atoms[2]]]
        axis = (end - origin) / np.linalg.norm(end - origin)
        turn = np.radians(angle_degree - self.angle(structure))
        moved = list(self.moved)
        arms = structure.positions[moved] - origin
        along = np.outer(arms @ axis, axis)
        rotated = along + np.cos(turn) * (arms - along) + np.sin(turn) * np.cross(axis, arms)
        positions = structure.positions.copy()
        positions[moved] = origin + rotated
        return structure.replace(positions=positions)


@dataclass(frozen=True, eq=False)
class TorsionScan:
    """A relaxed profile; only points that converged, failures beside them.

    Attributes:
        torsion: around which bond.
        angles_degree: in (-180, 180], ascending.
        structures: relaxed at these angles.
        energies: eV.
        failures: points that did not converge or where a bond broke; `Failure.case` is
            ``<torsion> <angle>°``.
    """

    torsion: Torsion
    angles_degree: Float[np.ndarray, "points"]
    structures: tuple[Structure, ...]
    energies: Float[np.ndarray, "points"]
    failures: tuple[Failure, ...] = ()


def wrap(angle_degree: float) -> float:
    """The same angle in (-180, 180]."""
    return -((-angle_degree + 180.0) % 360.0 - 180.0)


def find_torsions(structure: Structure) -> tuple[Torsion, ...]:
    """One torsion for each bond that can turn, in order of its atoms.

    A bond can turn if it is single, in no ring, both its atoms have another neighbour, and
    neither is a linear centre (a triple bond or two double bonds), where the angle is not
    defined. Rotors whose ends are hydrogens only (methyl, hydroxyl, amino) are included; so are
    conjugated bonds and amides, stiff as they are.

    Raises:
        UnsuitableStructure: the structure is periodic or brings no bonds.
    """
    if structure.periodic.any():
        raise UnsuitableStructure(f"{structure.formula} is periodic; torsions are of molecules.")
    topology = structure.topology
    if topology is None:
        raise UnsuitableStructure(
            f"{structure.formula} brings no bonds, so its torsions are not known. Build it from "
            "SMILES or SDF, or let karat.structures.builders.perceive_topology guess them once."
        )
    neighbours = _neighbours(topology)
    linear = _linear_centres(topology)
    found = []
    for bond, order in sorted(zip(map(tuple, np.sort(topology.bonds, axis=1)), topology.orders)):
        second, third = int(bond[0]), int(bond[1])
        ends_turn = len(neighbours[second]) > 1 and len(neighbours[third]) > 1
        if order != 1 or not ends_turn or {second, third} & linear:
            continue
        moved = _side(neighbours, second, third)
        if second in moved:  # a ring closes
            continue
        first = _outer(structure, neighbours[second] - {third})
        fourth = _outer(structure, neighbours[third] - {second})
        atoms = (first, second, third, fourth)
        name = "-".join(f"{structure.symbols[a]}{a + 1}" for a in atoms)
        found.append(Torsion(atoms, name, tuple(sorted(moved - {third}))))
    return tuple(found)


def _neighbours(topology: Topology) -> list[set[int]]:
    neighbours: list[set[int]] = [set() for _ in range(topology.atoms)]
    for i, j in topology.bonds.tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    return neighbours


def _linear_centres(topology: Topology) -> set[int]:
    """Atoms with a triple bond or two double bonds and two neighbours."""
    excess = np.zeros(topology.atoms)
    count = np.zeros(topology.atoms, int)
    for (i, j), order in zip(topology.bonds.tolist(), topology.orders):
        for atom in (i, j):
            excess[atom] += order - 1
            count[atom] += 1
    return {int(atom) for atom in np.nonzero((excess >= 2) & (count == 2))[0]}


def _outer(structure: Structure, candidates: set[int]) -> int:
    return min(candidates, key=lambda atom: (-int(structure.numbers[atom]), atom))


def _side(neighbours: list[set[int]], near: int, far: int) -> set[int]:
    """Atoms reached from `far` without using the bond near-far; holds `near` in a ring."""
    seen, waiting = {far}, [far]
    while waiting:
        atom = waiting.pop()
        for other in neighbours[atom]:
            if other not in seen and (atom, other) != (far, near):
                seen.add(other)
                waiting.append(other)
    return seen


def torsion_scan(
    potential: AbstractPotential,
    structure: Structure,
    torsion: Torsion,
    points: int = 12,
    both_ways: bool = False,
    force_tolerance: float = SCAN_FORCE,
    max_steps: int = 500,
) -> TorsionScan:
    """Relaxed energy profile around a bond: all else relaxes while the dihedral is held.

    The free minimum nearest to `structure` comes first; from its angle the scan steps by
    360°/points in both directions until they meet opposite, each point starting from the one
    before. With `both_ways`, each direction goes all the way round and the lower energy of the
    two counts at each angle (this removes hysteresis, at twice the cost).

    Raises:
        BadInput: fewer than 3 points.
        CalculationFailed: already the free minimum is not found, or its bonds are not those of
            the topology.
    """
    if points < 3:
        raise BadInput(f"torsion scan: {points} points; at least 3 are needed.")
    start = relax(potential, structure, force_tolerance, max_steps)
    lengths = bond_lengths(start.structure)
    if broken := _broken(structure, start.structure, bond_lengths(structure)):
        raise CalculationFailed(
            f"Relaxing {structure.formula} before its torsion scan: {broken}", kind="bond-broken"
        )
    zero = torsion.angle(start.structure)
    best: dict[int, tuple[float, Structure]] = {0: (start.energy, start.structure)}
    failures: dict[int, Failure] = {}
    for path in _paths(points, both_ways):
        last = start.structure
        for place in path:
            angle = wrap(zero + 360.0 * place / points)
            try:
                point = relax(
                    potential,
                    torsion.turned(last, angle),
                    force_tolerance,
                    max_steps,
                    fixed_dihedrals=(torsion.atoms,),
                )
                if broken := _broken(structure, point.structure, lengths):
                    raise CalculationFailed(broken, kind="bond-broken")
            except CalculationFailed as error:
                failures[place] = _failure(torsion, angle, error)
                continue
            last = point.structure
            if place not in best or point.energy < best[place][0]:
                best[place] = (point.energy, point.structure)
    return _assemble(torsion, zero, points, best, failures)


def _paths(points: int, both_ways: bool) -> Iterator[list[int]]:
    """Places 1…points-1 of the grid in the order of the two directions."""
    half = points if both_ways else points // 2 + 1
    yield list(range(1, half))
    yield list(range(points - 1, 0 if both_ways else half - 1, -1))


def _broken(structure: Structure, relaxed: Structure, lengths: np.ndarray) -> str:
    """Which bond is broken, or ""."""
    now = bond_lengths(relaxed)
    if not len(now):
        return ""
    worst = int(np.argmax(now / lengths))
    if now[worst] <= STRETCHED * lengths[worst]:
        return ""
    assert structure.topology is not None
    first, second = structure.topology.bonds[worst]
    names = f"{structure.symbols[first]}{first + 1}-{structure.symbols[second]}{second + 1}"
    return f"the bond {names} broke ({lengths[worst]:.2f} → {now[worst]:.2f} Å)."


def _failure(torsion: Torsion, angle: float, error: CalculationFailed) -> Failure:
    case = f"{torsion.name} {angle:.1f}°"
    return Failure(what="torsion scan", case=case, kind=error.kind, reason=str(error))


def _assemble(
    torsion: Torsion,
    zero: float,
    points: int,
    best: dict[int, tuple[float, Structure]],
    failures: dict[int, Failure],
) -> TorsionScan:
    order = sorted(best, key=lambda place: wrap(zero + 360.0 * place / points))
    return TorsionScan(
        torsion=torsion,
        angles_degree=np.array([wrap(zero + 360.0 * place / points) for place in order]),
        structures=tuple(best[place][1] for place in order),
        energies=np.array([best[place][0] for place in order]),
        failures=tuple(failures[place] for place in sorted(failures) if place not in best),
    )
