"""`SnapSettings`: what LAMMPS' `pair_style snap` lets one set, with its meaning.

Checked: tests/potentials/linear/test_snap_lammps.py.
"""

import math
from dataclasses import dataclass

from karat.core.errors import BadInput

MOST_TWOJMAX = 14


@dataclass(frozen=True)
class SnapSettings:
    """Settings of the bispectrum, by LAMMPS' names; hashable, so that modules compile once each.

    An atom's density on the sphere in four dimensions is that of its neighbours at the
    hyper-angle rfac0 π (r - rmin0) / (R - rmin0), weighted by elements and by the cut-off function;
    R = rcutfac (radius of one + radius of the other).

    Attributes:
        twojmax: twice the largest angular momentum.
        rcutfac: factor of radii, Å where radii are 0.5.
        radii, weights: of each element of the potential, in the order of its species.
        rfac0: share of the half-turn that is used, at most 1.
        rmin0: Å.
        switchflag: whether the cut-off function is smooth (else a step).
        bzeroflag: whether the bispectrum of an atom alone is subtracted.
        bnormflag: whether components are divided by 2j + 1.
        quadraticflag: whether products of components are features too.
    """

    twojmax: int
    rcutfac: float
    radii: tuple[float, ...]
    weights: tuple[float, ...]
    rfac0: float = 0.99363
    rmin0: float = 0.0
    switchflag: bool = True
    bzeroflag: bool = True
    bnormflag: bool = False
    quadraticflag: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.twojmax <= MOST_TWOJMAX:
            raise BadInput(f"snap.twojmax: {self.twojmax} must lie in 0 … {MOST_TWOJMAX}.")
        if not 0 < self.rcutfac < math.inf:
            raise BadInput(f"snap.rcutfac: {self.rcutfac} must be above 0, and finite.")
        if not 0 < self.rfac0 <= 1:
            raise BadInput(
                f"snap.rfac0: {self.rfac0} must be above 0 and at most 1, or energies jump."
            )
        if not self.radii or len(self.radii) != len(self.weights):
            raise BadInput(
                f"snap: {len(self.radii)} radii and {len(self.weights)} weights; give one of each "
                "for every element."
            )
        for radius in self.radii:
            if not 0 < radius < math.inf:
                raise BadInput(f"snap.radii: {radius} must be above 0, and finite.")
        if not all(map(math.isfinite, self.weights)):
            raise BadInput(f"snap.weights: {list(self.weights)} must be finite.")
        shortest = 2 * self.rcutfac * min(self.radii)
        if not 0 <= self.rmin0 < shortest:
            raise BadInput(
                f"snap.rmin0: {self.rmin0} Å must lie between 0 and the shortest cut-off, "
                f"{shortest:g} Å."
            )

    @property
    def cutoff(self) -> float:
        """The longest cut-off, Å."""
        return 2 * self.rcutfac * max(self.radii)
