"""`m3gnet`: messages along edges that know the angles with other edges.

Source: Chen, Ong, Nat. Comput. Sci. 2, 718 (2022).
Checked: tests/potentials/native/test_m3gnet.py, tests/peers/test_matgl.py.
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
from karat.potentials.blocks.radial import CONTINUITY
from karat.potentials.model import Card
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.grouping import groups_by_start
from karat.potentials.native.m3gnet_module import GatedEdges, M3gnetModule, ThreeBody
from karat.potentials.native.scales import output_scale
from karat.potentials.native_protocol import AbstractNativePotential

M3GNET_CARD = Card(
    paper="Chen, Ong, Nat. Comput. Sci. 2, 718 (2022)",
    symmetry="invariant",
    reach="layers",
    cost="100 µs",
    tested="matgl: tests/peers/test_matgl.py",
)


@dataclass(frozen=True)
class M3gnet(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of the authors' code. The network is that of
    the paper's potential, which has no global state.

    Attributes:
        cutoff_angstrom: of edges (cutoff).
        three_body_cutoff_angstrom: of both edges of an angle (threebody_cutoff).
        channels: features of an atom and of an edge, and widths of networks (units).
        blocks: three-body term, edge update and atom update, in turn (n_blocks).
        radial: radial functions of edges, and of each degree of angles (max_n).
        degrees: of the functions of angles: 0 … degrees − 1 (max_l).
    """

    card: ClassVar[Card | None] = M3GNET_CARD

    cutoff_angstrom: float = 5.0
    three_body_cutoff_angstrom: float = 4.0
    channels: int = 32
    blocks: int = 3
    radial: int = 3
    degrees: int = 3

    def __post_init__(self) -> None:
        bounds.require_cutoff("m3gnet", self.cutoff_angstrom)
        if not 0 < self.three_body_cutoff_angstrom <= self.cutoff_angstrom:
            raise BadInput(
                f"m3gnet.three_body_cutoff_angstrom {self.three_body_cutoff_angstrom} must lie in "
                f"0…{self.cutoff_angstrom:g} Å, the cut-off of edges."
            )
        limits = {"channels": (2, 1024), "blocks": (1, 8), "radial": (1, 16), "degrees": (1, 8)}
        bounds.require_range("m3gnet", self, limits)

    def usual_settings(self) -> Mapping[str, Any]:
        """On acetylacetone far better than Adam; other rates of Muon were not compared."""
        return {"optimiser": "muon", "learning_rate": 0.02, "batch_size": 2}

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "channels": "[16, 32, 64]",
            "blocks": "[2, 3, 4]",
            "radial": "[3, 5]",
            "degrees": "[3, 4]",
        }

    def skeleton(self, species: tuple[int, ...], dtype: str) -> M3gnetModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> M3gnetModule:
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        scale = jnp.asarray(output_scale(dataset), np.dtype(dtype))
        return eqx.tree_at(lambda m: m.scale, module, scale)

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> M3gnetModule:
        channels, functions = self.channels, self.radial * self.degrees

        def edges() -> GatedEdges:
            widths = (3 * channels, channels, channels)
            value, gate = dense_layers(array, widths), dense_layers(array, widths)
            return GatedEdges(value, gate, array(self.radial, channels))

        output = (channels, channels, channels, 1)
        return M3gnetModule(
            embedding=array(len(species), channels),
            edge_embedding=array(self.radial, channels),
            three_body=tuple(
                ThreeBody(
                    atoms=dense(array, channels, functions),
                    value=array(functions, channels),
                    gate=array(functions, channels),
                )
                for _ in range(self.blocks)
            ),
            edge_updates=tuple(edges() for _ in range(self.blocks)),
            atom_updates=tuple(edges() for _ in range(self.blocks)),
            output_value=dense_layers(array, output),
            output_gate=dense_layers(array, output),
            scale=array(),
            radial=self.radial,
            degrees=self.degrees,
            three_body_cutoff=float(self.three_body_cutoff_angstrom),
            species=species,
            cutoff=float(self.cutoff_angstrom),
            # the smooth radial functions end as the polynomial does
            continuity=CONTINUITY["polynomial"],
            needs_triplets=False,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        every = jax.tree.map(eqx.is_inexact_array, module)
        return eqx.tree_at(lambda m: m.scale, every, False)

    def heads(self, module: AbstractNativePotential) -> Any:
        """The gated output network."""
        spec = jax.tree.map(lambda _: False, module)
        every = lambda m: jax.tree.leaves((m.output_value, m.output_gate))  # noqa: E731
        return eqx.tree_at(every, spec, [True] * len(every(module)))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding``, ``block_1`` … and ``output``; the last block and the output are late."""
        starts: dict[str, tuple[str, ...]] = {"embedding": ("embedding", "edge_embedding")}
        for i in range(self.blocks):
            parts = ("three_body", "edge_updates", "atom_updates")
            starts[f"block_{i + 1}"] = tuple(f"{part}.{i}." for part in parts)
        starts["output"] = ("output_value.", "output_gate.")
        trainable = eqx.filter(module, self.trainable(module))
        return groups_by_start(trainable, starts, (f"block_{self.blocks}", "output"))


@dataclass(frozen=True)
class M3gnetPaper(M3gnet):
    """64 channels, as in the paper: 227 549 parameters with its 95 elements. See `M3gnet`."""

    card: ClassVar[Card | None] = replace(M3GNET_CARD, cost="1 ms")
    channels: int = 64
