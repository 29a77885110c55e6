"""`painn`: messages of scalars and vectors.

Source: Schütt, Unke, Gastegger, ICML (2021), PMLR 139, 9377, arXiv:2102.03150.
Checked: tests/potentials/native/test_painn.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from karat.data.dataset import Dataset
from karat.potentials.blocks.layers import dense, dense_layers
from karat.potentials.blocks.radial import CONTINUITY
from karat.potentials.model import Card, named_arrays
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.painn_module import (
    GatedBlock,
    PainnMessage,
    PainnModule,
    PainnUpdate,
)
from karat.potentials.native.scales import output_scale
from karat.potentials.native_protocol import AbstractNativePotential

PAINN_CARD = Card(
    paper="Schütt, Unke, Gastegger, ICML, PMLR 139, 9377 (2021)",
    symmetry="equivariant",
    reach="layers",
    cost="100 µs",
    tested="schnetpack: tests/peers/test_schnetpack.py",
)


@dataclass(frozen=True)
class Painn(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of schnetpack.

    What has no effect is left out of the paper's formulas: of the first message the part of
    neighbours' vectors, which are zero, of the last update the vectors where forces are derived.

    Attributes:
        cutoff_angstrom: of one message.
        channels: scalars and vectors of an atom (n_atom_basis).
        interactions: messages with their updates (n_interactions).
        radial_functions: sin(n π r/r_c)/r, n = 1 … (n_rbf of BesselRBF).
        norm_epsilon: norms of vectors are √(‖v‖² + ε) (epsilon). The energy depends on norms, and
            where a vector is zero by symmetry, as in an ideal crystal, a norm has a kink, which ε
            rounds off.
    """

    card: ClassVar[Card | None] = PAINN_CARD
    direct_forces: ClassVar[bool] = False

    cutoff_angstrom: float = 5.0
    channels: int = 32
    interactions: int = 3
    radial_functions: int = 20
    norm_epsilon: float = 1e-8

    def __post_init__(self) -> None:
        bounds.require_cutoff("painn", self.cutoff_angstrom)
        limits = {
            "channels": (2, 1024),
            "interactions": (1, 16),
            "radial_functions": (1, 128),
            "norm_epsilon": (1e-12, 1),
        }
        bounds.require_range("painn", self, limits)

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "channels": "[32, 64, 128]",
            "interactions": "[2, 3, 4]",
        }

    def skeleton(self, species: tuple[int, ...], dtype: str) -> PainnModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> PainnModule:
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        layers = lambda m: (m.messages, m.updates, m.output, m.force_head)  # noqa: E731
        module = eqx.tree_at(layers, module, jax.tree.map(_smaller, layers(module)))
        kind = np.dtype(dtype)
        numbers = (
            jnp.arange(1, self.radial_functions + 1, dtype=kind),
            jnp.asarray(output_scale(dataset), kind),
        )
        return eqx.tree_at(_fixed, module, numbers)

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> PainnModule:
        k = self.channels
        return PainnModule(
            embedding=array(len(species), k),
            messages=tuple(
                PainnMessage(
                    context=dense_layers(array, (k, k, parts * k)),
                    filter=dense(array, self.radial_functions, parts * k),
                )
                for parts in (2 if i == 0 else 3 for i in range(self.interactions))
            ),
            updates=tuple(
                PainnUpdate(
                    mix=array(k, 2 * k),
                    context=dense_layers(array, (2 * k, k, parts * k)),
                )
                for parts in (self._parts_updated(i) for i in range(self.interactions))
            ),
            output=dense_layers(array, (k, k // 2, 1)),
            force_head=self._force_head(array) if self.direct_forces else (),
            frequencies=array(self.radial_functions),
            scale=array(),
            epsilon=float(self.norm_epsilon),
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=CONTINUITY["cosine"],
            needs_triplets=False,
        )

    def _parts_updated(self, index: int) -> int:
        """Scalars in two parts and, where they are used afterwards, vectors."""
        return 3 if self.direct_forces or index < self.interactions - 1 else 2

    def _force_head(self, array: ArrayMaker) -> tuple[GatedBlock, ...]:
        """channels → channels/2 → one vector."""
        k, half = self.channels, self.channels // 2
        return (
            GatedBlock(array(k, 2 * half), dense_layers(array, (k + half, k, 2 * half))),
            GatedBlock(array(half, 2), dense_layers(array, (half + 1, half, 1))),
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        return eqx.tree_at(_fixed, jax.tree.map(eqx.is_inexact_array, module), (False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The output network, and that of forces."""
        spec = jax.tree.map(lambda _: False, module)
        every = lambda m: jax.tree.leaves((m.output, m.force_head))  # noqa: E731
        return eqx.tree_at(every, spec, [True] * len(every(module)))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding``, ``message_1``, ``update_1`` … and ``output`` (of energies and forces);
        the last update and the output are late."""
        names = tuple(named_arrays(eqx.filter(module, self.trainable(module))))
        groups = {"embedding": ParameterGroup(("embedding",), ("embedding",), False)}
        starts: dict[str, tuple[str, ...]] = {}
        for i in range(self.interactions):
            starts[f"message_{i + 1}"] = (f"messages.{i}.",)
            starts[f"update_{i + 1}"] = (f"updates.{i}.",)
        for label, start in (starts | {"output": ("output.", "force_head.")}).items():
            mine = tuple(name for name in names if name.startswith(start))
            matrices = tuple(name for name in mine if not name.endswith(".bias"))
            late = label in (f"update_{self.interactions}", "output")
            groups[label] = ParameterGroup(mine, matrices, late)
        return groups


@dataclass(frozen=True)
class PainnPaper(Painn):
    """The paper's size: 128 channels. See `Painn`."""

    card: ClassVar[Card | None] = replace(PAINN_CARD, cost="1 ms")
    channels: int = 128


@dataclass(frozen=True)
class PainnDirect(Painn):
    """NOT CONSERVATIVE: forces are predicted directly, from the vectors by two gated equivariant
    blocks as the paper's dipoles of atoms, instead of as the gradient of the energy.

    Energy is not conserved in dynamics, minima of the energy are not where forces vanish, the
    forces of a molecule do not add up to zero, and there is no stress. See `Painn`.
    """

    card: ClassVar[Card | None] = replace(
        PAINN_CARD, conservative=False, tested="tests/potentials/native/test_direct_forces.py"
    )
    direct_forces: ClassVar[bool] = True


def _smaller(array: Array) -> Array:
    """A layer's weights with the variance 2/(inputs + outputs) in use, as schnetpack draws them:
    most layers here have more outputs than inputs, and forces would begin as far too large."""
    if array.ndim < 2:
        return array
    inputs, outputs = array.shape
    return array * (2 * inputs / (inputs + outputs)) ** 0.5


def _fixed(module: PainnModule) -> tuple[Any, Any]:
    return module.frequencies, module.scale
