"""`Labels`: what was computed for a structure; `LevelOfTheory`: by what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.hashing import digest_json

Quantity = Literal["energy", "forces", "stress", "charges", "dipole"]
"""What can be asked of a potential or an engine."""


_SEMIEMPIRICAL = frozenset(
    {"GFN0-XTB", "GFN1-XTB", "GFN2-XTB", "IPEA1-XTB", "G-XTB", "PM6", "PM7", "AM1", "DFTB"}
)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Predictive uncertainty, each part optional.

    Attributes:
        energy: standard deviation of the energy, eV.
        forces: standard deviation of each force component, eV/Å.
        member_energies: energies of a committee's members, eV.
        member_forces: forces of a committee's members, eV/Å.
        grade: extrapolation grade of each atom (1: edge of the training data).
        structure_grade: of the structure as a whole (1: edge of the training structures).
    """

    energy: float | None = None
    forces: Float[np.ndarray, "atoms 3"] | None = None
    member_energies: Float[np.ndarray, "members"] | None = None
    member_forces: Float[np.ndarray, "members atoms 3"] | None = None
    grade: Float[np.ndarray, "atoms"] | None = None
    structure_grade: float | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """Results for one structure. `None` means not asked for, never "failed".

    Attributes:
        energy: total energy, eV.
        forces: eV/Å.
        stress: σ = (1/V) ∂E/∂ε, eV/Å³, tension positive, symmetric.
        charges: atomic partial charges, e.
        dipole: e Å.
        uncertainty: where the model has one.

    Raises:
        BadInput: a shape that is not the declared one.
    """

    energy: float | None = None
    forces: Float[np.ndarray, "atoms 3"] | None = None
    stress: Float[np.ndarray, "3 3"] | None = None
    charges: Float[np.ndarray, "atoms"] | None = None
    dipole: Float[np.ndarray, "3"] | None = None
    uncertainty: Uncertainty | None = None

    def __post_init__(self) -> None:
        if self.energy is not None:
            object.__setattr__(self, "energy", float(self.energy))
        for name, shape in (
            ("forces", (None, 3)),
            ("stress", (3, 3)),
            ("charges", (None,)),
            ("dipole", (3,)),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.array(value, dtype=np.float64)
            expected = tuple(
                given if want is None else want for given, want in zip(array.shape, shape)
            )
            if array.ndim != len(shape) or array.shape != expected:
                raise BadInput(f"labels: {name} has shape {array.shape}, needs {shape}.")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The quantities that are there."""
        names: tuple[Quantity, ...] = ("energy", "forces", "stress", "charges", "dipole")
        return tuple(name for name in names if getattr(self, name) is not None)

    def finite(self) -> bool:
        """Whether every number is finite."""
        return all(np.isfinite(getattr(self, name)).all() for name in self.quantities)


@dataclass(frozen=True)
class LevelOfTheory:
    """Who computed labels. Two different levels are never mixed silently.

    Attributes:
        method: e.g. ``GFN2-xTB``, ``B3LYP``, ``CCSD(T)``, ``PBE``, ``unknown``.
        basis: e.g. ``def2-TZVP``; "" where the method has none.
        dispersion: e.g. ``D3(BJ)``; "" for none or included.
        program: e.g. ``tblite 0.8.0``.
        settings: what else changes numbers, as text: accuracy, grids, k-points, …
    """

    method: str
    basis: str = ""
    dispersion: str = ""
    program: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Short name for tables: method-dispersion/basis."""
        name = f"{self.method}-{self.dispersion}" if self.dispersion else self.method
        return f"{name}/{self.basis}" if self.basis else name

    @property
    def semiempirical(self) -> bool:
        """Whether the method is semi-empirical and must be called so."""
        return self.method.upper() in _SEMIEMPIRICAL

    @property
    def digest(self) -> str:
        """SHA-256 over everything."""
        return digest_json(self.as_dict())

    def same_as(self, other: "LevelOfTheory") -> bool:
        """Whether numbers of both may be mixed: all but program and settings agree."""
        mine = (self.method.upper(), self.basis.upper(), self.dispersion.upper())
        theirs = (other.method.upper(), other.basis.upper(), other.dispersion.upper())
        return mine == theirs and self.method.lower() != "unknown"

    def as_dict(self) -> dict:
        """JSON-ready values."""
        return {
            "method": self.method,
            "basis": self.basis,
            "dispersion": self.dispersion,
            "program": self.program,
            "settings": dict(self.settings),
        }

    @classmethod
    def from_dict(cls, values: Mapping) -> "LevelOfTheory":
        """The inverse of `as_dict`."""
        return cls(**dict(values))
