"""NequIP with fixed weights, arranged for many evaluations.

The same function to rounding, with less work: all radial functions are sums of few, which are read
from one table of cubic splines, and in the first layer, whose messages depend on elements and
distances only, sums over neighbours are taken before channels are mixed.

Checked: tests/potentials/native/test_nequip.py.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.convolution import moments
from karat.potentials.blocks.elements import element_rows
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.blocks.perceptron import linear
from karat.potentials.blocks.splines import SplineTable
from karat.potentials.blocks.tables import few_functions
from karat.potentials.native.nequip_module import NequipModule
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


class PreparedNequip(AbstractNativePotential):
    """Attributes:
    module: the potential.
    table: the few radial functions.
    expand: of the layers after the first: few functions → a function for each path and channel.
    first: by kind of the first layer's message: neighbours' element × few functions → channels.
    """

    module: NequipModule
    table: SplineTable
    expand: tuple[Float[Array, "few _"], ...]
    first: tuple[Float[Array, "_ _"], ...]
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        module = self.module
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        few = self.table(distances)
        harmonics = pair_harmonics(batch.vectors, distances, module.layers[0].highest)
        elements = element_rows(batch, self.species, distances.dtype)
        features = [jnp.matmul(elements, module.embedding, precision="highest")[:, None, :]]
        for index, layer in enumerate(module.layers):
            if index == 0:
                message = self._first_message(batch, harmonics, few)
            else:
                radial = jnp.matmul(few, self.expand[index - 1], precision="highest")
                sent = [linear(x, w) for x, w in zip(features, layer.before)]
                summed = layer.convolution(batch, harmonics, radial, sent)
                message = [module.normalised(linear(x, w)) for x, w in zip(summed, layer.after)]
            features = layer.gated(message, features, elements)
        return module.outputs(batch, features[0][:, 0], elements)

    def _first_message(
        self,
        batch: Batch,
        harmonics: Float[Array, "harmonics pairs"],
        few: Float[Array, "pairs few"],
    ) -> list[Float[Array, "atoms _ _"]]:
        count = len(self.species)
        if count > 1:
            index = species_index(batch.neighbour_numbers, self.species)
            mine = jax.nn.one_hot(index, count, dtype=few.dtype)
            few = (mine[:, :, None] * few[:, None, :]).reshape(few.shape[0], -1)
        summed = moments(batch, harmonics, few)
        message = []
        for (degree, _), matrix in zip(self.module.layers[0].outputs, self.first):
            block = summed[:, degree * degree : (degree + 1) ** 2]
            mixed = jnp.matmul(block.reshape(-1, block.shape[2]), matrix, precision="highest")
            message.append(mixed.reshape(*block.shape[:2], -1))
        return message


def prepare(module: NequipModule) -> PreparedNequip:
    """`module` arranged for many evaluations; works on the host, in float64 where it matters."""
    dtype = np.dtype(module.embedding.dtype)
    with jax.numpy_dtype_promotion("standard"):
        table, expand = few_functions(
            module,
            lambda one, distances: jnp.concatenate(one.radial(distances), axis=1),
            module.cutoff,
            dtype,
        )
    widths = [layer.radial[-1].shape[1] for layer in module.layers]
    own, *rest = np.split(expand, np.cumsum(widths)[:-1], axis=1)
    layer, channels = module.layers[0], module.embedding.shape[1]
    sent = np.asarray(module.embedding, float) @ np.asarray(layer.before[0], float)
    own = own.reshape(len(own), -1, channels) * (channels * module.average_neighbours) ** -0.5
    first = []
    for path, (_, _, place) in enumerate(layer.convolution.paths):  # one path to each kind
        after = np.asarray(layer.after[place], float) * channels**-0.5
        made = np.einsum("sk,rk,kc->src", sent, own[:, path], after)
        first.append(jnp.asarray(made.reshape(-1, after.shape[1]), dtype))
    return PreparedNequip(
        module=module,
        table=table,
        expand=tuple(jnp.asarray(matrix, dtype) for matrix in rest),
        first=tuple(first),
        species=module.species,
        cutoff=module.cutoff,
        continuity=module.continuity,
        needs_triplets=False,
    )
