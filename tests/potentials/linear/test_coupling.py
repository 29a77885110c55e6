"""Invariant couplings against integrals of harmonics, characters of groups and invariant theory."""

import itertools
from math import factorial

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from karat.potentials.linear.ace_basis import AceSpec, ace_basis
from karat.potentials.linear.coupling import (
    clebsch_gordan,
    independent,
    real_coupling,
    symmetric,
    tensors,
    trees,
)


def real_harmonics(degree, vectors):
    """(2 degree + 1, vectors) by scipy: sines, m = 0, cosines; without Condon–Shortley phase."""
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    theta, phi = np.arccos(unit[:, 2]), np.arctan2(unit[:, 1], unit[:, 0])
    rows = []
    for m in range(-degree, degree + 1):
        value = sph_harm_y(degree, abs(m), theta, phi) * (-1) ** m
        part = value.real if m >= 0 else value.imag
        rows.append(part * (np.sqrt(2) if m else 1) * np.sqrt(4 * np.pi))
    return np.array(rows)


@pytest.mark.parametrize("degrees", [(1, 1, 2), (2, 2, 2), (2, 3, 3), (4, 3, 5), (6, 4, 6)])
def test_clebsch_gordan_gives_the_integrals_of_three_harmonics(degrees):
    """∫ Y₁ Y₂ Y₃* = √((2l₁+1)(2l₂+1)/(4π(2l₃+1))) ⟨l₁0 l₂0|l₃0⟩ ⟨l₁m₁ l₂m₂|l₃m₃⟩."""
    l1, l2, l3 = degrees
    nodes, weights = np.polynomial.legendre.leggauss(12)  # exact to degree 23
    theta, phi = np.arccos(nodes), np.arange(24) * np.pi / 12
    grid, around = np.meshgrid(theta, phi, indexing="ij")
    weight = weights[:, None] * np.full((1, 24), np.pi / 12)
    table = clebsch_gordan(*degrees)
    front = np.sqrt((2 * l1 + 1) * (2 * l2 + 1) / (4 * np.pi * (2 * l3 + 1))) * table[l1, l2, l3]
    for m1, m2 in itertools.product(range(-l1, l1 + 1), range(-l2, l2 + 1)):
        if abs(m1 + m2) > l3:
            assert not table[l1 + m1, l2 + m2].any()
            continue
        product = sph_harm_y(l1, m1, grid, around) * sph_harm_y(l2, m2, grid, around)
        found = np.sum(weight * product * sph_harm_y(l3, m1 + m2, grid, around).conj())
        expected = front * table[l1 + m1, l2 + m2, l3 + m1 + m2]
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 1, 2), (3, 2, 2), (2, 3, 4)])
def test_real_couplings_are_orthonormal_and_equivariant(degrees):
    """Also with an odd sum of degrees; the turned harmonics come from scipy's."""
    table = real_coupling(*degrees)
    flat = table.reshape(-1, table.shape[2])
    np.testing.assert_allclose(flat.T @ flat, np.eye(table.shape[2]), atol=1e-13)
    turn = Rotation.random(random_state=4).as_matrix()
    points = np.random.default_rng(1).normal(size=(60, 3))
    turned = []
    for degree in degrees:
        before, after = real_harmonics(degree, points), real_harmonics(degree, points @ turn.T)
        turned.append(np.linalg.lstsq(before.T, after.T)[0].T)
    left = np.einsum("abc,xa,yb->xyc", table, turned[0], turned[1])
    right = np.einsum("abc,cz->abz", table, turned[2])
    np.testing.assert_allclose(left, right, atol=1e-11)


def partitions(labels):
    """Sizes of the groups of equal labels."""
    return [labels.count(one) for one in sorted(set(labels))]


def count_by_characters(degrees, labels):
    """Invariants of SO(3) in the product of symmetric powers, by Weyl's integral; 0 if the product
    changes sign under inversion."""
    if sum(degrees) % 2:
        return 0
    angle = (np.arange(400) + 0.5) * np.pi / 400  # exact: trigonometric polynomials
    total = np.ones_like(angle)
    for key in sorted(set(zip(degrees, labels))):
        power = list(zip(degrees, labels)).count(key)
        total = total * symmetric_power(key[0], power, angle)
    return np.mean(total * (1 - np.cos(angle)))


def symmetric_power(degree, power, angle):
    """Character of the symmetric power of the harmonics of one degree, by cycle types."""

    def character(times):
        return sum(np.cos(m * times * angle) for m in range(-degree, degree + 1))

    total = np.zeros_like(angle)
    for permutation in itertools.permutations(range(power)):
        seen, product = set(), np.ones_like(angle)
        for start in range(power):
            length, at = 0, start
            while at not in seen:
                seen.add(at)
                at, length = permutation[at], length + 1
            if length:
                product = product * character(length)
        total = total + product
    return total / factorial(power)


PATTERNS = {
    2: [(0, 0), (0, 1)],
    3: [(0, 0, 0), (0, 0, 1), (0, 1, 2)],
    4: [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 2), (0, 1, 2, 3)],
}


@pytest.mark.parametrize("order", [2, 3, 4])
def test_counts_equal_those_from_characters(order):
    """All l up to 4 (order 4: 3), all ways in which factors can be equal."""
    seen = 0
    for degrees in itertools.combinations_with_replacement(range(5 if order < 4 else 4), order):
        for labels in PATTERNS[order]:
            expected = count_by_characters(degrees, labels)
            assert expected == pytest.approx(round(expected), abs=1e-9)
            found = len(independent(degrees, labels)[1])
            assert found == round(expected), (degrees, labels)
            seen += found
    assert seen > 5


@pytest.mark.parametrize("degree", range(1, 7))
def test_counts_of_equal_factors_are_those_of_binary_forms(degree):
    """Hermite's reciprocity: quartic invariants of a form of order 2l are as many as monomials of
    weight 2l in the two invariants, of degrees 2 and 3, of the binary quartic; cubic ones exist for
    even l only. Source: Hilbert, Theory of Algebraic Invariants, lecture on reciprocity."""
    assert len(independent((degree,) * 4, (0,) * 4)[1]) == degree // 3 + 1
    assert len(independent((degree,) * 3, (0,) * 3)[1]) == (degree % 2 == 0)


@pytest.mark.parametrize(
    ("degrees", "labels"), [((2, 2, 2, 2), (0, 0, 1, 1)), ((1, 1, 2, 2), (0, 0, 0, 1))]
)
def test_counts_equal_the_rank_of_random_evaluations(degrees, labels):
    """Trees of products, evaluated for many sets of random functions: rank by numpy."""
    random = np.random.default_rng(2)
    rows = []
    for _ in range(60):
        values = {}
        factors = [
            values.setdefault(key, random.normal(size=2 * key[0] + 1))
            for key in zip(degrees, labels)
        ]
        rows.append([np.einsum("abcd,a,b,c,d", t, *factors) for _, t in trees(degrees)])
    rank = np.linalg.matrix_rank(np.array(rows), tol=1e-8)
    assert len(independent(degrees, labels)[1]) == rank


@pytest.mark.parametrize(
    ("degrees", "labels"),
    [
        ((3, 3), (0, 1)),
        ((1, 2, 3), (0, 1, 2)),
        ((2, 2, 2), (0, 0, 1)),
        ((1, 2, 2, 3), (0, 0, 0, 0)),
        ((2, 2, 3, 3), (0, 0, 1, 1)),
    ],
)
def test_products_are_invariant_orthonormal_and_symmetric(degrees, labels):
    found = tensors(degrees, labels)
    flat = found.reshape(len(found), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(found)), atol=1e-12)
    for tensor in found:
        np.testing.assert_allclose(
            symmetric(
                tensor, [list(zip(degrees, labels)).index(key) for key in zip(degrees, labels)]
            ),
            tensor,
            atol=1e-12,
        )
    directions = np.random.default_rng(3).normal(size=(len(degrees), 3))
    values = []
    for turn in (np.eye(3), Rotation.random(random_state=5).as_matrix(), -np.eye(3)):
        moved = directions @ turn.T
        value = found
        for degree, direction in zip(degrees, moved):
            value = np.tensordot(value, real_harmonics(degree, direction[None])[:, 0], (1, 0))
        values.append(value)
    np.testing.assert_allclose(values[1:], [values[0], values[0]], rtol=0, atol=1e-11)


def test_counts_of_a_basis_by_hand():
    """l_weight 1, degree 4 for products of two: (n n') with l = 0: 11 12 13 22, l = 1: n = n' = 1;
    degree 5 for products of three: n's 111 112 113 122, and once l = 0 1 1 with n = 1 1 1."""
    members = ace_basis(AceSpec(1, (3, 4, 5), 1.0)).members
    assert [factors for factors in members if len(factors) == 2] == [
        ((0, 0), (0, 0)),
        ((0, 0), (0, 1)),
        ((0, 0), (0, 2)),
        ((0, 1), (0, 1)),
        ((1, 0), (1, 0)),
    ]
    assert [factors for factors in members if len(factors) == 3] == [
        ((0, 0), (0, 0), (0, 0)),
        ((0, 0), (0, 0), (0, 1)),
        ((0, 0), (0, 0), (0, 2)),
        ((0, 0), (0, 1), (0, 1)),
        ((0, 0), (1, 0), (1, 0)),
    ]
