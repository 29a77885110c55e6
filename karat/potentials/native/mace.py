"""`mace`: equivariant messages of many-body order.

Source: Batatia, Kovács, Simm, Ortner, Csányi, NeurIPS 35, 11423 (2022), arXiv:2206.07697.
Checked: tests/potentials/native/test_mace.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.blocks.contraction import Contraction
from karat.potentials.blocks.contraction import paths as contraction_paths
from karat.potentials.blocks.convolution import Convolution
from karat.potentials.model import Card, named_arrays
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.mace_module import MaceLayer, MaceModule
from karat.potentials.native.scales import mean_neighbours, output_scale
from karat.potentials.native_protocol import AbstractNativePotential

MACE_CARD = Card(
    paper="Batatia et al., NeurIPS 35, 11423 (2022)",
    symmetry="equivariant",
    reach="layers",
    cost="100 µs",
    tested="tests/potentials/external/mace_torch/, against mace-torch",
)


@dataclass(frozen=True)
class Mace(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of MACE's own code.

    Attributes:
        cutoff_angstrom: of one layer (r_max).
        channels: of each degree (num_channels).
        hidden_degree: highest degree of the features that layers pass on (max_L); the last layer
            passes scalars only.
        harmonics_degree: highest degree of harmonics and messages (max_ell).
        correlation: most factors in a product; 3 makes messages four-body.
        layers: (num_interactions).
        bessel: number of radial functions (num_radial_basis).
        envelope_power: p of the polynomial envelope (num_cutoff_basis).
        radial_hidden: widths of the radial network (radial_MLP).
        readout_hidden: width of the last readout (MLP_irreps).
        residual_first: whether the first layer adds its input to the result (interaction_first
            RealAgnosticResidual); else its messages are mixed by element.
        average_neighbours: what sums over neighbours are divided by (avg_num_neighbors); `None`:
            the mean over the training data.
        radial_nodes: distances at which the radial networks are evaluated (`blocks/chebyshev.py`);
            `None`: 16 for each Bessel function, 32 more in float64, where, with random weights
            and eight functions, the interpolation differs from the network by about rounding.
        agnesi: radial functions of the Agnesi-transformed distance (distance_transform).
        density: messages divided by a learned density of neighbours (the RealAgnosticDensity
            interactions) instead of `average_neighbours`.
        repulsion: repulsion of nuclei underneath (pair_repulsion).
    """

    card: ClassVar[Card | None] = MACE_CARD

    cutoff_angstrom: float = 5.0
    channels: int = 32
    hidden_degree: int = 1
    harmonics_degree: int = 2
    correlation: int = 3
    layers: int = 2
    bessel: int = 8
    envelope_power: int = 5
    radial_hidden: tuple[int, ...] = (64, 64, 64)
    readout_hidden: int = 16
    residual_first: bool = False
    average_neighbours: float | None = None
    radial_nodes: int | None = None
    agnesi: bool = False
    density: bool = False
    repulsion: bool = False

    def __post_init__(self) -> None:
        bounds.require_cutoff("mace", self.cutoff_angstrom)
        limits = {
            "channels": (1, 1024),
            "hidden_degree": (0, 3),
            "harmonics_degree": (0, 4),
            "correlation": (1, 3),
            "layers": (1, 8),
            "bessel": (1, 64),
            "envelope_power": (2, 12),
            "readout_hidden": (1, 1024),
            "radial_nodes": (8, 1024),
        }
        bounds.require_range("mace", self, limits)
        if self.hidden_degree > self.harmonics_degree:
            raise BadInput(
                f"mace.hidden_degree {self.hidden_degree} is above harmonics_degree "
                f"{self.harmonics_degree}: messages have no such part. Raise harmonics_degree."
            )
        bounds.require_widths("mace", self, "radial_hidden")
        bounds.require_positive("mace", self, "average_neighbours")

    def usual_settings(self) -> Mapping[str, Any]:
        """Found on acetylacetone by validation errors after 90 s (benchmarks/RESULTS.md)."""
        return {"optimiser": "muon", "learning_rate": 0.04, "batch_size": 2}

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "channels": "[16, 32, 64]",
            "hidden_degree": "[0, 1]",
            "harmonics_degree": "[2, 3]",
        }

    def completed(self, training: Dataset) -> "Mace":
        if self.average_neighbours is not None:
            return self
        return replace(self, average_neighbours=mean_neighbours(training, self.cutoff_angstrom))

    def skeleton(self, species: tuple[int, ...], dtype: str) -> MaceModule:
        kind = np.dtype(dtype)

        def empty() -> MaceModule:
            return self._module(species, dtype, lambda *shape: jnp.zeros(shape, kind))

        return eqx.filter_eval_shape(empty)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> MaceModule:
        kind = np.dtype(dtype)
        counter = iter(range(10**6))

        def normal(*shape: int) -> Array:
            return jax.random.normal(jax.random.fold_in(key, next(counter)), shape, kind)

        module = self._module(dataset.species, dtype, normal)
        layers = tuple(
            eqx.tree_at(lambda one: one.contraction, layer, self._smaller(layer))
            for layer in module.layers
        )
        fixed = lambda m: (m.layers, m.frequencies, m.scale, m.shift)  # noqa: E731
        numbers = (
            layers,
            jnp.arange(1, self.bessel + 1, dtype=kind),
            jnp.asarray(output_scale(dataset), kind),
            jnp.zeros(len(dataset.species), kind),
        )
        return eqx.tree_at(fixed, module, numbers)

    def _smaller(self, layer: MaceLayer) -> tuple[Array, ...]:
        """Contraction weights divided by the number of paths of their correlation."""
        scaled = []
        for degree, weight in zip(layer.outputs, layer.contraction):
            counts = [
                len(contraction_paths(self.harmonics_degree, order, degree))
                for order in range(self.correlation, 0, -1)
            ]
            factor = np.concatenate([np.full(count, 1 / count) for count in counts if count])
            scaled.append(weight * jnp.asarray(factor, weight.dtype)[None, :, None])
        return tuple(scaled)

    def _module(self, species: tuple[int, ...], dtype: str, array: Any) -> MaceModule:
        """`array` makes an array of a shape."""
        if self.average_neighbours is None:
            raise BadInput("mace.average_neighbours is not known; call completed(training) first.")
        channels = self.channels
        return MaceModule(
            embedding=array(len(species), channels),
            layers=tuple(self._layer(i, len(species), array) for i in range(self.layers)),
            readouts=tuple(array(channels, 1) for _ in range(self.layers - 1)),
            last_readout=(array(channels, self.readout_hidden), array(self.readout_hidden, 1)),
            frequencies=array(self.bessel),
            scale=array(),
            shift=array(len(species)),
            average_neighbours=float(self.average_neighbours),
            envelope_power=self.envelope_power,
            radial_nodes=self.radial_nodes or _enough_nodes(self.bessel, dtype),
            agnesi=self.agnesi,
            repulsion_power=self.envelope_power if self.repulsion else None,
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=2,
            needs_triplets=False,
        )

    def _layer(self, index: int, species: int, array: Any) -> MaceLayer:
        last = index == self.layers - 1
        inputs = (0,) if index == 0 else tuple(range(self.hidden_degree + 1))
        outputs = (0,) if last else tuple(range(self.hidden_degree + 1))
        highest, k = self.harmonics_degree, self.channels
        convolution = Convolution(inputs, highest)
        widths = (self.bessel, *self.radial_hidden, k * len(convolution.paths))
        residual = self.residual_first if index == 0 else True
        skipped = [d for d in inputs if d in outputs] if residual else range(highest + 1)
        product = Contraction(highest, self.correlation, outputs)
        return MaceLayer(
            radial=tuple(array(a, b) for a, b in pairwise(widths)),
            up=tuple(array(k, k) for _ in inputs),
            mix=tuple(array(k * convolution.paths_to(d), k) for d in range(highest + 1)),
            skip=tuple(array(species, k, k) for _ in skipped),
            contraction=tuple(array(species, product.weight_count(d), k) for d in outputs),
            out=tuple(array(k, k) for _ in outputs),
            density=array(self.bessel, 1) if self.density else None,
            inputs=inputs,
            outputs=outputs,
            highest=highest,
            correlation=self.correlation,
            residual=residual,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        spec = jax.tree.map(eqx.is_inexact_array, module)
        fixed = lambda m: (m.frequencies, m.scale, m.shift)  # noqa: E731
        return eqx.tree_at(fixed, spec, (False, False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The readouts of all layers."""
        spec = jax.tree.map(lambda _: False, module)
        layers = lambda m: (*m.readouts, *m.last_readout)  # noqa: E731
        return eqx.tree_at(layers, spec, (True,) * (self.layers + 1))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding``, ``radial`` (the networks of all layers), ``interaction_1``, ``product_1``
        … and ``readouts``; the last product and the readouts are late.

        Weights of contractions are no matrices: they weight paths, they do not mix channels.
        """
        names = tuple(named_arrays(eqx.filter(module, self.trainable(module))))

        def group(*starts: str, late: bool = False) -> ParameterGroup:
            mine = tuple(name for name in names if name.startswith(starts))
            mixing = tuple(name for name in mine if ".contraction." not in name)
            return ParameterGroup(mine, mixing, late)

        layers = [f"layers.{i}." for i in range(self.layers)]
        radial = [start + part for start in layers for part in ("radial.", "density")]
        groups = {"embedding": group("embedding"), "radial": group(*radial)}
        for i, start in enumerate(layers):
            mixing = group(*(start + part for part in ("up.", "mix.", "skip.")))
            product = group(start + "contraction.", start + "out.", late=i == self.layers - 1)
            groups |= {f"interaction_{i + 1}": mixing, f"product_{i + 1}": product}
        return groups | {"readouts": group("readouts.", "last_readout.", late=True)}


@dataclass(frozen=True)
class MaceMedium(Mace):
    """More channels, and messages with harmonics up to degree 3. See `Mace`."""

    channels: int = 64
    harmonics_degree: int = 3


@dataclass(frozen=True)
class MacePaper(Mace):
    """The size of the paper's largest models: 256 channels, features up to degree 2.

    Source: arXiv:2206.07697, appendix A.5, of which channels, degrees, cut-off and envelope are
    taken; the paper counts 2,803,984 parameters for its model of acetylacetone, this one has
    3,393,808 (2,633,232 with `hidden_degree` 1): radial networks and readouts may differ.
    """

    card: ClassVar[Card | None] = replace(MACE_CARD, cost="1 ms")
    channels: int = 256
    hidden_degree: int = 2
    harmonics_degree: int = 3


def _enough_nodes(bessel: int, dtype: str) -> int:
    return 16 * bessel + (32 if dtype == "float64" else 0)
