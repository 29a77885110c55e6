"""The pure function of DimeNet++: messages along directed edges, which see the angles with what
came in at their start.

The message m_ji from j to i stands at the pair of centre i and neighbour j. The sum over k of
functions of r_kj and the angle at j is taken as moments: by the addition theorem Y_l0(θ) =
Σ_m Y_lm(r̂_ji) Y_lm(r̂_jk) / √(4π(2l+1)) for harmonics of mean square 1, so that the sum over k
runs once for each atom j, and the term k = i is taken out again.

Checked: tests/potentials/native/test_dimenetpp.py, and against torch_geometric's own numbers in
tests/peers/test_torch_geometric_dimenet.py.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.blocks.joined import joined
from karat.potentials.blocks.layers import Dense
from karat.potentials.blocks.messages import sum_messages
from karat.potentials.blocks.perceptron import linear
from karat.potentials.blocks.radial import Envelope, bessel
from karat.potentials.blocks.reverse import reverse_pairs
from karat.potentials.blocks.spherical_bessel import spherical_bessel
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

Messages = Float[Array, "pairs channels"]
silu = jax.nn.silu


class Geometry(eqx.Module):
    """What all interactions share.

    Attributes:
        radial: functions of the distance.
        harmonics: Y_lm of the direction from centre to neighbour.
        leaving: Y_lm of the opposite direction, divided by √(4π(2l+1)).
        functions: those of distances in angular terms, by degree.
        back: the pair that leads back, and whether there is one.
    """

    radial: Float[Array, "pairs radial"]
    harmonics: Float[Array, "pairs harmonics"]
    leaving: Float[Array, "pairs harmonics"]
    functions: Float[Array, "degrees pairs radial"]
    back: tuple[Int[Array, "pairs"], Bool[Array, "pairs"]]


class Residual(eqx.Module):
    """x + SiLU(second(SiLU(first(x))))."""

    first: Dense
    second: Dense

    def __call__(self, values: Messages) -> Messages:
        return values + silu(self.second(silu(self.first(values))))


class Interaction(eqx.Module):
    """A message from itself and from the messages that come in at its start, by distance and angle.

    Attributes:
        radial_in, radial_out: radial functions → few → a factor for each channel.
        angle_in, angle_out: functions of distance and angle, by l, then n → few → a factor for each
            projected channel.
        receive, send: of the message itself, and of those that come in.
        down, up: to projected channels and back.
        before, join, after: what follows before and after the message itself is added.
    """

    radial_in: Float[Array, "radial few"]
    radial_out: Float[Array, "few channels"]
    angle_in: Float[Array, "functions few"]
    angle_out: Float[Array, "few projected"]
    receive: Dense
    send: Dense
    down: Float[Array, "channels projected"]
    up: Float[Array, "projected channels"]
    before: tuple[Residual, ...]
    join: Dense
    after: tuple[Residual, ...]

    def __call__(self, batch: Batch, geometry: Geometry, messages: Messages) -> Messages:
        """Messages after the interaction."""
        sent = silu(self.send(messages))
        sent = sent * linear(linear(geometry.radial, self.radial_in), self.radial_out)
        summed = self.incoming(batch, geometry, silu(linear(sent, self.down)))
        values = silu(self.receive(messages)) + silu(linear(summed, self.up))
        for layer in self.before:
            values = layer(values)
        values = silu(self.join(values)) + messages
        for layer in self.after:
            values = layer(values)
        return values

    def incoming(
        self, batch: Batch, geometry: Geometry, sent: Float[Array, "pairs projected"]
    ) -> Float[Array, "pairs projected"]:
        """Σ_k≠i sent_kj · a(r_kj, θ_kji) for each message m_ji."""
        degrees, pairs, radial = geometry.functions.shape
        weights = linear(self.angle_in, self.angle_out) * self.angle_in.shape[0] ** -0.5
        weights = weights.reshape(degrees, radial, -1)
        factors = jnp.matmul(geometry.functions, weights, precision="highest")
        terms = jnp.swapaxes(factors, 0, 1) * sent[:, None, :]
        # (2l+1) terms of each degree, all in one sum: a loop over degrees compiles slowly
        wide = terms[:, np.repeat(np.arange(degrees), 2 * np.arange(degrees) + 1)]
        around = geometry.harmonics[:, :, None]
        summed = sum_messages(batch, (wide * around).reshape(pairs, -1))
        near = summed[batch.neighbours].reshape(wide.shape)
        received = jnp.sum(near * geometry.leaving[:, :, None], axis=1)
        straight = np.sqrt((2 * np.arange(degrees) + 1) / (4 * math.pi))
        own = jnp.sum(terms * jnp.asarray(straight, terms.dtype)[None, :, None], axis=1)
        back, there = geometry.back
        return received - jnp.where(there[:, None], own[back], 0.0)


class Output(eqx.Module):
    """Of each atom from what comes in: network(up(Σ_j W h(r_ij) ∘ m_ji)).

    Attributes:
        radial: radial functions → a factor for each channel.
        up: to the width of the network.
        layers: with SiLU after each.
        last: to the energy.
    """

    radial: Float[Array, "radial channels"]
    up: Float[Array, "channels width"]
    layers: tuple[Dense, ...]
    last: Float[Array, "width 1"]

    def __call__(
        self, batch: Batch, geometry: Geometry, messages: Messages
    ) -> Float[Array, "atoms"]:
        summed = sum_messages(batch, messages * linear(geometry.radial, self.radial))
        values = linear(summed, self.up)
        for layer in self.layers:
            values = silu(layer(values))
        return linear(values, self.last)[:, 0]


class DimenetppModule(AbstractNativePotential):
    """Energies of atoms: `scale` · the sum of all outputs.

    Attributes:
        embedding: of each element.
        radial_embedding: radial functions → features of a pair, before SiLU.
        message_embedding: centre ⊕ neighbour ⊕ features of a pair → first messages, before SiLU.
        interactions: one after the other.
        outputs: one before and one after each interaction.
        frequencies: n of the radial functions sin(n π r/r_c)/r.
        scale: eV.
        degrees: of functions of angles, 0 … degrees − 1.
        envelope_power: p.
    """

    embedding: Float[Array, "species channels"]
    radial_embedding: Dense
    message_embedding: Dense
    interactions: tuple[Interaction, ...]
    outputs: tuple[Output, ...]
    frequencies: Float[Array, "radial"]
    scale: Float[Array, ""]
    degrees: int = eqx.field(static=True)
    envelope_power: int = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        geometry = self.geometry(batch)
        atoms = self.embedding[species_index(batch.numbers, self.species)]
        edges = silu(self.radial_embedding(geometry.radial))
        messages = silu(joined(batch, self.message_embedding, atoms, edges))
        energies = self.outputs[0](batch, geometry, messages)
        for interaction, output in zip(self.interactions, self.outputs[1:]):
            messages = interaction(batch, geometry, messages)
            energies = energies + output(batch, geometry, messages)
        return Outputs(atom_energies=jnp.where(batch.atom_mask, self.scale * energies, 0.0))

    def geometry(self, batch: Batch) -> Geometry:
        """All that depends on the vectors only; zero beyond the cut-off where it ends smoothly."""
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        envelope = Envelope(self.cutoff, self.envelope_power)(distances)
        radial = bessel(distances, self.frequencies, self.cutoff) * envelope[:, None]
        count = self.frequencies.shape[0]
        functions = spherical_bessel(distances, self.degrees - 1, count, self.cutoff, self.cutoff)
        functions = functions * (envelope * (self.cutoff / distances))[:, None]
        harmonics = pair_harmonics(batch.vectors, distances, self.degrees - 1).T
        degree = np.repeat(np.arange(self.degrees), 2 * np.arange(self.degrees) + 1)
        size = (-1.0) ** degree / np.sqrt(4 * math.pi * (2 * degree + 1))
        return Geometry(
            radial=radial,
            harmonics=harmonics,
            leaving=harmonics * jnp.asarray(size, harmonics.dtype)[None, :],
            functions=jnp.swapaxes(functions.reshape(-1, self.degrees, count), 0, 1),
            back=reverse_pairs(batch),
        )
