"""`GapModule`: the Gaussian approximation potential, a linear potential whose features are kernels
with sparse points.

Source: Bartók et al., Phys. Rev. Lett. 104, 136403 (2010); Bartók, Kondor & Csányi, Phys. Rev. B
87, 184115 (2013); Deringer et al., Chem. Rev. 121, 10073 (2021).
Checked: tests/potentials/linear/test_gap.py, against kernels in plain NumPy.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import pair_species, species_index
from karat.potentials.analytic.zbl import ZblModule
from karat.potentials.batch import Batch
from karat.potentials.linear.posterior import Posterior
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.linear.soap import (
    Density,
    density,
    places,
    power_spectrum,
)
from karat.potentials.linear.soap_settings import CONTINUITY, SoapSettings


@dataclass(frozen=True)
class GapKernel:
    """δ² (p̂ · p̂')^ζ between atoms of one element, and f(r) δ₂² exp(-(r - r')² / 2θ²) f(r')
    between pairs of the same elements, each pair counted once.

    Attributes:
        zeta: ζ.
        delta: δ, eV.
        pair_delta: δ₂, eV.
        pair_theta: θ, Å.
        jitter: added to the kernel matrix of the sparse points, relative to its diagonal.
    """

    zeta: int
    delta: float
    pair_delta: float
    pair_theta: float
    jitter: float = 1e-10

    def of_products(self, products: Array) -> Array:
        """δ² t^ζ."""
        return self.delta**2 * products**self.zeta


class GapModule(AbstractLinearModule):
    """Kernels of each atom with the sparse points of its element, and of its pairs with sparse
    distances, half of each pair's.

    Attributes:
        sparse: of each element, normalised power spectra (`spectra`).
        distances: of each pair of elements (first ≤ second), Å; no columns without such a term.
        settings: of the density.
        kernel: its hyper-parameters.
    """

    coefficients: Float[Array, "features"]
    sparse: tuple[Float[Array, "_ components"], ...]
    distances: Float[Array, "kinds points"]
    repulsion: ZblModule | None
    posterior: Posterior
    settings: SoapSettings = eqx.field(static=True)
    kernel: GapKernel = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True, default=False)

    @classmethod
    def zero(
        cls,
        settings: SoapSettings,
        kernel: GapKernel,
        species: tuple[int, ...],
        sparse: tuple[Array, ...],
        distances: Array,
        repulsion: ZblModule | None,
        dtype: str,
    ) -> "GapModule":
        """With all coefficients zero."""
        cutoff = settings.reach if repulsion is None else max(settings.reach, repulsion.cutoff)
        return cls(
            coefficients=jnp.zeros(sum(map(len, sparse)) + distances.size, dtype),
            sparse=sparse,
            distances=distances,
            repulsion=repulsion,
            posterior=Posterior.none(dtype),
            settings=settings,
            kernel=kernel,
            species=species,
            cutoff=cutoff,
            continuity=CONTINUITY[settings.switch],
        )

    def features(self, batch: Batch) -> Float[Array, "atoms features"]:
        found, _ = normalised(spectra(batch, self.species, self.settings))
        blocks = [
            jnp.where(own, self._kernels(found, z), 0) for z, own in enumerate(self._own(batch))
        ]
        if self.distances.size:
            pairs = self.pair_features(batch.vectors, batch)
            blocks.append(batch.sum_pairs(pairs))
        return jnp.concatenate(blocks, axis=1)

    def slopes(self, batch: Batch) -> Float[Array, "pairs features 3"]:
        return self.features_and_slopes(batch)[1]

    def features_and_slopes(
        self, batch: Batch
    ) -> tuple[Float[Array, "atoms features"], Float[Array, "pairs features 3"]]:
        from karat.potentials.linear.gap_slopes import kernel_slopes

        return self.features(batch), kernel_slopes(self, batch)

    def linear_energies(self, batch: Batch) -> Float[Array, "atoms"]:
        found, _ = normalised(spectra(batch, self.species, self.settings))
        energies = jnp.zeros(batch.atoms, found.dtype)
        start = 0
        for element, own in enumerate(self._own(batch)):
            weights = self.coefficients[start : start + len(self.sparse[element])]
            start += len(weights)
            part = jnp.matmul(self._kernels(found, element), weights, precision="highest")
            energies = jnp.where(own[:, 0], part, energies)
        if self.distances.size:
            pairs = self._pair_energies(batch)
            energies = energies + batch.sum_pairs(jnp.where(batch.pair_mask, pairs, 0))
        return jnp.where(batch.atom_mask, energies, 0)

    def _pair_energies(self, batch: Batch) -> Float[Array, "pairs"]:
        """Half of what each pair has by the two-body term, eV."""
        kinds = self._kinds(batch)
        weights = self.coefficients[-self.distances.size :].reshape(self.distances.shape)
        values = pair_kernels(batch.vectors, kinds, self) * weights[kinds]
        ones = jnp.ones(values.shape[1], values.dtype)  # faster than a sum over few
        return jnp.matmul(values, ones, precision="highest")

    def roughness(self) -> Float[np.ndarray, "features"]:
        return np.ones(self.coefficients.shape[0])

    def prior(self) -> Float[np.ndarray, "features features"]:
        """K_MM: kernels of the sparse points with each other, eV²; without jitter."""
        blocks = []
        for points in self.sparse:
            own = np.asarray(points, float)
            blocks.append(self.kernel.delta**2 * (own @ own.T) ** self.kernel.zeta)
        for row in np.asarray(self.distances, float):
            away = (row[:, None] - row[None, :]) / self.kernel.pair_theta
            blocks.append(self.kernel.pair_delta**2 * np.exp(-0.5 * away**2))
        size = self.coefficients.shape[0]
        matrix, start = np.zeros((size, size)), 0
        for block in blocks:
            stop = start + len(block)
            matrix[start:stop, start:stop] = block
            start = stop
        return matrix

    def pair_features(
        self, vectors: Float[Array, "pairs 3"], batch: Batch
    ) -> Float[Array, "pairs columns"]:
        """Half the kernels of each pair with the sparse distances; zero in columns of other pairs
        of elements."""
        kinds = self._kinds(batch)
        kernels = pair_kernels(vectors, kinds, self)
        mine = jax.nn.one_hot(kinds, len(self.distances), dtype=kernels.dtype)
        mine = jnp.where(batch.pair_mask[:, None], mine, 0)
        return (mine[:, :, None] * kernels[:, None, :]).reshape(len(kernels), -1)

    def _kernels(self, found: Float[Array, "atoms components"], element: int) -> Array:
        products = jnp.matmul(found, self.sparse[element].T, precision="highest")
        return self.kernel.of_products(products)

    def _own(self, batch: Batch) -> list[Array]:
        """Whether atoms are of each element, in a column."""
        kinds = species_index(batch.numbers, self.species)
        return [
            (batch.atom_mask & (kinds == element))[:, None] for element in range(len(self.species))
        ]

    def _kinds(self, batch: Batch) -> Array:
        """Row of `distances` of each pair."""
        first, second = pair_species(batch, self.species)
        return jnp.asarray(pair_rows(len(self.species)), jnp.int32)[first, second]


def pair_rows(elements: int) -> np.ndarray:
    """Row of each pair of elements, in the order (0, 0), (0, 1), … (1, 1), …"""
    rows = np.zeros((elements, elements), np.int64)
    first, second = np.triu_indices(elements)
    rows[first, second] = rows[second, first] = np.arange(len(first))
    return rows


def pair_kernels(
    vectors: Float[Array, "pairs 3"], kinds: Array, module: GapModule
) -> Float[Array, "pairs points"]:
    """½ f(r) δ₂² exp(-(r - r')² / 2θ²)."""
    squares = jnp.sum(vectors * vectors, axis=1)
    inside = squares < module.settings.reach**2
    length = jnp.sqrt(jnp.where(inside, squares, 1.0))
    factor = (
        0.5 * module.kernel.pair_delta**2 * jnp.where(inside, module.settings.weight(length), 0)
    )
    away = (length[:, None] - module.distances[kinds]) / module.kernel.pair_theta
    return factor[:, None] * jnp.exp(-0.5 * away * away)


def overlap_weights(elements: int, settings: SoapSettings) -> Float[np.ndarray, "components"]:
    """√2 for components that stand for two, such that products of spectra are overlaps of the
    densities, averaged over rotations."""
    _, first, second = places(elements, settings)
    return np.where(first == second, 1.0, np.sqrt(2))


def spectra(
    batch: Batch, species: tuple[int, ...], settings: SoapSettings
) -> Float[Array, "atoms components"]:
    """Power spectra times `overlap_weights`; zero on padding."""
    return weighted_spectrum(density(batch, species, settings), len(species), settings)


def weighted_spectrum(
    found: Density, elements: int, settings: SoapSettings
) -> Float[Array, "atoms components"]:
    """The power spectrum times `overlap_weights`."""
    made = power_spectrum(found, elements, settings)
    return made * jnp.asarray(overlap_weights(elements, settings), made.dtype)[None, :]


def normalised(
    found: Float[Array, "atoms components"],
) -> tuple[Float[Array, "atoms components"], Float[Array, "atoms"]]:
    """To length 1, and the lengths; what is zero stays zero, with length 1."""
    ones = jnp.ones(found.shape[1], found.dtype)
    squares = jnp.matmul(found * found, ones, precision="highest")
    lengths = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    return found / lengths[:, None], lengths
