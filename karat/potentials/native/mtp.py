"""`mtp`: moment tensor potentials.

Source: Shapeev, Multiscale Model. Simul. 14, 1153 (2016); several elements: Gubaev et al., Comput.
Mater. Sci. 156, 148 (2019); level and radial functions: Novikov et al., Mach. Learn.: Sci. Technol.
2, 025002 (2021).
Checked: tests/potentials/native/test_mtp.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.model import Card
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.mtp_basis import program
from karat.potentials.native.mtp_module import MtpModule
from karat.potentials.native.mtp_start import nearest_distance, started
from karat.potentials.native.scales import output_scale
from karat.potentials.native_protocol import AbstractNativePotential

MTP_CARD = Card(
    paper="Novikov et al., Mach. Learn.: Sci. Technol. 2, 025002 (2021)",
    symmetry="invariant",
    reach="cut-off",
    cost="100 µs",
    tested="counts of MLIP-2; motep: tests/peers/test_motep.py",
)
MIXTURE = 0.3
"""Spread of a first radial coefficient; that of β = μ is 1 more. MLIP's are β = μ only, the same
for all elements, which then look alike."""


@dataclass(frozen=True)
class Mtp(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of MLIP-2's files.

    Radial and linear coefficients are trained together by gradients; training begins with the
    linear ones that least squares gives. MLIP minimises by BFGS.

    Attributes:
        cutoff_angstrom: (max_dist).
        level: highest Σ (2 + 4μ + ν) of a contraction, even.
        radial_size: number of Chebyshev polynomials of a radial function (radial_basis_size).
        nearest_angstrom: where the polynomials' range begins (min_dist); `None`: at the shortest
            distance of the training data.
    """

    card: ClassVar[Card | None] = MTP_CARD

    cutoff_angstrom: float = 5.0
    level: int = 16
    radial_size: int = 8
    nearest_angstrom: float | None = None

    def __post_init__(self) -> None:
        bounds.require_cutoff("mtp", self.cutoff_angstrom)
        bounds.require_range("mtp", self, {"level": (2, 24), "radial_size": (2, 64)})
        if self.level % 2:
            raise BadInput(
                f"mtp.level {self.level}: levels of contractions are even, e.g. {self.level + 1}."
            )
        nearest = self.nearest_angstrom
        if nearest is not None and not 0 <= nearest < self.cutoff_angstrom:
            raise BadInput(
                f"mtp.nearest_angstrom {nearest} must lie between 0 and the cut-off "
                f"{self.cutoff_angstrom} Å."
            )

    def usual_settings(self) -> Mapping[str, Any]:
        """Found on acetylacetone by validation errors after 100 epochs: 0.02 was worse, 0.1 no
        better."""
        return {"learning_rate": 0.05}

    def search_space(self) -> Mapping[str, str]:
        return {"cutoff_angstrom": "4.0..6.0", "level": "[12, 14, 16, 18]", "radial_size": "6..12"}

    def completed(self, training: Dataset) -> "Mtp":
        if self.nearest_angstrom is not None:
            return self
        nearest = nearest_distance(training, self.cutoff_angstrom)
        return replace(self, nearest_angstrom=nearest)

    def skeleton(self, species: tuple[int, ...], dtype: str) -> MtpModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> MtpModule:
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        kind = np.dtype(dtype)
        functions, size = module.radial.shape[2:]
        own = jnp.asarray(np.eye(functions, size)[None, None], kind)
        numbers = (
            own + jnp.asarray(MIXTURE, kind) * module.radial,
            jnp.asarray(output_scale(dataset), kind),
        )
        module = eqx.tree_at(lambda m: (m.radial, m.scale), module, numbers)
        return started(module, dataset)

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> MtpModule:
        if self.nearest_angstrom is None:
            raise BadInput("mtp.nearest_angstrom is not known; call completed(training) first.")
        steps, count = program(self.level), len(species)
        return MtpModule(
            radial=array(count, count, int(steps.mus.max()) + 1, self.radial_size),
            linear=array(steps.scalars),
            elements=array(count),
            mixing=array(steps.scalars, steps.scalars),
            scale=array(),
            level=self.level,
            nearest=float(self.nearest_angstrom),
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=1,
            needs_triplets=False,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        return eqx.tree_at(_fixed, jax.tree.map(eqx.is_inexact_array, module), (False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The linear coefficients."""
        spec = jax.tree.map(lambda _: False, module)
        return eqx.tree_at(lambda m: (m.linear, m.elements), spec, (True, True))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``radial`` and ``linear``, of which the second is late."""
        return {
            "radial": ParameterGroup(("radial",), ("radial",), False),
            "linear": ParameterGroup(("linear", "elements"), (), True),
        }


@dataclass(frozen=True)
class MtpPaper(Mtp):
    """Level 20, that of the published potentials of copper, nickel and molybdenum (lithium's is of
    level 16, silicon's and germanium's of level 24). See `Mtp`.

    Source: files published with Zuo et al., J. Phys. Chem. A 124, 731 (2020).
    """

    card: ClassVar[Card | None] = replace(MTP_CARD, cost="1 ms")
    level: int = 20


def _fixed(module: MtpModule) -> tuple[Any, Any]:
    return module.mixing, module.scale
