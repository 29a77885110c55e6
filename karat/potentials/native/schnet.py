"""`schnet`: continuous-filter convolutions, features that do not change with rotation.

Source: Schütt et al., NeurIPS 30 (2017), arXiv:1706.08566; Schütt et al., J. Chem. Phys. 148,
241722 (2018).
Checked: tests/potentials/native/test_schnet.py.
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
from karat.potentials.blocks.layers import dense_layers
from karat.potentials.blocks.radial import CONTINUITY
from karat.potentials.model import Card, named_arrays
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.scales import output_scale
from karat.potentials.native.schnet_module import SchnetInteraction, SchnetModule
from karat.potentials.native_protocol import AbstractNativePotential

SCHNET_CARD = Card(
    paper="Schütt et al., J. Chem. Phys. 148, 241722 (2018)",
    symmetry="invariant",
    reach="layers",
    cost="10 µs",
    tested="schnetpack: tests/peers/test_schnetpack.py",
)


@dataclass(frozen=True)
class Schnet(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of schnetpack.

    The cosine cut-off is schnetpack's: Schütt et al., J. Chem. Theory Comput. 15, 448 (2019).

    Attributes:
        cutoff_angstrom: of one interaction.
        channels: features of an atom, and filters (n_atom_basis, n_filters).
        interactions: blocks (n_interactions).
        gaussians: functions of the distance, with centres from 0 to the cut-off (n_rbf).
        gamma_per_square_angstrom: γ in exp(−γ (r − μ)²); `None`: 1/(2 Δ²), Δ the distance between
            centres, as in schnetpack.
        activated_filters: whether filter networks end with an activation, as in the papers, or
            not, as in schnetpack.
    """

    card: ClassVar[Card | None] = SCHNET_CARD

    cutoff_angstrom: float = 5.0
    channels: int = 64
    interactions: int = 3
    gaussians: int = 20
    gamma_per_square_angstrom: float | None = None
    activated_filters: bool = False

    def __post_init__(self) -> None:
        bounds.require_cutoff("schnet", self.cutoff_angstrom, 30.0)
        limits = {"channels": (2, 1024), "interactions": (1, 16), "gaussians": (2, 1024)}
        bounds.require_range("schnet", self, limits)
        bounds.require_positive("schnet", self, "gamma_per_square_angstrom")

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "channels": "[32, 64, 128]",
            "interactions": "[2, 3, 4]",
            "gaussians": "[20, 40]",
        }

    def skeleton(self, species: tuple[int, ...], dtype: str) -> SchnetModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> SchnetModule:
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        kind = np.dtype(dtype)
        numbers = (
            jnp.asarray(np.linspace(0, self.cutoff_angstrom, self.gaussians), kind),
            jnp.asarray(output_scale(dataset), kind),
        )
        return eqx.tree_at(_fixed, module, numbers)

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> SchnetModule:
        channels = self.channels
        spacing = self.cutoff_angstrom / (self.gaussians - 1)
        return SchnetModule(
            embedding=array(len(species), channels),
            interactions=tuple(
                SchnetInteraction(
                    filter=dense_layers(array, (self.gaussians, channels, channels)),
                    send=array(channels, channels),
                    receive=dense_layers(array, (channels, channels, channels)),
                )
                for _ in range(self.interactions)
            ),
            output=dense_layers(array, (channels, channels // 2, 1)),
            centres=array(self.gaussians),
            scale=array(),
            gamma=self.gamma_per_square_angstrom or 0.5 / spacing**2,
            activated_filters=self.activated_filters,
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=CONTINUITY["cosine"],
            needs_triplets=False,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        return eqx.tree_at(_fixed, jax.tree.map(eqx.is_inexact_array, module), (False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The output network."""
        spec = jax.tree.map(lambda _: False, module)
        every = lambda m: jax.tree.leaves(m.output)  # noqa: E731
        return eqx.tree_at(every, spec, [True] * 4)

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding``, ``interaction_1`` … and ``output``; the last interaction and the output
        are late."""
        names = tuple(named_arrays(eqx.filter(module, self.trainable(module))))
        groups = {"embedding": ParameterGroup(("embedding",), ("embedding",), False)}
        starts = {f"interaction_{i + 1}": f"interactions.{i}." for i in range(self.interactions)}
        for label, start in (starts | {"output": "output."}).items():
            mine = tuple(name for name in names if name.startswith(start))
            matrices = tuple(name for name in mine if not name.endswith(".bias"))
            late = label in (f"interaction_{self.interactions}", "output")
            groups[label] = ParameterGroup(mine, matrices, late)
        return groups


@dataclass(frozen=True)
class SchnetPaper(Schnet):
    """Six interactions of 64 features, Gaussians every 0.1 Å with γ = 10/Å², as in the papers on
    molecules; there all pairs within 30 Å see each other, here those within 6 Å. See `Schnet`."""

    card: ClassVar[Card | None] = replace(SCHNET_CARD, cost="100 µs")
    cutoff_angstrom: float = 6.0
    interactions: int = 6
    gaussians: int = 61
    gamma_per_square_angstrom: float | None = 10.0
    activated_filters: bool = True


def _fixed(module: SchnetModule) -> tuple[Any, Any]:
    return module.centres, module.scale
