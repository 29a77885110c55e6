"""Moments of an atom's neighbours, from which angular symmetry functions are made.

Checked: tests/potentials/native/test_acsf.py, against dscribe and plain loops;
tests/simulation/engine/test_forces.py, rows against lists.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.potentials.batch import Batch


def sum_by_element(
    batch: Batch, values: Float[Array, "pairs values"], element: Int[Array, "pairs"], elements: int
) -> Float[Array, "atoms all"]:
    """Sum over the neighbours of each atom, kept apart by their element."""
    if elements == 1:
        return batch.sum_pairs(values)
    if batch.width is not None:
        ones = jnp.ones((values.shape[0], 1), values.dtype)
        summed = products_by_element(batch, ones, values, element, elements)
        return summed.reshape(batch.atoms, -1)
    block = batch.centers * elements + element
    summed = jax.ops.segment_sum(values, block, num_segments=batch.atoms * elements)
    return summed.reshape(batch.atoms, -1)


def products_by_element(
    batch: Batch,
    first: Float[Array, "pairs m"],
    second: Float[Array, "pairs n"],
    element: Int[Array, "pairs"],
    elements: int,
) -> Float[Array, "atoms elements m n"]:
    """Σ first ⊗ second over the neighbours of each atom, kept apart by their element; where pairs
    come in rows, one small matrix product for each atom."""
    sizes = (first.shape[1], second.shape[1])
    if batch.width is None:
        values = (first[:, :, None] * second[:, None, :]).reshape(first.shape[0], -1)
        summed = sum_by_element(batch, values, element, elements)
        return summed.reshape(batch.atoms, elements, *sizes)
    if elements > 1:
        mine = jax.nn.one_hot(element, elements, dtype=first.dtype)
        first = (mine[:, :, None] * first[:, None, :]).reshape(first.shape[0], -1)
    rows = (batch.atoms, batch.width)
    left = jnp.swapaxes(first.reshape(*rows, -1), 1, 2)
    summed = jnp.matmul(left, second.reshape(*rows, -1), precision="highest")
    return summed.reshape(batch.atoms, elements, *sizes)


def monomials(
    unit: Float[Array, "pairs 3"], exponents: list[tuple[int, int, int]]
) -> Float[Array, "pairs monomials"]:
    """x^a y^b z^c for each (a, b, c), each from one of a degree lower."""
    known = {(0, 0, 0): jnp.ones_like(unit[:, 0])}
    for exponent in sorted(exponents, key=sum):
        if exponent in known:
            continue
        axis = next(i for i in range(3) if exponent[i])
        parent = tuple(power - (place == axis) for place, power in enumerate(exponent))
        known[exponent] = known[parent[0], parent[1], parent[2]] * unit[:, axis]
    return jnp.stack([known[exponent] for exponent in exponents], axis=1)


def expansion(
    angular: tuple[tuple[int, int], ...],
) -> tuple[list[tuple[int, int, int]], Float[np.ndarray, "monomials functions"]]:
    """Exponents, and weights w with (1 + λ u·v)^ζ = Σ_α w_α u^α v^α for each (ζ, λ).

    (1 + λ u·v)^ζ = Σ_m C(ζ, m) λ^m (u·v)^m and (u·v)^m = Σ_{|α|=m} m!/(a! b! c!) u^α v^α.
    """
    highest = max(zeta for zeta, _ in angular)
    exponents = [
        (a, b, m - a - b)
        for m in range(highest + 1)
        for a in range(m + 1)
        for b in range(m + 1 - a)
    ]
    weights = np.zeros((len(exponents), len(angular)))
    for row, (a, b, c) in enumerate(exponents):
        m = a + b + c
        multinomial = math.factorial(m) // (
            math.factorial(a) * math.factorial(b) * math.factorial(c)
        )
        for column, (zeta, lam) in enumerate(angular):
            weights[row, column] = math.comb(zeta, m) * lam**m * multinomial
    return exponents, weights
