"""An MM system without the force field's terms inside a set of atoms.

Checked: tests/simulation/export/test_openmm_mixed.py.
"""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from karat.core.errors import BadInput

if TYPE_CHECKING:
    import openmm

BONDED = {
    "HarmonicBondForce": "Bonds",
    "HarmonicAngleForce": "Angles",
    "PeriodicTorsionForce": "Torsions",
    "RBTorsionForce": "Torsions",
    "CMAPTorsionForce": "Torsions",
    "CustomBondForce": "Bonds",
    "CustomAngleForce": "Angles",
    "CustomTorsionForce": "Torsions",
    "CustomCompoundBondForce": "Bonds",
}
"""Forces that are lists of terms, and the element of OpenMM's XML that holds them."""
UNTOUCHED = (
    "CMMotionRemover",
    "AndersenThermostat",
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloMembraneBarostat",
    "MonteCarloFlexibleBarostat",
    "CustomExternalForce",
)
"""Forces without terms between atoms."""
NONBONDED = ("NonbondedForce", "CustomNonbondedForce")
_ATOM = re.compile(r"[pab]\d+")
"""XML attributes that are atom indices: p1 …, and a1 … b4 of CMAP."""


def without_inner_terms(
    system: "openmm.System", inside: Sequence[int], bonds: Sequence[tuple[int, int]]
) -> "openmm.System":
    """A copy of `system` without the terms whose atoms are all `inside`, constraints included.

    Raises:
        BadInput: a bond or bonded term joins inside and outside, a virtual site inside, or a
            force that this does not know.
    """
    import openmm

    members = set(inside)
    for first, second in bonds:
        if (first in members) != (second in members):
            raise _cut("bond of the topology", (first, second))
    _check_forces(system, members)
    root = ElementTree.fromstring(openmm.XmlSerializer.serialize(system))
    _strip(root.find("Constraints"), members, "constraint")
    for force in root.iter("Force"):
        name = force.get("type", "")
        if name in BONDED:
            _strip(force.find(BONDED[name]), members, f"term of {name}")
    copy: openmm.System = openmm.XmlSerializer.deserialize(
        ElementTree.tostring(root, encoding="unicode")
    )
    for force in copy.getForces():
        if isinstance(force, openmm.NonbondedForce):
            for first, second in combinations(sorted(members), 2):
                force.addException(first, second, 0.0, 1.0, 0.0, True)
        elif isinstance(force, openmm.CustomNonbondedForce):
            _exclude(force, members)
    return copy


def one_molecule(atoms: Sequence[int], bonds: Sequence[tuple[int, int]]) -> bool:
    """Whether bonds join all `atoms`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = {atom: i for i, atom in enumerate(atoms)}
    inner = [(place[a], place[b]) for a, b in bonds if a in place and b in place]
    rows, columns = np.array(inner, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(atoms), len(atoms)))
    return int(connected_components(graph, directed=False)[0]) == 1


def _check_forces(system: "openmm.System", members: set[int]) -> None:
    import openmm

    known = (*BONDED, *UNTOUCHED, *NONBONDED)
    for force in system.getForces():
        name = type(force).__name__
        if name not in known:
            raise BadInput(
                f"openmm: a {name} cannot be taken apart into inside and outside. Use a force "
                f"field made of {', '.join((*NONBONDED, *BONDED))}."
            )
        if isinstance(force, openmm.NonbondedForce) and force.getNumExceptionParameterOffsets():
            raise BadInput("openmm: exceptions with parameter offsets cannot be taken apart.")
    for site in range(system.getNumParticles()):
        if system.isVirtualSite(site):
            virtual = system.getVirtualSite(site)
            parents = {virtual.getParticle(i) for i in range(virtual.getNumParticles())}
            if site in members or parents & members:
                raise BadInput(
                    f"openmm: particle {site} is a virtual site of the inside. Choose a force "
                    "field without extra points for these atoms."
                )


def _strip(parent: Any, members: set[int], what: str) -> None:
    """Remove the terms that are all inside."""
    for term in [] if parent is None else list(parent):
        atoms = [int(value) for key, value in term.attrib.items() if _ATOM.fullmatch(key)]
        inside = [atom in members for atom in atoms]
        if all(inside):
            parent.remove(term)
        elif any(inside):
            raise _cut(what, atoms)


def _cut(what: str, atoms: Sequence[int]) -> BadInput:
    return BadInput(
        f"openmm: a {what} joins atoms {', '.join(map(str, atoms))}, some inside and some outside. "
        "Mechanical embedding here has no link atoms: choose whole molecules."
    )


def _exclude(force: "openmm.CustomNonbondedForce", members: set[int]) -> None:
    there = {frozenset(force.getExclusionParticles(i)[:2]) for i in range(force.getNumExclusions())}
    for pair in combinations(sorted(members), 2):
        if frozenset(pair) not in there:
            force.addExclusion(*pair)
