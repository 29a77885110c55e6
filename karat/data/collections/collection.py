"""`Collection`: structures, and reference energies of combinations of them.

An interaction energy, a conformer's or isomer's energy, a barrier, a point of a torsion scan or of
a dissociation curve: each is Σ c_k E(structure_k), so that zeros of energy drop out.

Checked: tests/data/collections/test_collection.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from karat.core.errors import BadInput
from karat.structures.structure import Structure

Task = Literal[
    "interactions", "conformers", "isomers", "torsions", "reactions", "barriers", "diatomics"
]
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True)
class Energy:
    """One reference energy.

    Attributes:
        name: unique within its collection.
        reference: eV.
        terms: name of a structure → its factor.
        kind: class of the case: ``hydrogen bond``, the name of a subset, …; "" for none.
        group: what belongs together: one molecule's conformers, one scan, one complex at several
            distances; the name itself where it stands alone.
        coordinate: place along a curve (degrees, Å or a factor of the distance), or `None`.
    """

    name: str
    reference: float
    terms: Mapping[str, float]
    kind: str = ""
    group: str = ""
    coordinate: float | None = None

    def __post_init__(self) -> None:
        numbers = [self.reference, *self.terms.values(), self.coordinate or 0.0]
        if not all(math.isfinite(number) for number in numbers):
            raise BadInput(f"energy {self.name}: a number is NaN or infinite.")
        if not self.name or not self.terms or not all(self.terms.values()):
            raise BadInput(f"energy {self.name!r}: needs a name and factors that are not zero.")
        if not self.group:
            object.__setattr__(self, "group", self.name)


@dataclass(frozen=True, eq=False)
class Collection:
    """Structures by name, and energies made of them.

    Raises:
        BadInput: a name given twice, a term without structure, or atoms or charges that do not
            balance: the two sides of a reaction are the same atoms.
    """

    structures: Mapping[str, Structure]
    energies: tuple[Energy, ...]

    def __post_init__(self) -> None:
        names = [energy.name for energy in self.energies]
        if not names:
            raise BadInput("A collection needs at least one energy.")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BadInput(f"Two energies are named '{twice}'.")
        for energy in self.energies:
            self._check(energy)

    def _check(self, energy: Energy) -> None:
        missing = [name for name in energy.terms if name not in self.structures]
        if missing:
            raise BadInput(f"energy {energy.name}: there is no structure '{missing[0]}'.")
        balance = np.zeros(119)
        for name, factor in energy.terms.items():
            structure = self.structures[name]
            balance += factor * np.bincount(structure.numbers, minlength=119)
            balance[0] += factor * structure.charge
        if np.abs(balance).max() > 1e-9:
            what = "charges" if abs(balance[0]) > 1e-9 else "atoms"
            raise BadInput(
                f"energy {energy.name}: {what} do not balance. Its terms are "
                f"{terms_text(energy.terms)}."
            )

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Names of the structures that energies are made of, each once, in order of first use."""
        return tuple(dict.fromkeys(name for energy in self.energies for name in energy.terms))

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers of the structures that are used, ascending."""
        return tuple(sorted({int(z) for name in self.used for z in self.structures[name].numbers}))


def terms_text(terms: Mapping[str, float]) -> str:
    """``1*complex;-1*host;-1*guest``."""
    return ";".join(f"{factor:g}*{name}" for name, factor in terms.items())


def parse_terms(text: str, place: str) -> dict[str, float]:
    """The inverse of `terms_text`.

    Raises:
        BadInput: `place` and the part that cannot be read.
    """
    terms: dict[str, float] = {}
    for part in text.split(";"):
        factor, star, name = part.partition("*")
        try:
            value = float(factor)
        except ValueError:
            star = ""
        if not star or not name:
            raise BadInput(f"{place}: '{part}' is no term; write FACTOR*STRUCTURE, joined by ';'.")
        terms[name] = terms.get(name, 0.0) + value
    return terms
