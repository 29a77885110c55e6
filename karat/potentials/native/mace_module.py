"""The pure function of MACE: messages, symmetric contractions and readouts, layer by layer.

Weights are stored as drawn from a standard normal distribution; what normalises them stands in the
function (`blocks/perceptron.py`).

Checked: tests/potentials/native/test_mace.py, and against mace-torch's own numbers in
tests/potentials/external/mace_torch/.
"""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.errors import UnknownElement
from karat.potentials.batch import Batch
from karat.potentials.blocks.chebyshev import interpolate, node_distances
from karat.potentials.blocks.contraction import Contraction
from karat.potentials.blocks.convolution import Convolution
from karat.potentials.blocks.elements import by_element, element_rows, rows_of_elements
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.blocks.perceptron import linear, perceptron
from karat.potentials.blocks.radial import Envelope, bessel
from karat.potentials.native.mace_pairs import agnesi, repulsion, touching_distances
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


class MaceLayer(eqx.Module):
    """An interaction and the product over it.

    Attributes:
        radial: of the network from radial functions to a weight for each path and channel.
        up: mixes channels of the features that are sent, by degree.
        mix: paths × channels of the message → channels, by degree.
        skip: by degree and element; of the layer's input where it is `residual`, else of the
            message.
        contraction: weights of paths by element and channel, for each degree of the result.
        out: mixes channels of the result, by degree.
        density: where messages are divided by 1 + Σ tanh(d²) instead of the average number of
            neighbours: d from the radial functions.
        inputs, outputs: degrees of the features, 0 … .
        highest: degree of harmonics and messages.
        correlation: most factors in a product.
    """

    radial: tuple[Float[Array, "_ _"], ...]
    up: tuple[Float[Array, "channels channels"], ...]
    mix: tuple[Float[Array, "_ channels"], ...]
    skip: tuple[Float[Array, "species channels channels"], ...]
    contraction: tuple[Float[Array, "species _ channels"], ...]
    out: tuple[Float[Array, "channels channels"], ...]
    density: Float[Array, "count 1"] | None
    inputs: tuple[int, ...] = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    highest: int = eqx.field(static=True)
    correlation: int = eqx.field(static=True)
    residual: bool = eqx.field(static=True)

    @property
    def convolution(self) -> Convolution:
        """Without weights."""
        return Convolution(self.inputs, self.highest)

    def product(self, unrolled: bool = False) -> Contraction:
        """Without weights."""
        return Contraction(self.highest, self.correlation, self.outputs, unrolled)

    def contract(
        self,
        message: Sequence[Float[Array, "atoms _ channels"]],
        features: Sequence[Float[Array, "atoms _ channels"]],
        elements: Float[Array, "atoms species"],
        unrolled: bool = False,
    ) -> list[Float[Array, "atoms _ channels"]]:
        """Features of the next layer from the normalised message and this layer's features."""
        product = self.product(unrolled)
        stacked = jnp.swapaxes(jnp.concatenate(message, axis=1), 0, 1)
        weights = [
            rows_of_elements(product.tree_weights(degree, weight), elements)
            for degree, weight in zip(self.outputs, self.contraction)
        ]
        results = []
        for degree, found in zip(self.outputs, product(stacked, weights)):
            result = jnp.swapaxes(linear(found, self.out[degree]), 0, 1)
            if self.residual and degree in self.inputs:
                own = by_element(features[degree], _scaled(self.skip[degree]), elements)
                result = result + own
            results.append(result)
        return results


class MaceModule(AbstractNativePotential):
    """Energies of atoms: `scale` · Σ readouts + `shift`.

    Attributes:
        embedding: first features of each element.
        layers: one after the other; the last gives scalars only.
        readouts: of all layers but the last, from its scalars.
        last_readout: a network of one hidden layer.
        frequencies: n of the Bessel functions.
        scale: eV.
        shift: eV by element.
        average_neighbours: what sums over neighbours are divided by.
        radial_nodes: distances at which the radial networks are evaluated (`blocks/chebyshev.py`).
        agnesi: whether radial functions are of the transformed distance; networks are then
            evaluated for each pair.
        repulsion_power: of the envelope of the repulsion of nuclei, which is added to the
            readouts before they are scaled; `None` for no repulsion.
    """

    embedding: Float[Array, "species channels"]
    layers: tuple[MaceLayer, ...]
    readouts: tuple[Float[Array, "channels 1"], ...]
    last_readout: tuple[Float[Array, "_ _"], Float[Array, "_ 1"]]
    frequencies: Float[Array, "count"]
    scale: Float[Array, ""]
    shift: Float[Array, "species"]
    average_neighbours: float = eqx.field(static=True)
    envelope_power: int = eqx.field(static=True)
    radial_nodes: int = eqx.field(static=True)
    agnesi: bool = eqx.field(static=True)
    repulsion_power: int | None = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        harmonics = pair_harmonics(batch.vectors, distances, self.layers[0].highest)
        elements = element_rows(batch, self.species, distances.dtype)
        first = self.embedding * len(self.species) ** -0.5
        features = [jnp.matmul(elements, first, precision="highest")[:, None, :]]
        energies = jnp.matmul(elements, self.shift, precision="highest")
        transformed, repulsion = self._pairs(batch, distances)
        energies = energies + self.scale * repulsion
        functions = self.networks(distances, transformed) if self.agnesi else self.radial(distances)
        for index, (layer, radial) in enumerate(zip(self.layers, functions)):
            sent = [linear(x, w) for x, w in zip(features, layer.up)]
            summed = layer.convolution(batch, harmonics, radial, sent)
            size = self._size(batch, layer, distances, transformed)
            message = [linear(x, w) / size for x, w in zip(summed, layer.mix)]
            if not layer.residual:
                skips = zip(message, layer.skip)
                message = [by_element(x, _scaled(w), elements) for x, w in skips]
            features = layer.contract(message, features, elements)
            energies = energies + self.scale * self.read(index, features[0][:, 0])
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

    def prepared(self, species: tuple[int, ...]) -> AbstractNativePotential:
        from karat.potentials.native.mace_prepared import prepare

        plain = all(layer.density is None for layer in self.layers)
        if self.agnesi or not plain or self.repulsion_power is not None:
            return self.restricted(species)  # radial functions of elements fit in no one table
        return prepare(self.restricted(species))

    def restricted(self, species: tuple[int, ...]) -> "MaceModule":
        """The same for structures of some of its elements only.

        Raises:
            UnknownElement: one that it does not have.
        """
        if unknown := sorted(set(species) - set(self.species)):
            raise UnknownElement(f"mace: the potential has no element {unknown} (atomic numbers).")
        rows = np.array([self.species.index(z) for z in species])
        factor = (len(species) / len(self.species)) ** 0.5  # normalised by the number of elements
        layers = tuple(
            eqx.tree_at(
                lambda layer: (layer.skip, layer.contraction),
                layer,
                (
                    tuple(weight[rows] * factor for weight in layer.skip),
                    tuple(weight[rows] for weight in layer.contraction),
                ),
            )
            for layer in self.layers
        )
        arrays = (self.embedding[rows] * factor, layers, self.shift[rows])
        smaller = eqx.tree_at(lambda m: (m.embedding, m.layers, m.shift), self, arrays)
        return dataclasses.replace(smaller, species=species)

    def radial(self, distances: Float[Array, "pairs"]) -> list[Float[Array, "pairs _"]]:
        """Radial functions of each layer, from the networks' values at `radial_nodes` nodes."""
        envelope = Envelope(self.cutoff, self.envelope_power)
        places = node_distances(self.radial_nodes, self.cutoff, distances.dtype)
        ends = envelope(places)
        values = [network / ends[:, None] for network in self.networks(places)]
        table = interpolate(distances, jnp.concatenate(values, axis=1), self.cutoff)
        functions = table * envelope(distances)[:, None]
        starts = np.cumsum([value.shape[1] for value in values])[:-1].tolist()
        return jnp.split(functions, starts, axis=1)

    def networks(
        self, distances: Float[Array, "pairs"], transformed: Float[Array, "pairs"] | None = None
    ) -> list[Float[Array, "pairs _"]]:
        """Radial functions of each layer from the networks themselves."""
        basis = self._basis(distances, distances if transformed is None else transformed)
        return [perceptron(basis, layer.radial) for layer in self.layers]

    def _basis(
        self, distances: Float[Array, "pairs"], transformed: Float[Array, "pairs"]
    ) -> Float[Array, "pairs count"]:
        envelope = Envelope(self.cutoff, self.envelope_power)(distances)
        return bessel(transformed, self.frequencies, self.cutoff) * envelope[:, None]

    def _pairs(
        self, batch: Batch, distances: Float[Array, "pairs"]
    ) -> tuple[Float[Array, "pairs"], Float[Array, "atoms"]]:
        """What the radial functions see of distances, and the repulsion of nuclei."""
        transformed, none = distances, jnp.zeros(batch.atoms, distances.dtype)
        if not self.agnesi and self.repulsion_power is None:
            return transformed, none
        touching = touching_distances(batch, self.species)
        if self.agnesi:
            transformed = agnesi(distances, touching)
        if self.repulsion_power is None:
            return transformed, none
        power = self.repulsion_power
        return transformed, repulsion(batch, distances, touching, self.species, power)

    def _size(
        self,
        batch: Batch,
        layer: MaceLayer,
        distances: Float[Array, "pairs"],
        transformed: Float[Array, "pairs"],
    ) -> Float[Array, "atoms 1 1"] | float:
        """What a layer's sums over neighbours are divided by."""
        if layer.density is None:
            return self.average_neighbours
        inner = linear(self._basis(distances, transformed), layer.density)[:, 0]
        return 1 + batch.sum_pairs(jnp.tanh(inner * inner))[:, None, None]

    def read(self, index: int, scalars: Float[Array, "atoms channels"]) -> Float[Array, "atoms"]:
        """Energies from the scalars that layer `index` gave, in units of the scale."""
        if index < len(self.readouts):
            return linear(scalars, self.readouts[index])[:, 0]
        return perceptron(scalars, self.last_readout)[:, 0]


def _scaled(
    weights: Float[Array, "species channels channels"],
) -> Float[Array, "species channels channels"]:
    """W / √(channels · species)."""
    species, channels, _ = weights.shape
    return weights * (channels * species) ** -0.5
