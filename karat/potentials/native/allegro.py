"""`allegro`: equivariant features of pairs, strictly local.

Source: Musaelian, Batzner, Johansson, Sun, Owen, Kornbluth, Kozinsky, Nat. Commun. 14, 579 (2023).
Checked: tests/potentials/native/test_allegro.py.
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
from karat.potentials.blocks.parity import Kind, kinds_up_to, live_kinds, paths_between
from karat.potentials.model import Card, named_arrays
from karat.potentials.native import bounds
from karat.potentials.native.allegro_module import AllegroLayer, AllegroModule
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.scales import mean_neighbours, output_scale
from karat.potentials.native_protocol import AbstractNativePotential

ALLEGRO_CARD = Card(
    paper="Musaelian et al., Nat. Commun. 14, 579 (2023)",
    symmetry="equivariant",
    reach="cut-off",
    cost="100 µs",
    tested="tests/potentials/native/test_allegro.py, by a plain sum over pairs",
)


@dataclass(frozen=True)
class Allegro(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of Allegro's own code.

    Networks have no biases. Two details are those of the authors' code: pair energies are divided
    by the square root of the average number of neighbours, as other sums are, and the weight of
    a layer's update of scalars is ½ (there trainable, from ½ on). The readout, in the paper a
    network without non-linearity, is one matrix.

    Attributes:
        cutoff_angstrom: (r_max).
        scalars: latent features of a pair (num_scalar_features).
        tensors: channels of each kind of tensor features of a pair (num_tensor_features).
        degree: highest degree of tensors and harmonics (l_max).
        parity: whether there are tensors of both parities, or of that of harmonics only.
        layers: (num_layers); energies are many-body functions of order layers + 2 and, by the
            networks, above.
        bessel: number of radial functions (num_bessels).
        bessel_trainable: whether their frequencies are.
        envelope_power: p of the polynomial envelope (polynomial_cutoff_p).
        two_body_hidden: widths of the network of elements and distance.
        latent_hidden: widths of the networks that update scalars.
        average_neighbours: sums over neighbours are divided by its square root
            (avg_num_neighbors); `None`: the mean over the training data.
    """

    card: ClassVar[Card | None] = ALLEGRO_CARD

    cutoff_angstrom: float = 5.0
    scalars: int = 64
    tensors: int = 32
    degree: int = 1
    parity: bool = True
    layers: int = 2
    bessel: int = 8
    bessel_trainable: bool = False
    envelope_power: int = 6
    two_body_hidden: tuple[int, ...] = (64, 64)
    latent_hidden: tuple[int, ...] = (64, 64)
    average_neighbours: float | None = None

    def __post_init__(self) -> None:
        bounds.require_cutoff("allegro", self.cutoff_angstrom)
        limits = {
            "scalars": (1, 4096),
            "tensors": (1, 1024),
            "degree": (0, 4),
            "layers": (1, 8),
            "bessel": (1, 64),
            "envelope_power": (2, 12),
        }
        bounds.require_range("allegro", self, limits)
        bounds.require_widths("allegro", self, "two_body_hidden", "latent_hidden")
        bounds.require_positive("allegro", self, "average_neighbours")

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "scalars": "[32, 64]",
            "tensors": "[8, 16, 32]",
            "degree": "[1, 2]",
            "layers": "[1, 2, 3]",
        }

    def completed(self, training: Dataset) -> "Allegro":
        if self.average_neighbours is not None:
            return self
        return replace(self, average_neighbours=mean_neighbours(training, self.cutoff_angstrom))

    def skeleton(self, species: tuple[int, ...], dtype: str) -> AllegroModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> AllegroModule:
        kind, count = np.dtype(dtype), len(dataset.species)
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        numbers = (
            jnp.arange(1, self.bessel + 1, dtype=kind),
            jnp.full((count, count), output_scale(dataset), kind),
            jnp.zeros(count, kind),
        )
        return eqx.tree_at(lambda m: (m.frequencies, m.scale, m.shift), module, numbers)

    @property
    def kinds(self) -> tuple[tuple[Kind, ...], ...]:
        """Of the tensors before, between and after the layers."""
        start = kinds_up_to(self.degree, both=False)
        return live_kinds(self.layers, self.degree, self.parity, start)

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> AllegroModule:
        if self.average_neighbours is None:
            raise BadInput(
                "allegro.average_neighbours is not known; call completed(training) first."
            )
        widths = (2 * len(species) + self.bessel, *self.two_body_hidden, self.scalars)
        return AllegroModule(
            two_body=tuple(array(a, b) for a, b in pairwise(widths)),
            embedding=array(self.scalars, (self.degree + 1) * self.tensors),
            layers=tuple(self._layer(i, array) for i in range(self.layers)),
            readout=array(self.scalars, 1),
            frequencies=array(self.bessel),
            scale=array(len(species), len(species)),
            shift=array(len(species)),
            average_neighbours=float(self.average_neighbours),
            envelope_power=self.envelope_power,
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=2,
            needs_triplets=False,
        )

    def _layer(self, index: int, array: ArrayMaker) -> AllegroLayer:
        inputs, outputs = self.kinds[index : index + 2]
        paths = paths_between(inputs, self.degree, outputs)
        counts = [sum(o == place for *_, o in paths) for place in range(len(outputs))]
        widths = (self.scalars + self.tensors, *self.latent_hidden, self.scalars)
        return AllegroLayer(
            environment=array(self.scalars, (self.degree + 1) * self.tensors),
            mix=tuple(array(n * self.tensors, self.tensors) for n in counts),
            latent=tuple(array(a, b) for a, b in pairwise(widths)),
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
        """``two_body`` (frequencies, network, first tensors), ``layer_1`` … and ``readout``; the
        last layer and the readout are late."""
        names = tuple(named_arrays(eqx.filter(module, self.trainable(module))))

        def group(*starts: str, late: bool = False) -> ParameterGroup:
            mine = tuple(name for name in names if name.startswith(starts))
            matrices = tuple(name for name in mine if name != "frequencies")
            return ParameterGroup(mine, matrices, late)

        groups = {"two_body": group("frequencies", "two_body.", "embedding")}
        for i in range(self.layers):
            groups[f"layer_{i + 1}"] = group(f"layers.{i}.", late=i == self.layers - 1)
        return groups | {"readout": group("readout", late=True)}


@dataclass(frozen=True)
class AllegroPaper(Allegro):
    """The widths of the networks in the paper's largest models (1024), with 128 channels of tensors
    up to degree 3 in three layers. See `Allegro`."""

    card: ClassVar[Card | None] = replace(ALLEGRO_CARD, cost="10 ms")
    scalars: int = 1024
    tensors: int = 128
    degree: int = 3
    layers: int = 3
    bessel_trainable: bool = True
    two_body_hidden: tuple[int, ...] = (128, 256, 512)
    latent_hidden: tuple[int, ...] = (1024, 1024)
