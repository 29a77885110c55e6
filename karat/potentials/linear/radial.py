"""Radial functions of the atomic cluster expansion: a transformed distance, orthonormal
polynomials of it, and envelopes that end them smoothly.

No tables: with even integer powers the transform is rational in r², and polynomials and their
derivatives come from three-term recurrences; on a CPU that is faster than looking values up.

Source: Witt et al., J. Chem. Phys. 159, 164101 (2023): generalised Agnesi transform with p = 2 and
q = 4, polynomials orthonormal together with their envelope.
Checked: tests/potentials/linear/test_radial.py, against scipy's Jacobi polynomials.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

STEEPEST = 10 / 13
"""a of 1 / (1 + a s⁴ / (1 + s²)) that is steepest at s = 1."""


@dataclass(frozen=True, eq=False)
class Polynomials:
    """(1 - y)^inner (1 + y)^outer p_k(y), orthonormal on [-1, 1], zero for y < -1:
    p₀ = start, p_k+1 = up_k (y - at_k) p_k - down_k p_k-1.

    Attributes:
        inner, outer: powers of the envelope at the origin and at the cut-off.
    """

    inner: int
    outer: int
    start: float
    up: Float[np.ndarray, "count"]
    at: Float[np.ndarray, "count"]
    down: Float[np.ndarray, "count"]

    @classmethod
    def make(cls, inner: int, outer: int, count: int) -> "Polynomials":
        """Jacobi polynomials for the square of the envelope as weight.

        Source: Gautschi, Orthogonal Polynomials (2004), table 1.1.
        """
        a, b = 2 * inner, 2 * outer
        k = np.arange(count + 1, dtype=float)
        twice = 2 * k + a + b
        with np.errstate(invalid="ignore", divide="ignore"):
            at = (b * b - a * a) / (twice * (twice + 2))
            beside = np.sqrt(4 * k * (k + a) * (k + b) * (k + a + b) / (twice**2 * (twice**2 - 1)))
        at[0] = (b - a) / (a + b + 2)
        nodes, weights = np.polynomial.legendre.leggauss(inner + outer + 1)
        mass = float(np.sum(weights * (1 - nodes) ** a * (1 + nodes) ** b))
        beside[0] = 0
        return cls(inner, outer, mass**-0.5, 1 / beside[1:], at[:-1], beside[:-1] / beside[1:])

    def envelope(
        self, y: Float[Array, "*pairs"]
    ) -> tuple[Float[Array, "*pairs"], Float[Array, "*pairs"]]:
        """The envelope and its derivative by y; exactly zero for y ≤ -1."""
        begun, left = jnp.maximum(1 + y, 0), 1 - y
        value = begun**self.outer * left**self.inner
        slope = self.outer * begun ** (self.outer - 1) * left**self.inner
        if self.inner:
            slope = slope - self.inner * begun**self.outer * left ** (self.inner - 1)
        return value, slope

    def values(
        self, y: Float[Array, "*pairs"], factor: Float[Array, "*pairs"]
    ) -> list[Float[Array, "*pairs"]]:
        """factor · p_k(y). Barriers keep the compiler from computing each from the start."""
        rows = [self.start * factor] if len(self.up) else []
        before = jnp.zeros_like(factor)
        for k in range(len(self.up) - 1):
            row = self.up[k].item() * (y - self.at[k].item()) * rows[-1]
            row = jax.lax.optimization_barrier(row - self.down[k].item() * before)
            before = rows[-1]
            rows.append(row)
        return rows

    def slopes(
        self,
        y: Float[Array, "*pairs"],
        values: list[Float[Array, "*pairs"]],
        slope: Float[Array, "*pairs"],
    ) -> list[Float[Array, "*pairs"]]:
        """d(factor · p_k)/dy from `values`, and the factor's own slope."""
        rows = [self.start * slope] if len(self.up) else []
        before = jnp.zeros_like(slope)
        for k in range(len(self.up) - 1):
            row = self.up[k].item() * ((y - self.at[k].item()) * rows[-1] + values[k])
            row = jax.lax.optimization_barrier(row - self.down[k].item() * before)
            before = rows[-1]
            rows.append(row)
        return rows


def agnesi(
    square: Float[Array, "*pairs"], scale: Float[Array, "*broadcast"] | float
) -> tuple[Float[Array, "*pairs"], Float[Array, "*pairs"]]:
    """x = 1 / (1 + a s⁴ / (1 + s²)), which falls from 1 at s = 0 to 0, and dx/d(r²) in 1/Å².

    Args:
        square: r², Å².
        scale: 1/r₀², 1/Å²; s = r/r₀.
    """
    s2 = square * scale
    below = 1 / (1 + s2 + STEEPEST * s2 * s2)
    x = (1 + s2) * below
    return x, -STEEPEST * s2 * (2 + s2) * below * below * scale


def agnesi_at(
    distance: Float[np.ndarray, "*shape"] | float, spacing: Float[np.ndarray, "*shape"] | float
) -> Float[np.ndarray, "*shape"]:
    """The transform on the host, r and r₀ in Å."""
    s2 = np.asarray(np.divide(distance, spacing)) ** 2
    return np.asarray((1 + s2) / (1 + s2 + STEEPEST * s2 * s2))
