"""The pure function of SchNet: embeddings, continuous-filter convolutions, output network.

Checked: tests/potentials/native/test_schnet.py, and against schnetpack's own numbers in
tests/peers/test_schnetpack.py.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.layers import Dense, network, shifted_softplus
from karat.potentials.blocks.messages import sum_messages
from karat.potentials.blocks.perceptron import linear
from karat.potentials.blocks.radial import cutoff_function, gaussians
from karat.potentials.blocks.splines import SplineTable
from karat.potentials.blocks.tables import few_functions
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


class SchnetInteraction(eqx.Module):
    """x_i + network(Σ_j (W x_j) ∘ filter(r_ij)).

    Attributes:
        filter: of the network from Gaussians to a factor for each channel.
        send: mixes channels of what neighbours send.
        receive: of the network on the sums over neighbours.
    """

    filter: tuple[Dense, ...]
    send: Float[Array, "channels channels"]
    receive: tuple[Dense, ...]

    def __call__(
        self,
        batch: Batch,
        features: Float[Array, "atoms channels"],
        filters: Float[Array, "pairs channels"],
    ) -> Float[Array, "atoms channels"]:
        """Features after the block; `filters` vanish at the cut-off."""
        sent = linear(features, self.send)[batch.neighbours]
        message = sum_messages(batch, sent * filters)
        return features + network(message, self.receive, "shifted_softplus")


class SchnetModule(AbstractNativePotential):
    """Energies of atoms: `scale` · network(features).

    Attributes:
        embedding: first features of each element.
        interactions: one after the other.
        output: of the network from features to the energy.
        centres: of the Gaussians, Å.
        scale: eV.
        gamma: of the Gaussians, 1/Å².
        activated_filters: whether filter networks end with an activation.
    """

    embedding: Float[Array, "species channels"]
    interactions: tuple[SchnetInteraction, ...]
    output: tuple[Dense, ...]
    centres: Float[Array, "gaussians"]
    scale: Float[Array, ""]
    gamma: float = eqx.field(static=True)
    activated_filters: bool = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        return self.energies(batch, self.filters(distances))

    def energies(self, batch: Batch, filters: list[Float[Array, "pairs channels"]]) -> Outputs:
        """Energies of atoms from the filters of all interactions."""
        features = self.embedding[species_index(batch.numbers, self.species)]
        for interaction, values in zip(self.interactions, filters):
            features = interaction(batch, features, values)
        energies = self.scale * network(features, self.output, "shifted_softplus")[:, 0]
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

    def filters(self, distances: Float[Array, "pairs"]) -> list[Float[Array, "pairs channels"]]:
        """Of each interaction, zero beyond the cut-off."""
        basis = gaussians(distances, self.centres, self.gamma)
        envelope = cutoff_function(distances, self.cutoff, "cosine")[:, None]
        values = [network(basis, one.filter, "shifted_softplus") for one in self.interactions]
        if self.activated_filters:
            values = [shifted_softplus(one) for one in values]
        return [one * envelope for one in values]

    def prepared(self, species: tuple[int, ...]) -> AbstractNativePotential:
        return prepare(self)


class PreparedSchnet(AbstractNativePotential):
    """SchNet with fixed weights, whose filters are sums of few functions from a table.

    Attributes:
        table: the few functions.
        expand: few functions → the filters of each interaction.
    """

    module: SchnetModule
    table: SplineTable
    expand: tuple[Float[Array, "rank channels"], ...]
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        few = self.table(distances)
        filters = [jnp.matmul(few, matrix, precision="highest") for matrix in self.expand]
        return self.module.energies(batch, filters)


def prepare(module: SchnetModule) -> PreparedSchnet:
    """`module` arranged for many evaluations."""
    dtype = np.dtype(module.embedding.dtype)
    table, expand = few_functions(
        module,
        lambda one, distances: jnp.concatenate(one.filters(distances), axis=1),
        module.cutoff,
        dtype,
    )
    return PreparedSchnet(
        module=module,
        table=table,
        expand=tuple(jnp.split(jnp.asarray(expand, dtype), len(module.interactions), axis=1)),
        species=module.species,
        cutoff=module.cutoff,
        continuity=module.continuity,
        needs_triplets=False,
    )
