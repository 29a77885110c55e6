"""A karat potential as an OpenMM force: on all atoms, or on a part of an MM system.

Checked: tests/simulation/export/test_openmm_force.py, test_openmm_mixed.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from karat.core.errors import BadInput, UnsuitableStructure
from karat.core.units import KJ_PER_MOL
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.simulation.export.compiled import Evaluator, make_evaluator
from karat.simulation.export.openmm_mixed import one_molecule, without_inner_terms
from karat.structures.structure import Structure

if TYPE_CHECKING:
    import openmm
    from openmm import app

ANGSTROM_PER_NM = 10.0


class Computation:
    """What OpenMM calls: state → energy (kJ/mol) and forces (kJ/mol/nm)."""

    def __init__(self, evaluator: Evaluator, periodic: bool) -> None:
        self._evaluator, self._periodic = evaluator, periodic

    def __call__(self, state: "openmm.State") -> tuple[float, np.ndarray]:
        positions = np.asarray(state.getPositions(asNumpy=True)._value) * ANGSTROM_PER_NM
        cell = np.zeros((3, 3))
        if self._periodic:
            box = state.getPeriodicBoxVectors(asNumpy=True)._value
            cell = np.asarray(box) * ANGSTROM_PER_NM
        answer = self._evaluator(positions, cell)
        return answer.energy / KJ_PER_MOL, answer.forces * (ANGSTROM_PER_NM / KJ_PER_MOL)


def potential_force(
    potential: AbstractPotential,
    topology: "app.Topology",
    periodic: bool,
    atoms: Sequence[int] | None = None,
    charge: int = 0,
    multiplicity: int | None = None,
) -> "openmm.PythonForce":
    """The potential as a force on `atoms` (by default all).

    Args:
        potential: what computes.
        topology: tells the elements.
        periodic: whether the potential sees the periodic box.
        atoms: indices; the potential sees these atoms alone, in this order.
        charge: total charge of these atoms, e.
        multiplicity: 2S+1, by default the lowest.

    Raises:
        BadInput: particles without element, unknown indices, bonds that the topology cannot
            tell, an atom that the potential does not know.
    """
    import openmm

    chosen = _chosen(topology, atoms)
    elements = [atom.element for atom in topology.atoms()]
    without = [i for i in chosen if elements[i] is None]
    if without:
        raise UnsuitableStructure(
            f"openmm: particle {without[0]} has no element (a virtual site): a potential of atoms "
            "cannot act on it. Leave its molecule out of `atoms`."
        )
    if potential.traits.needs_topology:
        raise BadInput("openmm: this potential needs bond orders, which OpenMM does not give it.")
    structure = Structure(
        numbers=np.array([elements[i].atomic_number for i in chosen]),
        positions=np.arange(3.0 * len(chosen)).reshape(-1, 3),  # known only when a step is made
        cell=1e3 * np.eye(3) if periodic else np.zeros((3, 3)),
        periodic=np.full(3, periodic),
        charge=charge,
        multiplicity=multiplicity,
    )
    check_suitable(potential, structure, ("energy", "forces"))
    force = openmm.PythonForce(Computation(make_evaluator(potential, structure), periodic))
    if len(chosen) < len(elements) or chosen != list(range(len(elements))):
        force.setParticles(chosen)
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName("karat")
    return force


def potential_system(
    potential: AbstractPotential,
    topology: "app.Topology",
    charge: int = 0,
    multiplicity: int | None = None,
) -> "openmm.System":
    """A system in which the potential alone acts, periodic where the topology has a box.

    Bonds of the topology are kept as bonds without energy: they tell a barostat which atoms are
    one molecule, to be moved as one.

    Raises:
        BadInput: see `potential_force`.
    """
    import openmm

    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(0.0 if atom.element is None else atom.element.mass)
    box = topology.getPeriodicBoxVectors()
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    _keep_molecules(system, [(b[0].index, b[1].index) for b in topology.bonds()])
    system.addForce(
        potential_force(potential, topology, box is not None, None, charge, multiplicity)
    )
    return system


def mixed_system(
    potential: AbstractPotential,
    system: "openmm.System",
    topology: "app.Topology",
    atoms: Sequence[int],
    charge: int = 0,
    multiplicity: int | None = None,
    periodic: bool | None = None,
) -> "openmm.System":
    """A copy of an MM system in which the potential describes `atoms` (mechanical embedding).

    Terms of the force field with all their atoms inside are taken out: bonds, angles, torsions,
    constraints, pairs and their exceptions. Pairs of one inside and one outside atom stay, with
    the charges and Lennard-Jones parameters of the force field. With Ewald sums, the
    interaction of the inside charges with their own periodic images stays too.

    Args:
        potential: of the inside.
        system: with the force field for all atoms; not changed.
        topology: tells elements and bonds.
        atoms: indices: whole molecules.
        charge: of the inside, e.
        multiplicity: 2S+1 of the inside, by default the lowest.
        periodic: whether the potential sees the inside in the periodic box; by default where
            the system repeats, the potential knows periodic structures and has a cut-off.

    Raises:
        BadInput: `atoms` cuts a bond, or the system has forces that cannot be taken apart.
        UnsuitableStructure: several molecules inside that only periodic images hold together.

    Source: Senn & Thiel, Angew. Chem. Int. Ed. 48, 1198 (2009), section 2.2.
    """
    inside = _chosen(topology, atoms)
    if system.getNumParticles() != topology.getNumAtoms():
        raise BadInput(
            f"openmm: the system has {system.getNumParticles()} particles, the topology "
            f"{topology.getNumAtoms()} atoms. Give the topology that the system was made from."
        )
    repeats = system.usesPeriodicBoundaryConditions()
    traits = potential.traits
    if periodic is None:
        periodic = repeats and traits.periodic and traits.cutoff is not None
    bonds = [(bond[0].index, bond[1].index) for bond in topology.bonds()]
    if repeats and not periodic and not one_molecule(inside, bonds):
        raise UnsuitableStructure(
            "openmm: without periodic images the inside must be one molecule, because others may "
            "be wrapped to the far side of the box. Choose one molecule, or a potential that "
            "takes periodic structures (periodic=True)."
        )
    force = potential_force(potential, topology, periodic, inside, charge, multiplicity)
    mixed = without_inner_terms(system, inside, bonds)
    members = set(inside)
    _keep_molecules(mixed, [bond for bond in bonds if members.issuperset(bond)])
    mixed.addForce(force)
    return mixed


def _chosen(topology: "app.Topology", atoms: Sequence[int] | None) -> list[int]:
    """Indices as a list, all of them by default.

    Raises:
        BadInput: none, twice the same, or beyond the last.
    """
    count = topology.getNumAtoms()
    chosen = list(range(count)) if atoms is None else [int(i) for i in atoms]
    if not chosen or len(set(chosen)) < len(chosen):
        raise BadInput("openmm: `atoms` is empty or names an atom twice.")
    beyond = [i for i in chosen if not 0 <= i < count]
    if beyond:
        raise BadInput(f"openmm: there is no atom {beyond[0]}; 0 to {count - 1} are there.")
    return chosen


def _keep_molecules(system: "openmm.System", bonds: Sequence[tuple[int, int]]) -> None:
    """Bonds without energy."""
    import openmm

    if bonds:
        force = openmm.HarmonicBondForce()
        force.setName("molecules (no energy)")
        for first, second in bonds:
            force.addBond(first, second, 0.1, 0.0)
        system.addForce(force)
