"""Sparse sums of products, with derivatives of the same form.

Three kinds, each bilinear and closed under differentiation, so that reverse mode of any order
stays sparse and no term is computed twice (XLA's own derivative of slices and concatenations is
several times slower on CPUs):

- `elementwise`: out[o] = Σ c · a[i] · b[j], all three with channels,
- `scaled`: out[o] = Σ c · y[m] · b[j], y without channels,
- `scalar_products`: out[o] = Σ c Σ_channels a[i] · b[j].

Checked: tests/potentials/blocks/test_products.py.
"""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Terms = tuple[tuple[int, int, int, float], ...]
"""(out, first, second, coefficient) of each term; a pair of factors may occur for several `out`."""


def _part(values: Array, index: int, axis: int) -> Array:
    return jax.lax.index_in_dim(values, index, axis, keepdims=False)


def _summed(parts: list[Array | None], zero: Array) -> list[Array]:
    return [zero if part is None else part for part in parts]


def _add(parts: list[Array | None], out: int, term: Array) -> None:
    before = parts[out]
    parts[out] = term if before is None else before + term


def _swapped(terms: Terms) -> tuple[Terms, Terms]:
    """Terms of the derivatives by the first and by the second factor."""
    by_first = tuple((i, o, j, c) for o, i, j, c in terms)
    by_second = tuple((j, o, i, c) for o, i, j, c in terms)
    return by_first, by_second


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def elementwise(
    first: Float[Array, "..."], second: Float[Array, "..."], terms: Terms, count: int, axis: int
) -> Float[Array, "..."]:
    """Σ c · first[i] · second[j] for each of `count` outputs, which stand along `axis`, as the
    components of both factors do; all other axes are equal."""
    parts: list[Array | None] = [None] * count
    for out, i, j, coefficient in terms:
        product = _part(first, i, axis) * _part(second, j, axis)
        _add(parts, out, product if coefficient == 1 else coefficient * product)
    zero = jnp.zeros_like(_part(first, 0, axis))
    return jnp.stack(_summed(parts, zero), axis=axis)


def _elementwise_forward(
    first: Array, second: Array, terms: Terms, count: int, axis: int
) -> tuple[Array, tuple[Array, Array]]:
    return elementwise(first, second, terms, count, axis), (first, second)


def _elementwise_backward(
    terms: Terms, count: int, axis: int, kept: tuple[Array, Array], slope: Array
) -> tuple[Array, Array]:
    first, second = kept
    by_first, by_second = _swapped(terms)
    return (
        elementwise(slope, second, by_first, first.shape[axis], axis),
        elementwise(slope, first, by_second, second.shape[axis], axis),
    )


elementwise.defvjp(_elementwise_forward, _elementwise_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def scaled(
    scales: Float[Array, "scales pairs"],
    values: Float[Array, "pairs components channels"],
    terms: Terms,
    count: int,
) -> Float[Array, "pairs count channels"]:
    """Σ c · scales[m] · values[j] for each of `count` outputs."""
    parts: list[Array | None] = [None] * count
    for out, m, j, coefficient in terms:
        _add(parts, out, (coefficient * scales[m])[:, None] * values[:, j])
    return jnp.stack(_summed(parts, jnp.zeros_like(values[:, 0])), axis=1)


def _scaled_forward(
    scales: Array, values: Array, terms: Terms, count: int
) -> tuple[Array, tuple[Array, Array]]:
    return scaled(scales, values, terms, count), (scales, values)


def _scaled_backward(
    terms: Terms, count: int, kept: tuple[Array, Array], slope: Array
) -> tuple[Array, Array]:
    scales, values = kept
    by_scale, by_value = _swapped(terms)
    back = tuple((j, m, o, c) for j, o, m, c in by_value)
    return (
        scalar_products(slope, values, by_scale, scales.shape[0]),
        scaled(scales, slope, back, values.shape[1]),
    )


scaled.defvjp(_scaled_forward, _scaled_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def scalar_products(
    first: Float[Array, "pairs first channels"],
    second: Float[Array, "pairs second channels"],
    terms: Terms,
    count: int,
) -> Float[Array, "count pairs"]:
    """Σ c Σ_channels first[i] · second[j] for each of `count` outputs."""
    products = elementwise(first, second, terms, count, 1)
    pairs, _, channels = products.shape
    ones = jnp.ones((channels, 1), products.dtype)  # a matrix product sums faster than a reduction
    sums = jnp.matmul(products.reshape(-1, channels), ones, precision="highest")
    return sums.reshape(pairs, count).T


def _scalar_forward(
    first: Array, second: Array, terms: Terms, count: int
) -> tuple[Array, tuple[Array, Array]]:
    return scalar_products(first, second, terms, count), (first, second)


def _scalar_backward(
    terms: Terms, count: int, kept: tuple[Array, Array], slope: Array
) -> tuple[Array, Array]:
    first, second = kept
    to_first = tuple((i, o, j, c) for o, i, j, c in terms)
    to_second = tuple((j, o, i, c) for o, i, j, c in terms)
    return (
        scaled(slope, second, to_first, first.shape[1]),
        scaled(slope, first, to_second, second.shape[1]),
    )


scalar_products.defvjp(_scalar_forward, _scalar_backward)


@jax.custom_vjp
def outer(
    first: Float[Array, "pairs first channels"], second: Float[Array, "pairs second channels"]
) -> Float[Array, "pairs products channels"]:
    """first[i] · second[j] at i · (number of second) + j."""
    pairs, _, channels = first.shape
    return (first[:, :, None] * second[:, None]).reshape(pairs, -1, channels)


def _outer_forward(first: Array, second: Array) -> tuple[Array, tuple[Array, Array]]:
    return outer(first, second), (first, second)


def _outer_backward(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    first, second = kept
    return _over_second(slope, second), _over_first(slope, first)


outer.defvjp(_outer_forward, _outer_backward)


@jax.custom_vjp
def _over_second(products: Array, second: Array) -> Array:
    """Σ_j products[i, j] · second[j]."""
    size = second.shape[1]
    rows = [
        sum(products[:, start + j] * second[:, j] for j in range(size))
        for start in range(0, products.shape[1], size)
    ]
    return jnp.stack(rows, axis=1)


@jax.custom_vjp
def _over_first(products: Array, first: Array) -> Array:
    """Σ_i products[i, j] · first[i]."""
    count = first.shape[1]
    size = products.shape[1] // count
    columns = [
        sum(products[:, i * size + j] * first[:, i] for i in range(count)) for j in range(size)
    ]
    return jnp.stack(columns, axis=1)


_over_second.defvjp(
    lambda products, second: (_over_second(products, second), (products, second)),
    lambda kept, slope: (outer(slope, kept[1]), _over_first(kept[0], slope)),
)
_over_first.defvjp(
    lambda products, first: (_over_first(products, first), (products, first)),
    lambda kept, slope: (outer(kept[1], slope), _over_second(kept[0], slope)),
)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def combine(
    values: Float[Array, "rows components channels"],
    terms: tuple[tuple[int, int, float], ...],
    count: int,
) -> Float[Array, "rows count channels"]:
    """Σ c · values[i] for each of `count` outputs; `terms` are (out, i, c)."""
    parts: list[Array | None] = [None] * count
    for out, i, coefficient in terms:
        _add(parts, out, coefficient * values[:, i])
    return jnp.stack(_summed(parts, jnp.zeros_like(values[:, 0])), axis=1)


combine.defvjp(
    lambda values, terms, count: (combine(values, terms, count), values.shape[1]),
    lambda terms, count, size, slope: (
        combine(slope, tuple((i, o, c) for o, i, c in terms), size),
    ),
)


def terms_of(tensor: Float[np.ndarray, "first second out"]) -> list[tuple[int, int, int, float]]:
    """(out, first, second, value) of the entries that are not zero."""
    found = np.argwhere(np.abs(tensor) > 1e-10)
    return [(int(o), int(i), int(j), float(tensor[i, j, o])) for i, j, o in found]


def merged(terms: Iterable[tuple[int, int, int, float]], symmetric: bool = False) -> Terms:
    """Terms with equal factors and output added up; `symmetric`: both factors are the same array,
    so (i, j) is (j, i)."""
    sums: dict[tuple[int, int, int], float] = {}
    for out, i, j, coefficient in terms:
        first, second = (min(i, j), max(i, j)) if symmetric else (i, j)
        sums[out, first, second] = sums.get((out, first, second), 0.0) + coefficient
    return tuple((*key, value) for key, value in sorted(sums.items()) if abs(value) > 1e-12)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def take(values: Float[Array, "components *shape"], index: tuple[int, ...]) -> Array:
    """Components in the order of `index` (repeated or left out), along the first axis."""
    return values[np.array(index)]


def _take_forward(values: Array, index: tuple[int, ...]) -> tuple[Array, int]:
    return take(values, index), values.shape[0]


def _take_backward(index: tuple[int, ...], size: int, slope: Array) -> tuple[Array]:
    return (_collect(slope, index, size),)


take.defvjp(_take_forward, _take_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _collect(slope: Array, index: tuple[int, ...], size: int) -> Array:
    """The transpose of `take`, as a matrix product."""
    place = np.zeros((size, len(index)))
    place[np.array(index), np.arange(len(index))] = 1
    return mix_components(place, slope)


def _collect_forward(slope: Array, index: tuple[int, ...], size: int) -> tuple[Array, None]:
    return _collect(slope, index, size), None


def _collect_backward(index: tuple[int, ...], size: int, _: None, slope: Array) -> tuple[Array]:
    return (take(slope, index),)


_collect.defvjp(_collect_forward, _collect_backward)


def mix_components(
    matrix: Float[np.ndarray, "out components"], values: Float[Array, "components *shape"]
) -> Array:
    """A constant matrix times the first axis."""
    flat = values.reshape(values.shape[0], -1)
    mixed = jnp.matmul(jnp.asarray(matrix, values.dtype), flat, precision="highest")
    return mixed.reshape(matrix.shape[0], *values.shape[1:])


def dense(
    first: Float[Array, "first *shape"],
    second: Float[Array, "second *shape"],
    terms: Terms,
    count: int,
) -> Float[Array, "count *shape"]:
    """`elementwise` along the first axis as products of components and one matrix product: few
    operations, so that second derivatives compile in a tenth of the time."""
    pairs = sorted({(i, j) for _, i, j, _ in terms})
    at = {pair: k for k, pair in enumerate(pairs)}
    matrix = np.zeros((count, len(pairs)))
    for out, i, j, coefficient in terms:
        matrix[out, at[i, j]] += coefficient
    products = take(first, tuple(i for i, _ in pairs)) * take(second, tuple(j for _, j in pairs))
    return mix_components(matrix, products)
