"""Real spherical harmonics of many pairs at a time, and gradients of sums of them.

They stand in the order l² + l + m, with m = -l … l: sines for m < 0, cosines for m > 0.

Checked: tests/potentials/linear/test_radial.py, against scipy's harmonics.
"""

from math import factorial, sqrt

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def azimuthal(
    x: Float[Array, "*pairs"], y: Float[Array, "*pairs"], highest: int
) -> tuple[list[Float[Array, "*pairs"]], list[Float[Array, "*pairs"]]]:
    """Real and imaginary part of (x + iy)^m, m = 0 … highest."""
    real, imaginary = [jnp.ones_like(x)], [jnp.zeros_like(x)]
    for _ in range(highest):
        c, s = real[-1], imaginary[-1]
        real.append(x * c - y * s)
        imaginary.append(x * s + y * c)
    return real, imaginary


def polar(degree: int, m: int, derivative: int = 0) -> Float[np.ndarray, "powers"]:
    """Coefficients of z⁰, z¹ … of the factor of real harmonics that depends on z only, such that
    the mean square of each harmonic over the sphere is 1."""
    legendre = np.polynomial.legendre.leg2poly([0.0] * degree + [1.0])
    inner = np.polynomial.polynomial.polyder(legendre, m + derivative)
    norm = (2 * degree + 1) * factorial(degree - m) / factorial(degree + m) * (2 if m else 1)
    coefficients: np.ndarray = np.atleast_1d(inner) * sqrt(norm)
    return coefficients


def _horner(coefficients: Float[np.ndarray, "powers"], z: Array) -> Array:
    """A polynomial in z with every second coefficient zero."""
    top = len(coefficients) - 1
    square = z * z
    value = jnp.full_like(z, coefficients[top].item())
    for power in range(top - 2, -1, -2):
        value = value * square + coefficients[power].item()
    return value * z if top % 2 else value


def harmonics(
    x: Float[Array, "*pairs"], y: Float[Array, "*pairs"], z: Float[Array, "*pairs"], highest: int
) -> list[Float[Array, "*pairs"]]:
    """Real harmonics of unit vectors at l² + l + m, l = 0 … highest; Y₀₀ = 1."""
    real, imaginary = azimuthal(x, y, highest)
    rows = []
    for degree in range(highest + 1):
        for m in range(-degree, degree + 1):
            around = imaginary[-m] if m < 0 else real[m]
            rows.append(_horner(polar(degree, abs(m)), z) * around)
    return rows


def harmonic_gradient(
    x: Float[Array, "*pairs"],
    y: Float[Array, "*pairs"],
    z: Float[Array, "*pairs"],
    weights: list[Float[Array, "*pairs"]],
) -> tuple[Float[Array, "*pairs"], Float[Array, "*pairs"], Float[Array, "*pairs"]]:
    """∂/∂(x, y, z) of Σ weights · harmonics as polynomials of x, y and z.

    At unit vectors the part along (x, y, z) depends on how the harmonics are continued away from
    the sphere, and means nothing.
    """
    highest = int(np.sqrt(len(weights))) - 1
    real, imaginary = azimuthal(x, y, highest)
    zero = jnp.zeros_like(x)
    slope = [zero, zero, zero]
    for m in range(highest + 1):
        around = [zero, zero]  # Σ_l of cosines and sines with this m: value, slope along z
        along = [zero, zero]
        for degree in range(m, highest + 1):
            middle = degree * (degree + 1)
            value = _horner(polar(degree, m), z)
            climb = _horner(polar(degree, m, 1), z) if degree > m else zero
            for part, sign in enumerate((1, -1) if m else (1,)):
                weight = weights[middle + sign * m]
                around[part] = around[part] + weight * value
                along[part] = along[part] + weight * climb
        slope[2] = slope[2] + along[0] * real[m] + along[1] * imaginary[m]
        if m:
            cosine, sine = m * real[m - 1], m * imaginary[m - 1]
            slope[0] = slope[0] + around[0] * cosine + around[1] * sine
            slope[1] = slope[1] + around[1] * cosine - around[0] * sine
    return slope[0], slope[1], slope[2]
