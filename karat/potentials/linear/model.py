"""`AbstractLinearModel`: hyper-parameters of a linear potential; fits and files, written once.

Checked: tests/potentials/linear/test_linear_model.py.
"""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from ase.data import chemical_symbols

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.analytic.pairwise import check_range
from karat.potentials.analytic.zbl import Zbl, ZblModule
from karat.potentials.linear.posterior import Posterior, posterior_of
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.linear.regression import Regression
from karat.potentials.model import AbstractSolvedModel, Solved, Stage
from karat.potentials.native_protocol import AbstractNativePotential


@dataclass(frozen=True)
class ZblTerm:
    """Screened nuclear repulsion between every two atoms, underneath what is fitted.

    Attributes:
        inner_angstrom: where its switch begins.
        outer_angstrom: where energy, force and curvature become zero.
    """

    inner_angstrom: float
    outer_angstrom: float

    def __post_init__(self) -> None:
        check_range("zbl", self.inner_angstrom, self.outer_angstrom, "inner", "outer")

    def module(self, species: tuple[int, ...], dtype: str) -> ZblModule:
        """The repulsion between all pairs of `species`."""
        symbols = tuple(chemical_symbols[z] for z in species)
        module = Zbl(symbols, self.inner_angstrom, self.outer_angstrom, dtype).load().module
        assert isinstance(module, ZblModule)
        return module


class AbstractLinearModel(AbstractSolvedModel):
    """A frozen dataclass whose fields are the settings of a basis, and these two.

    Attributes:
        zbl: repulsion underneath, or `None`.
        regression: how coefficients are found.
    """

    zbl: ZblTerm | None
    regression: Regression

    @abc.abstractmethod
    def basis(self, species: tuple[int, ...], dtype: str) -> AbstractLinearModule:
        """The module with all coefficients zero, the repulsion of `zbl` (`ZblTerm.module`) and
        `Posterior.none(dtype)`.

        Raises:
            BadInput: settings that do not fit together.
        """

    def frame(
        self, species: tuple[int, ...], dtype: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> AbstractNativePotential:
        """`basis`, with the posterior that the file has."""
        built = jax.tree.map(_shape_of, self.basis(species, dtype))
        frame = Posterior.frame(shapes, dtype, built.coefficients.shape[0])
        framed: AbstractLinearModule = eqx.tree_at(lambda m: m.posterior, built, frame)
        return framed

    def inspect(self, module: AbstractNativePotential, dtype: str) -> None:
        """Coefficients and posterior must be numbers that a fit can give."""
        assert isinstance(module, AbstractLinearModule)
        if not np.isfinite(np.asarray(module.coefficients)).all():
            raise BadInput("the array 'coefficients' holds NaN or infinity.")
        posterior_of(module).check()

    def fit(
        self,
        train: Dataset,
        valid: Dataset,
        folder: Path,
        progress: Callable[[Stage], None] | None = None,
        fresh: bool = False,
    ) -> Solved:
        from karat.potentials.linear.fit import fit_linear

        return fit_linear(self, train, valid, folder, progress or (lambda stage: None), fresh)


def _shape_of(leaf: object) -> object:
    """The shape and dtype of an array; anything else as it is."""
    if eqx.is_array(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)  # type: ignore[attr-defined]
    return leaf
