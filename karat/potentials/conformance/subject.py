"""What is checked: a potential with structures, given or made from its declarations."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.potentials.conformance.outcome import NotApplicable
from karat.potentials.protocol import AbstractPotential
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure
from karat.structures.topology import Topology


@dataclass(frozen=True, eq=False)
class Subject:
    """A potential and structures that it can treat.

    Attributes:
        molecules, crystals: structures without and with periodic directions.
        spacing: Å, a distance at which neighbours sit well.
        seed: for random rotations, displacements, velocities.
    """

    potential: AbstractPotential
    molecules: tuple[Structure, ...]
    crystals: tuple[Structure, ...]
    spacing: float
    seed: int

    @property
    def structures(self) -> tuple[Structure, ...]:
        """All of them."""
        return self.molecules + self.crystals

    def need_crystals(self) -> tuple[Structure, ...]:
        """Raises NotApplicable: there is none."""
        if not self.crystals:
            periodic = self.potential.traits.periodic
            raise NotApplicable("no crystal was given" if periodic else "takes molecules only")
        return self.crystals

    def random(self, check: str) -> np.random.Generator:
        """Random numbers of one check, independent of other checks."""
        return np.random.default_rng([self.seed, zlib.crc32(check.encode())])

    def wanted(self, structure: Structure) -> tuple[Quantity, ...]:
        """Energy, forces and (three periodic directions) stress, where predicted."""
        names: list[Quantity] = ["energy", "forces"]
        if structure.periodic.all():
            names.append("stress")
        return tuple(name for name in names if name in self.potential.traits.quantities)

    def predict(self, structure: Structure) -> Labels:
        """Energy, forces and stress of one structure."""
        return self.potential.predict([structure], self.wanted(structure))[0]

    def energies(self, structures: Sequence[Structure]) -> Float[np.ndarray, "structures"]:
        """Energies, eV."""
        labels = self.potential.predict(list(structures), ("energy",))
        return np.array([label.energy for label in labels], dtype=np.float64)

    def energy_tolerance(self, structure: Structure, energy: float) -> float:
        """eV: forces that err by `force_tolerance` over 0.01 Å an atom, and rounding."""
        declared = self.potential.traits.force_tolerance
        return 0.01 * declared * len(structure) + 1e-12 * abs(energy)

    @property
    def stress_tolerance(self) -> float:
        """eV/Å³: force errors × distance × density, which is near 0.1 /Å² in condensed matter."""
        return 0.1 * self.potential.traits.force_tolerance


def make_subject(
    potential: AbstractPotential, structures: Sequence[Structure] = (), seed: int = 0
) -> Subject:
    """A subject with the given structures, or with clusters and crystals of known elements.

    Raises:
        BadInput: none is given, and none can be made (any element, bonds or fixed atoms).
    """
    traits = potential.traits
    if structures:
        return Subject(
            potential=potential,
            molecules=tuple(s for s in structures if not s.periodic.any()),
            crystals=tuple(s for s in structures if s.periodic.any()),
            spacing=_closest(structures),
            seed=seed,
        )
    if traits.species is None or traits.needs_topology or traits.fixed_atoms:
        raise BadInput(
            f"{type(potential).__name__} takes any element, needs bonds or knows fixed atoms only: "
            "give structures that it can treat to make_subject or run_conformance."
        )
    species = tuple(sorted({traits.species[0], traits.species[-1]}))
    spacing = max(preferred_distance(potential, a, b) for a in species for b in species if a <= b)
    rng = np.random.default_rng(seed)
    molecules = (cluster(species, spacing, 5, rng),)
    crystals = (rattled_crystal(species, spacing, rng),)
    return Subject(
        potential=potential,
        molecules=molecules if traits.molecules else (),
        crystals=crystals if traits.periodic else (),
        spacing=spacing,
        seed=seed,
    )


def _closest(structures: Sequence[Structure]) -> float:
    """Smallest distance between two atoms of the largest structure; 1.5 Å for a lone atom."""
    positions = max(structures, key=len).positions
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    apart = apart[np.triu_indices(len(positions), 1)]
    return float(apart.min()) if len(apart) else 1.5


def alone(potential: AbstractPotential, structure: Structure) -> Structure:
    """The molecule as it stands, or in a wide box for potentials of crystals only."""
    if potential.traits.molecules:
        return structure
    width = 3 * float(np.ptp(structure.positions)) + 3 * (potential.traits.cutoff or 10.0)
    return structure.replace(cell=width * np.eye(3), periodic=np.ones(3, bool))


def preferred_distance(potential: AbstractPotential, first: int, second: int) -> float:
    """Where a dimer has its lowest energy, Å; without a well 0.65 of the range that is scanned."""
    bond = float(covalent_radii[first] + covalent_radii[second])
    far = min(3 * bond, 0.95 * (potential.traits.cutoff or np.inf))
    near = min(0.7 * bond, 0.5 * far)
    distances = np.linspace(near, far, 48)
    numbers = np.array([first, second])
    dimers = [
        alone(potential, Structure(numbers=numbers, positions=np.array([[0, 0, 0], [d, 0, 0]])))
        for d in distances
    ]
    energies = [label.energy for label in potential.predict(dimers, ("energy",))]
    lowest = int(np.argmin(np.array(energies, dtype=np.float64)))
    if lowest in (0, len(distances) - 1):
        return 0.65 * far
    return float(distances[lowest])


_TETRAHEDRON = np.array(
    [[0, 0, 0], [1, 0, 0], [0.5, 0.866, 0], [0.5, 0.289, 0.816], [1.5, 0.866, 0.2]]
)


def cluster(
    species: tuple[int, ...], spacing: float, atoms: int, rng: np.random.Generator
) -> Structure:
    """Up to five atoms about `spacing` apart, in no symmetric place."""
    positions = spacing * (_TETRAHEDRON[:atoms] + rng.uniform(-0.06, 0.06, (atoms, 3)))
    return Structure(numbers=_elements(species, atoms), positions=positions)


def rattled_crystal(
    species: tuple[int, ...], spacing: float, rng: np.random.Generator
) -> Structure:
    """Four atoms of a strained, rattled face-centred cell; neighbours about `spacing` apart."""
    fractional = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    strain = np.array([[0.02, 0.03, 0.0], [-0.02, -0.01, 0.04], [0.01, 0.02, 0.03]])
    cell = 1.05 * np.sqrt(2) * spacing * (np.eye(3) + strain)
    positions = fractional @ cell + spacing * rng.uniform(-0.05, 0.05, (4, 3))
    return Structure(
        numbers=_elements(species, 4), positions=positions, cell=cell, periodic=np.ones(3, bool)
    )


def small_cell(species: tuple[int, ...], spacing: float) -> Structure:
    """Two atoms in an oblique cell about as wide as one and two neighbour distances."""
    cell = 1.1 * spacing * np.array([[1.0, 0.05, 0.0], [0.45, 0.9, 0.03], [0.6, 0.5, 1.7]])
    positions = np.array([[0.0, 0.0, 0.0], [0.52, 0.47, 0.46]]) @ cell
    return Structure(
        numbers=_elements(species, 2), positions=positions, cell=cell, periodic=np.ones(3, bool)
    )


def _elements(species: tuple[int, ...], atoms: int) -> np.ndarray:
    return np.array([species[i % len(species)] for i in range(atoms)], dtype=np.int64)


def repeat(structure: Structure, times: tuple[int, int, int]) -> Structure:
    """A supercell; the atoms of the first cell come first."""
    shifts = np.array(list(np.ndindex(*times)), dtype=np.float64) @ structure.cell
    positions = (structure.positions[None] + shifts[:, None]).reshape(-1, 3)
    return structure.replace(
        numbers=np.tile(structure.numbers, len(shifts)),
        positions=positions,
        cell=structure.cell * np.array(times, dtype=np.float64)[:, None],
        charge=structure.charge * len(shifts),
        multiplicity=None,
    )


def permuted(structure: Structure, order: np.ndarray) -> Structure:
    """Atom `order[i]` becomes atom i; its bonds and formal charge go along."""
    topology = structure.topology
    if topology is not None:
        topology = Topology(
            bonds=np.argsort(order)[topology.bonds],
            orders=topology.orders,
            formal_charges=topology.formal_charges[order],
            residues=tuple(topology.residues[i] for i in order) if topology.residues else (),
            smiles=topology.smiles,
        )
    return structure.replace(
        numbers=structure.numbers[order], positions=structure.positions[order], topology=topology
    )


def lone_atom(subject: Subject) -> Structure:
    """One atom of the first element at hand, no bonds."""
    number = int(subject.structures[0].numbers[0])
    topology = Topology(
        bonds=np.zeros((0, 2), np.int64), orders=np.zeros(0), formal_charges=np.zeros(1, np.int64)
    )
    atom = Structure(
        numbers=np.array([number]), positions=np.array([[0.3, -0.2, 0.1]]), topology=topology
    )
    return alone(subject.potential, atom)
