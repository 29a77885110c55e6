"""London dispersion D3(BJ) as a term of sums, through simple-dftd3.

Sources: pairs, coefficients and three-body term: Grimme, Antony, Ehrlich & Krieg, J. Chem. Phys.
132, 154104 (2010); damping: Grimme, Ehrlich & Goerigk, J. Comput. Chem. 32, 1456 (2011); program:
https://dftd3.readthedocs.io
Checked: tests/potentials/external/test_dispersion.py and the conformance suite.
"""

import importlib.resources
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ase.cell import Cell

from karat.core.errors import BadInput, CalculationFailed, MissingDependency, unknown_key
from karat.core.units import BOHR, HARTREE
from karat.potentials.protocol import (
    AbstractPotential,
    AbstractPotentialComponent,
    Traits,
    check_suitable,
    require_finite,
)
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from dftd3.interface import RationalDampingParam

LAST_ELEMENT: Final = 103
"""The library has coefficients up to lawrencium; beyond it returns zero or dies."""
PAIR_CUTOFF: Final = 60 * BOHR
OTHER_CUTOFF: Final = 40 * BOHR
"""Å, of triples and coordination numbers; both are the library's own."""
SHORTEST_CUTOFF: Final = 5.0
"""Å; below, coordination numbers and neighbours are no longer those of the method."""
TOLERANCE: Final = 1e-4
TOLERANCE_REASON: Final = (
    "coordination numbers end abruptly at their cut-off, where a neighbour counts 1e-6: the energy "
    "jumps by about 1e-7 eV"
)


@dataclass(frozen=True)
class BeckeJohnson:
    """Damping parameters of one's own, dimensionless but for a2.

    E = −½ Σ_{i≠j} Σ_{n=6,8} s_n C_n / (rⁿ + R₀ⁿ) with R₀ = a1 √(C₈/C₆) + a2.

    Attributes:
        s8, a1: see above.
        a2_bohr: a2, in bohr, as it is published.
        s6: 1 in most functionals.
        s9: factor of the three-body term, where there is one.
    """

    s8: float
    a1: float
    a2_bohr: float
    s6: float = 1.0
    s9: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise BadInput(f"d3.parameters.{name} {value} must be 0 or more.")


@dataclass(frozen=True)
class D3(AbstractPotentialComponent):
    """D3(BJ): two-body dispersion with coefficients that depend on coordination numbers, H to Lr;
    molecules and structures that repeat in any number of directions.

    It is no potential by itself: add it to one of the functional (`sum`), or to a model trained to
    labels without dispersion. Energies are zero for atoms far apart. The published wheels of
    simple-dftd3 compute in one thread; other builds obey OMP_NUM_THREADS, which karat's commands
    set to 1. Elements 95 to 103: Wittmann et al., Phys. Chem. Chem. Phys. 26, 21379 (2024).

    Attributes:
        functional: whose damping parameters are taken, as simple-dftd3 names it: ``pbe``,
            ``b3lyp``, ``r2scan``, …
        parameters: damping parameters of one's own, instead of a functional's.
        three_body: whether the Axilrod-Teller-Muto term is added; in crystals it costs most.
        pair_cutoff_angstrom, three_body_cutoff_angstrom: where they end.
        coordination_cutoff_angstrom: of coordination numbers. It belongs to the method: far
            neighbours count about 1e-7 each, so that in crystals there is no limit of long ones.
        switch_angstrom: over which pairs and triples are switched off smoothly, twice continuously
            differentiable; 0: they end abruptly, as in most programs.
    """

    functional: str = "pbe"
    parameters: BeckeJohnson | None = None
    three_body: bool = False
    pair_cutoff_angstrom: float = PAIR_CUTOFF
    three_body_cutoff_angstrom: float = OTHER_CUTOFF
    coordination_cutoff_angstrom: float = OTHER_CUTOFF
    switch_angstrom: float = 2.0

    def __post_init__(self) -> None:
        if self.parameters is not None and self.functional != "pbe":
            raise BadInput(
                f"d3: functional '{self.functional}' and parameters are both given; leave one out."
            )
        cutoffs = ("pair", "three_body", "coordination")
        for name in (f"{kind}_cutoff_angstrom" for kind in cutoffs):
            value = getattr(self, name)
            if not SHORTEST_CUTOFF <= value <= 1000.0:
                raise BadInput(f"d3.{name} {value} must lie in {SHORTEST_CUTOFF:g}…1000 Å.")
        shortest = min(self.pair_cutoff_angstrom, self.three_body_cutoff_angstrom)
        if not 0 <= self.switch_angstrom < shortest:
            raise BadInput(
                f"d3.switch_angstrom {self.switch_angstrom} must lie between 0 and the shorter "
                f"cut-off {shortest:g} Å."
            )

    def load(self) -> "D3Potential":
        return D3Potential(self, self._damping())

    def _damping(self) -> "RationalDampingParam":
        """The library's own object.

        Raises:
            UnknownKey: no such functional, with a suggestion.
            MissingDependency: simple-dftd3 is not installed.
        """
        try:
            from dftd3.interface import RationalDampingParam
        except ImportError as error:
            raise MissingDependency(
                f"d3 needs simple-dftd3, which cannot be imported ({error}): pip install dftd3"
            ) from error
        own = self.parameters
        if own is not None:
            s9 = own.s9 if self.three_body else 0.0
            return RationalDampingParam(s6=own.s6, s8=own.s8, s9=s9, a1=own.a1, a2=own.a2_bohr)
        try:
            return RationalDampingParam(method=self.functional, atm=self.three_body)
        except RuntimeError as error:
            raise unknown_key("d3.functional", self.functional, functionals()) from error


def functionals() -> tuple[str, ...]:
    """Functionals that simple-dftd3 has parameters for, of those in its published table; it knows
    other spellings, too."""
    text = (importlib.resources.files("dftd3") / "parameters.toml").read_text("utf-8")
    table: Mapping[str, Any] = tomllib.loads(text)["parameter"]
    listed = [name for name, entry in table.items() if "bj" in entry.get("d3", {})]
    return tuple(sorted(name for name in listed if _known(name)))


def _known(functional: str) -> bool:
    """A few of the table's names are not those of the library."""
    from dftd3.interface import RationalDampingParam

    try:
        RationalDampingParam(method=functional)
    except RuntimeError:
        return False
    return True


class D3Potential(AbstractPotential):
    """D3(BJ) behind the interface of potentials; forces and stress are analytic gradients.

    Args:
        settings: cut-offs and whether there is a three-body term.
        damping: the library's parameters.
    """

    def __init__(self, settings: D3, damping: "RationalDampingParam") -> None:
        self.settings = settings
        self.damping = damping

    @property
    def traits(self) -> Traits:
        return Traits(
            species=tuple(range(1, LAST_ELEMENT + 1)),
            periodic=True,
            molecules=True,
            quantities=("energy", "forces", "stress"),
            cutoff=self.settings.pair_cutoff_angstrom,
            continuity=2 if self.settings.switch_angstrom > 0 else -1,
            force_tolerance=TOLERANCE,
            tolerance_reason=TOLERANCE_REASON,
        )

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        for structure in structures:
            check_suitable(self, structure, want)
        return [self._labels(structure, want) for structure in structures]

    def _labels(self, structure: Structure, want: Sequence[Quantity]) -> Labels:
        """From atomic units; the library's virial is ∂E/∂ε."""
        gradient = "forces" in want or "stress" in want
        raw = self._single_point(structure, gradient)
        values: dict[str, Any] = {"energy": float(raw["energy"]) * HARTREE}
        if "forces" in want:
            values["forces"] = -np.array(raw["gradient"]) * (HARTREE / BOHR)
        if "stress" in want:
            virial = np.array(raw["virial"]) * (HARTREE / structure.volume)
            values["stress"] = 0.5 * (virial + virial.T)
        return require_finite(Labels(**values), f"D3(BJ) of {structure.formula}")

    def _single_point(self, structure: Structure, gradient: bool) -> Mapping[str, Any]:
        from dftd3.interface import DispersionModel

        cell = {}
        if structure.periodic.any():
            # directions without repetition may have no vector; the library needs three
            lattice = Cell(np.array(structure.cell)).complete().array
            cell = {"lattice": lattice / BOHR, "periodic": structure.periodic}
        settings = self.settings
        try:
            model = DispersionModel(np.array(structure.numbers), structure.positions / BOHR, **cell)
            model.set_realspace_cutoff(
                disp2=settings.pair_cutoff_angstrom / BOHR,
                disp3=settings.three_body_cutoff_angstrom / BOHR,
                cn=settings.coordination_cutoff_angstrom / BOHR,
                width2=settings.switch_angstrom / BOHR,
                width3=settings.switch_angstrom / BOHR,
            )
            return dict(model.get_dispersion(self.damping, grad=gradient))
        except RuntimeError as error:
            raise CalculationFailed(f"D3(BJ) failed for {structure.formula}: {error}.") from error
