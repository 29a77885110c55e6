"""`gotennet`: attention with vectors of several degrees, which refine features of pairs.

Source: Aykent, Xia, ICLR (2025), "GotenNet: Rethinking efficient 3D equivariant graph neural
networks".
Checked: tests/potentials/native/test_gotennet.py.
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
from karat.potentials.blocks.layers import dense, dense_layers
from karat.potentials.blocks.links import ExponentialNormal, surroundings
from karat.potentials.blocks.normalisation import layer_norm
from karat.potentials.blocks.radial import CONTINUITY
from karat.potentials.model import Card
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.glorot import glorot
from karat.potentials.native.gotennet_module import GotennetLayer, GotennetModule, Refinement
from karat.potentials.native.grouping import groups_by_start
from karat.potentials.native.scales import output_scale
from karat.potentials.native_protocol import AbstractNativePotential

GOTENNET_CARD = Card(
    paper="Aykent, Xia, ICLR (2025)",
    symmetry="equivariant",
    reach="layers",
    cost="100 µs",
    tested="gotennet: tests/peers/test_gotennet.py",
)


@dataclass(frozen=True)
class Gotennet(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of the authors' code.

    Two things differ from that code, where energies jump at the cut-off: weights of attention are
    exp(a) f_c(r) over the sum of it over an atom's links, f_c = 1 for that with itself, there
    without f_c; and all neighbours within the cut-off count, not 32. What has no effect is left
    out: of the first layer all that multiplies vectors, which are zero, of the last what changes
    vectors only. There is no drop-out.

    Attributes:
        cutoff_angstrom: of one message.
        channels: scalars and vectors of an atom, features of a pair (n_atom_basis).
        layers: rounds of messages (n_interactions).
        attention_heads: (num_heads); divides `channels`.
        radial_functions: exponential-normal functions of the distance (n_rbf).
        degree: highest of the harmonics that vectors are made of (lmax).
        norm_epsilon: norms of vectors are √(‖v‖² + ε) (epsilon).
    """

    card: ClassVar[Card | None] = GOTENNET_CARD

    cutoff_angstrom: float = 5.0
    channels: int = 32
    layers: int = 3
    attention_heads: int = 4
    radial_functions: int = 32
    degree: int = 2
    norm_epsilon: float = 1e-8

    def __post_init__(self) -> None:
        bounds.require_cutoff("gotennet", self.cutoff_angstrom)
        limits = {
            "channels": (2, 1024),
            "layers": (1, 16),
            "attention_heads": (1, 64),
            "radial_functions": (2, 128),
            "degree": (1, 4),
            "norm_epsilon": (1e-12, 1),
        }
        bounds.require_range("gotennet", self, limits)
        if self.channels % self.attention_heads:
            raise BadInput(
                f"gotennet.attention_heads {self.attention_heads} must divide "
                f"gotennet.channels {self.channels}."
            )

    def usual_settings(self) -> Mapping[str, Any]:
        """As of `visnet`, which has most in common with it; no others were tried."""
        return {"optimiser": "muon", "learning_rate": 0.02, "batch_size": 2}

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "channels": "[32, 64, 128]",
            "layers": "[2, 3, 4]",
            "degree": "[1, 2]",
        }

    def skeleton(self, species: tuple[int, ...], dtype: str) -> GotennetModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> GotennetModule:
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        module = eqx.tree_at(_wide, module, [glorot(one) for one in _wide(module)])
        scale = jnp.asarray(output_scale(dataset), np.dtype(dtype))
        return eqx.tree_at(_fixed, module, (*module.basis.numbers(), scale))

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> GotennetModule:
        k, functions = self.channels, self.radial_functions
        return GotennetModule(
            surroundings=surroundings(array, len(species), functions, k),
            combine=dense(array, 2 * k, k),
            norm=layer_norm(array, k),
            begin=dense(array, k, k),
            link_filter=dense(array, functions, k),
            layers=tuple(self._layer(i, array) for i in range(self.layers)),
            output=dense_layers(array, (k, k, 1)),
            basis=ExponentialNormal(array(functions), array(), float(self.cutoff_angstrom)),
            scale=array(),
            epsilon=float(self.norm_epsilon),
            degree=self.degree,
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=CONTINUITY["cosine"],
            needs_triplets=False,
        )

    def _layer(self, index: int, array: ArrayMaker) -> GotennetLayer:
        k, last = self.channels, index == self.layers - 1
        parts = 1 + self.degree * (1 if index == 0 else 2)
        refine = None
        if not last:
            keys = tuple(array(k, k) for _ in range(self.degree))
            refine = Refinement(dense(array, k, k), array(k, k), keys)
        return GotennetLayer(
            attention=dense(array, k, 2 * k),
            send=dense_layers(array, (k, k, parts * k)),
            value=dense_layers(array, (k, k, parts * k)),
            edge=dense(array, k, (1 + parts) * k),
            refine=refine,
            measure=array(k, k),
            context=dense_layers(array, (2 * k, k, (1 if last else 2) * k)),
            heads=self.attention_heads,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        spec = jax.tree.map(eqx.is_inexact_array, module)
        return eqx.tree_at(_fixed, spec, (False, False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The output network."""
        spec = jax.tree.map(lambda _: False, module)
        every = lambda m: jax.tree.leaves(m.output)  # noqa: E731
        return eqx.tree_at(every, spec, [True] * len(every(module)))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding`` (of atoms and pairs), ``layer_1`` … and ``output``; the last layer and the
        output are late."""
        free = eqx.filter(module, self.trainable(module))
        starts: dict[str, tuple[str, ...]] = {
            "embedding": ("surroundings.", "combine.", "norm.", "begin.", "link_filter.")
        }
        starts |= {f"layer_{i + 1}": (f"layers.{i}.",) for i in range(self.layers)}
        starts["output"] = ("output.",)
        return groups_by_start(free, starts, (f"layer_{self.layers}", "output"))


@dataclass(frozen=True)
class GotennetPaper(Gotennet):
    """The paper's small size: four layers of 256 channels. See `Gotennet`."""

    card: ClassVar[Card | None] = replace(GOTENNET_CARD, cost="10 ms")
    channels: int = 256
    layers: int = 4
    attention_heads: int = 8


def _wide(module: GotennetModule) -> list[Any]:
    """Weights whose numbers of inputs and outputs differ."""
    layers = [(layer.send, layer.value, layer.context) for layer in module.layers]
    return jax.tree.leaves((module.combine, module.output, layers))


def _fixed(module: GotennetModule) -> tuple[Any, Any, Any]:
    return module.basis.centres, module.basis.width, module.scale
