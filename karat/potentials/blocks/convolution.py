"""Equivariant convolutions: Σ_j R(r_ij) · [Y(r̂_ij) ⊗ h_j], channel by channel.

A path (l₁, l₂, l₃) couples features of degree l₁ with harmonics of degree l₂ to l₃; each has its
own radial function for each channel. Results are ordered by l₃, then component m₃, then path, so
that a linear layer over all paths to l₃ is one matrix product.

Two forms of the same sum: pairs in a list (training), and pairs in rows of one atom each
(`Batch.width`, dynamics), where the sum over neighbours and the harmonics is one batched matrix
product and Clebsch–Gordan coefficients act on atoms.

Source: Thomas et al., arXiv:1802.08219 (2018); Batatia et al., NeurIPS 35, 11423 (2022), eq. 8.
Checked: tests/potentials/blocks/test_convolution.py.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.batch import Batch
from karat.potentials.blocks.products import Terms, elementwise, merged, scaled, terms_of
from karat.potentials.linear.coupling import real_coupling

Path = tuple[int, int, int]


def convolution_paths(inputs: tuple[int, ...], highest: int) -> tuple[Path, ...]:
    """Paths from features of degrees `inputs` with harmonics up to `highest` to features up to
    `highest`, parity kept; ordered by l₃, then l₁, then l₂."""
    degrees = range(highest + 1)
    return tuple(
        (first, second, third)
        for third in degrees
        for first in inputs
        for second in degrees
        if abs(first - second) <= third <= first + second and (first + second + third) % 2 == 0
    )


@dataclass(frozen=True)
class Convolution:
    """Attributes:
    inputs: degrees of the features, ascending.
    highest: degree of harmonics and results.
    """

    inputs: tuple[int, ...]
    highest: int

    @property
    def paths(self) -> tuple[Path, ...]:
        """In the order of radial functions."""
        return convolution_paths(self.inputs, self.highest)

    def paths_to(self, degree: int) -> int:
        """Number of paths with this l₃."""
        return sum(third == degree for *_, third in self.paths)

    def __call__(
        self,
        batch: Batch,
        harmonics: Float[Array, "harmonics pairs"],
        radial: Float[Array, "pairs functions"],
        features: Float[Array, "atoms components channels"],
    ) -> tuple[Float[Array, "atoms orders _"], ...]:
        """For each l₃, components along the second axis, paths × channels along the third.

        Args:
            radial: zero beyond the cut-off; columns: paths × channels.
            features: components of the degrees in `inputs`, one after the other.
        """
        plan = _plan(self)
        channels = features.shape[2]
        if batch.width is None:
            summed = _listed(plan, batch, harmonics, radial, features)
        else:
            summed = _in_rows(plan, batch, harmonics, radial, features)
        parts, at = [], 0
        for degree in range(self.highest + 1):
            count = self.paths_to(degree)
            size = (2 * degree + 1) * count
            block = summed[:, at : at + size]
            parts.append(block.reshape(-1, 2 * degree + 1, count * channels))
            at += size
        return tuple(parts)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Attributes:
    factors: (product, path, component of features) of each product R · h.
    coupling: (result, harmonic, product).
    results: their number.
    """

    factors: Terms
    coupling: Terms
    results: int

    @property
    def products(self) -> int:
        return len(self.factors)


@functools.cache
def _plan(convolution: Convolution) -> _Plan:
    start, at = {}, 0
    for degree in convolution.inputs:
        start[degree] = at
        at += 2 * degree + 1
    factors: list[tuple[int, int, int, float]] = []
    coupling: list[tuple[int, int, int, float]] = []
    base = dict.fromkeys(range(convolution.highest + 1), 0)
    for degree in range(1, convolution.highest + 1):
        base[degree] = base[degree - 1] + (2 * degree - 1) * convolution.paths_to(degree - 1)
    seen = dict.fromkeys(base, 0)
    for path, (first, second, third) in enumerate(convolution.paths):
        product = len(factors)
        factors += [(product + m, path, start[first] + m, 1.0) for m in range(2 * first + 1)]
        count = convolution.paths_to(third)
        coupling += [
            (base[third] + o * count + seen[third], second * second + j, product + i, c)
            for o, i, j, c in terms_of(real_coupling(first, second, third))
        ]
        seen[third] += 1
    results = sum((2 * third + 1) for *_, third in convolution.paths)
    return _Plan(tuple(factors), merged(coupling), results)


def _products(plan: _Plan, batch: Batch, radial: Array, features: Array) -> Array:
    """R · h of each pair: (pairs, products, channels)."""
    atoms, components, channels = features.shape
    rows = features.reshape(atoms, components * channels)[batch.neighbours]
    near = rows.reshape(-1, components, channels)
    functions = radial.reshape(radial.shape[0], -1, channels)
    return elementwise(functions, near, plan.factors, plan.products, 1)


def _listed(
    plan: _Plan, batch: Batch, harmonics: Array, radial: Array, features: Array
) -> Float[Array, "atoms results channels"]:
    products = _products(plan, batch, radial, features)
    messages = scaled(harmonics, products, plan.coupling, plan.results)
    # unsorted on purpose: XLA adds whole rows fast, and sorted segments slowly
    summed = jax.ops.segment_sum(
        messages.reshape(messages.shape[0], -1), batch.centers, num_segments=batch.atoms
    )
    return summed.reshape(batch.atoms, plan.results, features.shape[2])


def _in_rows(
    plan: _Plan, batch: Batch, harmonics: Array, radial: Array, features: Array
) -> Float[Array, "atoms results channels"]:
    channels, count = features.shape[2], harmonics.shape[0]
    products = _products(plan, batch, radial, features)
    products = products.reshape(batch.atoms, batch.width, plan.products * channels)
    around = jnp.swapaxes(harmonics.reshape(count, batch.atoms, batch.width), 0, 1)
    moments = jnp.matmul(around, products, precision="highest")
    moments = moments.reshape(batch.atoms, count * plan.products, channels)
    matrix = np.zeros((plan.results, count * plan.products))
    for result, harmonic, product, coefficient in plan.coupling:
        matrix[result, harmonic * plan.products + product] = coefficient
    return jnp.matmul(jnp.asarray(matrix, features.dtype), moments, precision="highest")
