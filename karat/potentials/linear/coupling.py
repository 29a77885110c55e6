"""Products of real spherical harmonics that no rotation or reflection changes.

Two functions are coupled to a third by Clebsch–Gordan coefficients of real harmonics; products of
three and four are coupled along the tree ((1 2) L) ((3 4) L). What factors that commute make
linearly dependent is removed by a singular value decomposition.

Real harmonics: m = -l … l, sines for m < 0 and cosines for m > 0, all with positive leading
coefficient (no Condon–Shortley phase).

Source: Drautz, Phys. Rev. B 99, 014104 (2019); Dusson et al., J. Comput. Phys. 454, 110946 (2022).
Checked: tests/potentials/linear/test_coupling.py, against characters of SO(3) with permutations and
against invariants of binary forms.
"""

import functools
import itertools
from collections.abc import Sequence
from math import factorial, sqrt

import numpy as np
from jaxtyping import Complex, Float

DEPENDENT = 1e-8
"""Singular values below this, of couplings with unit norm, mean linear dependence."""


@functools.cache
def clebsch_gordan(first: int, second: int, third: int) -> Float[np.ndarray, "first second third"]:
    """⟨first m₁ second m₂ | third m⟩ of complex harmonics, at [first + m₁, second + m₂, third + m];
    zero where the triangle rule forbids.

    Source: Racah, Phys. Rev. 62, 438 (1942).
    """
    table = np.zeros((2 * first + 1, 2 * second + 1, 2 * third + 1))
    if not abs(first - second) <= third <= first + second:
        return table
    front = (
        (2 * third + 1)
        * factorial(first + second - third)
        * factorial(first - second + third)
        * factorial(second - first + third)
        / factorial(first + second + third + 1)
    )
    for m1 in range(-first, first + 1):
        for m2 in range(max(-second, -third - m1), min(second, third - m1) + 1):
            table[first + m1, second + m2, third + m1 + m2] = sqrt(front) * _racah_sum(
                (first, second, third), m1, m2
            )
    return table


def _racah_sum(degrees: tuple[int, int, int], m1: int, m2: int) -> float:
    first, second, third = degrees
    m = m1 + m2
    norm = 1
    for degree, order in ((first, m1), (second, m2), (third, m)):
        norm *= factorial(degree + order) * factorial(degree - order)
    low = max(0, second - third - m1, first - third + m2)
    high = min(first + second - third, first - m1, second + m2)
    total = 0.0
    for k in range(low, high + 1):
        below = (
            factorial(k)
            * factorial(first + second - third - k)
            * factorial(first - m1 - k)
            * factorial(second + m2 - k)
            * factorial(third - second + m1 + k)
            * factorial(third - first - m2 + k)
        )
        total += (-1) ** k / below
    return sqrt(norm) * total


def _to_real(degree: int) -> Complex[np.ndarray, "real complex"]:
    """Rows: real harmonics as sums of complex ones (with Condon–Shortley phase)."""
    table = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    table[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        table[degree + m, [degree - m, degree + m]] = np.array([1, sign]) / sqrt(2)
        table[degree - m, [degree - m, degree + m]] = np.array([1j, -1j * sign]) / sqrt(2)
    return table


@functools.cache
def real_coupling(first: int, second: int, third: int) -> Float[np.ndarray, "first second third"]:
    """What couples two sets of real harmonics to functions that rotate like a third set.

    Orthonormal over (first, second); true vectors where first + second + third is even, with the
    other behaviour under reflection where it is odd.
    """
    made = np.einsum(
        "abc,ia,jb,kc->ijk",
        clebsch_gordan(first, second, third),
        _to_real(first).conj(),
        _to_real(second).conj(),
        _to_real(third),
    )
    # one of the two parts vanishes
    return np.ascontiguousarray(made.real + made.imag)


def trees(degrees: Sequence[int]) -> list[tuple[int, Float[np.ndarray, "..."]]]:
    """All invariant couplings of two to four sets of harmonics, of unit norm.

    Returns:
        for each its intermediate degree L (of the first two factors), and its tensor over the m of
        each factor. Empty where an odd sum of degrees makes it change sign under reflection.
    """
    if sum(degrees) % 2 or not 2 <= len(degrees) <= 4:
        return []
    if len(degrees) == 2:
        size = 2 * degrees[0] + 1
        return [(0, np.eye(size) / sqrt(size))] if degrees[0] == degrees[1] else []
    first, second = degrees[:2]
    if len(degrees) == 3:
        third = degrees[2]
        if not abs(first - second) <= third <= first + second:
            return []
        return [(third, real_coupling(first, second, third) / sqrt(2 * third + 1))]
    low = max(abs(first - second), abs(degrees[2] - degrees[3]))
    high = min(first + second, degrees[2] + degrees[3])
    return [
        (
            middle,
            np.einsum(
                "abx,cdx->abcd",
                real_coupling(first, second, middle),
                real_coupling(degrees[2], degrees[3], middle),
            )
            / sqrt(2 * middle + 1),
        )
        for middle in range(low, high + 1)
    ]


def independent(
    degrees: Sequence[int], labels: Sequence[int]
) -> tuple[tuple[int, ...], Float[np.ndarray, "functions trees"]]:
    """Linearly independent invariant products of two to four functions.

    Args:
        degrees: l of each factor.
        labels: factors with one degree and one label are the same function, so they commute.

    Returns:
        intermediate degrees of the trees, and the independent functions as sums of trees, such that
        their tensors, made symmetric under exchange of equal factors, are orthonormal.
    """
    return _independent(tuple(degrees), _canonical(degrees, labels))


def _canonical(degrees: Sequence[int], labels: Sequence[int]) -> tuple[int, ...]:
    """Labels replaced by the position where each function first occurs."""
    keys = list(zip(degrees, labels))
    return tuple(keys.index(key) for key in keys)


@functools.cache
def _independent(
    degrees: tuple[int, ...], labels: tuple[int, ...]
) -> tuple[tuple[int, ...], Float[np.ndarray, "functions trees"]]:
    found = trees(degrees)
    if not found:
        return (), np.zeros((0, 0))
    tensors = np.array([symmetric(tensor, labels).ravel() for _, tensor in found])
    left, values, _ = np.linalg.svd(tensors, full_matrices=False)
    kept = values > DEPENDENT
    combine = (left[:, kept] / values[kept]).T
    # the sign of a singular vector is arbitrary: its largest entry is made positive
    largest = np.argmax(np.round(np.abs(combine), 9), axis=1)
    combine *= np.sign(combine[np.arange(len(combine)), largest])[:, None]
    return tuple(middle for middle, _ in found), combine


def symmetric(tensor: Float[np.ndarray, "..."], labels: Sequence[int]) -> Float[np.ndarray, "..."]:
    """The mean of `tensor` over all exchanges of axes with equal labels."""
    order = len(labels)
    kept = [
        permutation
        for permutation in itertools.permutations(range(order))
        if all(labels[i] == labels[p] for i, p in enumerate(permutation))
    ]
    return np.mean([np.transpose(tensor, permutation) for permutation in kept], axis=0)


def tensors(degrees: Sequence[int], labels: Sequence[int]) -> Float[np.ndarray, "functions ..."]:
    """The tensors of `independent`, over the m of each factor."""
    _, combine = independent(degrees, labels)
    shape = tuple(2 * degree + 1 for degree in degrees)
    if not len(combine):
        return np.zeros((0, *shape))
    alike = _canonical(degrees, labels)
    stacked = np.array([symmetric(tensor, alike) for _, tensor in trees(degrees)])
    return np.tensordot(combine, stacked, axes=1)
