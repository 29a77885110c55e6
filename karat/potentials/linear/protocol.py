"""Linear potentials: each atom's energy is a sum of descriptors times coefficients.

To add one: a module (subclass of `AbstractLinearModule`) and a frozen dataclass of
hyper-parameters (subclass of `linear.model.AbstractLinearModel`) in this folder, and a line in
`native/catalogue.py`. Fits, posteriors, grades and files know nothing else about it.

Checked: tests/potentials/linear/test_design.py, test_snap.py, test_ace_module.py.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.batch import Batch
from karat.potentials.linear.posterior import Posterior
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


class AbstractLinearModule(AbstractNativePotential):
    """E_i = Σ_k features_ik · coefficients_k, and perhaps a fixed repulsion underneath.

    Features of different central elements stand side by side: an atom's features are zero where
    they belong to another element. A constant per element, where there is one, is a feature too.

    Attributes:
        coefficients: eV.
        repulsion: a potential (ZBL) that is added and not fitted, or `None`.
        posterior: what a fit knows about its errors; empty where unknown.
    """

    coefficients: eqx.AbstractVar[Float[Array, "features"]]
    repulsion: eqx.AbstractVar[AbstractNativePotential | None]
    posterior: eqx.AbstractVar[Posterior]

    @abc.abstractmethod
    def features(self, batch: Batch) -> Float[Array, "atoms features"]:
        """Descriptors of each atom, exactly zero on padding; without the repulsion."""

    @abc.abstractmethod
    def roughness(self) -> Float[np.ndarray, "features"]:
        """How fast each feature varies (e.g. its total degree), for priors that prefer smooth
        functions; 0 for constants, which no prior may shrink."""

    def slopes(self, batch: Batch) -> Float[Array, "pairs features 3"]:
        """∂(features of the pair's centre)/∂(vector of the pair), exactly zero on padding.

        This general form costs one backward pass a feature; override it where there is a better
        one.
        """

        def summed(vectors: Float[Array, "pairs 3"]) -> Float[Array, "features"]:
            moved = eqx.tree_at(lambda b: b.vectors, batch, vectors)
            return jnp.sum(self.features(moved), axis=0)

        jacobian = jnp.moveaxis(jax.jacrev(summed)(batch.vectors), 0, 1)
        return jnp.where(batch.pair_mask[:, None, None], jacobian, 0)

    def features_and_slopes(
        self, batch: Batch
    ) -> tuple[Float[Array, "atoms features"], Float[Array, "pairs features 3"]]:
        """Both; override where they share work."""
        return self.features(batch), self.slopes(batch)

    def evaluate(self, batch: Batch) -> Outputs:
        """Override `linear_energies` where there is a faster way than over all features."""
        energies = self.linear_energies(batch)
        if self.repulsion is not None:
            energies = energies + self.repulsion.evaluate(batch).atom_energies
        return Outputs(atom_energies=energies)

    def linear_energies(self, batch: Batch) -> Float[Array, "atoms"]:
        """The part of the atom energies that is linear in the coefficients, eV."""
        return jnp.matmul(self.features(batch), self.coefficients, precision="highest")
