"""Export to OpenMM: `potential.py`, with functions that make pure and mixed systems.

Checked: tests/simulation/export/test_openmm_force.py.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from karat.core.errors import CalculationFailed, MissingDependency, UnsuitableStructure
from karat.core.units import KJ_PER_MOL
from karat.potentials.classical.openmm_system import reduced_box
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent
from karat.simulation.export.bundle import import_script, write_script
from karat.simulation.export.openmm_force import ANGSTROM_PER_NM
from karat.simulation.export.protocol import AbstractExporter, Route, tolerance_of
from karat.structures.labels import Labels
from karat.structures.structure import Structure

SCRIPT = '''"""A karat potential in OpenMM; keep this file beside potential.json.

    from potential import create_system, mixed_system
    system = create_system(topology)                    # the potential alone
    system = mixed_system(mm_system, topology, atoms)   # it describes `atoms`, MM the rest

Needs karat; loading switches JAX to 64 bits. Platform Reference computes in double precision,
the others hand over and add up forces in single precision.
"""

from functools import cache
from pathlib import Path

from karat.simulation.export import openmm_force
from karat.simulation.export.bundle import load_bundle


@cache
def potential():
    """The potential, loaded once."""
    return load_bundle(Path(__file__).parent)


def create_system(topology, charge=0, multiplicity=None):
    """A system in which the potential alone acts; periodic where the topology has a box."""
    return openmm_force.potential_system(potential(), topology, charge, multiplicity)


def mixed_system(system, topology, atoms, charge=0, multiplicity=None, periodic=None):
    """A copy of an MM system in which the potential describes `atoms` (mechanical embedding)."""
    return openmm_force.mixed_system(
        potential(), system, topology, atoms, charge, multiplicity, periodic
    )


def create_force(topology, periodic, atoms=None, charge=0, multiplicity=None):
    """The potential as an `openmm.PythonForce` to be added to any system."""
    return openmm_force.potential_force(
        potential(), topology, periodic, atoms, charge, multiplicity
    )
'''


class OpenMMExporter(AbstractExporter):
    """`potential.py`, checked on platform Reference."""

    def version(self) -> str:
        try:
            import openmm
        except ImportError as error:
            raise MissingDependency("export needs OpenMM: pip install openmm.") from error
        if not hasattr(openmm, "PythonForce"):
            raise MissingDependency(
                f"export needs openmm.PythonForce, which OpenMM {openmm.__version__} lacks (8.6.1 "
                "has it): pip install -U openmm."
            )
        return f"OpenMM {openmm.__version__}"

    def write(
        self, component: AbstractPotentialComponent, potential: AbstractPotential, folder: Path
    ) -> tuple[Route, ...]:
        name = write_script(folder, "potential.py", SCRIPT)
        return (Route("PythonForce", (name,), tolerance_of(potential)),)

    def evaluate(self, folder: Path, route: str, structures: Sequence[Structure]) -> list[Labels]:
        script = import_script(folder / "potential.py")
        return [_labels(script, structure) for structure in structures]


def topology_of(structure: Structure) -> "tuple[object, np.ndarray]":
    """An OpenMM topology with the structure's elements and box, and the rotation into its frame
    (x → x R).

    Raises:
        UnsuitableStructure: it repeats in one or two directions.
    """
    from openmm import Vec3, app, unit

    if structure.periodic.any() and not structure.periodic.all():
        raise UnsuitableStructure(
            f"openmm: {structure.formula} repeats in {int(structure.periodic.sum())} directions; "
            "OpenMM knows three or none."
        )
    topology = app.Topology()
    residue = topology.addResidue("ALL", topology.addChain())
    for i, number in enumerate(structure.numbers):
        element = app.Element.getByAtomicNumber(int(number))
        topology.addAtom(f"{element.symbol}{i}", element, residue)
    rotation = np.eye(3)
    if structure.periodic.all():
        box, rotation = reduced_box(structure.cell)
        vectors = [Vec3(*map(float, row)) for row in box / ANGSTROM_PER_NM]
        topology.setPeriodicBoxVectors(vectors * unit.nanometer)
    return topology, rotation


def _labels(script: object, structure: Structure) -> Labels:
    import openmm
    from openmm import unit

    topology, rotation = topology_of(structure)
    system = script.create_system(topology, structure.charge, structure.multiplicity)  # type: ignore[attr-defined]
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), reference)
    try:
        context.setPositions(structure.positions @ rotation / ANGSTROM_PER_NM)
        state = context.getState(energy=True, forces=True)
    except openmm.OpenMMException as error:
        raise CalculationFailed(f"OpenMM: {error}") from error
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom)
    return Labels(
        energy=float(energy) * KJ_PER_MOL,
        forces=np.asarray(forces, np.float64) @ rotation.T * KJ_PER_MOL,
    )
