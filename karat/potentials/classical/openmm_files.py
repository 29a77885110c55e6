"""Files that hold parametrised systems → OpenMM systems; no file is ever executed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from jaxtyping import Int

from karat.core.errors import BadInput
from karat.core.files import readable_file

if TYPE_CHECKING:
    import openmm

NonbondedMethod = Literal[
    "NoCutoff", "CutoffNonPeriodic", "CutoffPeriodic", "Ewald", "PME", "LJPME"
]
PERIODIC_METHODS = ("CutoffPeriodic", "Ewald", "PME", "LJPME")
MAX_XML_BYTES = 1 << 30
MASS_TOLERANCE = 0.1
"""amu; hydrogens of repartitioned mass are further off, and are not guessed."""


@dataclass(frozen=True, eq=False)
class Parametrised:
    """A system with its real atoms.

    Attributes:
        system: every particle, virtual sites included.
        numbers: atomic numbers of the real atoms, in order.
        real: their particle indices.
    """

    system: "openmm.System"
    numbers: Int[np.ndarray, "atoms"]
    real: Int[np.ndarray, "atoms"]


def read_system_xml(path: str, elements: Sequence[str]) -> Parametrised:
    """A System that `openmm.XmlSerializer` wrote.

    Raises:
        BadInput: not such a file, entities or pickled Python in it, constraints, masses that
            name no element.
    """
    import openmm

    file = readable_file(Path(path), "OpenMM system XML")
    if file.stat().st_size > MAX_XML_BYTES:
        raise BadInput(f"{path}: larger than {MAX_XML_BYTES} bytes; refused.")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is no UTF-8 text ({error}).") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInput(f"{path}: declares a document type or entities, which is refused.")
    if "PythonForce" in text:
        raise BadInput(
            f"{path}: holds a PythonForce, that is pickled Python code, which karat never loads. "
            "Write the system without it."
        )
    if "\0" in text or "<System" not in text:
        raise BadInput(f"{path}: is not a serialized OpenMM System (no <System> in it).")
    system = _attempt(lambda: openmm.XmlSerializer.deserialize(text), path)
    if not isinstance(system, openmm.System):
        raise BadInput(f"{path}: holds a {type(system).__name__}, not an OpenMM System.")
    return _parametrised(system, None, elements, path)


def read_amber(
    prmtop: str,
    inpcrd: str,
    elements: Sequence[str],
    method: NonbondedMethod,
    cutoff: float,
) -> Parametrised:
    """An AMBER topology; the box from `inpcrd` where given, else from the topology.

    Raises:
        BadInput: unreadable, or periodic without a box.
    """
    from openmm import app

    readable_file(Path(prmtop), "AMBER prmtop")
    box = None
    if inpcrd:
        readable_file(Path(inpcrd), "AMBER inpcrd")
        box = _attempt(lambda: app.AmberInpcrdFile(inpcrd).getBoxVectors(), inpcrd)
    top = _attempt(lambda: app.AmberPrmtopFile(prmtop, periodicBoxVectors=box), prmtop)
    return _create(top, method, cutoff, elements, prmtop)


def read_gromacs(
    files: tuple[str, str, str],
    elements: Sequence[str],
    method: NonbondedMethod,
    cutoff: float,
) -> Parametrised:
    """A GROMACS topology; `files` are top, gro (box; may be "") and include folder (may be "").

    Raises:
        BadInput: unreadable, or periodic without a box.
    """
    from openmm import app

    top_path, gro, include = files
    readable_file(Path(top_path), "GROMACS top")
    box = None
    if gro:
        readable_file(Path(gro), "GROMACS gro")
        box = _attempt(lambda: app.GromacsGroFile(gro).getPeriodicBoxVectors(), gro)
    folder = include or str(Path(top_path).parent)
    top = _attempt(
        lambda: app.GromacsTopFile(top_path, periodicBoxVectors=box, includeDir=folder), top_path
    )
    return _create(top, method, cutoff, elements, top_path)


def _create(
    top: Any, method: NonbondedMethod, cutoff: float, elements: Sequence[str], path: str
) -> Parametrised:
    import openmm
    from openmm import app

    if method in PERIODIC_METHODS and top.topology.getPeriodicBoxVectors() is None:
        raise BadInput(
            f"{path}: nonbonded_method {method} needs a box, and there is none. Give a "
            "coordinate file with a box (inpcrd or gromacs_gro), or use NoCutoff."
        )
    system = _attempt(
        lambda: top.createSystem(
            nonbondedMethod=getattr(app, method),
            nonbondedCutoff=cutoff * openmm.unit.angstrom,
            constraints=None,
            rigidWater=False,
            removeCMMotion=False,
        ),
        path,
    )
    named = [None if a.element is None else a.element.atomic_number for a in top.topology.atoms()]
    return _parametrised(system, named, elements, path)


def _parametrised(
    system: "openmm.System",
    named: Sequence[int | None] | None,
    elements: Sequence[str],
    path: str,
) -> Parametrised:
    """Refuse constraints; find the real atoms and their elements (given, named, or by mass)."""
    import openmm

    if system.getNumConstraints():
        raise BadInput(
            f"{path}: the system has {system.getNumConstraints()} constraints; constrained bonds "
            "have no energy. Create it with constraints=None, rigidWater=False."
        )
    particles = range(system.getNumParticles())
    real = np.array([i for i in particles if not system.isVirtualSite(i)], dtype=np.int64)
    if elements:
        unknown = [symbol for symbol in elements if symbol not in atomic_numbers]
        if unknown or len(elements) != len(real):
            raise BadInput(
                f"openmm.elements: {len(real)} element symbols are needed, {len(elements)} were "
                f"given{f'; unknown: {unknown[0]}' if unknown else ''}."
            )
        numbers = [atomic_numbers[symbol] for symbol in elements]
    else:
        masses = [
            float(system.getParticleMass(int(i)).value_in_unit(openmm.unit.dalton)) for i in real
        ]
        names = named or [None] * len(particles)
        numbers = [names[i] or _by_mass(masses[n], i, path) for n, i in enumerate(real.tolist())]
    return Parametrised(system=system, numbers=np.array(numbers, dtype=np.int64), real=real)


def _by_mass(mass: float, particle: int, path: str) -> int:
    nearest = int(np.argmin(np.abs(atomic_masses[1:] - mass))) + 1
    if abs(atomic_masses[nearest] - mass) > MASS_TOLERANCE:
        raise BadInput(
            f"{path}: particle {particle} has mass {mass:.3f} amu, which is no element's. "
            "Give `elements`, the symbols of all atoms in order."
        )
    return nearest


def _attempt(action: Callable[[], Any], path: str) -> Any:
    """The result, or BadInput with the reader's own words (OpenMM's readers raise anything)."""
    try:
        return action()
    except Exception as error:
        raise BadInput(f"{path}: OpenMM cannot read it: {type(error).__name__}: {error}") from error
