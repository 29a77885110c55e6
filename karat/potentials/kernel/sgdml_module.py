"""Energies of a fitted gradient-domain kernel model, in JAX.

Checked: tests/potentials/kernel/test_sgdml.py, against the covariances of `matrix.py`, and
by the conformance suite.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.potentials.batch import Batch
from karat.potentials.native_protocol import AbstractMoleculePotential, Outputs

REACH = 900.0
"""Å; all pairs of a molecule interact. Below `PADDING_DISTANCE`, above any molecule."""

ELEMENTS_AT_ONCE = 500_000
"""Kernel values computed together: 4 MB each, so that they stay near the processor."""


class SgdmlModule(AbstractMoleculePotential):
    """E = −s Σ_i Σ_π g(d) v·J_i α_i, v = x − π x_i, d = |v|: the mean of the Gaussian process
    whose forces have the covariances of `matrix.py`.

    Its parameters come from a linear solve: derivatives with respect to them are not defined
    (they are zero here), those with respect to positions are, to any order.

    Attributes:
        numbers: atomic numbers of the molecule, in its order.
        permutations: its symmetry group, rows as in `permutations.py`.
        positions: training structures, Å, which the variance is made from; none in models of the
            `sgdml` package.
        descriptors: of the training structures, 1/Å.
        coefficients: s J_i α_i, eV.
        sigma: width of the kernel, 1/Å.
        regularization: λ of the solve (what the variance is made with).
        deviation: what posterior standard deviations are multiplied by; NaN where not calibrated.
    """

    numbers: Int[Array, "atoms"]
    permutations: Int[Array, "permutations atoms"]
    positions: Float[Array, "kept atoms 3"]
    descriptors: Float[Array, "frames pairs"]
    coefficients: Float[Array, "frames pairs"]
    sigma: Float[Array, ""]
    regularization: Float[Array, ""]
    deviation: Float[Array, ""]
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True, default=REACH)
    continuity: int = eqx.field(static=True, default=99)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def evaluate(self, batch: Batch) -> Outputs:
        atoms = self.numbers.shape[0]
        energies = _energy(
            self._inverse_distances(batch),
            self.descriptors,
            self.coefficients,
            self.sigma,
            _pairs(self.permutations),
        )
        return Outputs(
            atom_energies=jnp.where(batch.atom_mask, energies[batch.system] / atoms, 0.0)
        )

    def _inverse_distances(self, batch: Batch) -> Float[Array, "systems pairs"]:
        """1/r of each pair; of no meaning where a system is padding."""
        atoms, pairs = self.numbers.shape[0], self.descriptors.shape[1]
        start = batch.system[batch.centers] * atoms
        first, second = batch.centers - start, batch.neighbours - start
        counted = batch.pair_mask & (first > second)
        place = jnp.where(counted, first * (first - 1) // 2 + second, pairs)
        # twice `where`: the branch that is not taken must not divide by zero either
        square = jnp.where(counted, jnp.sum(batch.vectors**2, axis=1), 1.0)
        inverse = jnp.where(counted, jax.lax.rsqrt(square), 0.0)
        empty = jnp.zeros((batch.systems, pairs), inverse.dtype)
        return empty.at[batch.system[batch.centers], place].add(inverse, mode="drop")


def _pairs(permutations: Int[Array, "permutations atoms"]) -> Int[Array, "permutations pairs"]:
    """`pair_permutations` on the device."""
    first, second = np.tril_indices(permutations.shape[1], -1)
    left, right = permutations[:, first], permutations[:, second]
    high, low = jnp.maximum(left, right), jnp.minimum(left, right)
    return high * (high - 1) // 2 + low


@jax.custom_vjp
def _energy(
    x: Float[Array, "systems pairs"],
    descriptors: Float[Array, "frames pairs"],
    coefficients: Float[Array, "frames pairs"],
    sigma: Float[Array, ""],
    pairs: Int[Array, "permutations pairs"],
) -> Float[Array, "systems"]:
    """Energies; their slope is computed with them, as both share nearly all work."""
    return _energy_and_slope(x, descriptors, coefficients, sigma, pairs)[0]


def _forward(x: Array, *parameters: Array) -> tuple[Array, Array]:
    return _energy_and_slope(x, *parameters)


def _backward(slope: Array, cotangent: Array) -> tuple[Array | None, ...]:
    return cotangent[:, None] * slope, None, None, None, None


_energy.defvjp(_forward, _backward)


def _energy_and_slope(
    x: Array, descriptors: Array, coefficients: Array, sigma: Array, pairs: Array
) -> tuple[Float[Array, "systems"], Float[Array, "systems pairs"]]:
    """E and ∂E/∂x, a few systems at a time."""
    some = partial(_some, descriptors, coefficients, sigma, pairs)
    systems, size = x.shape
    together = max(1, ELEMENTS_AT_ONCE // (pairs.shape[0] * descriptors.shape[0]))
    if together >= systems:
        return some(x)
    chunks = -(-systems // together)
    padded = jnp.pad(x, ((0, chunks * together - systems), (0, 0)))
    energies, slopes = jax.lax.map(some, padded.reshape(chunks, together, size))
    return energies.reshape(-1)[:systems], slopes.reshape(-1, size)[:systems]


def _some(
    descriptors: Array, coefficients: Array, sigma: Array, pairs: Array, x: Array
) -> tuple[Array, Array]:
    """E and ∂E/∂x from four matrix products.

    The molecule is permuted rather than the training structures: the group holds the inverse of
    each of its elements.
    """
    systems, permutations = x.shape[0], pairs.shape[0]
    moved = x[:, pairs].reshape(systems * permutations, -1)
    near = jnp.sum(moved**2, axis=1)[:, None] + jnp.sum(descriptors**2, axis=1)[None]
    square = near - 2.0 * (moved @ descriptors.T)
    # rounding leaves 1e-15; the floor keeps the root's derivatives finite at training structures
    distance = jnp.sqrt(jnp.maximum(square, 1e-20))
    along = moved @ coefficients.T - jnp.sum(descriptors * coefficients, axis=1)[None]
    scaled = jnp.sqrt(5.0).astype(x.dtype) / sigma * distance
    decay = 5.0 / (3.0 * sigma**2) * jnp.exp(-scaled)
    g = (1.0 + scaled) * decay
    weight = 5.0 / sigma**2 * decay * along
    energies = -jnp.sum((g * along).reshape(systems, -1), axis=1)
    # ∂E/∂x = −Σ (g c − h v (v·c)), v = moved − descriptors
    slope = jnp.sum(weight, axis=1)[:, None] * moved - (weight @ descriptors) - g @ coefficients
    back = jnp.argsort(pairs, axis=1)
    slope = jnp.take_along_axis(slope.reshape(systems, permutations, -1), back[None], axis=2)
    return energies, jnp.sum(slope, axis=1)
