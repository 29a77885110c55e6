"""`dimenetpp`: messages along directed edges that know distances and angles.

Source: Gasteiger, Giri, Margraf, Günnemann, Machine Learning for Molecules Workshop at NeurIPS
(2020), arXiv:2011.14115; Gasteiger, Groß, Günnemann, ICLR (2020), arXiv:2003.03123.
Checked: tests/potentials/native/test_dimenetpp.py, tests/peers/test_torch_geometric_dimenet.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from karat.data.dataset import Dataset
from karat.potentials.blocks.layers import dense, dense_layers
from karat.potentials.blocks.radial import CONTINUITY
from karat.potentials.model import Card
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.dimenetpp_module import (
    DimenetppModule,
    Interaction,
    Output,
    Residual,
)
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.grouping import groups_by_start
from karat.potentials.native.scales import output_scale
from karat.potentials.native_protocol import AbstractNativePotential

DIMENETPP_CARD = Card(
    paper="Gasteiger et al., arXiv:2011.14115 (2020)",
    symmetry="invariant",
    reach="layers",
    cost="100 µs",
    tested="torch_geometric: tests/peers/test_torch_geometric_dimenet.py",
)


@dataclass(frozen=True)
class Dimenetpp(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of the authors' code.

    As in that code, functions of distance and angle are divided by r/r_c too, which the paper's
    eq. 6 does not say.

    Attributes:
        cutoff_angstrom: of one message (cutoff).
        channels: features of a message (emb_size).
        projected: of what messages tell the next ones (int_emb_size).
        few: functions between a basis and its factors (basis_emb_size).
        output_width: of the output networks (out_emb_size).
        interactions: blocks (num_blocks).
        radial: radial functions, and of each degree of angles (num_radial).
        degrees: of the functions of angles: 0 … degrees − 1 (num_spherical).
        envelope_power: p of the polynomial envelope (envelope_exponent is p − 1).
        before: residual layers before a message itself is added (num_before_skip).
        after: and after it (num_after_skip).
        output_layers: of the output networks, the last not counted (num_dense_output).
    """

    card: ClassVar[Card | None] = DIMENETPP_CARD

    cutoff_angstrom: float = 5.0
    channels: int = 32
    projected: int = 16
    few: int = 8
    output_width: int = 64
    interactions: int = 3
    radial: int = 6
    degrees: int = 4
    envelope_power: int = 6
    before: int = 1
    after: int = 2
    output_layers: int = 2

    def __post_init__(self) -> None:
        bounds.require_cutoff("dimenetpp", self.cutoff_angstrom)
        limits = {
            "channels": (2, 1024),
            "projected": (1, 1024),
            "few": (1, 256),
            "output_width": (1, 4096),
            "interactions": (1, 8),
            "radial": (1, 16),
            "degrees": (1, 8),
            "envelope_power": (2, 16),
            "before": (0, 8),
            "after": (0, 8),
            "output_layers": (0, 8),
        }
        bounds.require_range("dimenetpp", self, limits)

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "channels": "[32, 64, 128]",
            "interactions": "[2, 3, 4]",
            "degrees": "[4, 7]",
        }

    def skeleton(self, species: tuple[int, ...], dtype: str) -> DimenetppModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> DimenetppModule:
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        kind = np.dtype(dtype)
        numbers = (
            jnp.arange(1, self.radial + 1, dtype=kind),
            jnp.asarray(output_scale(dataset), kind),
        )
        return eqx.tree_at(lambda m: (m.frequencies, m.scale), module, numbers)

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> DimenetppModule:
        channels, few = self.channels, self.few

        def residuals(count: int) -> tuple[Residual, ...]:
            return tuple(
                Residual(dense(array, channels, channels), dense(array, channels, channels))
                for _ in range(count)
            )

        def interaction() -> Interaction:
            return Interaction(
                radial_in=array(self.radial, few),
                radial_out=array(few, channels),
                angle_in=array(self.degrees * self.radial, few),
                angle_out=array(few, self.projected),
                receive=dense(array, channels, channels),
                send=dense(array, channels, channels),
                down=array(channels, self.projected),
                up=array(self.projected, channels),
                before=residuals(self.before),
                join=dense(array, channels, channels),
                after=residuals(self.after),
            )

        def output() -> Output:
            return Output(
                radial=array(self.radial, channels),
                up=array(channels, self.output_width),
                layers=dense_layers(array, (self.output_width,) * (self.output_layers + 1)),
                last=array(self.output_width, 1),
            )

        return DimenetppModule(
            embedding=array(len(species), channels),
            radial_embedding=dense(array, self.radial, channels),
            message_embedding=dense(array, 3 * channels, channels),
            interactions=tuple(interaction() for _ in range(self.interactions)),
            outputs=tuple(output() for _ in range(self.interactions + 1)),
            frequencies=array(self.radial),
            scale=array(),
            degrees=self.degrees,
            envelope_power=self.envelope_power,
            species=species,
            cutoff=float(self.cutoff_angstrom),
            # of the envelope: the sines end with it only until their frequencies are trained
            continuity=CONTINUITY["polynomial"],
            needs_triplets=False,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        every = jax.tree.map(eqx.is_inexact_array, module)
        return eqx.tree_at(lambda m: m.scale, every, False)

    def heads(self, module: AbstractNativePotential) -> Any:
        """The output networks."""
        spec = jax.tree.map(lambda _: False, module)
        every = lambda m: jax.tree.leaves(m.outputs)  # noqa: E731
        return eqx.tree_at(every, spec, [True] * len(every(module)))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding``, ``interaction_1`` … and ``outputs``; the last interaction and the outputs
        are late."""
        first = ("embedding", "radial_embedding", "message_embedding", "frequencies")
        starts: dict[str, tuple[str, ...]] = {"embedding": first}
        for i in range(self.interactions):
            starts[f"interaction_{i + 1}"] = (f"interactions.{i}.",)
        starts["outputs"] = ("outputs.",)
        trainable = eqx.filter(module, self.trainable(module))
        return groups_by_start(trainable, starts, (f"interaction_{self.interactions}", "outputs"))


@dataclass(frozen=True)
class DimenetppPaper(Dimenetpp):
    """The sizes of the authors' configuration of DimeNet++. See `Dimenetpp`."""

    card: ClassVar[Card | None] = replace(DIMENETPP_CARD, cost="1 ms")
    channels: int = 128
    projected: int = 64
    output_width: int = 256
    interactions: int = 4
    degrees: int = 7
    output_layers: int = 3
