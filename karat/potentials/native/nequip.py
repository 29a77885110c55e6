"""`nequip`: equivariant messages of features with parity.

Source: Batzner, Musaelian, Sun, Geiger, Mailoa, Kornbluth, Molinari, Smidt, Kozinsky, Nat. Commun.
13, 2453 (2022).
Checked: tests/potentials/native/test_nequip.py, tests/peers/test_nequip.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.blocks.parity import Kind, live_kinds, paths_between
from karat.potentials.model import Card, named_arrays
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.nequip_module import NequipLayer, NequipModule
from karat.potentials.native.scales import mean_neighbours, output_scale
from karat.potentials.native_protocol import AbstractNativePotential

NODES_PER_BESSEL = 12
"""With random weights and eight functions the interpolation differs by 1e-7 from the network."""
NEQUIP_CARD = Card(
    paper="Batzner et al., Nat. Commun. 13, 2453 (2022)",
    symmetry="equivariant",
    reach="layers",
    cost="100 µs",
    tested="tests/peers/test_nequip.py, against nequip",
)


@dataclass(frozen=True)
class Nequip(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of NequIP's own code.

    The network of nequip 0.19, with two differences that leave the functions it can represent as
    they are: self-connections have a matrix for each element (there: an element's embedding times a
    larger array, whose product this is), and features that cannot change the energy are left out
    (of the small preset the even vectors of the second layer).

    Attributes:
        cutoff_angstrom: of one layer (r_max).
        features: of each kind, i.e. degree and parity (num_features).
        degree: highest degree of features and harmonics (l_max).
        parity: whether there are features of both parities, or of that of harmonics only.
        layers: interaction blocks (num_layers).
        bessel: number of radial functions (num_bessels).
        bessel_trainable: whether their frequencies are.
        envelope_power: p of the polynomial envelope (polynomial_cutoff_p).
        radial_hidden: widths of the radial network.
        connect_first: whether the first layer has a self-connection too, as in the paper; without
            it the energy of an isolated atom is its reference energy.
        average_neighbours: sums over neighbours are divided by its square root
            (avg_num_neighbors); `None`: the mean over the training data.
        radial_nodes: distances at which the radial networks are evaluated (`blocks/chebyshev.py`);
            `None`: 12 for each Bessel function.
    """

    card: ClassVar[Card | None] = NEQUIP_CARD

    cutoff_angstrom: float = 5.0
    features: int = 32
    degree: int = 1
    parity: bool = True
    layers: int = 3
    bessel: int = 8
    bessel_trainable: bool = False
    envelope_power: int = 6
    radial_hidden: tuple[int, ...] = (64, 64)
    connect_first: bool = False
    average_neighbours: float | None = None
    radial_nodes: int | None = None

    def __post_init__(self) -> None:
        bounds.require_cutoff("nequip", self.cutoff_angstrom)
        limits = {
            "features": (1, 1024),
            "degree": (0, 4),
            "layers": (1, 8),
            "bessel": (1, 64),
            "envelope_power": (2, 12),
            "radial_nodes": (8, 1024),
        }
        bounds.require_range("nequip", self, limits)
        bounds.require_widths("nequip", self, "radial_hidden")
        bounds.require_positive("nequip", self, "average_neighbours")

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "features": "[16, 32, 64]",
            "degree": "[1, 2]",
            "layers": "[2, 3, 4]",
        }

    def completed(self, training: Dataset) -> "Nequip":
        if self.average_neighbours is not None:
            return self
        return replace(self, average_neighbours=mean_neighbours(training, self.cutoff_angstrom))

    def skeleton(self, species: tuple[int, ...], dtype: str) -> NequipModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> NequipModule:
        kind, count = np.dtype(dtype), len(dataset.species)
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        numbers = (
            jnp.arange(1, self.bessel + 1, dtype=kind),
            jnp.full(count, output_scale(dataset), kind),
            jnp.zeros(count, kind),
        )
        return eqx.tree_at(lambda m: (m.frequencies, m.scale, m.shift), module, numbers)

    @property
    def kinds(self) -> tuple[tuple[Kind, ...], ...]:
        """Of the features before, between and after the layers."""
        return live_kinds(self.layers, self.degree, self.parity)

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> NequipModule:
        if self.average_neighbours is None:
            raise BadInput(
                "nequip.average_neighbours is not known; call completed(training) first."
            )
        return NequipModule(
            embedding=array(len(species), self.features),
            layers=tuple(self._layer(i, len(species), array) for i in range(self.layers)),
            readout=array(self.features, 1),
            frequencies=array(self.bessel),
            scale=array(len(species)),
            shift=array(len(species)),
            average_neighbours=float(self.average_neighbours),
            envelope_power=self.envelope_power,
            radial_nodes=self.radial_nodes or max(16, NODES_PER_BESSEL * self.bessel),
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=2,
            needs_triplets=False,
        )

    def _layer(self, index: int, species: int, array: ArrayMaker) -> NequipLayer:
        inputs, outputs = self.kinds[index : index + 2]
        k = self.features
        paths = paths_between(inputs, self.degree, outputs)
        gates = sum(degree > 0 for degree, _ in outputs)
        width = [k * (1 + gates), *(k for _ in outputs[1:])]  # even scalars come first
        arriving = [k * sum(o == place for *_, o in paths) for place in range(len(outputs))]
        connected = index > 0 or self.connect_first
        return NequipLayer(
            radial=tuple(
                array(a, b) for a, b in pairwise((self.bessel, *self.radial_hidden, k * len(paths)))
            ),
            before=tuple(array(k, k) for _ in inputs),
            after=tuple(array(a, b) for a, b in zip(arriving, width)),
            connection=tuple(
                array(species, k, width[outputs.index(kind)])
                for kind in inputs
                if connected and kind in outputs
            ),
            inputs=inputs,
            outputs=outputs,
            highest=self.degree,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        spec = jax.tree.map(eqx.is_inexact_array, module)
        fixed = lambda m: (m.frequencies, m.scale, m.shift)  # noqa: E731
        return eqx.tree_at(fixed, spec, (self.bessel_trainable, False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The readout."""
        spec = jax.tree.map(lambda _: False, module)
        return eqx.tree_at(lambda m: m.readout, spec, True)

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding``, ``radial`` (frequencies and networks of all layers), ``layer_1`` … and
        ``readout``; the last layer and the readout are late."""
        names = tuple(named_arrays(eqx.filter(module, self.trainable(module))))

        def group(*starts: str, late: bool = False) -> ParameterGroup:
            mine = tuple(name for name in names if name.startswith(starts))
            matrices = tuple(name for name in mine if name != "frequencies")
            return ParameterGroup(mine, matrices, late)

        starts = [f"layers.{i}." for i in range(self.layers)]
        groups = {
            "embedding": group("embedding"),
            "radial": group("frequencies", *(start + "radial." for start in starts)),
        }
        for i, start in enumerate(starts):
            parts = (start + part for part in ("before.", "after.", "connection."))
            groups[f"layer_{i + 1}"] = group(*parts, late=i == self.layers - 1)
        return groups | {"readout": group("readout", late=True)}


@dataclass(frozen=True)
class NequipPaper(Nequip):
    """The size of the paper's larger models: five layers of 64 features of each kind up to degree
    3, trainable frequencies, self-connections in all layers. See `Nequip`.

    With three elements it has 1,927,944 parameters; the model that Batatia et al. (2022, their
    table 3) trained on acetylacetone has 3,190,488, so its sizes differ from these.
    """

    card: ClassVar[Card | None] = replace(NEQUIP_CARD, cost="10 ms")
    features: int = 64
    degree: int = 3
    layers: int = 5
    bessel_trainable: bool = True
    connect_first: bool = True
