"""Small parametrised systems, written as files in the formats that users have."""

import io

import numpy as np
import pytest

from karat.structures.structure import Structure

# ACE-ALA-NME, extended: ideal bond lengths and angles
DIPEPTIDE = """\
ACE 1: HH31 2.000 1.000 0.000, CH3 2.000 2.090 0.000, HH32 1.486 2.454 0.890,
ACE 1: HH33 1.486 2.454 -0.890, C 3.427 2.641 0.000, O 4.391 1.877 0.000,
ALA 2: N 3.555 3.970 0.000, H 2.733 4.556 0.000, CA 4.853 4.614 0.000,
ALA 2: HA 5.408 4.316 0.890, CB 5.661 4.221 -1.232, HB1 5.123 4.521 -2.131,
ALA 2: HB2 6.630 4.719 -1.206, HB3 5.809 3.141 -1.241, C 4.713 6.129 0.000,
ALA 2: O 3.601 6.653 0.000,
NME 3: N 5.846 6.835 0.000, H 6.737 6.359 0.000, C 5.846 8.284 0.000,
NME 3: H1 4.819 8.648 0.000, H2 6.360 8.648 0.890, H3 6.360 8.648 -0.890
"""


def dipeptide_pdb() -> str:
    lines = []
    for line in DIPEPTIDE.splitlines():
        residue, number, *_ = line.replace(":", "").split()
        for atom in line.split(":")[1].strip().rstrip(",").split(","):
            name, x, y, z = atom.split()
            lines.append(
                f"ATOM  {len(lines) + 1:5d} {name:>4s} {residue} A{number:>4s}    "
                f"{float(x):8.3f}{float(y):8.3f}{float(z):8.3f}  1.00  0.00           {name[0]}"
            )
    return "\n".join([*lines, "END", ""])


@pytest.fixture(scope="session")
def dipeptide():
    """(OpenMM System by amber14 without constraints, Structure), rattled by 0.05 Å."""
    import openmm
    from openmm import app

    pdb = app.PDBFile(io.StringIO(dipeptide_pdb()))
    field = app.ForceField("amber14/protein.ff14SB.xml")
    system = field.createSystem(pdb.topology, nonbondedMethod=app.NoCutoff, constraints=None)
    positions = np.array(pdb.positions.value_in_unit(openmm.unit.angstrom))
    positions += np.random.default_rng(2).normal(0, 0.05, positions.shape)
    numbers = [atom.element.atomic_number for atom in pdb.topology.atoms()]
    return system, Structure(numbers=np.array(numbers), positions=positions)


@pytest.fixture(scope="session")
def write_xml():
    """Writes a System as XML; returns the path as text."""
    import openmm

    def write(system, path):
        path.write_text(openmm.XmlSerializer.serialize(system))
        return str(path)

    return write


@pytest.fixture(scope="session")
def argon():
    """(System of Lennard-Jones argon with OpenMM's switch 5-6 Å, triclinic Structure)."""
    import openmm
    from openmm import unit

    fractional = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    shifts = np.array(list(np.ndindex(3, 3, 3)))
    fractional = ((shifts[:, None] + fractional[None]) / 3).reshape(-1, 3)
    cell = 15.6 * np.array([[1.0, 0.02, 0.01], [0.1, 0.98, -0.03], [-0.05, 0.08, 1.02]])
    positions = fractional @ cell
    positions += np.random.default_rng(8).normal(0, 0.15, positions.shape)
    structure = Structure(
        numbers=np.full(len(positions), 18),
        positions=positions,
        cell=cell,
        periodic=np.ones(3, bool),
    )
    system = openmm.System()
    force = openmm.NonbondedForce()
    for _ in positions:
        system.addParticle(39.948)
        force.addParticle(0.0, 3.4 * unit.angstrom, 1.0 * unit.kilojoule_per_mole)
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(6 * unit.angstrom)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(5 * unit.angstrom)
    force.setUseDispersionCorrection(False)
    system.addForce(force)
    system.setDefaultPeriodicBoxVectors(*(1.6 * np.eye(3)))
    return system, structure
