"""`visnet`: vectors and scalars that exchange angles and dihedral angles while messages run.

Source: Wang et al., Nat. Commun. 15, 313 (2024).
Checked: tests/potentials/native/test_visnet.py.
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
from karat.potentials.native.grouping import groups_by_start
from karat.potentials.native.scales import output_scale
from karat.potentials.native.visnet_module import VisnetLayer, VisnetModule, VisnetOutput
from karat.potentials.native_protocol import AbstractNativePotential

VISNET_CARD = Card(
    paper="Wang et al., Nat. Commun. 15, 313 (2024)",
    symmetry="equivariant",
    reach="layers",
    cost="100 µs",
    tested="torch_geometric: tests/peers/test_torch_geometric.py",
)


@dataclass(frozen=True)
class Visnet(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of the authors' code.

    Three things differ from that code, each of which makes energies jump there: what multiplies
    vectors in messages has no bias, so that messages end at the cut-off; all neighbours within the
    cut-off count, not 32; and norms of vectors are rounded off at zero. What has no effect is left
    out: of the first layer all that multiplies vectors, which are zero, of the output the last
    vectors. Vectors are not normalised, as in the paper's settings for molecules' forces.

    Attributes:
        cutoff_angstrom: of one message.
        channels: scalars and vectors of an atom, features of a pair (embedding_dimension).
        layers: rounds of messages (num_layers).
        attention_heads: (num_heads); divides `channels`.
        radial_functions: exponential-normal functions of the distance (num_rbf).
        degree: highest of the harmonics that vectors are made of, 1 or 2 (lmax).
        reject_by_degree: whether an atom's vectors are rejected from the direction of a pair in
            each degree by itself, or in all together, as in the authors' code, where for degree 2
            the product of rejections is that of the whole vectors.
        norm_epsilon: norms of vectors are √(‖v‖² + ε), because the energy depends on norms, and a
            norm has a kink where a vector is zero by symmetry.
    """

    card: ClassVar[Card | None] = VISNET_CARD

    cutoff_angstrom: float = 5.0
    channels: int = 32
    layers: int = 3
    attention_heads: int = 4
    radial_functions: int = 32
    degree: int = 2
    reject_by_degree: bool = False
    norm_epsilon: float = 1e-8

    def __post_init__(self) -> None:
        bounds.require_cutoff("visnet", self.cutoff_angstrom)
        limits = {
            "channels": (2, 1024),
            "layers": (1, 16),
            "attention_heads": (1, 64),
            "radial_functions": (2, 128),
            "degree": (1, 2),
            "norm_epsilon": (1e-12, 1),
        }
        bounds.require_range("visnet", self, limits)
        if self.channels % self.attention_heads:
            raise BadInput(
                f"visnet.attention_heads {self.attention_heads} must divide visnet.channels "
                f"{self.channels}."
            )

    def usual_settings(self) -> Mapping[str, Any]:
        """Of Muon with 0.004 and 0.02 and Adam with 0.002 the best on acetylacetone after four
        epochs, by validation errors."""
        return {"optimiser": "muon", "learning_rate": 0.02, "batch_size": 2}

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "channels": "[32, 64, 128]",
            "layers": "[2, 3, 4]",
            "degree": "[1, 2]",
        }

    def skeleton(self, species: tuple[int, ...], dtype: str) -> VisnetModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> VisnetModule:
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        module = eqx.tree_at(_wide, module, [glorot(one) for one in _wide(module)])
        scale = jnp.asarray(output_scale(dataset), np.dtype(dtype))
        return eqx.tree_at(_fixed, module, (*module.basis.numbers(), scale))

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> VisnetModule:
        k, functions = self.channels, self.radial_functions
        half = max(k // 2, 1)
        layers = lambda *widths: dense_layers(array, widths)  # noqa: E731
        return VisnetModule(
            surroundings=surroundings(array, len(species), functions, k),
            combine=dense(array, 2 * k, k),
            link_filter=dense(array, functions, k),
            layers=tuple(self._layer(i, array) for i in range(self.layers)),
            norm=layer_norm(array, k),
            output=(
                VisnetOutput(array(k, k), array(k, half), layers(2 * k, k, 2 * half)),
                VisnetOutput(array(half, half), None, layers(2 * half, half, 1)),
            ),
            basis=ExponentialNormal(array(functions), array(), float(self.cutoff_angstrom)),
            scale=array(),
            epsilon=float(self.norm_epsilon),
            degree=self.degree,
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=CONTINUITY["cosine"],
            needs_triplets=False,
        )

    def _layer(self, index: int, array: ArrayMaker) -> VisnetLayer:
        k, first = self.channels, index == 0
        inner = 0 < index < self.layers - 1
        return VisnetLayer(
            norm=layer_norm(array, k),
            node=dense(array, k, 3 * k),
            edge=dense(array, k, (3 if inner else 2) * k),
            gate=array(k, (1 if first else 2) * k),
            update=dense(array, k, (1 if first else 3) * k),
            mix=None if first else array(k, (5 if inner else 3) * k),
            heads=self.attention_heads,
            by_degree=self.reject_by_degree,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        spec = jax.tree.map(eqx.is_inexact_array, module)
        return eqx.tree_at(_fixed, spec, (False, False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The output blocks and the normalisation before them."""
        spec = jax.tree.map(lambda _: False, module)
        every = lambda m: jax.tree.leaves((m.norm, m.output))  # noqa: E731
        return eqx.tree_at(every, spec, [True] * len(every(module)))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding`` (of atoms and pairs), ``layer_1`` … and ``output``; the last layer and the
        output are late."""
        free = eqx.filter(module, self.trainable(module))
        starts: dict[str, tuple[str, ...]] = {
            "embedding": ("surroundings.", "combine.", "link_filter.")
        }
        starts |= {f"layer_{i + 1}": (f"layers.{i}.",) for i in range(self.layers)}
        starts["output"] = ("norm.", "output.")
        return groups_by_start(free, starts, (f"layer_{self.layers}", "output"))


@dataclass(frozen=True)
class VisnetPaper(Visnet):
    """The paper's size for molecules' forces: nine layers of 256 channels. See `Visnet`."""

    card: ClassVar[Card | None] = replace(VISNET_CARD, cost="10 ms")
    channels: int = 256
    layers: int = 9
    attention_heads: int = 8


def _wide(module: VisnetModule) -> list[Any]:
    """Weights whose numbers of inputs and outputs differ."""
    layers = [(layer.gate, layer.update, layer.mix) for layer in module.layers]
    return jax.tree.leaves((module.combine, module.output, layers))


def _fixed(module: VisnetModule) -> tuple[Any, Any, Any]:
    return module.basis.centres, module.basis.width, module.scale
