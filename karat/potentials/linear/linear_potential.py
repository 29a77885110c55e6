"""Contestants made from linear models on disk, with their deviations and extrapolation grades.

Checked: tests/potentials/linear/test_linear_model.py, test_posterior.py.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from karat.core.errors import BadInput
from karat.potentials.linear.design import Design, Rows
from karat.potentials.linear.ellipsoid import structure_grade
from karat.potentials.linear.grade import grades
from karat.potentials.linear.posterior import Posterior, deviations, posterior_of
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent, Traits
from karat.structures.labels import Labels, Quantity, Uncertainty
from karat.structures.structure import Structure


@dataclass(frozen=True)
class LinearModel(AbstractPotentialComponent):
    """A fitted linear potential (SNAP, ACE): a `.karat` file.

    Attributes:
        path: of the file.
        uncertainty: also give calibrated standard deviations of energies and forces, and
            extrapolation grades of each atom and of the structure; a structure then costs as
            much as a row of a fit (some ten times more). Only for fits with
            `regression.uncertainty`.
        dtype: to compute in, without uncertainty; with it, float64.
    """

    path: str
    uncertainty: bool = False
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        if self.uncertainty and self.dtype != "float64":
            raise BadInput(
                f"{self.path}: uncertainties are computed in float64; {self.dtype} was asked for. "
                "Set dtype float64, or uncertainty to false."
            )

    def load(self) -> AbstractPotential:
        from karat.potentials.karat_file import load

        potential = load(self.path, self.dtype)
        if not isinstance(potential.module, AbstractLinearModule):
            raise BadInput(f"{self.path}: is not a linear model; load it as karat_file.")
        if not self.uncertainty:
            return potential
        try:
            return LinearWithUncertainty(potential)
        except BadInput as error:
            raise BadInput(f"{self.path}: {error}") from error


class LinearWithUncertainty(AbstractPotential):
    """A linear potential that also says how far its predictions may be off, and how far each
    atom, and the structure, is from what it was fitted to.

    Deviations are such that intervals of ±1.645 of them hold 90 % of the errors of structures
    like those that were fitted to; an atom's grade above about two, or a structure's above one,
    says that it is unlike those, and then deviations mean little. Files older than grades of
    structures give none (`None`).

    Raises:
        BadInput: the fit kept no posterior.
    """

    def __init__(self, potential: NativePotential) -> None:
        module = potential.module
        assert isinstance(module, AbstractLinearModule)
        self._posterior: Posterior = posterior_of(module)
        if 0 in (*self._posterior.root.shape, *self._posterior.active.shape):
            raise BadInput(
                "this linear model was fitted without uncertainty (or comes from elsewhere): no "
                "deviations. Fit it with `karat train` and regression.uncertainty."
            )
        self.potential = potential
        self._full, self._bare = Design(module), Design(module, derivatives=False)
        self._active = np.asarray(self._posterior.active, float)

    @property
    def traits(self) -> Traits:
        return dataclasses.replace(self.potential.traits, native=False)

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        labels = self.potential.predict(structures, want)
        design = self._full if "forces" in want else self._bare
        return [
            dataclasses.replace(one, uncertainty=self._uncertainty(rows, one))
            for one, rows in zip(labels, design.rows(structures))
        ]

    def _uncertainty(self, rows: Rows, labels: Labels) -> Uncertainty:
        energy, forces = deviations(self._posterior, rows, labels.forces)
        ellipsoid = self._posterior.ellipsoid
        return Uncertainty(
            energy=energy,
            forces=forces,
            grade=grades(rows.atoms, self._active),
            structure_grade=None if ellipsoid is None else structure_grade(rows.energy, ellipsoid),
        )
