"""Export to ASE: `calculator.py`, whose `calculator()` any ASE script can use.

Checked: tests/simulation/export/test_ase_calculator.py.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent
from karat.simulation.export.bundle import import_script, write_script
from karat.simulation.export.protocol import AbstractExporter, Route, tolerance_of
from karat.structures.labels import Labels
from karat.structures.structure import Structure

SCRIPT = '''"""A karat potential as an ASE calculator; keep this file beside potential.json.

    from calculator import calculator
    atoms.calc = calculator()

Energies in eV, forces in eV/Å, stress in eV/Å³ (ASE's signs). Needs karat; loading switches JAX
to 64 bits.
"""

from pathlib import Path

from karat.potentials.external.ase_export import PotentialCalculator
from karat.simulation.export.bundle import load_bundle


def calculator(topology=None):
    """A new calculator; `topology` (karat's) for potentials that need bonds."""
    return PotentialCalculator(load_bundle(Path(__file__).parent), topology)
'''


class AseExporter(AbstractExporter):
    """`calculator.py`."""

    def version(self) -> str:
        import ase

        return f"ASE {ase.__version__}"

    def write(
        self, component: AbstractPotentialComponent, potential: AbstractPotential, folder: Path
    ) -> tuple[Route, ...]:
        name = write_script(folder, "calculator.py", SCRIPT)
        return (Route("calculator", (name,), tolerance_of(potential)),)

    def evaluate(self, folder: Path, route: str, structures: Sequence[Structure]) -> list[Labels]:
        calculator = import_script(folder / "calculator.py").calculator()
        stressed = "stress" in calculator.potential.traits.quantities
        found = []
        for structure in structures:
            atoms = structure.to_ase()
            calculator.topology = structure.topology
            atoms.calc = calculator
            found.append(
                Labels(
                    energy=float(atoms.get_potential_energy()),
                    forces=np.asarray(atoms.get_forces()),
                    stress=(
                        np.asarray(atoms.get_stress(voigt=False))
                        if stressed and structure.periodic.all()
                        else None
                    ),
                )
            )
        return found
