"""Equivariant convolutions: Σ_j R(r_ij) · [Y(r̂_ij) ⊗ h_j], channel by channel.

A path (i, l₂, o) couples the features at place i with harmonics of degree l₂ to the results at
place o; each has its own radial function for each channel. Results are ordered by place, then
component m₃, then path, so that a linear layer over all paths to one place is one matrix product.

Two forms of the same sum: pairs in a list (training), and pairs in rows of one atom each
(`Batch.width`, dynamics), where the sum over neighbours and the harmonics is one batched matrix
product and Clebsch–Gordan coefficients act on atoms.

Source: Thomas et al., arXiv:1802.08219 (2018); Batatia et al., NeurIPS 35, 11423 (2022), eq. 8.
Checked: tests/potentials/blocks/test_convolution.py, with both parities in
tests/potentials/native/test_nequip.py.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.batch import Batch
from karat.potentials.blocks.products import Terms, combine, merged, outer, scaled, terms_of
from karat.potentials.linear.coupling import real_coupling

Path = tuple[int, int, int]


def convolution_paths(inputs: tuple[int, ...], highest: int) -> tuple[Path, ...]:
    """Paths from features of degrees `inputs` with harmonics up to `highest` to features up to
    `highest`, parity kept; ordered by l₁, then l₂, then l₃."""
    degrees = range(highest + 1)
    return tuple(
        (first, second, third)
        for first in inputs
        for second in degrees
        for third in degrees
        if abs(first - second) <= third <= first + second and (first + second + third) % 2 == 0
    )


@dataclass(frozen=True)
class PathConvolution:
    """Attributes:
    inputs, outputs: degrees of the features and of the results, place by place.
    paths: (place among the inputs, degree of the harmonics, place among the outputs), in the order
        of radial functions, ascending by the first.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    paths: tuple[Path, ...]

    def paths_to(self, place: int) -> int:
        """Number of paths to the results at this place."""
        return sum(out == place for *_, out in self.paths)

    def __call__(
        self,
        batch: Batch,
        harmonics: Float[Array, "harmonics pairs"],
        radial: Float[Array, "pairs functions"],
        features: Sequence[Float[Array, "atoms _ channels"]],
    ) -> tuple[Float[Array, "atoms orders _"], ...]:
        """For each place, components along the second axis, paths × channels along the third.

        Args:
            radial: zero beyond the cut-off; columns: paths × channels.
            features: place by place.
        """
        plan = _plan(self)
        channels = features[0].shape[2]
        products = self._products(batch, radial, features)
        if batch.width is None:
            summed = _listed(plan, batch, harmonics, products)
        else:
            summed = _in_rows(plan, batch, harmonics, products)
        parts, at = [], 0
        for place, degree in enumerate(self.outputs):
            count = self.paths_to(place)
            size = (2 * degree + 1) * count
            block = summed[:, at : at + size]
            parts.append(block.reshape(-1, 2 * degree + 1, count * channels))
            at += size
        return tuple(parts)

    def _products(
        self,
        batch: Batch,
        radial: Float[Array, "pairs functions"],
        features: Sequence[Float[Array, "atoms _ channels"]],
    ) -> Float[Array, "pairs products channels"]:
        """R · h of each pair, path by path."""
        channels = features[0].shape[2]
        functions = radial.reshape(radial.shape[0], -1, channels)
        parts, at = [], 0
        for place, values in enumerate(features):
            count = sum(first == place for first, *_ in self.paths)
            rows = values.reshape(values.shape[0], -1)[batch.neighbours]  # whole rows: fast
            near = rows.reshape(-1, *values.shape[1:])
            parts.append(outer(functions[:, at : at + count], near))
            at += count
        return jnp.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Convolution:
    """All paths that keep parity between features of parity (-1)ˡ, one of each degree.

    Attributes:
        inputs: degrees of the features, ascending.
        highest: degree of harmonics and results, which are of all degrees up to it.
    """

    inputs: tuple[int, ...]
    highest: int

    @property
    def paths(self) -> tuple[Path, ...]:
        """(l₁, l₂, l₃) in the order of radial functions."""
        return convolution_paths(self.inputs, self.highest)

    def paths_to(self, degree: int) -> int:
        """Number of paths with this l₃."""
        return sum(third == degree for *_, third in self.paths)

    def __call__(
        self,
        batch: Batch,
        harmonics: Float[Array, "harmonics pairs"],
        radial: Float[Array, "pairs functions"],
        features: Sequence[Float[Array, "atoms _ channels"]],
    ) -> tuple[Float[Array, "atoms orders _"], ...]:
        """As `PathConvolution`; results by l₃."""
        places = tuple((self.inputs.index(i), j, o) for i, j, o in self.paths)
        general = PathConvolution(self.inputs, tuple(range(self.highest + 1)), places)
        return general(batch, harmonics, radial, features)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Attributes:
    coupling: (result, harmonic, product).
    results: their number.
    products: number of products R · h: for each path its features' components.
    """

    coupling: Terms
    results: int
    products: int


@functools.cache
def _plan(convolution: PathConvolution) -> _Plan:
    base, at = {}, 0
    for place, degree in enumerate(convolution.outputs):
        base[place] = at
        at += (2 * degree + 1) * convolution.paths_to(place)
    coupling: list[tuple[int, int, int, float]] = []
    seen, product = dict.fromkeys(base, 0), 0
    for place, second, out in convolution.paths:
        first, third = convolution.inputs[place], convolution.outputs[out]
        count = convolution.paths_to(out)
        coupling += [
            (base[out] + o * count + seen[out], second * second + j, product + i, c)
            for o, i, j, c in terms_of(real_coupling(first, second, third))
        ]
        seen[out] += 1
        product += 2 * first + 1
    return _Plan(merged(coupling), at, product)


def _listed(
    plan: _Plan, batch: Batch, harmonics: Array, products: Float[Array, "pairs products channels"]
) -> Float[Array, "atoms results channels"]:
    messages = scaled(harmonics, products, plan.coupling, plan.results)
    # unsorted on purpose: XLA adds whole rows fast, and sorted segments slowly
    summed = jax.ops.segment_sum(
        messages.reshape(messages.shape[0], -1), batch.centers, num_segments=batch.atoms
    )
    return summed.reshape(batch.atoms, plan.results, products.shape[2])


def _in_rows(
    plan: _Plan, batch: Batch, harmonics: Array, products: Float[Array, "pairs products channels"]
) -> Float[Array, "atoms results channels"]:
    channels, count = products.shape[2], harmonics.shape[0]
    products = products.reshape(batch.atoms, batch.width, -1)
    around = jnp.swapaxes(harmonics.reshape(count, batch.atoms, batch.width), 0, 1)
    moments = jnp.matmul(around, products, precision="highest")
    moments = moments.reshape(batch.atoms, count * plan.products, channels)
    terms = tuple((o, j * plan.products + i, c) for o, j, i, c in plan.coupling)
    return combine(moments, terms, plan.results)


def moments(
    batch: Batch, harmonics: Float[Array, "harmonics pairs"], functions: Float[Array, "pairs _"]
) -> Float[Array, "atoms harmonics _"]:
    """Σ over neighbours of harmonics × functions."""
    count = harmonics.shape[0]
    if batch.width is None:
        products = harmonics.T[:, :, None] * functions[:, None, :]
        summed = jax.ops.segment_sum(
            products.reshape(functions.shape[0], -1), batch.centers, num_segments=batch.atoms
        )
        return summed.reshape(batch.atoms, count, -1)
    around = jnp.swapaxes(harmonics.reshape(count, batch.atoms, batch.width), 0, 1)
    near = functions.reshape(batch.atoms, batch.width, -1)
    return jnp.matmul(around, near, precision="highest")
