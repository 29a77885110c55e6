"""The pure function of PaiNN: messages and updates of scalars and vectors, output network.

Vectors are arrays (atoms, 3, channels); before the first message they are zero.

Checked: tests/potentials/native/test_painn.py, and against schnetpack's own numbers in
tests/peers/test_schnetpack.py.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.layers import Dense, network
from karat.potentials.blocks.messages import sum_messages
from karat.potentials.blocks.perceptron import linear
from karat.potentials.blocks.radial import bessel, cutoff_function
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

Scalars = Float[Array, "atoms channels"]
Vectors = Float[Array, "atoms 3 channels"]


class PainnMessage(eqx.Module):
    """s_i + Σ_j φ_s(s_j) ∘ W_s and v_i + Σ_j φ_r(s_j) ∘ W_r r̂_ij + φ_v(s_j) ∘ W_v v_j, where the
    filters W are functions of r_ij.

    Attributes:
        context: of the network φ on scalars.
        filter: radial functions → W; both give s, r and v, in the first message, where all
            vectors are zero, s and r only.
    """

    context: tuple[Dense, ...]
    filter: Dense

    def __call__(
        self,
        batch: Batch,
        directions: Float[Array, "pairs 3"],
        radial: Float[Array, "pairs functions"],
        envelope: Float[Array, "pairs 1"],
        scalars: Scalars,
        vectors: Vectors | None,
    ) -> tuple[Scalars, Vectors]:
        """Scalars and vectors after the message; `vectors` is `None` for zeros."""
        channels = scalars.shape[1]
        sent = network(scalars, self.context, "silu")[batch.neighbours]
        gates = sent * (self.filter(radial) * envelope)
        parts = [gates[:, :channels]]
        pushed = directions[:, :, None] * gates[:, None, channels : 2 * channels]
        if vectors is not None:
            near = vectors.reshape(-1, 3 * channels)[batch.neighbours]  # whole rows: fast
            pushed = pushed + near.reshape(-1, 3, channels) * gates[:, None, 2 * channels :]
        parts.append(pushed.reshape(-1, 3 * channels))
        summed = sum_messages(batch, jnp.concatenate(parts, axis=1))
        turned = summed[:, channels:].reshape(-1, 3, channels)
        return scalars + summed[:, :channels], turned if vectors is None else vectors + turned


class PainnUpdate(eqx.Module):
    """s + a_ss + a_sv ∘ ⟨U v, V v⟩ and v + a_vv ∘ U v with a from s and ‖V v‖.

    Attributes:
        mix: V and U side by side.
        context: of the network that gives a_ss, a_sv and, where vectors are used afterwards, a_vv.
    """

    mix: Float[Array, "channels _"]
    context: tuple[Dense, ...]

    def __call__(
        self, scalars: Scalars, vectors: Vectors, epsilon: float
    ) -> tuple[Scalars, Vectors]:
        """Scalars and vectors after the update."""
        channels = scalars.shape[1]
        size, left, right = measured(vectors, self.mix, epsilon)
        gates = network(jnp.concatenate([scalars, size], axis=1), self.context, "silu")
        product = jnp.sum(left * right, axis=1)
        scalars = scalars + gates[:, :channels] + gates[:, channels : 2 * channels] * product
        if gates.shape[1] > 2 * channels:
            vectors = vectors + gates[:, None, 2 * channels :] * right
        return scalars, vectors


class GatedBlock(eqx.Module):
    """Vectors a ∘ W v and scalars b with a and b from s and ‖V v‖.

    Attributes:
        mix: V and W side by side.
        context: of the network that gives a and, in all blocks but the last, b.
    """

    mix: Float[Array, "channels _"]
    context: tuple[Dense, ...]

    def __call__(
        self, scalars: Scalars, vectors: Vectors, epsilon: float
    ) -> tuple[Float[Array, "atoms _"], Float[Array, "atoms 3 _"]]:
        """Scalars (before their activation; none after the last block) and vectors."""
        size, _, right = measured(vectors, self.mix, epsilon)
        gates = network(jnp.concatenate([scalars, size], axis=1), self.context, "silu")
        count = right.shape[2]
        return gates[:, count:], gates[:, None, :count] * right


def measured(
    vectors: Vectors, mix: Float[Array, "channels _"], epsilon: float
) -> tuple[Float[Array, "atoms _"], Float[Array, "atoms 3 _"], Float[Array, "atoms 3 _"]]:
    """√(‖V v‖² + ε), V v and U v."""
    left, right = jnp.split(linear(vectors, mix), 2, axis=2)
    return jnp.sqrt(jnp.sum(left * left, axis=1) + epsilon), left, right


class PainnModule(AbstractNativePotential):
    """Energies of atoms: `scale` · network(scalars); forces, where they are predicted directly:
    `scale` · the one vector that gated blocks make of scalars and vectors.

    Attributes:
        embedding: first scalars of each element.
        messages, updates: in turn.
        output: of the network from scalars to the energy.
        force_head: gated blocks, none where forces are derived from the energy.
        frequencies: n of the radial functions sin(n π r/r_c)/r.
        scale: eV.
        epsilon: added to squared norms.
    """

    embedding: Float[Array, "species channels"]
    messages: tuple[PainnMessage, ...]
    updates: tuple[PainnUpdate, ...]
    output: tuple[Dense, ...]
    force_head: tuple[GatedBlock, ...]
    frequencies: Float[Array, "functions"]
    scale: Float[Array, ""]
    epsilon: float = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        scalars, vectors = self.features(batch)
        energies = self.scale * network(scalars, self.output, "silu")[:, 0]
        energies = jnp.where(batch.atom_mask, energies, 0.0)
        return Outputs(atom_energies=energies, forces=self._forces(batch, scalars, vectors))

    @property
    def conservative(self) -> bool:
        """Unless forces are predicted directly."""
        return not self.force_head

    def _forces(
        self, batch: Batch, scalars: Scalars, vectors: Vectors
    ) -> Float[Array, "atoms 3"] | None:
        """Directly, eV/Å."""
        if not self.force_head:
            return None
        for block in self.force_head:
            scalars, vectors = block(scalars, vectors, self.epsilon)
            scalars = jax.nn.silu(scalars)
        return jnp.where(batch.atom_mask[:, None], self.scale * vectors[:, :, 0], 0.0)

    def features(self, batch: Batch) -> tuple[Scalars, Vectors]:
        """Scalars and vectors after the last update."""
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        directions = batch.vectors * (1 / distances)[:, None]
        radial = bessel(distances, self.frequencies, self.cutoff) * (0.5 * self.cutoff) ** 0.5
        envelope = cutoff_function(distances, self.cutoff, "cosine")[:, None]
        scalars = self.embedding[species_index(batch.numbers, self.species)]
        vectors = None
        for message, update in zip(self.messages, self.updates):
            scalars, vectors = message(batch, directions, radial, envelope, scalars, vectors)
            scalars, vectors = update(scalars, vectors, self.epsilon)
        assert vectors is not None
        return scalars, vectors
