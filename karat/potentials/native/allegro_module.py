"""The pure function of Allegro: scalar and tensor features of pairs, layer by layer.

Weights are stored as drawn from a standard normal distribution; what normalises them stands in the
function (`blocks/perceptron.py`).

Checked: tests/potentials/native/test_allegro.py, by a plain sum over pairs.
"""

import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.blocks.messages import sum_messages
from karat.potentials.blocks.parity import Kind, paths_between
from karat.potentials.blocks.perceptron import linear, perceptron
from karat.potentials.blocks.products import Terms, elementwise, merged, scaled, terms_of
from karat.potentials.blocks.radial import Envelope, bessel
from karat.potentials.linear.coupling import real_coupling
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

RESIDUAL = 0.5
"""α: a layer gives (x + α · update) / √(1 + α²)."""


class AllegroLayer(eqx.Module):
    """A product of each pair's tensors with the environment of its centre.

    Attributes:
        environment: scalars → a weight for each degree of harmonics and channel.
        mix: paths × channels → channels, by kind of the result.
        latent: network from the scalars and the result's even scalars to the update of scalars.
        inputs, outputs: kinds of the tensors; of the results even scalars come first.
        highest: degree of harmonics.
    """

    environment: Float[Array, "scalars _"]
    mix: tuple[Float[Array, "_ channels"], ...]
    latent: tuple[Float[Array, "_ _"], ...]
    inputs: tuple[Kind, ...] = eqx.field(static=True)
    outputs: tuple[Kind, ...] = eqx.field(static=True)
    highest: int = eqx.field(static=True)

    def product(
        self,
        tensors: Float[Array, "pairs components channels"],
        around: Float[Array, "pairs harmonics channels"],
    ) -> Float[Array, "pairs results channels"]:
        """Tensors of the kinds `outputs`, one after the other."""
        terms, sizes = _product_terms(self.inputs, self.highest, self.outputs)
        products = elementwise(tensors, around, terms, sum(sizes), 1)
        at, parts = 0, []
        for (degree, _), size, weight in zip(self.outputs, sizes, self.mix):
            block = products[:, at : at + size]
            block = block.reshape(block.shape[0], 2 * degree + 1, -1)  # paths × channels last
            parts.append(linear(block, weight))
            at += size
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)


class AllegroModule(AbstractNativePotential):
    """Energies of atoms: sums over their pairs of `scale` · readout, + `shift`.

    Attributes:
        two_body: network from elements and radial functions to the first scalars.
        embedding: first scalars → a weight for each degree of harmonics and channel.
        layers: one after the other; the last gives even scalars only.
        readout: linear.
        frequencies: n of the Bessel functions.
        scale: eV by elements of centre and neighbour.
        shift: eV by element.
        average_neighbours: sums over neighbours are divided by its square root.
    """

    two_body: tuple[Float[Array, "_ _"], ...]
    embedding: Float[Array, "scalars _"]
    layers: tuple[AllegroLayer, ...]
    readout: Float[Array, "scalars 1"]
    frequencies: Float[Array, "count"]
    scale: Float[Array, "species species"]
    shift: Float[Array, "species"]
    average_neighbours: float = eqx.field(static=True)
    envelope_power: int = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        harmonics = pair_harmonics(batch.vectors, distances, self.layers[0].highest)
        end = Envelope(self.cutoff, self.envelope_power)(distances)[:, None]
        one_hot = lambda numbers: jax.nn.one_hot(  # noqa: E731
            species_index(numbers, self.species), len(self.species), dtype=distances.dtype
        )
        centres, near = batch.spread(one_hot(batch.numbers)), one_hot(batch.neighbour_numbers)
        basis = bessel(distances, self.frequencies, self.cutoff)
        scalars = perceptron(jnp.concatenate([centres, near, basis], axis=1), self.two_body) * end
        tensors = weighted(harmonics, linear(scalars, self.embedding))
        for layer in self.layers:
            around = weighted(harmonics, linear(scalars, layer.environment))
            tensors = layer.product(tensors, self.environment(batch, around))
            known = jnp.concatenate([scalars, tensors[:, 0]], axis=1)
            update = perceptron(known, layer.latent) * end
            scalars = (scalars + RESIDUAL * update) * (1 + RESIDUAL**2) ** -0.5
        own = jnp.matmul(centres, self.scale, precision="highest")
        pair_energies = linear(scalars, self.readout)[:, 0] * jnp.sum(own * near, axis=1)
        energies = batch.sum_pairs(pair_energies) * self.average_neighbours**-0.5
        energies = energies + jnp.matmul(one_hot(batch.numbers), self.shift, precision="highest")
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

    def environment(
        self, batch: Batch, around: Float[Array, "pairs harmonics channels"]
    ) -> Float[Array, "pairs harmonics channels"]:
        """The normalised sum over the neighbours of each pair's centre."""
        rows = around.reshape(around.shape[0], -1)
        summed = sum_messages(batch, rows)
        return batch.spread(summed * self.average_neighbours**-0.5).reshape(around.shape)


def weighted(
    harmonics: Float[Array, "harmonics pairs"], weights: Float[Array, "pairs _"]
) -> Float[Array, "pairs harmonics channels"]:
    """Harmonics times a weight for each degree and channel."""
    count = harmonics.shape[0]
    degrees = int(count**0.5)
    terms = tuple((d * d + m, d * d + m, d, 1.0) for d in range(degrees) for m in range(2 * d + 1))
    return scaled(harmonics, weights.reshape(weights.shape[0], degrees, -1), terms, count)


@functools.cache
def _product_terms(
    inputs: tuple[Kind, ...], highest: int, outputs: tuple[Kind, ...]
) -> tuple[Terms, tuple[int, ...]]:
    """Terms of all products of the inputs with harmonics, and the rows that each output takes:
    components, and for each of them the paths."""
    paths = paths_between(inputs, highest, outputs)
    counts = [sum(o == place for *_, o in paths) for place in range(len(outputs))]
    sizes = tuple((2 * degree + 1) * n for (degree, _), n in zip(outputs, counts))
    starts = _starts([2 * degree + 1 for degree, _ in inputs])
    bases, seen = _starts(sizes), [0] * len(outputs)
    terms: list[tuple[int, int, int, float]] = []
    for i, degree, o in paths:
        tensor = real_coupling(inputs[i][0], degree, outputs[o][0])
        terms += [
            (bases[o] + m * counts[o] + seen[o], starts[i] + a, degree * degree + b, c)
            for m, a, b, c in terms_of(tensor)
        ]
        seen[o] += 1
    return merged(terms), sizes


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:place]) for place in range(len(sizes))]
