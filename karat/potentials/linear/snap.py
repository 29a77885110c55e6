"""`snap`: hyper-parameters of a spectral neighbour analysis potential that karat fits.

Checked: tests/potentials/linear/test_snap.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp
from ase.data import chemical_symbols

from karat.core.errors import BadInput
from karat.potentials.analytic.pairwise import atomic_number
from karat.potentials.linear.model import AbstractLinearModel, ZblTerm
from karat.potentials.linear.posterior import Posterior
from karat.potentials.linear.regression import Regression
from karat.potentials.linear.snap_module import SnapModule, feature_count
from karat.potentials.linear.snap_settings import SnapSettings
from karat.potentials.model import Card
from karat.potentials.precision import require


@dataclass(frozen=True)
class Snap(AbstractLinearModel):
    """SNAP, or with `quadraticflag` qSNAP; settings by LAMMPS' names, with LAMMPS' meaning, so
    that LAMMPS runs what was fitted (`snap_files.py` writes its files).

    Source: Thompson et al., J. Comput. Phys. 285, 316 (2015); Wood & Thompson, J. Chem. Phys. 148,
    241721 (2018).

    Attributes:
        twojmax: twice the largest angular momentum: 6 gives 30 components, 8 gives 55.
        rcutfac: two atoms interact up to rcutfac (radius of one + radius of the other); with
            radii of 0.5 it is the cut-off in Å.
        radii: by element symbol; 0.5 where not named.
        weights: of neighbours, by element symbol; 1 where not named. Several elements must differ,
            or they are not told apart as neighbours.
        rfac0, rmin0, switchflag, bzeroflag, bnormflag, quadraticflag: see `SnapSettings`.
        zbl: repulsion underneath, or `None`.
        regression: how coefficients are found.
    """

    card: ClassVar[Card | None] = Card(
        paper="Thompson et al., J. Comput. Phys. 285, 316 (2015)",
        symmetry="invariant",
        reach="cut-off",
        cost="100 µs",
        tested="tests/potentials/linear/, against LAMMPS",
    )

    twojmax: int = 8
    rcutfac: float = 4.9
    radii: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    rfac0: float = 0.99363
    rmin0: float = 0.0
    switchflag: bool = True
    bzeroflag: bool = True
    bnormflag: bool = False
    quadraticflag: bool = False
    zbl: ZblTerm | None = None
    regression: Regression = field(default_factory=Regression)

    def __post_init__(self) -> None:
        for name in ("radii", "weights"):
            for symbol in getattr(self, name):
                atomic_number(symbol, f"snap.{name}")
        self.settings(tuple(atomic_number(symbol, "snap") for symbol in self.radii) or (1,))

    def settings(self, species: tuple[int, ...]) -> SnapSettings:
        """Of these elements.

        Raises:
            BadInput: settings that do not fit together.
        """
        symbols = [chemical_symbols[z] for z in species]
        return SnapSettings(
            twojmax=self.twojmax,
            rcutfac=self.rcutfac,
            radii=tuple(float(self.radii.get(symbol, 0.5)) for symbol in symbols),
            weights=tuple(float(self.weights.get(symbol, 1.0)) for symbol in symbols),
            rfac0=self.rfac0,
            rmin0=self.rmin0,
            switchflag=self.switchflag,
            bzeroflag=self.bzeroflag,
            bnormflag=self.bnormflag,
            quadraticflag=self.quadraticflag,
        )

    def search_space(self) -> Mapping[str, str]:
        low, high = 0.8 * self.rcutfac, 1.2 * self.rcutfac
        return {"rcutfac": f"{low:.3f}..{high:.3f}", "twojmax": "[4, 6, 8]"}

    def basis(self, species: tuple[int, ...], dtype: str) -> SnapModule:
        symbols = {chemical_symbols[z] for z in species}
        for name in ("radii", "weights"):
            for symbol in getattr(self, name):
                if symbol not in symbols:
                    raise BadInput(
                        f"snap.{name}: the data have no {symbol}; they have "
                        f"{', '.join(sorted(symbols))}."
                    )
        settings = self.settings(species)
        return SnapModule(
            coefficients=jnp.zeros(len(species) * feature_count(settings), require(dtype)),
            repulsion=None if self.zbl is None else self.zbl.module(species, dtype),
            posterior=Posterior.none(dtype),
            settings=settings,
            species=species,
            cutoff=max(settings.cutoff, 0.0 if self.zbl is None else self.zbl.outer_angstrom),
            continuity=1 if self.switchflag else -1,
        )
