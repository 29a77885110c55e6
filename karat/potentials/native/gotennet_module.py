"""The pure function of GotenNet: attention and filters, refinement of pairs, feed-forward.

Vectors are arrays (atoms, components, channels), the components those of harmonics of degrees 1, 2
…; before the first layer they are zero. Each atom is linked with itself too, at distance 0 and
without a direction, as in the authors' code.

Checked: tests/potentials/native/test_gotennet.py, and against gotennet's own numbers in
tests/peers/test_gotennet.py.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.attention import softmax_within_cutoff, spread_heads, sum_in_heads
from karat.potentials.blocks.layers import Dense, network
from karat.potentials.blocks.links import (
    ExponentialNormal,
    Features,
    Surroundings,
    degree_slices,
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


class Refinement(eqx.Module):
    """t + SiLU(γ t) ∘ Σ_l ⟨Rej Q x_i, Rej K_l x_j⟩: what vectors of both ends tell a link.

    Attributes:
        gate: γ.
        query: Q.
        keys: K of each degree.
    """

    gate: Dense
    query: Float[Array, "channels channels"]
    keys: tuple[Float[Array, "channels channels"], ...]

    def __call__(
        self,
        batch: Batch,
        harmonics: Float[Array, "pairs components"],
        vectors: Vectors,
        links: tuple[Features, Features],
    ) -> tuple[Features, Features]:
        """Features of links after it."""
        atoms = len(vectors)
        degrees = degree_slices(harmonics.shape[1])
        query = linear(vectors, self.query).reshape(atoms, -1)
        turned = [linear(vectors[:, one], key) for one, key in zip(degrees, self.keys)]
        key = jnp.concatenate([one.reshape(atoms, -1) for one in turned], axis=1)
        product = rejected_product(batch.spread(query), key[batch.neighbours], harmonics, True)
        alone = jnp.sum((query * key).reshape(vectors.shape), axis=1)
        pairs, own = (jax.nn.silu(self.gate(one)) for one in links)
        return links[0] + pairs * product, links[1] + own * alone


class GotennetLayer(eqx.Module):
    """Geometry-aware tensor attention, hierarchical tensor refinement, feed-forward.

    Attributes:
        attention: scalars → query and key.
        send: of the network from scalars to what is sent through filters.
        value: of the network from scalars to what is sent by attention. Both give a part for
            scalars, one for directions of each degree and, except in the first layer, one for the
            neighbour's vectors of each degree.
        edge: features of links → what multiplies keys (before SiLU), and filters.
        refine: none in the last layer.
        measure: of the vectors whose norms and multiples the feed-forward network uses.
        context: of that network: new scalars and, except in the last layer, factors of vectors.
    """

    attention: Dense
    send: tuple[Dense, ...]
    value: tuple[Dense, ...]
    edge: Dense
    refine: Refinement | None
    measure: Float[Array, "channels channels"]
    context: tuple[Dense, ...]
    heads: int = eqx.field(static=True)

    def __call__(
        self,
        batch: Batch,
        harmonics: Float[Array, "pairs components"],
        envelope: Float[Array, "pairs 1"],
        scalars: Scalars,
        vectors: Vectors | None,
        links: tuple[Features, Features],
        epsilon: float,
    ) -> tuple[Scalars, Vectors, tuple[Features, Features]]:
        """Scalars, vectors and features of links after the layer; `links` are those of pairs and
        of atoms with themselves, `vectors` is `None` for zeros."""
        channels, components = scalars.shape[1], harmonics.shape[1]
        degrees = degree_slices(components)
        passed, kept = self._links(batch, envelope, scalars, links, len(degrees))
        pushed = _pushed(passed[:, channels:], harmonics, vectors, batch.neighbours)
        summed = sum_messages(batch, jnp.concatenate([passed[:, :channels], *pushed], axis=1))
        scalars = scalars + summed[:, :channels] + kept[:, :channels]
        turned = summed[:, channels:].reshape(-1, components, channels)
        if vectors is not None:
            gates = jnp.split(kept[:, channels:], 2 * len(degrees), axis=1)[len(degrees) :]
            own = [vectors[:, one] * gate[:, None] for one, gate in zip(degrees, gates)]
            turned = vectors + turned + jnp.concatenate(own, axis=1)
        if self.refine is not None:
            links = self.refine(batch, harmonics, turned, links)
        mixed = linear(turned, self.measure)
        size = jnp.sqrt(jnp.sum(mixed * mixed, axis=1) + epsilon)
        found = network(jnp.concatenate([scalars, size], axis=1), self.context, "silu")
        if found.shape[1] > channels:
            turned = turned + found[:, None, channels:] * mixed
        return scalars + found[:, :channels], turned, links

    def _links(
        self,
        batch: Batch,
        envelope: Float[Array, "pairs 1"],
        scalars: Scalars,
        links: tuple[Features, Features],
        degrees: int,
    ) -> tuple[Float[Array, "pairs _"], Float[Array, "atoms _"]]:
        """What passes along pairs, and what atoms keep: through filters and by attention."""
        channels, near = scalars.shape[1], batch.neighbours
        query, key = jnp.split(self.attention(scalars), 2, axis=1)
        pair, own = (self.edge(one) for one in links)
        between = batch.spread(query) * key[near] * jax.nn.silu(pair[:, :channels])
        itself = query * key * jax.nn.silu(own[:, :channels])
        weights = softmax_within_cutoff(
            batch,
            sum_in_heads(between, self.heads),
            sum_in_heads(itself, self.heads),
            envelope,
        )
        sent, value = (network(scalars, one, "silu") for one in (self.send, self.value))
        # the parts that the first layer lacks count where channels are given to heads
        full, count = (1 + 2 * degrees) * channels, sent.shape[1]
        along, alone = (spread_heads(one * channels**-0.5, full, count) for one in weights)
        passed = envelope * pair[:, channels:] * sent[near] + along * value[near]
        return passed, own[:, channels:] * sent + alone * value


def _pushed(
    gates: Float[Array, "pairs _"],
    harmonics: Float[Array, "pairs components"],
    vectors: Vectors | None,
    near: Array,
) -> list[Float[Array, "pairs _"]]:
    """Messages of vectors of each degree, flat: along the direction and the neighbour's vectors."""
    pairs, components = harmonics.shape
    degrees = degree_slices(components)
    count = len(degrees) * (1 if vectors is None else 2)
    parts = jnp.split(gates, count, axis=1)
    pushed = [harmonics[:, one, None] * part[:, None] for one, part in zip(degrees, parts)]
    if vectors is not None:
        channels = vectors.shape[2]
        rows = vectors.reshape(-1, components * channels)[near].reshape(pairs, components, channels)
        further = zip(pushed, degrees, parts[len(degrees) :])
        pushed = [one + rows[:, place] * part[:, None] for one, place, part in further]
    return [one.reshape(pairs, -1) for one in pushed]


class GotennetModule(AbstractNativePotential):
    """Energies of atoms: `scale` · network(scalars).

    Attributes:
        surroundings: embedding of an atom and of its neighbours.
        combine: of both, normalised and activated.
        norm: of what is combined.
        begin: → first scalars.
        link_filter: radial functions → features of links, times the sum of the ends' scalars.
        layers: one after the other.
        output: of the network from scalars to the energy.
        basis: radial functions.
        scale: eV.
        epsilon: added to squared norms of vectors.
        degree: highest of the harmonics.
    """

    surroundings: Surroundings
    combine: Dense
    norm: LayerNorm
    begin: Dense
    link_filter: Dense
    layers: tuple[GotennetLayer, ...]
    output: tuple[Dense, ...]
    basis: ExponentialNormal
    scale: Float[Array, ""]
    epsilon: float = eqx.field(static=True)
    degree: int = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        scalars, _ = self.features(batch)
        energies = self.scale * network(scalars, self.output, "silu")[:, 0]
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

    def features(self, batch: Batch) -> tuple[Scalars, Vectors]:
        """Scalars and vectors after the last layer."""
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        harmonics = unit_harmonics(batch.vectors, distances, self.degree)
        envelope = cutoff_function(distances, self.cutoff, "cosine")[:, None]
        radial = self.basis(distances)
        elements = species_index(batch.numbers, self.species)
        both = self.combine(self.surroundings(batch, elements, radial, envelope))
        scalars = self.begin(jax.nn.silu(self.norm(both)))
        links = link_features(batch, scalars, self.link_filter, self.basis, radial)
        vectors = None
        for layer in self.layers:
            scalars, vectors, links = layer(
                batch, harmonics, envelope, scalars, vectors, links, self.epsilon
            )
        assert vectors is not None
        return scalars, vectors
