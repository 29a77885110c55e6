"""Export to LAMMPS: `run.py` (any potential), and native files where LAMMPS has the form.

Checked: tests/simulation/export/test_lammps_fix.py, test_lammps_native.py.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from karat.core.errors import CalculationFailed, UnsuitableStructure
from karat.potentials.classical.openmm_system import reduced_box
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent
from karat.simulation.export.bundle import import_script, write_script
from karat.simulation.export.lammps_fix import open_lammps
from karat.simulation.export.lammps_native import INPUT, write_native
from karat.simulation.export.protocol import AbstractExporter, Route, tolerance_of
from karat.structures.labels import Labels
from karat.structures.structure import Structure

QUIET = ("-screen", "none", "-log", "none", "-nocite")
MARGIN = 20.0
"""Å between a molecule and the walls of its box."""

SCRIPT = '''"""A karat potential in LAMMPS; keep this file beside potential.json.

    python run.py INPUT                 # further words go to LAMMPS, e.g. -var T 300
    mpirun -n 4 python run.py INPUT     # strictly local potentials

In INPUT (units metal) one line `# karat Si O`, naming the element of each atom type, stands
after the masses, where a pair_style would stand. Or from Python: `attach(lmp, ["Si", "O"])`.
Needs karat; loading switches JAX to 64 bits.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    from karat.core.threads import single_thread

    single_thread()  # one thread a rank
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

from karat.simulation.export import lammps_fix
from karat.simulation.export.bundle import load_bundle


def attach(lmp, elements, charge=0, multiplicity=None):
    """Let the potential act in `lmp`; `elements` names the element of each atom type."""
    potential = load_bundle(Path(__file__).parent)
    return lammps_fix.attach(lmp, potential, elements, charge, multiplicity)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python run.py INPUT [LAMMPS OPTIONS]")
    lammps_fix.run_input(load_bundle(Path(__file__).parent), Path(sys.argv[1]), sys.argv[2:])
'''


class LammpsExporter(AbstractExporter):
    """`run.py`, and `native.in` with its file for Stillinger-Weber and pair potentials."""

    def version(self) -> str:
        lmp = open_lammps(QUIET)
        version = f"LAMMPS {lmp.version()}"
        lmp.close()
        return version

    def write(
        self, component: AbstractPotentialComponent, potential: AbstractPotential, folder: Path
    ) -> tuple[Route, ...]:
        name = write_script(folder, "run.py", SCRIPT)
        fix = Route("fix external", (name,), tolerance_of(potential))
        native = write_native(component, potential, folder)
        return (fix,) if native is None else (fix, native)

    def evaluate(self, folder: Path, route: str, structures: Sequence[Structure]) -> list[Labels]:
        script = import_script(folder / "run.py")
        return [_labels(folder, route, script, structure) for structure in structures]


def make_box(lmp: Any, structure: Structure, species: Sequence[int]) -> np.ndarray:
    """Box, masses and atoms of a structure; returns the rotation into LAMMPS' frame (x → x R).

    Raises:
        UnsuitableStructure: it repeats in one or two directions.
    """
    if structure.periodic.any() and not structure.periodic.all():
        raise UnsuitableStructure(
            f"lammps: {structure.formula} repeats in {int(structure.periodic.sum())} directions; "
            "exports are compared on crystals and molecules."
        )
    lmp.commands_string("units metal\natom_modify map yes\natom_style atomic")
    positions, rotation = structure.positions, np.eye(3)
    if structure.periodic.all():
        box, rotation = reduced_box(structure.cell)
        fractional = np.mod(positions @ rotation @ np.linalg.inv(box), 1.0)
        positions = np.where(fractional >= 1.0, 0.0, fractional) @ box
        tilts = (box[1, 0], box[2, 0], box[2, 1])
        edges = " ".join(f"0 {float(length)!r}" for length in box.diagonal())
        shape = f"prism {edges} {' '.join(repr(float(tilt)) for tilt in tilts)}"
        lmp.commands_string("boundary p p p\nbox tilt large")
    else:
        low, high = positions.min(axis=0) - MARGIN, positions.max(axis=0) + MARGIN
        shape = f"block {' '.join(f'{float(a)!r} {float(b)!r}' for a, b in zip(low, high))}"
        lmp.command("boundary f f f")
    lmp.commands_string(f"region all {shape} units box\ncreate_box {len(species)} all")
    for i, number in enumerate(species):
        lmp.command(f"mass {i + 1} {float(atomic_masses[number])!r}")
    kinds = [list(species).index(int(number)) + 1 for number in structure.numbers]
    atoms = len(structure)
    made = lmp.create_atoms(atoms, list(range(1, atoms + 1)), kinds, positions.ravel().tolist())
    if made != atoms:
        raise CalculationFailed(f"LAMMPS took {made} of {atoms} atoms.", kind="lost-atoms")
    return rotation


def _labels(folder: Path, route: str, script: Any, structure: Structure) -> Labels:
    native = route != "fix external"
    lmp = open_lammps(QUIET)
    try:
        species: tuple[int, ...] = tuple(sorted({int(z) for z in structure.numbers}))
        if native:
            species = _types_of(folder / INPUT)
        rotation = make_box(lmp, structure, species)
        attached = None
        if native:
            commands = (folder / INPUT).read_text()
            with contextlib.chdir(folder):  # paths may hold spaces, LAMMPS words not
                lmp.commands_string(commands)
        else:
            symbols = [chemical_symbols[z] for z in species]
            attached = script.attach(lmp, symbols, structure.charge, structure.multiplicity)
        lmp.commands_string("thermo_style custom step pe pxx pyy pzz pxy pxz pyz\nrun 0 post no")
        if attached is not None:
            attached.check()
        return _read(lmp, structure, rotation)
    except Exception as error:
        if str(error).startswith("ERROR"):  # LAMMPS raises nothing more special
            raise CalculationFailed(f"LAMMPS: {error}") from error
        raise
    finally:
        lmp.close()


def _types_of(path: Path) -> tuple[int, ...]:
    """Atomic number of each atom type, as the first line of `native.in` says."""
    words = path.read_text().splitlines()[0].partition("types: ")[2].split(", ")
    return tuple(chemical_symbols.index(word.split()[1]) for word in words)


def _read(lmp: Any, structure: Structure, rotation: np.ndarray) -> Labels:
    forces = np.array(lmp.gather_atoms("f", 1, 3), dtype=np.float64).reshape(-1, 3)
    stress = None
    if structure.periodic.all():
        pxx, pyy, pzz, pxy, pxz, pyz = (
            lmp.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")
        )
        pressure = np.array([[pxx, pxy, pxz], [pxy, pyy, pyz], [pxz, pyz, pzz]])
        stress = rotation @ (-pressure / lmp.extract_global("nktv2p")) @ rotation.T
    return Labels(energy=float(lmp.get_thermo("pe")), forces=forces @ rotation.T, stress=stress)
