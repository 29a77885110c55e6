"""Committees as contestants: the mean of several trained members, and calibrated deviations.

Checked: tests/potentials/test_committee.py.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from karat.core.errors import BadInput
from karat.potentials.committee_calibration import energy_spread, force_spread
from karat.potentials.committee_module import CommitteeModule, derive_members_compiled
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import (
    AbstractPotential,
    AbstractPotentialComponent,
    Traits,
    check_suitable,
    require_finite,
)
from karat.structures.labels import Labels, Quantity, Uncertainty
from karat.structures.structure import Structure


@dataclass(frozen=True)
class Committee(AbstractPotentialComponent):
    """Several members of one architecture, trained together: a `.karat` file.

    Attributes:
        path: of the file.
        uncertainty: also give what each member predicts, and calibrated standard deviations of
            energies and forces. Without, the potential is the native mean, for dynamics.
        dtype: to compute in.
    """

    path: str
    uncertainty: bool = True
    dtype: Literal["float32", "float64"] = "float64"

    def load(self) -> AbstractPotential:
        from karat.potentials.karat_file import load

        potential = load(self.path, self.dtype)
        if not isinstance(potential.module, CommitteeModule):
            raise BadInput(
                f"{self.path}: is no committee, it has one member; load it as karat_file, or train "
                "one with `karat train --setting members=4`."
            )
        return CommitteePotential(potential) if self.uncertainty else potential


class CommitteePotential(AbstractPotential):
    """Means over a committee's members, and how far they may be off.

    Deviations are such that ±1.645 of them hold 90 % of the errors on the validation data; see
    `committee_calibration` for how, and for what few members mean.

    Args:
        potential: whose module is a committee; itself the native mean, for dynamics and export.

    Raises:
        BadInput: no committee.
    """

    def __init__(self, potential: NativePotential) -> None:
        if not isinstance(potential.module, CommitteeModule):
            raise BadInput(f"{type(potential.module).__name__} is no committee: it has one member.")
        self.potential = potential
        self.committee: CommitteeModule = potential.module

    @property
    def traits(self) -> Traits:
        return dataclasses.replace(self.potential.traits, native=False)

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        """Means; `uncertainty` with energies and forces of all members (forces where wanted), and
        deviations where they were calibrated."""
        for structure in structures:
            check_suitable(self, structure, want)
        labels: list[Labels] = []
        for chunk in self.potential.chunks(structures):
            labels += self._chunk(chunk, want)
        return labels

    def _chunk(self, structures: Sequence[Structure], want: Sequence[Quantity]) -> list[Labels]:
        derived = derive_members_compiled(self.committee, self.potential.batch(structures))
        energies, forces = np.asarray(derived.energies, float), np.asarray(derived.forces, float)
        stress = np.asarray(derived.stress, float).mean(axis=0)
        ends = np.cumsum([len(structure) for structure in structures])
        spread = float(self.committee.calibration[0]) * energy_spread(energies)
        labels = []
        for i, (structure, end) in enumerate(zip(structures, ends)):
            offset = self.potential.offset(structure)
            mine = forces[:, end - len(structure) : end] if "forces" in want else None
            one = Labels(
                energy=float(energies[:, i].mean()) + offset,
                forces=None if mine is None else mine.mean(axis=0),
                stress=stress[i] if "stress" in want else None,
                uncertainty=self._uncertainty(energies[:, i] + offset, spread[i], mine),
            )
            name = f"committee of {type(self.committee.member).__name__}"
            labels.append(require_finite(one, name))
        return labels

    def _uncertainty(
        self, energies: np.ndarray, spread: float, forces: np.ndarray | None
    ) -> Uncertainty:
        """`spread`: of energies, which was found without reference energies: they cost digits."""
        factor = float(self.committee.calibration[1])
        known = forces is not None and np.isfinite(factor)
        return Uncertainty(
            energy=float(spread) if np.isfinite(spread) else None,
            forces=factor * force_spread(forces) if known and forces is not None else None,
            member_energies=energies,
            member_forces=forces,
        )
