"""`SnapModule`: the spectral neighbour analysis potential and its quadratic form.

Checked: tests/potentials/linear/test_snap.py, and test_snap_lammps.py against `pair_style snap`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.analytic.zbl import ZblModule
from karat.potentials.batch import Batch
from karat.potentials.linear.posterior import Posterior
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.linear.snap_basis import triples
from karat.potentials.linear.snap_energies import Kinds, descriptors, energies_and_slopes
from karat.potentials.linear.snap_settings import SnapSettings
from karat.potentials.linear.snap_slopes import descriptors_and_slopes


def feature_count(settings: SnapSettings) -> int:
    """Coefficients of an element: a constant, components, and with `quadraticflag` products."""
    size = len(triples(settings.twojmax))
    return 1 + size + (size * (size + 1) // 2 if settings.quadraticflag else 0)


class SnapModule(AbstractLinearModule):
    """Each element's features: a constant, the bispectrum in LAMMPS' order, and with
    `quadraticflag` ½B_i² and B_i B_j, i < j, as LAMMPS orders them.

    Source: Thompson et al., J. Comput. Phys. 285, 316 (2015); Wood & Thompson, J. Chem. Phys. 148,
    241721 (2018).
    """

    coefficients: Float[Array, "features"]
    repulsion: ZblModule | None
    posterior: Posterior
    settings: SnapSettings = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True, default=False)

    @property
    def _kinds(self) -> Kinds:
        return Kinds(self.species, self.settings)

    def features(self, batch: Batch) -> Float[Array, "atoms features"]:
        return self._features(descriptors(batch, self._kinds), batch)

    def _features(
        self, found: Float[Array, "atoms components"], batch: Batch
    ) -> Float[Array, "atoms features"]:
        if self.settings.quadraticflag:
            found = jnp.concatenate([found, _products(found)], axis=1)
        own = jnp.concatenate([jnp.ones_like(found[:, :1]), found], axis=1)
        return self._placed(own, batch.numbers)

    def slopes(self, batch: Batch) -> Float[Array, "pairs features 3"]:
        return self.features_and_slopes(batch)[1]

    def features_and_slopes(
        self, batch: Batch
    ) -> tuple[Float[Array, "atoms features"], Float[Array, "pairs features 3"]]:
        values, found = descriptors_and_slopes(batch, self._kinds)
        if self.settings.quadraticflag:
            more = _product_slopes(batch.spread(values), found)
            found = jnp.concatenate([found, more], axis=1)
        own = jnp.concatenate([jnp.zeros_like(found[:, :1]), found], axis=1)
        own = jnp.where(batch.pair_mask[:, None, None], own, 0)
        slopes = self._placed(own, batch.spread(batch.numbers))
        return self._features(values, batch), slopes

    def _placed(self, own: Array, numbers: Array) -> Array:
        """Elements side by side; zero on padding."""
        shape = (-1, *(1,) * (own.ndim - 1))
        blocks = [jnp.where((numbers == z).reshape(shape), own, 0) for z in self.species]
        return jnp.concatenate(blocks, axis=1)

    def linear_energies(self, batch: Batch) -> Float[Array, "atoms"]:
        still = eqx.tree_at(lambda b: b.vectors, batch, jax.lax.stop_gradient(batch.vectors))
        return _energies(batch.vectors, self.coefficients, still, self)

    def roughness(self) -> Float[np.ndarray, "features"]:
        """Degree of the polynomials on the sphere, j1 + j2 + j, over three times the largest."""
        degree = np.array([sum(t) for t in triples(self.settings.twojmax)], float)
        degree = np.maximum(degree, 1) / 3
        if self.settings.quadraticflag:
            first, second = _upper(len(degree))
            degree = np.concatenate([degree, degree[first] + degree[second]])
        return np.tile(np.concatenate([[0.0], degree]), len(self.species))


@eqx.filter_custom_jvp
def _energies(
    vectors: Float[Array, "pairs 3"],
    coefficients: Float[Array, "features"],
    batch: Batch,
    module: SnapModule,
) -> Float[Array, "atoms"]:
    moved = eqx.tree_at(lambda b: b.vectors, batch, vectors)
    energies, _ = energies_and_slopes(moved, coefficients, module._kinds, slopes=False)
    return energies


@_energies.def_jvp
def _energy_tangents(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    vectors, coefficients, batch, module = primals
    moved = eqx.tree_at(lambda b: b.vectors, batch, vectors)
    energies, slopes = energies_and_slopes(moved, coefficients, module._kinds, slopes=True)
    result = jnp.zeros_like(energies)
    if tangents[0] is not None:
        change = sum(slope * tangents[0][:, axis] for axis, slope in enumerate(slopes))
        result = result + batch.sum_pairs(change)
    if tangents[1] is not None:
        result = result + jnp.matmul(module.features(moved), tangents[1], precision="highest")
    return energies, result


def _upper(size: int) -> tuple[np.ndarray, np.ndarray]:
    """i and j ≥ i of the products, in LAMMPS' order."""
    first, second = np.triu_indices(size)
    return first, second


def _products(found: Float[Array, "atoms components"]) -> Float[Array, "atoms products"]:
    first, second = _upper(found.shape[1])
    factor = jnp.asarray(np.where(first == second, 0.5, 1.0), found.dtype)
    return found[:, first] * found[:, second] * factor[None]


def _product_slopes(
    values: Float[Array, "pairs components"], slopes: Float[Array, "pairs components 3"]
) -> Float[Array, "pairs products 3"]:
    first, second = _upper(values.shape[1])
    one = values[:, first][:, :, None] * slopes[:, second]
    other = values[:, second][:, :, None] * slopes[:, first]
    factor = jnp.asarray(np.where(first == second, 0.5, 1.0), values.dtype)
    return (one + other) * factor[None, :, None]
