"""Constant tables of the bispectrum: harmonics in three and four dimensions, and points of a
quadrature on which the bispectrum is a sum of products.

A density on the unit sphere of four dimensions has the parts ρ_j(x) = Σ_lm A_jlm f_jl(χ) y_lm(n);
x = (cos χ, n sin χ), j and twojmax doubled as in LAMMPS. Its bispectrum is an integral of products,
B_{j1 j2 j} = (j + 1) ∫ ρ_j1 ρ_j2 ρ_j, which a sum over a few points gives exactly: three dense
matrix products and a polynomial in each point take the place of sums over Clebsch-Gordan
coefficients.

Harmonics are normalised such that Σ_m y_lm(n) y_lm(n') = (2l + 1) P_l(n·n') and
Σ_lm f_jl(χ) f_jl(χ') y_lm(n) y_lm(n') = U_j(x·x'), the Chebyshev polynomial.

Source: Bartók et al., Phys. Rev. B 87, 184115 (2013); Thompson et al., J. Comput. Phys. 285, 316
(2015) for the bispectrum; Avery, Hyperspherical Harmonics (1989).
Checked: tests/potentials/linear/test_snap_basis.py.
"""

import functools
import math

import numpy as np
from jaxtyping import Float


@functools.lru_cache
def triples(twojmax: int) -> tuple[tuple[int, int, int], ...]:
    """(j1, j2, j), j2 ≤ j1 ≤ j, of each component, in LAMMPS' order."""
    return tuple(
        (j1, j2, j)
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
        if j >= j1
    )


def harmonics(points: Float[np.ndarray, "points 3"], largest: int) -> list[np.ndarray]:
    """Real spherical harmonics y_lm in unit vectors for l = 0 … `largest`.

    Returns: for each l (2l + 1, points), m = -l … l (sine functions first).
    """
    found = [np.ones((1, len(points)))]
    for degree in range(1, largest + 1):
        table = coupling(degree)
        found.append(np.einsum("mak,pa,kp->mp", table, points, found[-1]))
    return found


@functools.lru_cache
def coupling(degree: int) -> Float[np.ndarray, "own 3 lower"]:
    """K with y_lm(n) = Σ_a Σ_m' K[m, a, m'] n_a y_{l-1,m'}(n), l = `degree` ≥ 1: Euler's theorem
    for the gradients of solid harmonics."""
    return np.transpose(gradients(degree), (2, 0, 1)) / degree


def radial_functions(angle: Float[np.ndarray, "points"], twojmax: int) -> list[np.ndarray]:
    """f_jl(χ) = N sin^l χ C^(l+1)_{j-l}(cos χ) for j = 0 … `twojmax`, by Gegenbauer's recurrence.

    Returns: for each j (j + 1, points), l = 0 … j.
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    found = [np.ones((1, len(angle)))]
    for j in range(1, twojmax + 1):
        order = np.arange(j)[:, None]  # l
        n = j - order
        values = 2 * j / n * np.sqrt(n / (j + order + 1)) * cosine * found[j - 1]
        n, low = n[:-1], order[:-1]
        norm = np.sqrt(n * (n - 1) / ((j + low + 1) * (j + low)))
        if j > 1:
            values[:-1] -= (j + low) / n * norm * found[j - 2]
        last = 2 * j * math.sqrt(1 / ((2 * j + 1) * 2 * j)) * sine * found[j - 1][-1:]
        found.append(np.concatenate([values, last]))
    return found


@functools.lru_cache
def frequencies(twojmax: int) -> tuple[Float[np.ndarray, "waves"], Float[np.ndarray, "waves"]]:
    """k and δ of the waves cos(kχ - δ), of which all f_jl are made: cosines, then sines."""
    count = np.arange(twojmax + 1.0)
    shift = np.repeat([0.0, np.pi / 2], [len(count), twojmax])
    return np.concatenate([count, count[1:]]), shift


@functools.lru_cache
def waves(
    twojmax: int,
) -> tuple[Float[np.ndarray, "functions waves"], Float[np.ndarray, "functions waves"]]:
    """f_jl and ∂f_jl/∂χ as sums of the waves of `frequencies`; l = 0 … twojmax, and for each
    j = l … twojmax."""
    size = 2 * twojmax + 2
    values = radial_functions(2 * np.pi * np.arange(size) / size, twojmax)
    rows = [values[j][l] for l in range(twojmax + 1) for j in range(l, twojmax + 1)]  # noqa: E741
    spectrum = np.fft.rfft(np.array(rows), axis=1)[:, : twojmax + 1] * 2 / size
    spectrum[:, 0] /= 2
    cosines, sines = spectrum.real, -spectrum.imag[:, 1:]
    count = np.arange(twojmax + 1.0)
    slope_cosines = np.concatenate([0 * sines[:, :1], sines * count[1:]], axis=1)
    slope_sines = -cosines[:, 1:] * count[1:]
    return (
        np.concatenate([cosines, sines], axis=1),
        np.concatenate([slope_cosines, slope_sines], axis=1),
    )


@functools.lru_cache
def gradients(degree: int) -> Float[np.ndarray, "3 lower own"]:
    """T with ∂(r^l y_lm)/∂a = Σ_m' T[a, m', m] r^(l-1) y_{l-1,m'}, l = `degree` ≥ 1."""
    table = np.zeros((3, 2 * degree - 1, 2 * degree + 1))
    scale = math.sqrt((2 * degree + 1) / (2 * degree - 1))
    half = 0.5 * scale
    for m in range(degree + 1):
        along = scale * math.sqrt((degree - m) * (degree + m))
        lower = half * math.sqrt((degree + m) * (degree + m - 1)) * (math.sqrt(2) if m == 1 else 1)
        raised = (degree - m) * (degree - m - 1)
        raising = half * math.sqrt(raised) * (math.sqrt(2) if m == 0 else 1)
        entries = [  # axis, m' and m (negative: sine functions), value
            (2, m, m, along),
            (0, m - 1, m, lower),
            (0, m + 1, m, -raising),
            (1, -(m - 1), m, -lower),
            (1, -(m + 1), m, -raising),
            (2, -m, -m, along),
            (0, -(m - 1), -m, lower),
            (0, -(m + 1), -m, -raising),
            (1, m - 1, -m, lower),
            (1, m + 1, -m, raising),
        ]
        if m == 0:
            entries = [(2, 0, 0, along), (0, 1, 0, -raising), (1, -1, 0, -raising)]
        if m == 1:  # there is no sine function of m = 0
            entries = [e for e in entries if e[:2] != (1, 0) or e[2] < 0]
            entries = [e for e in entries if e[:3] != (0, 0, -1)]
        for axis, other, own, value in entries:
            if abs(other) < degree:
                table[axis, other + degree - 1, own + degree] += value
    return table


@functools.lru_cache
def quadrature(spin: int) -> tuple[Float[np.ndarray, "points 4"], Float[np.ndarray, "points"]]:
    """Points of half the sphere and weights that sum to one; polynomials of even degree up to
    2 `spin` are integrated exactly.

    The angles α and γ of SU(2) are evenly spaced, the cosine of β is at Gauss-Legendre nodes.
    """
    turns = 2 * np.pi * np.arange(spin + 1) / (spin + 1)
    nodes, share = np.polynomial.legendre.leggauss(spin // 2 + 1)
    half = np.arccos(nodes)[:, None, None] / 2
    plus = (turns[:, None] + turns)[None] / 2
    minus = (turns[:, None] - turns)[None] / 2
    points = np.stack(
        [
            np.cos(half) * np.cos(plus),
            np.sin(half) * np.cos(minus),
            np.sin(half) * np.sin(minus),
            np.cos(half) * np.sin(plus),
        ],
        axis=-1,
    ).reshape(-1, 4)
    weights = np.repeat(share / 2, len(turns) ** 2) / len(turns) ** 2
    return points, weights


def largest_spin(twojmax: int) -> int:
    """Half the degree of the largest even product of three densities."""
    return 3 * twojmax // 2


@functools.lru_cache
def point_values(twojmax: int, spin: int) -> tuple[Float[np.ndarray, "points own"], ...]:
    """For each j the functions (l, m) in the points of the quadrature, times the cube root of the
    weight: products of three values need no weight any more."""
    points, weights = quadrature(spin)
    sine = np.linalg.norm(points[:, 1:], axis=1)
    angular = harmonics(points[:, 1:] / sine[:, None], twojmax)
    radial = radial_functions(np.arctan2(sine, points[:, 0]), twojmax)
    found = []
    for j in range(twojmax + 1):
        values = [radial[j][l] * angular[l] for l in range(j + 1)]  # noqa: E741
        found.append(np.concatenate(values).T * np.cbrt(weights)[:, None])
    return tuple(np.ascontiguousarray(values) for values in found)
