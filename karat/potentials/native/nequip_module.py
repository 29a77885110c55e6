"""The pure function of NequIP: convolutions, self-connections and gates, layer by layer.

Weights are stored as drawn from a standard normal distribution; what normalises them stands in the
function (`blocks/perceptron.py`).

Checked: tests/potentials/native/test_nequip.py, and against nequip's own numbers in
tests/peers/test_nequip.py.
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
from karat.potentials.blocks.convolution import PathConvolution
from karat.potentials.blocks.elements import by_element, element_rows
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.blocks.parity import Kind, paths_between
from karat.potentials.blocks.perceptron import linear, perceptron, silu
from karat.potentials.blocks.radial import Envelope, bessel
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

TANH_FACTOR = 1.5937334472592695
"""Makes the mean square of tanh of a standard normal variable 1; e3nn's sampled number, as
`SILU_FACTOR` is."""


class NequipLayer(eqx.Module):
    """An interaction block and the gate after it.

    Attributes:
        radial: of the network from radial functions to a weight for each path and channel.
        before: self-interaction of the features that are sent, by kind.
        after: self-interaction of the summed message, paths × channels → channels, by kind; even
            scalars have further channels, the gates of each kind that is no scalar.
        connection: self-connection by element, of the kinds that the layer is given and gives.
        inputs, outputs: kinds of the features; even scalars first.
        highest: degree of harmonics.
    """

    radial: tuple[Float[Array, "_ _"], ...]
    before: tuple[Float[Array, "channels channels"], ...]
    after: tuple[Float[Array, "_ _"], ...]
    connection: tuple[Float[Array, "species channels _"], ...]
    inputs: tuple[Kind, ...] = eqx.field(static=True)
    outputs: tuple[Kind, ...] = eqx.field(static=True)
    highest: int = eqx.field(static=True)

    @property
    def convolution(self) -> PathConvolution:
        """Without weights."""
        return PathConvolution(
            tuple(degree for degree, _ in self.inputs),
            tuple(degree for degree, _ in self.outputs),
            paths_between(self.inputs, self.highest, self.outputs),
        )

    def gated(
        self,
        message: Sequence[Float[Array, "atoms _ _"]],
        features: Sequence[Float[Array, "atoms _ channels"]],
        elements: Float[Array, "atoms species"],
    ) -> list[Float[Array, "atoms _ channels"]]:
        """Features of the next layer from the message after its self-interaction, and this layer's
        features: SiLU of even scalars, tanh of odd ones, all others times SiLU of their gates."""
        message = list(message)
        shared = [kind for kind in self.inputs if kind in self.outputs]
        for kind, weight in zip(shared, self.connection):
            scaled = weight * weight.shape[1] ** -0.5
            own = by_element(features[self.inputs.index(kind)], scaled, elements)
            place = self.outputs.index(kind)
            message[place] = message[place] + own
        channels = message[0].shape[2] // (1 + self.gates)
        scalars = silu(message[0])
        results, at = [scalars[:, :, :channels]], channels
        for (degree, _), values in zip(self.outputs[1:], message[1:]):
            if degree == 0:
                results.append(TANH_FACTOR * jnp.tanh(values))
                continue
            results.append(values * scalars[:, :, at : at + channels])
            at += channels
        return results

    @property
    def gates(self) -> int:
        """Number of kinds with gates."""
        return sum(degree > 0 for degree, _ in self.outputs)


class NequipModule(AbstractNativePotential):
    """Energies of atoms: `scale` · readout + `shift`.

    Attributes:
        embedding: first features of each element.
        layers: one after the other; the last gives even scalars only.
        readout: linear.
        frequencies: n of the Bessel functions.
        scale, shift: eV by element.
        average_neighbours: sums over neighbours are divided by its square root.
        radial_nodes: distances at which the radial networks are evaluated (`blocks/chebyshev.py`).
    """

    embedding: Float[Array, "species channels"]
    layers: tuple[NequipLayer, ...]
    readout: Float[Array, "channels 1"]
    frequencies: Float[Array, "count"]
    scale: Float[Array, "species"]
    shift: Float[Array, "species"]
    average_neighbours: float = eqx.field(static=True)
    envelope_power: int = eqx.field(static=True)
    radial_nodes: int = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        harmonics = pair_harmonics(batch.vectors, distances, self.layers[0].highest)
        elements = element_rows(batch, self.species, distances.dtype)
        features = [jnp.matmul(elements, self.embedding, precision="highest")[:, None, :]]
        for layer, radial in zip(self.layers, self.radial(distances)):
            sent = [linear(x, w) for x, w in zip(features, layer.before)]
            summed = layer.convolution(batch, harmonics, radial, sent)
            message = [self.normalised(linear(x, w)) for x, w in zip(summed, layer.after)]
            features = layer.gated(message, features, elements)
        return self.outputs(batch, features[0][:, 0], elements)

    def normalised(self, message: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Sums over neighbours divided by the square root of their average number."""
        return message * self.average_neighbours**-0.5

    def outputs(
        self,
        batch: Batch,
        scalars: Float[Array, "atoms channels"],
        elements: Float[Array, "atoms species"],
    ) -> Outputs:
        """Energies from the last layer's scalars."""
        energies = linear(scalars, self.readout)[:, 0]
        both = jnp.stack([self.scale, self.shift], axis=1)
        own = jnp.matmul(elements, both, precision="highest")
        energies = own[:, 0] * energies + own[:, 1]
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

    def prepared(self, species: tuple[int, ...]) -> AbstractNativePotential:
        from karat.potentials.native.nequip_prepared import prepare

        return prepare(self.restricted(species))

    def restricted(self, species: tuple[int, ...]) -> "NequipModule":
        """The same for structures of some of its elements only.

        Raises:
            UnknownElement: one that it does not have.
        """
        if unknown := sorted(set(species) - set(self.species)):
            raise UnknownElement(
                f"nequip: the potential has no element {unknown} (atomic numbers)."
            )
        rows = np.array([self.species.index(z) for z in species])
        layers = tuple(
            dataclasses.replace(layer, connection=tuple(w[rows] for w in layer.connection))
            for layer in self.layers
        )
        return dataclasses.replace(
            self,
            embedding=self.embedding[rows],
            layers=layers,
            scale=self.scale[rows],
            shift=self.shift[rows],
            species=species,
        )

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

    def networks(self, distances: Float[Array, "pairs"]) -> list[Float[Array, "pairs _"]]:
        """Radial functions of each layer from the networks themselves."""
        envelope = Envelope(self.cutoff, self.envelope_power)(distances)
        basis = bessel(distances, self.frequencies, self.cutoff) * envelope[:, None]
        return [perceptron(basis, layer.radial) for layer in self.layers]
