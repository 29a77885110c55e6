"""`SoapSettings`: the neighbour density of SOAP and the radial functions that it is expanded in.

Source: Bartók, Kondor & Csányi, Phys. Rev. B 87, 184115 (2013); Gaussian type orbitals as radial
functions: Himanen et al., Comput. Phys. Commun. 247, 106949 (2020).
Checked: tests/potentials/linear/test_soap.py, against dscribe.
"""

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.blocks.chebyshev import nodes

Switch = Literal["cosine", "polynomial", "none"]
CONTINUITY = {"cosine": 1, "polynomial": 3, "none": -1}
"""Order of the highest derivative of each switch that is continuous at the cut-off."""
LEAST = 1.0
"""Å; where the shortest orbital has decayed."""
DECAY = 1e-3
"""What an orbital has decayed to at its own distance, the last one's being the cut-off."""
TAIL = math.sqrt(-2 * math.log(1e-3))
"""Without a switch, atoms up to so many widths beyond the cut-off count."""
MAX_L, MAX_N = 12, 16


@dataclass(frozen=True)
class SoapSettings:
    """A Gaussian at each neighbour and at the atom itself, expanded in radial functions times
    spherical harmonics.

    Attributes:
        cutoff: Å; of the radial functions, and where the switch ends.
        n_max: number of radial functions of each element and l.
        l_max: largest angular momentum.
        atom_sigma: standard deviation of the Gaussians, Å.
        switch: weight of a neighbour by distance: ``cosine``: ½ (1 + cos π x), ``polynomial``:
            (1 + 2x³ - 3x²)², x from 0 to 1 over the last `transition` before the cut-off (dscribe
            calls the latter ``poly`` with m = 2); ``none``: 1, as dscribe without weighting.
        transition: Å.
        central_weight: of the atom itself.
    """

    cutoff: float
    n_max: int = 8
    l_max: int = 6
    atom_sigma: float = 0.5
    switch: Switch = "cosine"
    transition: float = 1.0
    central_weight: float = 1.0

    def __post_init__(self) -> None:
        bounds = {
            "cutoff": (LEAST + 0.1, 20.0),
            "n_max": (1, MAX_N),
            "l_max": (0, MAX_L),
            "atom_sigma": (0.05, 5.0),
            "central_weight": (0.0, 1e3),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(f"soap.{name}: {value} must lie in {low:g}…{high:g}.")
        if self.switch != "none" and not 0 < self.transition <= self.cutoff:
            raise BadInput(
                f"soap.transition: {self.transition} must lie between 0 and the cut-off "
                f"{self.cutoff} Å."
            )

    @property
    def reach(self) -> float:
        """Å; from where on a neighbour does not count."""
        return self.cutoff + (TAIL * self.atom_sigma if self.switch == "none" else 0.0)

    @property
    def nodes(self) -> int:
        """Chebyshev polynomials that give the radial functions to about 1e-11: those of a Gaussian
        fall as exp(-(k σ / reach)² 2)."""
        return math.ceil(3.6 * self.reach / self.atom_sigma) + self.l_max + 4

    def weight(self, distances: Float[Array, "pairs"]) -> Float[Array, "pairs"]:
        """The switch at distances in Å; exactly zero from `reach` on."""
        inside = distances < self.reach
        if self.switch == "none":
            return inside.astype(distances.dtype)
        x = (distances - (self.cutoff - self.transition)) / self.transition
        x = jnp.clip(x, 0.0, 1.0)
        if self.switch == "cosine":
            value = 0.5 * (1 + jnp.cos(math.pi * x))
        else:
            value = (1 + x * x * (2 * x - 3)) ** 2
        return jnp.where(inside, value, 0)


@lru_cache
def orbitals(
    settings: SoapSettings,
) -> tuple[Float[np.ndarray, "degrees count"], Float[np.ndarray, "degrees count count"]]:
    """Exponents (1/Å²) and weights of expanded Gaussians: the overlap of a Gaussian at distance r
    with radial function n of degree l is Y_lm r^l Σ_k weights[l, n, k] exp(-exponents[l, k] r²)."""
    eta = 1 / (2 * settings.atom_sigma**2)
    ends = np.linspace(LEAST, settings.cutoff, settings.n_max)
    exponents, weights = [], []
    for degree in range(settings.l_max + 1):
        alpha = -np.log(DECAY / ends**degree) / ends**2
        power = degree + 1.5
        overlap = 0.5 * math.gamma(power) * (alpha[:, None] + alpha) ** -power
        values, vectors = np.linalg.eigh(_inverse(overlap, settings))
        orthonormal = (vectors * np.sqrt(values)) @ vectors.T
        exponents.append(alpha * eta / (alpha + eta))
        weights.append((math.pi / eta) ** 1.5 * orthonormal * (1 + alpha / eta) ** -power)
    return np.stack(exponents), np.stack(weights)


def _inverse(overlap: Float[np.ndarray, "n n"], settings: SoapSettings) -> np.ndarray:
    """Of the overlap of radial functions."""
    from scipy.linalg import LinAlgError, LinAlgWarning, inv

    with warnings.catch_warnings():
        warnings.simplefilter("error", LinAlgWarning)  # ill-conditioned
        try:
            return np.asarray(inv(overlap))
        except (LinAlgWarning, LinAlgError) as error:
            raise BadInput(
                f"soap.n_max: {settings.n_max} radial functions within {settings.cutoff} Å depend "
                "on each other. Take fewer, or a longer cut-off."
            ) from error


def radial_values(
    settings: SoapSettings, distances: Float[np.ndarray, "points"]
) -> Float[np.ndarray, "points functions"]:
    """r^l Σ_k weights exp(…) without the switch, degree by degree, n running fastest."""
    exponents, weights = orbitals(settings)
    decayed = np.exp(-exponents[None] * distances[:, None, None] ** 2)
    values = np.einsum("lnk,plk->pln", weights, decayed)
    powers = distances[:, None] ** np.arange(settings.l_max + 1)
    return (values * powers[:, :, None]).reshape(len(distances), -1)


@lru_cache
def node_values(settings: SoapSettings) -> Float[np.ndarray, "nodes functions"]:
    """`radial_values` at the Chebyshev nodes."""
    places = 0.5 * settings.reach * (nodes(settings.nodes) + 1)
    return radial_values(settings, places)
