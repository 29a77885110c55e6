"""Links between atoms, each with itself too: what ViSNet and GotenNet begin with.

An atom's link with itself has distance 0 and no direction; arrays for those links have a row for
each atom, beside the arrays of pairs.

Source: Wang et al., Nat. Commun. 15, 313 (2024); Aykent, Xia, ICLR (2025).
Checked: tests/potentials/blocks/test_links.py.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.potentials.batch import Batch
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.blocks.layers import Dense, dense
from karat.potentials.blocks.messages import sum_messages
from karat.potentials.blocks.radial import cutoff_function

Features = Float[Array, "_ channels"]


class ExponentialNormal(eqx.Module):
    """f_c(r) exp(−β (exp(−5 r/r_c) − μ)²) with the cosine cut-off function.

    Attributes:
        centres: μ, from exp(−r_c/Å) to 1.
        width: β.
        cutoff: Å.
    """

    centres: Float[Array, "functions"]
    width: Float[Array, ""]
    cutoff: float = eqx.field(static=True)

    def __call__(self, distances: Float[Array, "links"]) -> Float[Array, "links functions"]:
        """Of distances in Å, zero beyond the cut-off."""
        shrunk = jnp.exp(distances * (-5 / self.cutoff))[:, None] - self.centres[None, :]
        envelope = cutoff_function(distances, self.cutoff, "cosine")[:, None]
        return envelope * jnp.exp(-self.width * shrunk * shrunk)

    def numbers(self) -> tuple[Array, Array]:
        """Centres and width as published, in the shapes and precision of these."""
        count, least = self.centres.size, np.exp(-self.cutoff)
        width = (2 / count * (1 - least)) ** -2
        kind = self.centres.dtype
        return jnp.asarray(np.linspace(least, 1, count), kind), jnp.asarray(width, kind)


class Surroundings(eqx.Module):
    """An atom's own embedding beside the sum of what its neighbours send before the first layer.

    Attributes:
        embedding: of the atom's element.
        near: what each element sends.
        filter: radial functions → what multiplies it.
    """

    embedding: Float[Array, "species channels"]
    near: Float[Array, "species channels"]
    filter: Dense

    def __call__(
        self,
        batch: Batch,
        elements: Int[Array, "atoms"],
        radial: Float[Array, "pairs functions"],
        envelope: Float[Array, "pairs 1"],
    ) -> Float[Array, "atoms _"]:
        """2 × channels; `elements` are places in the list of species."""
        sent = self.near[elements][batch.neighbours] * (self.filter(radial) * envelope)
        return jnp.concatenate([self.embedding[elements], sum_messages(batch, sent)], axis=1)


def surroundings(
    array: Callable[..., Array], species: int, functions: int, channels: int
) -> Surroundings:
    """`array` makes an array of a shape (`native/drawing.py`)."""
    return Surroundings(
        array(species, channels), array(species, channels), dense(array, functions, channels)
    )


def link_features(
    batch: Batch,
    scalars: Float[Array, "atoms channels"],
    filter: Dense,
    basis: ExponentialNormal,
    radial: Float[Array, "pairs functions"],
) -> tuple[Features, Features]:
    """(x_i + x_j) ∘ filter of pairs and of atoms with themselves."""
    ends = batch.spread(scalars) + scalars[batch.neighbours]
    touching = filter(basis(jnp.zeros((1,), radial.dtype)))
    return ends * filter(radial), 2 * scalars * touching


def unit_harmonics(
    vectors: Float[Array, "pairs 3"], distances: Float[Array, "pairs"], highest: int
) -> Float[Array, "pairs components"]:
    """Harmonics of degrees 1 … `highest`, the sum of squares of each degree 1."""
    sizes = np.concatenate([np.full(2 * n + 1, (2 * n + 1) ** -0.5) for n in range(1, highest + 1)])
    values = pair_harmonics(vectors, distances, highest)[1:].T
    return values * jnp.asarray(sizes, values.dtype)[None, :]


def degree_slices(components: int) -> list[slice]:
    """Places of each degree's components, from 1 on."""
    highest = round((components + 1) ** 0.5) - 1
    return [slice(n * n - 1, (n + 1) ** 2 - 1) for n in range(1, highest + 1)]


def rejected_product(
    first: Float[Array, "pairs _"],
    second: Float[Array, "pairs _"],
    harmonics: Float[Array, "pairs components"],
    by_degree: bool,
) -> Features:
    """⟨Rej a, Rej b⟩ with Rej a = a − ⟨a, Y⟩ Y: what the dihedral angle about the pair decides.

    It is ⟨a, b⟩ + (⟨Y, Y⟩ − 2) ⟨a, Y⟩ ⟨b, Y⟩, and ⟨a, b⟩ where Y are two degrees together.

    Args:
        first, second: vectors a and b of each pair, components × channels.
        by_degree: whether it is the sum over degrees, or that of all degrees together.
    """
    pairs, components = harmonics.shape
    a, b = (one.reshape(pairs, components, -1) for one in (first, second))
    product = jnp.sum(a * b, axis=1)
    degrees = degree_slices(components)
    parts = degrees if by_degree else [slice(0, components)]
    factor = -1 if by_degree else len(degrees) - 2  # ⟨Y, Y⟩ − 2
    if factor == 0:
        return product
    for part in parts:
        along = harmonics[:, part, None]
        both = (jnp.sum(x[:, part] * along, axis=1) for x in (a, b))
        product = product + factor * next(both) * next(both)
    return product
