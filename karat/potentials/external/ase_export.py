"""Any karat potential as an ASE calculator."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from karat.potentials.protocol import AbstractPotential
from karat.structures.structure import Structure
from karat.structures.topology import Topology


class PotentialCalculator(Calculator):
    """ASE calculator of a potential; ASE's stress has the same sign and unit as karat's.

    Args:
        potential: what computes.
        topology: bonds for potentials that need them (ASE's atoms carry none).
    """

    implemented_properties = ["energy", "forces", "stress", "free_energy"]  # noqa: RUF012

    def __init__(self, potential: AbstractPotential, topology: Topology | None = None) -> None:
        super().__init__()
        self.potential = potential
        self.topology = topology

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last call; charge and multiplicity under `info` included."""
        changes = super().check_state(atoms, tol=tol)
        old = {} if self.atoms is None else self.atoms.info
        changed = [k for k in ("charge", "multiplicity") if old.get(k) != atoms.info.get(k)]
        return [*changes, *changed]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        structure = Structure.from_ase(cast(Atoms, self.atoms), self.topology)
        can = self.potential.traits.quantities
        want = ["energy", "forces"] + (["stress"] if "stress" in properties else [])
        labels = self.potential.predict([structure], [q for q in want if q in can])[0]
        self.results = {"energy": labels.energy, "free_energy": labels.energy}
        if labels.forces is not None:
            self.results["forces"] = np.array(labels.forces)
        if labels.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(labels.stress)
