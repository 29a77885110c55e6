"""The pure function of DeepPot-SE: environment matrix, embedding networks, fitting networks.

A neighbour list of deepmd-kit has a fixed number of slots for each element, and empty ones count:
after standardisation they are rows that are not zero. Here a neighbour's row is taken relative to
an empty slot's, so that any number of neighbours may come: results equal deepmd-kit's where its
slots suffice, and stay smooth where they would not.

Source: Zhang et al., NeurIPS 31 (2018), arXiv:1805.09003, as in deepmd-kit's descriptor se_e2_a:
Wang, Zhang, Han, E, Comput. Phys. Commun. 228, 178 (2018).
Checked: tests/potentials/native/test_deeppot.py; tests/peers/test_deepmd.py.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import distances, species_index
from karat.potentials.batch import Batch
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


class Layer(eqx.Module):
    """Layers of several networks, one for each kind: tanh(x W / √(inputs + outputs) + b) · dt + x.

    The last term is there between equal widths, and twice, side by side, where the width doubles.

    Attributes:
        weight, bias: as drawn from a standard normal distribution.
        step: dt, where it is learned.
    """

    weight: Float[Array, "kinds inputs outputs"]
    bias: Float[Array, "kinds outputs"]
    step: Float[Array, "kinds outputs"] | None

    def linear(
        self, values: Float[Array, "rows inputs"], own: Float[Array, "rows kinds"]
    ) -> Float[Array, "rows outputs"]:
        """x W / √(inputs + outputs) + b of each row's kind; `own` is 1 in its column. All kinds'
        products are taken: on a CPU one large product is faster than sorting rows."""
        kinds, inputs, outputs = self.weight.shape
        weight = self.weight * (inputs + outputs) ** -0.5
        bias = jnp.matmul(own, self.bias, precision="highest")
        if inputs == 1:
            return values * jnp.matmul(own, weight[:, 0], precision="highest") + bias
        if kinds == 1:
            return jnp.matmul(values, weight[0], precision="highest") + bias
        together = jnp.swapaxes(weight, 0, 1).reshape(inputs, kinds * outputs)
        mixed = jnp.matmul(values, together, precision="highest").reshape(-1, kinds, outputs)
        return jnp.sum(mixed * own[:, :, None], axis=1) + bias

    def __call__(
        self, values: Float[Array, "rows inputs"], own: Float[Array, "rows kinds"]
    ) -> Float[Array, "rows outputs"]:
        """With activation and what skips it."""
        return self.after(self.linear(values, own), values, own)

    def after(
        self,
        mixed: Float[Array, "rows outputs"],
        values: Float[Array, "rows inputs"],
        own: Float[Array, "rows kinds"],
    ) -> Float[Array, "rows outputs"]:
        """What follows the linear part."""
        found = jnp.tanh(mixed)
        if self.step is not None:
            found = found * jnp.matmul(own, self.step, precision="highest")
        if found.shape == values.shape:
            return found + values
        if found.shape[1] == 2 * values.shape[1]:
            return found + jnp.concatenate([values, values], axis=1)
        return found


class Surroundings(NamedTuple):
    """What the descriptor sees of a batch.

    Attributes:
        inverse: s(r) of each pair, 1/Å; 0 on padding.
        rows: environment matrix, standardised; (s − mean, s x/r, s y/r, s z/r) / spread.
        centre, own: 1 in the column of each atom's element, and of each pair's neighbour's.
        missing: empty slots of each atom, by element.
    """

    inverse: Float[Array, "pairs"]
    rows: Float[Array, "pairs 4"]
    centre: Float[Array, "atoms species"]
    own: Float[Array, "pairs species"]
    missing: Float[Array, "atoms species"]


class Environment(eqx.Module):
    """The environment matrix and its standardisation.

    Attributes:
        mean: of s over all slots, by the centre's element.
        spread: of s and of its products with directions.
        onset, cutoff: where 1/r begins to be switched off, and ends, Å.
        slots: neighbours of each element that a list has room for; N_c is their sum.
    """

    mean: Float[Array, "species"]
    spread: Float[Array, "species 2"]
    onset: float = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    slots: tuple[int, ...] = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, batch: Batch) -> Surroundings:
        """Of all pairs."""
        count, dtype = len(self.species), batch.vectors.dtype
        distance = distances(batch.vectors)
        inside = batch.pair_mask.astype(dtype)
        inverse = smooth_inverse(distance, self.onset, self.cutoff) * inside
        index = species_index(batch.numbers, self.species)
        centre = jax.nn.one_hot(index, count, dtype=dtype)
        own = jax.nn.one_hot(
            species_index(batch.neighbour_numbers, self.species), count, dtype=dtype
        )
        mean, radial, angular = (
            batch.spread(jnp.matmul(centre, values, precision="highest"))
            for values in (self.mean, 1 / self.spread[:, 0], 1 / self.spread[:, 1])
        )
        directed = batch.vectors * (inverse * angular / distance)[:, None]
        first = (inverse - mean) * radial * inside
        slots = jnp.asarray(self.slots, dtype)[None]
        missing = slots - batch.sum_pairs(own * inside[:, None])
        rows = jnp.concatenate([first[:, None], directed], axis=1)
        return Surroundings(inverse, rows, centre, own, missing)

    @property
    def empty(self) -> Float[Array, "species"]:
        """Standardised s of an empty slot, by the centre's element."""
        return -self.mean / self.spread[:, 0]


def smooth_inverse(
    distance: Float[Array, "pairs"], onset: float, cutoff: float
) -> Float[Array, "pairs"]:
    """s(r): 1/r up to `onset`, then times 1 + u³ (−6u² + 15u − 10); twice continuously
    differentiable, 0 from the cut-off on."""
    u = jnp.clip((distance - onset) / (cutoff - onset), 0.0, 1.0)
    return (1 + u**3 * (-6 * u * u + 15 * u - 10)) / distance


def sum_products(
    batch: Batch, rows: Float[Array, "pairs 4"], values: Float[Array, "pairs functions"]
) -> Float[Array, "atoms 4 functions"]:
    """Σ rows ⊗ values over each atom's pairs."""
    if batch.width is not None:
        around = rows.reshape(batch.atoms, batch.width, 4)
        near = values.reshape(batch.atoms, batch.width, -1)
        return jnp.matmul(jnp.swapaxes(around, 1, 2), near, precision="highest")
    products = (rows[:, :, None] * values[:, None, :]).reshape(rows.shape[0], -1)
    # told that centres are sorted, XLA's CPU compiler takes a slower way
    summed = jax.ops.segment_sum(products, batch.centers, num_segments=batch.atoms)
    return summed.reshape(batch.atoms, 4, -1)


def kinds_of(
    first: Float[Array, "rows species"], second: Float[Array, "rows species"]
) -> Float[Array, "rows kinds"]:
    """1 in the column (first element · species + second)."""
    return (first[:, :, None] * second[:, None, :]).reshape(first.shape[0], -1)


class DeepPotModule(AbstractNativePotential):
    """Energies of atoms: `scale` · fitting network of D = Gᵀ R Rᵀ G_< / N_c².

    Attributes:
        environment: R.
        embedding: networks s → G, by the element of the centre and then of the neighbour.
        fitting: networks D → energy, by element; the last layer is linear.
        scale: eV.
        axis: columns of G_<.
    """

    environment: Environment
    embedding: tuple[Layer, ...]
    fitting: tuple[Layer, ...]
    scale: Float[Array, ""]
    axis: int = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        centre = jax.nn.one_hot(
            species_index(batch.numbers, self.species), len(self.species), dtype=self.scale.dtype
        )
        energies = fitted(self.fitting, self.descriptor(batch), centre) * self.scale
        return Outputs(jnp.where(batch.atom_mask, energies, 0.0))

    def prepared(self, species: tuple[int, ...]) -> AbstractNativePotential:
        from karat.potentials.native.deeppot_compressed import compressed

        return compressed(self)

    def descriptor(self, batch: Batch) -> Float[Array, "atoms size"]:
        """D of all atoms, row by row of its `embedding width` × `axis` matrix."""
        near = self.environment(batch)
        kinds = kinds_of(batch.spread(near.centre), near.own)
        embedded = self.embed(near.rows[:, :1], kinds)
        total = sum_products(batch, near.rows, embedded)
        empty = self.environment.empty
        count = len(self.species)
        every = jnp.repeat(empty, count)[:, None]
        rest = self.embed(every, jnp.eye(count * count, dtype=empty.dtype)) * every
        rest = jnp.matmul(kinds_of(near.centre, near.missing), rest, precision="highest")
        total = jnp.concatenate([total[:, :1] + rest[:, None], total[:, 1:]], axis=1)
        total = total * (1 / sum(self.environment.slots))
        found = jnp.matmul(jnp.swapaxes(total, 1, 2), total[:, :, : self.axis], precision="highest")
        return found.reshape(batch.atoms, -1)

    def embed(
        self, values: Float[Array, "rows 1"], kinds: Float[Array, "rows kinds"]
    ) -> Float[Array, "rows functions"]:
        """G of standardised s."""
        for layer in self.embedding:
            values = layer(values, kinds)
        return values


def fitted(
    layers: tuple[Layer, ...],
    values: Float[Array, "atoms size"],
    centre: Float[Array, "atoms species"],
) -> Float[Array, "atoms"]:
    """Output of the fitting networks, in units of the scale."""
    for layer in layers[:-1]:
        values = layer(values, centre)
    return layers[-1].linear(values, centre)[:, 0]
