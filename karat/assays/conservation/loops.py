"""Closed loops in the space of positions, and what forces and energies do along them.

A loop is the circle x(θ) = x₀ + a (cos θ u + sin θ v). Everything along it is periodic, so sums
over equally spaced points converge exponentially for smooth functions, and derivatives and
integrals are exact for all harmonics that the points resolve.

Source: Trefethen & Weideman, SIAM Rev. 56, 385 (2014).
Checked: tests/assays/test_conservation.py.
"""

import numpy as np
from jaxtyping import Float


def directions(
    atoms: int, random: np.random.Generator
) -> tuple[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "atoms 3"]]:
    """Two random displacements at right angles, each of root mean square length 1 an atom,
    neither moving the centre."""
    first, second = random.normal(size=(2, atoms, 3))
    if atoms > 1:
        first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    first = first * np.sqrt(atoms / np.sum(first**2))
    second = second - first * np.sum(first * second) / atoms
    return first, second * np.sqrt(atoms / np.sum(second**2))


def angles(points: int) -> Float[np.ndarray, "points"]:
    """θ of the points, radians."""
    return 2 * np.pi * np.arange(points) / points


def around(
    center: Float[np.ndarray, "atoms 3"],
    plane: tuple[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "atoms 3"]],
    radius: float,
    points: int,
) -> Float[np.ndarray, "points atoms 3"]:
    """Positions at the points, Å."""
    theta = angles(points)[:, None, None]
    return center + radius * (np.cos(theta) * plane[0] + np.sin(theta) * plane[1])


def tangents(
    plane: tuple[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "atoms 3"]],
    radius: float,
    points: int,
) -> Float[np.ndarray, "points atoms 3"]:
    """dx/dθ at the points, Å per radian."""
    theta = angles(points)[:, None, None]
    return radius * (np.cos(theta) * plane[1] - np.sin(theta) * plane[0])


def work(power: Float[np.ndarray, "loops points"]) -> Float[np.ndarray, "loops"]:
    """∮ F·dx of power F·dx/dθ, eV."""
    return 2 * np.pi * power.mean(axis=1)


def work_by_angle(power: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points"]:
    """∫₀^θ F·dx, eV."""
    count = len(power)
    order = np.fft.rfftfreq(count, 1 / count)
    harmonics = np.fft.rfft(power - power.mean())
    integrated = np.zeros_like(harmonics)
    integrated[1:] = harmonics[1:] / (1j * order[1:])
    periodic = np.fft.irfft(integrated, count)
    return power.mean() * angles(count) + periodic - periodic[0]


def slope(energies: Float[np.ndarray, "loops points"]) -> Float[np.ndarray, "loops points"]:
    """dE/dθ at the points, eV per radian."""
    count = energies.shape[1]
    order = np.fft.rfftfreq(count, 1 / count)
    if count % 2 == 0:
        order[-1] = 0.0  # the sawtooth has no slope at the points
    centred = energies - energies.mean(axis=1, keepdims=True)
    return np.fft.irfft(1j * order * np.fft.rfft(centred, axis=1), count, axis=1)
