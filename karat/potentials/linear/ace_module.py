"""`AceModule`: the linear atomic cluster expansion as a potential.

Source: Drautz, Phys. Rev. B 99, 014104 (2019); Dusson et al., J. Comput. Phys. 454, 110946 (2022);
Witt et al., J. Chem. Phys. 159, 164101 (2023).
Checked: tests/potentials/linear/test_ace_module.py, against sums over neighbours in plain NumPy.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.analytic.zbl import ZblModule
from karat.potentials.batch import Batch
from karat.potentials.linear.ace_energy import ace_energies
from karat.potentials.linear.ace_features import one_center_features, one_center_slopes
from karat.potentials.linear.ace_pairs import AceShape
from karat.potentials.linear.posterior import Posterior
from karat.potentials.linear.protocol import AbstractLinearModule


class AceModule(AbstractLinearModule):
    """A constant, pair functions and invariant products for each central element.

    Attributes:
        shape: which functions.
    """

    coefficients: Float[Array, "features"]
    repulsion: ZblModule | None
    posterior: Posterior
    shape: AceShape = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True, default=2)
    needs_triplets: bool = eqx.field(static=True, default=False)

    @classmethod
    def zero(cls, shape: AceShape, repulsion: ZblModule | None, dtype: str) -> "AceModule":
        """With all coefficients zero."""
        count = len(shape.species) * len(_roughness(shape))
        cutoff = shape.cutoff if repulsion is None else max(shape.cutoff, repulsion.cutoff)
        return cls(
            coefficients=jnp.zeros(count, dtype),
            repulsion=repulsion,
            posterior=Posterior.none(dtype),
            shape=shape,
            species=shape.species,
            cutoff=cutoff,
        )

    def features(self, batch: Batch) -> Float[Array, "atoms features"]:
        own = one_center_features(self.shape, batch)
        kinds = species_index(batch.numbers, self.species)
        real = batch.atom_mask
        blocks = [
            jnp.where((real & (kinds == element))[:, None], own, 0)
            for element in range(len(self.species))
        ]
        return jnp.concatenate(blocks, axis=1)

    def slopes(self, batch: Batch) -> Float[Array, "pairs features 3"]:
        own = one_center_slopes(self.shape, batch)
        kinds = batch.spread(species_index(batch.numbers, self.species))
        blocks = [
            jnp.where((batch.pair_mask & (kinds == element))[:, None, None], own, 0)
            for element in range(len(self.species))
        ]
        return jnp.concatenate(blocks, axis=1)

    def linear_energies(self, batch: Batch) -> Float[Array, "atoms"]:
        energies = ace_energies(batch.vectors, self.coefficients, batch, self.shape)
        return jnp.where(batch.atom_mask, energies, 0)

    def roughness(self) -> Float[np.ndarray, "features"]:
        return np.tile(_roughness(self.shape), len(self.species))


def _roughness(shape: AceShape) -> Float[np.ndarray, "features"]:
    """Of the features of one central element: total degrees; 0 for the constant."""
    pairs = np.tile(np.arange(1.0, shape.pair_count + 1), len(shape.species))
    return np.concatenate([[0.0], pairs, shape.basis.roughness])
