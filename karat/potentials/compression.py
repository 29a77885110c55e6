"""`compress`: a potential with tables in place of networks, verified against the original.

Checked: tests/potentials/test_compression.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.karat_file import architecture_of, load, save
from karat.potentials.karat_header import read_header
from karat.potentials.native.deeppot import DeepPot
from karat.potentials.native.deeppot_compressed import (
    DeepPotCompressed,
    compressed,
)
from karat.potentials.native.deeppot_module import DeepPotModule
from karat.potentials.native_protocol import NativePotential
from karat.structures.structure import Structure

ALLOWED = 1e-6
"""eV/atom; the largest change of an energy."""


@dataclass(frozen=True)
class Compression:
    """What was found.

    Attributes:
        structures, atoms: compared, in float64.
        energy_ev_per_atom, forces_ev_per_angstrom: largest deviations from the original.
        allowed_ev_per_atom: of energies.
        intervals: of the tables.
        functions: tabulated, from which the networks' values are made.
    """

    structures: int
    atoms: int
    energy_ev_per_atom: float
    forces_ev_per_angstrom: float
    allowed_ev_per_atom: float
    intervals: int
    functions: int

    def as_dict(self) -> Mapping[str, Any]:
        """JSON-ready."""
        return asdict(self)


def compress(path: str | Path, structures: Sequence[Structure], output: str | Path) -> Compression:
    """Tabulate the embedding networks of a DeepPot-SE, compare, write a `.karat` file.

    The deviations are kept in the file, under ``compression`` of its training summary.

    Raises:
        BadInput: no structure, a structure that the potential cannot take, a potential that has
            nothing to tabulate, or a file that cannot be read or written.
        CalculationFailed: energies change by more than is allowed; nothing is written.
    """
    header = read_header(path)
    architecture, original = architecture_of(header, path), load(path, "float64")
    module = original.module
    if not isinstance(architecture, DeepPot) or not isinstance(module, DeepPotModule):
        raise BadInput(
            f"{path}: '{header.architecture}' "
            f"{f'of {header.members} members ' if header.members > 1 else ''}cannot be compressed; "
            "single potentials of the kind deeppot can."
        )
    if not structures:
        raise BadInput("compress: no structure to compare on. Name a file with some.")
    assert architecture.slots is not None
    small = compressed(module)
    new = NativePotential(small, original.reference_energies, original.level, "float64")
    # without reference energies, whose size would round differences away
    energy, forces = _deviations(NativePotential(module), NativePotential(small), structures)
    found = Compression(
        structures=len(structures),
        atoms=sum(len(one) for one in structures),
        energy_ev_per_atom=energy,
        forces_ev_per_angstrom=forces,
        allowed_ev_per_atom=ALLOWED,
        intervals=small.table.shape[0],
        functions=small.empty.shape[0],
    )
    if not energy <= ALLOWED:
        raise CalculationFailed(
            f"{path}: compression changes energies by up to {energy:.2g} eV/atom, more than "
            f"{ALLOWED:g}; nothing was written. Use the original."
        )
    kept = DeepPotCompressed(
        cutoff_angstrom=architecture.cutoff_angstrom,
        onset_angstrom=architecture.onset_angstrom,
        axis=architecture.axis,
        fitting=tuple(architecture.fitting),
        slots=tuple(architecture.slots),
    )
    training = {**header.training, "compression": found.as_dict()}
    save(output, kept, new, header.training_data, training)
    return found


def _deviations(
    first: NativePotential, second: NativePotential, structures: Sequence[Structure]
) -> tuple[float, float]:
    """Largest of energies per atom (eV) and of force components (eV/Å)."""
    energy = forces = 0.0
    for one, a, b in zip(structures, first.predict(structures), second.predict(structures)):
        assert a.energy is not None
        assert b.energy is not None
        assert a.forces is not None
        assert b.forces is not None
        energy = max(energy, abs(a.energy - b.energy) / len(one))
        forces = max(forces, float(np.abs(a.forces - b.forces).max()))
    return energy, forces
