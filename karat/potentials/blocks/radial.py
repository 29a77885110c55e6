"""Radial functions of distances: Bessel functions and the envelope that ends them smoothly.

Source: Gasteiger et al., ICLR (2020), "Directional message passing", eqs. 7 and 8.
Checked: tests/potentials/blocks/test_radial.py.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.core.errors import BadInput


@dataclass(frozen=True)
class Envelope:
    """u(x) = 1 − (p+1)(p+2)/2 xᵖ + p(p+2) xᵖ⁺¹ − p(p+1)/2 xᵖ⁺², x = r/r_c; 0 beyond the cut-off.

    Value, slope and curvature are zero at the cut-off.

    Attributes:
        cutoff: Å.
        power: p.
    """

    cutoff: float
    power: int

    def __post_init__(self) -> None:
        if self.power < 1:
            raise BadInput(f"envelope_power {self.power} must be 1 or more, e.g. 5.")

    def __call__(self, distances: Float[Array, "*pairs"]) -> Float[Array, "*pairs"]:
        """Of distances in Å."""
        p = self.power
        x = jnp.minimum(distances / self.cutoff, 1.0)
        inner = 0.5 * (p + 1) * (p + 2) - p * (p + 2) * x + 0.5 * p * (p + 1) * x * x
        return jnp.where(distances < self.cutoff, 1 - x**p * inner, 0.0)


def bessel(
    distances: Float[Array, "pairs"], frequencies: Float[Array, "count"], cutoff: float
) -> Float[Array, "pairs count"]:
    """√(2/r_c) sin(n π r/r_c) / r for distances in Å; `frequencies` are the n."""
    angle = distances[:, None] * (frequencies * (jnp.pi / cutoff))[None, :]
    return jnp.sin(angle) * ((2 / cutoff) ** 0.5 / distances)[:, None]
