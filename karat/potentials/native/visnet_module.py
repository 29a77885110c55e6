"""The pure function of ViSNet: attention between scalars, vectors and features of pairs.

Vectors are arrays (atoms, components, channels), the components those of harmonics of degree 1 and,
where there are any, 2; before the first layer they are zero. Each atom is linked with itself too,
at distance 0 and without a direction, as in the authors' code.

Checked: tests/potentials/native/test_visnet.py, and against torch_geometric's own numbers in
tests/peers/test_torch_geometric.py.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.attention import spread_heads, sum_in_heads
from karat.potentials.blocks.layers import Dense, network
from karat.potentials.blocks.links import (
    ExponentialNormal,
    Features,
    Surroundings,
    link_features,
    rejected_product,
    unit_harmonics,
)
from karat.potentials.blocks.messages import sum_messages
from karat.potentials.blocks.normalisation import LayerNorm
from karat.potentials.blocks.perceptron import linear
from karat.potentials.blocks.radial import cutoff_function
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

Scalars = Float[Array, "atoms channels"]
Vectors = Float[Array, "atoms components channels"]


class VisnetLayer(eqx.Module):
    """One round of messages and of what atoms and pairs make of them.

    Attributes:
        norm: of scalars, before everything else.
        node: scalars → query, key and value.
        edge: features of links → what multiplies keys, what multiplies values and, where features
            are updated, what multiplies the products of rejections.
        gate: values sent → factors of the neighbour's vectors, except in the first layer, and of
            the direction. It has no bias: with one, as in the authors' code, energies jump where
            an atom enters the cut-off.
        update: sums of values → factors of mixed vectors and of their products, except in the
            first layer, and new scalars.
        mix: of vectors: one for the update, two for products and, where features of links are
            updated, two for rejections; none in the first layer.
    """

    norm: LayerNorm
    node: Dense
    edge: Dense
    gate: Float[Array, "channels _"]
    update: Dense
    mix: Float[Array, "channels _"] | None
    heads: int = eqx.field(static=True)
    by_degree: bool = eqx.field(static=True)

    def __call__(
        self,
        batch: Batch,
        harmonics: Float[Array, "pairs components"],
        envelope: Float[Array, "pairs 1"],
        scalars: Scalars,
        vectors: Vectors | None,
        links: tuple[Features, Features],
    ) -> tuple[Scalars, Vectors, tuple[Features, Features]]:
        """Scalars, vectors and features of links after the layer; `links` are those of pairs and
        of atoms with themselves, `vectors` is `None` for zeros."""
        channels, components = scalars.shape[1], harmonics.shape[1]
        query, key, value = jnp.split(self.node(self.norm(scalars)), 3, axis=1)
        near = batch.neighbours
        pair, own = (jax.nn.silu(self.edge(one)) for one in links)
        sent = self._values(batch.spread(query), key[near], value[near], pair) * envelope
        kept = self._values(query, key, value, own)
        pushed = self._pushed(sent, harmonics, vectors, near)
        summed = sum_messages(batch, jnp.concatenate([sent, pushed], axis=1))
        changes = self.update(summed[:, :channels] + kept)
        turned = summed[:, channels:].reshape(-1, components, channels)
        if self.mix is None or vectors is None:
            return scalars + changes, turned, links
        turned = turned + vectors * self._gates(kept)[:, None, :channels]
        first, second, third, *others = _split(linear(vectors, self.mix), channels)
        bend = jnp.sum(first * second, axis=1)
        scalars = scalars + bend * changes[:, channels : 2 * channels] + changes[:, 2 * channels :]
        after = vectors + turned + third * changes[:, None, :channels]
        if others:
            target, source = (one.reshape(-1, components * channels) for one in others)
            ends = batch.spread(target), source[near]
            product = rejected_product(*ends, harmonics, self.by_degree)
            alone = jnp.sum(others[0] * others[1], axis=1)
            pairs = links[0] + pair[:, 2 * channels :] * product
            links = pairs, links[1] + own[:, 2 * channels :] * alone
        return scalars, after, links

    def _values(
        self, query: Features, key: Features, value: Features, factors: Float[Array, "links _"]
    ) -> Features:
        """Values times attention: SiLU of the sum of q k d over the channels of a head."""
        channels = query.shape[1]
        scores = sum_in_heads(query * key * factors[:, :channels], self.heads)
        weights = spread_heads(jax.nn.silu(scores), channels, channels)
        return value * factors[:, channels : 2 * channels] * weights

    def _gates(self, sent: Features) -> Float[Array, "links _"]:
        return jax.nn.silu(linear(sent, self.gate))

    def _pushed(
        self,
        sent: Features,
        harmonics: Float[Array, "pairs components"],
        vectors: Vectors | None,
        near: Array,
    ) -> Float[Array, "pairs _"]:
        """Messages of vectors, flat: along the neighbour's vectors and the direction."""
        channels, components = sent.shape[1], harmonics.shape[1]
        gates = self._gates(sent)
        pushed = harmonics[:, :, None] * gates[:, None, -channels:]
        if vectors is not None:
            rows = vectors.reshape(-1, components * channels)[near]  # whole rows: fast
            pushed = pushed + rows.reshape(-1, components, channels) * gates[:, None, :channels]
        return pushed.reshape(-1, components * channels)


class VisnetOutput(eqx.Module):
    """Scalars and vectors from (x, ‖V v‖): network(x, ‖V v‖) and, times W v, the rest of it.

    Attributes:
        measure: V.
        carry: W; none in the last block, whose vectors are not used.
        context: of the network.
    """

    measure: Float[Array, "channels channels"]
    carry: Float[Array, "channels _"] | None
    context: tuple[Dense, ...]

    def __call__(
        self, scalars: Scalars, vectors: Vectors, epsilon: float
    ) -> tuple[Float[Array, "atoms _"], Float[Array, "atoms components _"] | None]:
        """Scalars (before their activation) and vectors."""
        turned = linear(vectors, self.measure)
        size = jnp.sqrt(jnp.sum(turned * turned, axis=1) + epsilon)
        found = network(jnp.concatenate([scalars, size], axis=1), self.context, "silu")
        if self.carry is None:
            return found, None
        count = self.carry.shape[1]
        return found[:, :count], found[:, None, count:] * linear(vectors, self.carry)


class VisnetModule(AbstractNativePotential):
    """Energies of atoms: `scale` · what two output blocks make of scalars and vectors.

    Attributes:
        surroundings: embedding of an atom and of its neighbours.
        combine: of both.
        link_filter: radial functions → features of links, times the sum of the ends' scalars.
        layers: one after the other.
        norm: of scalars after the last.
        output: two blocks.
        basis: radial functions.
        scale: eV.
        epsilon: added to squared norms of vectors.
        degree: of the harmonics, 1 or 2.
    """

    surroundings: Surroundings
    combine: Dense
    link_filter: Dense
    layers: tuple[VisnetLayer, ...]
    norm: LayerNorm
    output: tuple[VisnetOutput, VisnetOutput]
    basis: ExponentialNormal
    scale: Float[Array, ""]
    epsilon: float = eqx.field(static=True)
    degree: int = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        scalars, vectors = self.features(batch)
        scalars, turned = self.output[0](scalars, vectors, self.epsilon)
        assert turned is not None
        energies, _ = self.output[1](jax.nn.silu(scalars), turned, self.epsilon)
        energies = self.scale * energies[:, 0]
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

    def features(self, batch: Batch) -> tuple[Scalars, Vectors]:
        """Normalised scalars and vectors after the last layer."""
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        harmonics = unit_harmonics(batch.vectors, distances, self.degree)
        envelope = cutoff_function(distances, self.cutoff, "cosine")[:, None]
        radial = self.basis(distances)
        elements = species_index(batch.numbers, self.species)
        scalars = self.combine(self.surroundings(batch, elements, radial, envelope))
        links = link_features(batch, scalars, self.link_filter, self.basis, radial)
        vectors = None
        for layer in self.layers:
            scalars, vectors, links = layer(batch, harmonics, envelope, scalars, vectors, links)
        assert vectors is not None
        return self.norm(scalars), vectors


def _split(values: Float[Array, "atoms components _"], channels: int) -> list[Vectors]:
    return jnp.split(values, values.shape[2] // channels, axis=2)
