"""MACE with fixed weights, arranged for many evaluations.

The same function to rounding, with less work:

- all radial functions are sums of few (a singular value decomposition), and these are read from
  one table of cubic splines,
- the first layer's message depends on elements and distances only: sums over neighbours are taken
  before channels are mixed, and everything linear up to the product is one matrix,
- symmetric contractions are written out term by term.

Checked: tests/potentials/native/test_mace.py.
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
from karat.potentials.native.mace_module import MaceModule
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


class PreparedMace(AbstractNativePotential):
    """Attributes:
    module: the potential.
    table: the few radial functions.
    expand: of the layers after the first: few functions → a function for each path and channel.
    first: by degree and the centre's element (one, where it does not matter): neighbours' element ×
        few functions → channels of the first layer's message.
    """

    module: MaceModule
    table: SplineTable
    expand: tuple[Float[Array, "rank _"], ...]
    first: tuple[Float[Array, "centres _ channels"], ...]
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
        embedded = module.embedding * len(self.species) ** -0.5
        features = [jnp.matmul(elements, embedded, precision="highest")[:, None, :]]
        energies = jnp.matmul(elements, module.shift, precision="highest")
        for index, layer in enumerate(module.layers):
            if index == 0:
                message = self._first_message(batch, harmonics, few, elements)
            else:
                radial = jnp.matmul(few, self.expand[index - 1], precision="highest")
                sent = [linear(x, w) for x, w in zip(features, layer.up)]
                summed = layer.convolution(batch, harmonics, radial, sent)
                message = [linear(x, w) for x, w in zip(summed, layer.mix)]
                message = [x * (1 / module.average_neighbours) for x in message]
            features = layer.contract(message, features, elements, unrolled=True)
            energies = energies + module.scale * module.read(index, features[0][:, 0])
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

    def _first_message(
        self,
        batch: Batch,
        harmonics: Float[Array, "harmonics pairs"],
        few: Float[Array, "pairs rank"],
        elements: Float[Array, "atoms species"],
    ) -> list[Float[Array, "atoms _ channels"]]:
        count = len(self.species)
        if count > 1:
            index = species_index(batch.neighbour_numbers, self.species)
            mine = jax.nn.one_hot(index, count, dtype=few.dtype)
            few = (mine[:, :, None] * few[:, None, :]).reshape(few.shape[0], -1)
        density = moments(batch, harmonics, few)
        message = []
        for degree, matrix in enumerate(self.first):
            block = density[:, degree * degree : (degree + 1) ** 2]
            centres, inputs, channels = matrix.shape
            together = jnp.swapaxes(matrix, 0, 1).reshape(inputs, centres * channels)
            mixed = jnp.matmul(block.reshape(-1, inputs), together, precision="highest")
            mixed = mixed.reshape(*block.shape[:2], centres, channels)
            own = elements if centres > 1 else jnp.ones_like(elements[:, :1])
            message.append(jnp.sum(mixed * own[:, None, :, None], axis=2))
        return message


def prepare(module: MaceModule) -> PreparedMace:
    """`module` arranged for many evaluations; works on the host, in float64 where it matters."""
    dtype = module.embedding.dtype
    with jax.numpy_dtype_promotion("standard"):
        table, expand = few_functions(
            module,
            lambda one, distances: jnp.concatenate(one.radial(distances), axis=1),
            module.cutoff,
            np.dtype(dtype),
        )
    first_layer = module.layers[0]
    sent = np.asarray(module.embedding, float) * len(module.species) ** -0.5
    up = np.asarray(first_layer.up[0], float)
    sent = sent @ up * up.shape[0] ** -0.5  # (species, channels)
    channels, rank = sent.shape[1], expand.shape[0]
    own = expand[:, : channels * len(first_layer.mix)].reshape(rank, -1, channels)
    first = []
    for degree, mix in enumerate(first_layer.mix):
        matrix = np.asarray(mix, float) * mix.shape[0] ** -0.5 / module.average_neighbours
        made = np.einsum("sk,rk,kc->src", sent, own[:, degree], matrix).reshape(-1, channels)
        if not first_layer.residual:
            skip = np.asarray(first_layer.skip[degree], float)
            factor = (channels * len(module.species)) ** -0.5
            first.append(np.einsum("ic,zcd->zid", made, skip * factor))
        else:
            first.append(made[None])
    rest, at = [], channels * len(first_layer.mix)
    for layer in module.layers[1:]:
        width = layer.radial[-1].shape[1]
        rest.append(jnp.asarray(expand[:, at : at + width], dtype))
        at += width
    return PreparedMace(
        module=module,
        table=table,
        expand=tuple(rest),
        first=tuple(jnp.asarray(matrix, dtype) for matrix in first),
        species=module.species,
        cutoff=module.cutoff,
        continuity=module.continuity,
        needs_triplets=False,
    )
