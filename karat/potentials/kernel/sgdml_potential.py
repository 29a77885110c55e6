"""Contestants made from sgdml models on disk, and their posterior deviations.

Checked: tests/potentials/kernel/test_sgdml.py.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karat.core.errors import BadInput
from karat.potentials.kernel.geometry import Geometries, pair_permutations
from karat.potentials.kernel.packed import require_memory
from karat.potentials.kernel.sgdml_module import SgdmlModule
from karat.potentials.kernel.sgdml_npz import read_sgdml
from karat.potentials.kernel.solve import Factor
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent, Traits
from karat.structures.labels import Labels, Quantity, Uncertainty
from karat.structures.structure import Structure


@dataclass(frozen=True)
class SgdmlModel(AbstractPotentialComponent):
    """A fitted `sgdml`: a `.karat` file, or a model (npz) of the `sgdml` package.

    Attributes:
        path: of the file.
        uncertainty: also give posterior standard deviations of energies and forces; loading then
            factorises the training covariance again (as long as the fit), and each structure
            costs about a hundred times more. Only for `.karat` files of calibrated fits.
        energy_unit, length_unit: of an npz file that states none.
    """

    path: str
    uncertainty: bool = False
    energy_unit: str | None = None
    length_unit: str | None = None

    def load(self) -> AbstractPotential:
        from karat.potentials.karat_file import load

        if Path(self.path).suffix == ".npz":
            potential = read_sgdml(self.path, self.energy_unit, self.length_unit)
        else:
            potential = load(self.path)
        if not isinstance(potential.module, SgdmlModule):
            raise BadInput(f"{self.path}: is not an sgdml model; load it as karat_file.")
        return SgdmlWithDeviations(potential) if self.uncertainty else potential


class SgdmlWithDeviations(AbstractPotential):
    """An sgdml potential that also says how far its predictions may be off.

    Deviations are those of the Gaussian process given the training forces, times one factor that
    made them as large as the force errors on validation structures. Energies are relative to the
    mean of the training structures.

    Raises:
        BadInput: the potential keeps no training structures or was not calibrated.
    """

    def __init__(self, potential: NativePotential) -> None:
        module = potential.module
        assert isinstance(module, SgdmlModule)
        if len(module.positions) == 0 or not np.isfinite(float(module.deviation)):
            raise BadInput(
                "this sgdml model keeps no training structures or was fitted without calibration: "
                "no deviations. Fit it with `karat train --model sgdml` and "
                "calibration_structures above 0."
            )
        self.potential = potential
        geometries = Geometries.of(np.asarray(module.positions))
        require_memory(geometries.jacobians.shape[0] * geometries.jacobians.shape[2])
        pairs = pair_permutations(np.asarray(module.permutations))
        self._deviation = float(module.deviation)
        self._factor = Factor.of(
            geometries, pairs, float(module.sigma), float(module.regularization)
        )

    @property
    def traits(self) -> Traits:
        return dataclasses.replace(self.potential.traits, native=False)

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        labels = self.potential.predict(structures, want)
        if not structures:
            return labels
        geometries = Geometries.of(np.stack([s.positions for s in structures]))
        energies, forces = self._factor.variances(geometries)
        return [
            dataclasses.replace(
                one,
                uncertainty=Uncertainty(
                    energy=self._deviation * float(np.sqrt(energy)),
                    forces=self._deviation * np.sqrt(force).reshape(-1, 3),
                ),
            )
            for one, energy, force in zip(labels, energies, forces)
        ]
