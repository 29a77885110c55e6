"""Radial functions of distances, and the envelopes that end them smoothly.

Source: Gasteiger et al., ICLR (2020), "Directional message passing", eqs. 7 and 8, where nothing
else is said.
Checked: tests/potentials/blocks/test_radial.py, cut-off functions in
tests/potentials/native/test_acsf.py.
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.core.errors import BadInput

CutoffFunction = Literal["cosine", "polynomial"]
CONTINUITY = {"cosine": 1, "polynomial": 2}
"""Order of the highest derivative of each cut-off function that is continuous at the cut-off."""


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


def cutoff_function(
    distance: Float[Array, "*shape"], cutoff: float, kind: CutoffFunction
) -> Float[Array, "*shape"]:
    """f_c: 1 at distance 0, exactly 0 from the cut-off on.

    ``cosine``: ½ (1 + cos(π r / r_c)), once continuously differentiable (Behler 2011, eq. 4).
    ``polynomial``: 1 - 10x³ + 15x⁴ - 6x⁵, twice (Singraber et al. 2019, ``poly2``).
    """
    x = jnp.minimum(distance / cutoff, 1.0)
    if kind == "cosine":
        value = 0.5 * (1.0 + jnp.cos(math.pi * x))
    else:
        value = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x * x)
    return jnp.where(distance < cutoff, value, 0.0)


def gaussians(
    distances: Float[Array, "pairs"],
    centres: Float[Array, "count"],
    eta: float | Float[Array, "count"],
) -> Float[Array, "pairs count"]:
    """exp(−η (r − r_s)²); centres r_s in Å, η in 1/Å²."""
    away = distances[:, None] - centres[None, :]
    return jnp.exp(-jnp.broadcast_to(jnp.asarray(eta, away.dtype), away.shape) * away * away)
