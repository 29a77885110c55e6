"""A Gaussian approximation potential with the predictive variances of its sparse Gaussian process.

Of an energy or a force component, with kernels k_* of it with the sparse points:

    k_** - k_*ᵀ K_MM⁻¹ k_* + k_*ᵀ (K_MM + K_MN Σ⁻¹ K_NM)⁻¹ k_*

the first two terms are what the sparse points do not tell, the last what the labels do not. Nothing
is calibrated: the variances are right as far as the kernel and the noises of the fit are.

Source: Quiñonero-Candela & Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), §5 (DTC); Deringer et
al., Chem. Rev. 121, 10073 (2021).
Checked: tests/potentials/linear/test_gap_fit.py, against a dense Gaussian process.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.batch import Batch
from karat.potentials.linear.design import Design, Rows
from karat.potentials.linear.gap_fit import kernel_root
from karat.potentials.linear.gap_module import GapModule, normalised, spectra
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent, Traits
from karat.structures.labels import Labels, Quantity, Uncertainty
from karat.structures.structure import Structure


@dataclass(frozen=True)
class GapVariance(AbstractPotentialComponent):
    """A fitted Gaussian approximation potential (a `.karat` file) with the deviations of its own
    Gaussian process; calibrated ones and grades give `linear` contestants.

    Attributes:
        path: of the file.
    """

    path: str

    def load(self) -> AbstractPotential:
        from karat.potentials.karat_file import load

        potential = load(self.path, "float64")
        try:
            return GapWithVariance(potential)
        except BadInput as error:
            raise BadInput(f"{self.path}: {error}") from error


class GapWithVariance(AbstractPotential):
    """Energies and forces with the standard deviations of the sparse Gaussian process, noise not
    included; those of forces cost 3 N derivatives of N atoms.

    Pairs are taken to be told by the sparse distances entirely, which lie closer than the length
    scale of their kernel.

    Raises:
        BadInput: no Gaussian approximation potential, or fitted without uncertainty.
    """

    def __init__(self, potential: NativePotential) -> None:
        module = potential.module
        if not isinstance(module, GapModule):
            raise BadInput("is no Gaussian approximation potential; load it as karat_file.")
        if 0 in module.posterior.root.shape:
            raise BadInput(
                "was fitted without uncertainty: no deviations. Fit it with uncertainty."
            )
        self.potential = potential
        self.module = module
        self._root = np.asarray(module.posterior.root, float)
        soap_features = sum(map(len, module.sparse))
        self._inverse = np.linalg.inv(kernel_root(module)[:soap_features, :soap_features])
        self._full, self._bare = Design(module), Design(module, derivatives=False)

    @property
    def traits(self) -> Traits:
        return dataclasses.replace(self.potential.traits, native=False)

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        labels = self.potential.predict(structures, want)
        design = self._full if "forces" in want else self._bare
        return [
            dataclasses.replace(one, uncertainty=self._uncertainty(structure, rows))
            for one, structure, rows in zip(labels, structures, design.rows(structures))
        ]

    def _uncertainty(self, structure: Structure, rows: Rows) -> Uncertainty:
        batch = self.potential.batch([structure])
        energy, forces = prior_variances(self.module, batch, rows.forces is not None)
        count = len(structure)
        energies = self._variances(rows.atoms.sum(axis=0)[None], np.asarray(energy)[None])
        spread = None
        if forces is not None and rows.forces is not None:
            own = np.asarray(forces)[:count].reshape(-1)
            spread = np.sqrt(self._variances(rows.forces, own)).reshape(-1, 3)
        return Uncertainty(energy=float(np.sqrt(energies[0])), forces=spread)

    def _variances(
        self, rows: Float[np.ndarray, "rows features"], prior: Float[np.ndarray, "rows"]
    ) -> Float[np.ndarray, "rows"]:
        told = np.sum((rows[:, : len(self._inverse)] @ self._inverse) ** 2, axis=1)
        found: np.ndarray = np.maximum(prior - told, 0) + np.sum((rows @ self._root) ** 2, axis=1)
        return found


@eqx.filter_jit
def prior_variances(
    module: GapModule, batch: Batch, forces: bool
) -> tuple[Float[Array, ""], Float[Array, "atoms 3"] | None]:
    """k_** of the SOAP kernels: of the energy (eV²) of the one structure of a batch, and of its
    force components (eV²/Å²)."""
    kernel = module.kernel

    def own(vectors: Float[Array, "pairs 3"]) -> Float[Array, "atoms components"]:
        moved = eqx.tree_at(lambda b: b.vectors, batch, vectors)
        return normalised(spectra(moved, module.species, module.settings))[0]

    found = own(batch.vectors)
    same = (batch.numbers[:, None] == batch.numbers[None]) & batch.atom_mask[:, None]
    products = jnp.where(same, jnp.matmul(found, found.T, precision="highest"), 0)
    energy = jnp.sum(kernel.of_products(products))
    if not forces:
        return energy, None
    first = jnp.where(same, kernel.zeta * kernel.delta**2 * products ** (kernel.zeta - 1), 0)
    second = jnp.zeros_like(first)
    if kernel.zeta > 1:
        factor = kernel.zeta * (kernel.zeta - 1) * kernel.delta**2
        second = jnp.where(same, factor * products ** (kernel.zeta - 2), 0)

    def along(place: Array) -> Array:
        """Variance of ∂E/∂(coordinate `place`)."""
        atom, axis = place // 3, place % 3
        ends = (batch.neighbours == atom, batch.centers == atom)
        sign = ends[0].astype(found.dtype) - ends[1].astype(found.dtype)
        sign = jnp.where(batch.pair_mask, sign, 0)
        moves = sign[:, None] * jax.nn.one_hot(axis, 3, dtype=found.dtype)[None, :]
        _, slopes = jax.jvp(own, (batch.vectors,), (moves,))
        between = jnp.matmul(slopes, slopes.T, precision="highest")
        across = jnp.matmul(slopes, found.T, precision="highest")
        return jnp.sum(first * between + second * across * across.T)

    variances = jax.lax.map(along, jnp.arange(3 * batch.atoms, dtype=jnp.int32))
    return energy, variances.reshape(-1, 3)
