"""Derivatives of kernels with sparse points by the vectors of an atom's pairs.

Of k = δ² t^ζ with t = p̂ · ŝ only a product of matrices is left for each atom: the slope of its
kernels by its expansion coefficients, with the slope of what each pair adds to these.

Checked: tests/potentials/linear/test_gap.py, against JAX's derivatives of the features.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.batch import Batch
from karat.potentials.linear.gap_module import (
    GapModule,
    normalised,
    overlap_weights,
    weighted_spectrum,
)
from karat.potentials.linear.soap import (
    Density,
    density,
    neighbour_kinds,
    pair_functions,
    places,
    prefactors,
)
from karat.potentials.linear.soap_settings import SoapSettings


def kernel_slopes(module: GapModule, batch: Batch) -> Float[Array, "pairs features 3"]:
    """∂(features of the pair's centre)/∂(vector of the pair), exactly zero on padding."""
    found = density(batch, module.species, module.settings)
    by_coefficients = _by_coefficients(module, batch, found)
    by_pairs = _pair_slopes(module, batch)
    if batch.width is None:
        spread = by_coefficients[batch.centers]
        made = jnp.einsum("pxk,psk->psx", by_pairs, spread, precision="highest")
    else:
        rows = by_pairs.reshape(batch.atoms, batch.width * 3, -1)
        made = jax.lax.dot_general(
            rows, by_coefficients, (((2,), (2,)), ((0,), (0,))), precision="highest"
        )
        made = jnp.swapaxes(made.reshape(-1, 3, by_coefficients.shape[1]), 1, 2)
    parts = [made]
    if module.distances.size:
        columns = [
            jax.jvp(lambda v: module.pair_features(v, batch), (batch.vectors,), (along,))[1]
            for along in _axes(batch)
        ]
        parts.append(jnp.stack(columns, axis=2))
    slopes = jnp.concatenate(parts, axis=1)
    return jnp.where(batch.pair_mask[:, None, None], slopes, 0)


def _axes(batch: Batch) -> list[Array]:
    """All vectors along x, y, z."""
    unit = jnp.eye(3, dtype=batch.vectors.dtype)
    return [jnp.broadcast_to(unit[axis], batch.vectors.shape) for axis in range(3)]


def _pair_slopes(module: GapModule, batch: Batch) -> Float[Array, "pairs 3 coefficients"]:
    """What each pair adds to the coefficients of its centre, by its vector: l by l, m, then
    channels."""
    kinds = neighbour_kinds(batch, module.species)
    count = module.settings.n_max

    def added(vectors: Float[Array, "pairs 3"]) -> Float[Array, "pairs coefficients"]:
        radial, around = pair_functions(vectors, module.settings)
        blocks = []
        for degree in range(module.settings.l_max + 1):
            near = radial[:, degree * count : (degree + 1) * count]
            near = (kinds[:, :, None] * near[:, None, :]).reshape(near.shape[0], -1)
            own = around[degree * degree : (degree + 1) ** 2].T
            blocks.append((own[:, :, None] * near[:, None, :]).reshape(near.shape[0], -1))
        return jnp.concatenate(blocks, axis=1)

    slopes = [jax.jvp(added, (batch.vectors,), (along,))[1] for along in _axes(batch)]
    return jnp.stack(slopes, axis=1)


def _by_coefficients(
    module: GapModule, batch: Batch, found: Density
) -> Float[Array, "atoms points coefficients"]:
    """Slopes of the kernels with the sparse points by the centre's coefficients."""
    elements, settings, kernel = len(module.species), module.settings, module.kernel
    own, lengths = normalised(weighted_spectrum(found, elements, settings))
    everything = jnp.concatenate(module.sparse)
    products = jnp.matmul(own, everything.T, precision="highest")
    belongs = jnp.concatenate(
        [
            jnp.broadcast_to(mask, (batch.atoms, len(points)))
            for mask, points in zip(module._own(batch), module.sparse)
        ],
        axis=1,
    )
    # dk/dt / |p|
    factor = kernel.zeta * kernel.delta**2 * products ** (kernel.zeta - 1) / lengths[:, None]
    factor = jnp.where(belongs, factor, 0)
    theirs, mine = (_forms(x, elements, settings) for x in (everything, own))
    blocks = []
    for coefficients, form, self_form in zip(found, theirs, mine):
        atoms, orders, channels = coefficients.shape
        wide = jnp.swapaxes(form, 0, 1).reshape(channels, -1)
        first = jnp.matmul(coefficients.reshape(-1, channels), wide, precision="highest")
        first = jnp.swapaxes(first.reshape(atoms, orders, len(everything), channels), 1, 2)
        second = jnp.matmul(coefficients, self_form, precision="highest")
        slope = first - products[:, :, None, None] * second[:, None]
        slope = slope * factor[:, :, None, None]
        blocks.append(slope.reshape(atoms, len(everything), orders * channels))
    return jnp.concatenate(blocks, axis=2)


def _forms(
    spectra: Float[Array, "rows components"], elements: int, settings: SoapSettings
) -> list[Float[Array, "rows channels channels"]]:
    """Matrices T, by l, such that the slope of (power spectrum · row) by coefficients c is T c."""
    degree, first, second = places(elements, settings)
    channels = elements * settings.n_max
    factors = overlap_weights(elements, settings) * prefactors(settings)[degree]
    scaled = spectra * jnp.asarray(factors, spectra.dtype)[None, :]
    made = []
    for one in range(settings.l_max + 1):
        chosen = np.flatnonzero(degree == one)
        here = np.full((channels, channels), 0)
        here[first[chosen], second[chosen]] = here[second[chosen], first[chosen]] = chosen
        twice = jnp.asarray(1.0 + np.eye(channels), spectra.dtype)
        block = scaled[:, here.reshape(-1)].reshape(-1, channels, channels)
        made.append(block * twice[None])
    return made
