"""Low-rank adaptation: W + (α/r) A B, with A and B trained and W fixed.

Source: Hu et al., ICLR 2022, arXiv:2106.09685. In an equivariant potential the matrices mix
channels of one degree, or invariants, so that no update breaks a symmetry.

Checked: tests/training/test_lora.py.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from karat.potentials.batch import Batch
from karat.potentials.model import named_arrays, with_arrays
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


class LowRank(eqx.Module):
    """The factors for one array of a module, one pair for each matrix in it."""

    a: Float[Array, "*stack rows rank"]
    b: Float[Array, "*stack rank columns"]
    name: str = eqx.field(static=True)


class LoraModule(AbstractNativePotential):
    """A module with low-rank updates on top.

    Attributes:
        base: the module.
        updates: for some of its arrays.
        factor: α/r.
    """

    base: AbstractNativePotential
    updates: tuple[LowRank, ...]
    factor: float = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    @property
    def conservative(self) -> bool:
        """As the base."""
        return self.base.conservative

    def evaluate(self, batch: Batch) -> Outputs:
        return self.merged().evaluate(batch)

    def merged(self) -> AbstractNativePotential:
        """The base with the updates added to its arrays: a plain module, the same function."""
        arrays = named_arrays(self.base)
        for update in self.updates:
            product = jnp.matmul(update.a, update.b, precision="highest")
            arrays[update.name] = arrays[update.name] + self.factor * product
        module: AbstractNativePotential = with_arrays(self.base, arrays)
        return module


def fits(shape: Sequence[int], rank: int) -> bool:
    """Whether factors of this rank hold fewer numbers than a matrix of the last two axes."""
    rows, columns = shape[-2:]
    return rank * (rows + columns) < rows * columns


def adapted(
    base: AbstractNativePotential,
    names: Sequence[str],
    rank: int,
    alpha: float,
    key: PRNGKeyArray,
) -> LoraModule:
    """`base` with updates that are zero: B is zero, A normal with the array's own root mean square
    as standard deviation (1 for an array of zeros).

    Args:
        names: of arrays of two axes or more (`named_arrays`).
    """
    arrays: Mapping[str, Array] = named_arrays(base)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    updates = []
    for name in names:
        array = np.asarray(arrays[name])
        *stack, rows, columns = array.shape
        spread = float(np.sqrt(np.mean(array.astype(float) ** 2))) or 1.0
        drawn = generator.normal(scale=spread, size=(*stack, rows, rank)).astype(array.dtype)
        zero = np.zeros((*stack, rank, columns), array.dtype)
        updates.append(LowRank(jnp.asarray(drawn), jnp.asarray(zero), name))
    return LoraModule(
        base=base,
        updates=tuple(updates),
        factor=alpha / rank,
        cutoff=base.cutoff,
        species=base.species,
        continuity=base.continuity,
        needs_triplets=base.needs_triplets,
    )
