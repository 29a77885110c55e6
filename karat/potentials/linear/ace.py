"""`ace`: the linear atomic cluster expansion.

Source: Drautz, Phys. Rev. B 99, 014104 (2019); Witt et al., J. Chem. Phys. 159, 164101 (2023).
Checked: tests/potentials/linear/test_ace_module.py; benchmarks/linear_ace.py, against published
errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from ase.data import chemical_symbols

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.analytic.pairwise import pair_table, species_of
from karat.potentials.linear.ace_basis import AceSpec
from karat.potentials.linear.ace_module import AceModule
from karat.potentials.linear.ace_pairs import AceShape
from karat.potentials.linear.model import AbstractLinearModel, ZblTerm
from karat.potentials.linear.regression import Regression
from karat.potentials.linear.spacing import CUTOFF_SPACINGS, close_packed_spacing
from karat.potentials.model import Card


@dataclass(frozen=True)
class Ace(AbstractLinearModel):
    """Energies of atoms as sums of products of up to four functions of their neighbours' places,
    made invariant under rotation and reflection: body orders two to five.

    Attributes:
        spacing_angstrom: by element (``Si``) or pair (``Si-O``; else the mean of the two), where
            radial functions resolve best: about the distance of nearest neighbours, in open
            structures rather that of a close packing of the same density. Empty: the latter, from
            the training crystals.
        cutoff_angstrom: of all pairs; about two spacings. `None`: 1.95 times the largest spacing.
        degrees: most that Σ (n + l_weight · l) over the factors may be, for products of one, two,
            three and four functions; n = 1, 2 … counts radial functions.
        l_weight: what an l counts in degrees.
        zbl: repulsion underneath, or `None`.
        regression: how coefficients are found.
    """

    card: ClassVar[Card | None] = Card(
        paper="Drautz, Phys. Rev. B 99, 014104 (2019)",
        symmetry="invariant",
        reach="cut-off",
        cost="100 µs",
        tested="tests/potentials/linear/, tests/peers/test_ace_jax.py, benchmarks/linear_ace.py",
    )

    spacing_angstrom: Mapping[str, float] = field(default_factory=dict)
    cutoff_angstrom: float | None = None
    degrees: tuple[int, ...] = (12, 12, 14, 10)
    l_weight: float = 1.0
    zbl: ZblTerm | None = None
    regression: Regression = field(default_factory=Regression)

    def __post_init__(self) -> None:
        cutoff = np.inf if self.cutoff_angstrom is None else self.cutoff_angstrom
        if self.cutoff_angstrom is not None and not 0 < cutoff < np.inf:
            raise BadInput(f"ace.cutoff_angstrom: {self.cutoff_angstrom} must be above 0.")
        if not 1 <= len(self.degrees) <= 4 or min(self.degrees) < 0 or self.degrees[0] < 1:
            raise BadInput(
                f"ace.degrees: {list(self.degrees)} must hold one to four numbers, of products "
                "of one, two, three and four functions; the first at least 1."
            )
        if not 0.1 <= self.l_weight < np.inf:
            raise BadInput(f"ace.l_weight: {self.l_weight} must be at least 0.1.")
        for name, spacing in self.spacing_angstrom.items():
            if not 0 < spacing < cutoff:
                raise BadInput(
                    f"ace.spacing_angstrom.{name}: {spacing} must lie between 0 and the cut-off "
                    f"{self.cutoff_angstrom}."
                )

    def completed(self, training: Dataset) -> "Ace":
        spacings = self.spacing_angstrom or close_packed_spacing(training)
        cutoff = self.cutoff_angstrom
        if cutoff is None:
            cutoff = round(CUTOFF_SPACINGS * max(spacings.values()), 3)
        return replace(self, spacing_angstrom=spacings, cutoff_angstrom=cutoff)

    def search_space(self) -> Mapping[str, str]:
        small, large = "[10, 10, 10], [12, 12, 12]", "[12, 12, 12, 8], [12, 12, 14, 10]"
        space = {"degrees": f"[{small}, {large}]", "l_weight": "[1.0, 1.5]"}
        if self.cutoff_angstrom is not None:
            low, high = 0.8 * self.cutoff_angstrom, 1.2 * self.cutoff_angstrom
            space["cutoff_angstrom"] = f"{low:.3f}..{high:.3f}"
        return space

    def basis(self, species: tuple[int, ...], dtype: str) -> AceModule:
        if self.cutoff_angstrom is None or not self.spacing_angstrom:
            raise BadInput(
                "ace: spacing_angstrom and cutoff_angstrom are left to the training data, which "
                "are not here; give them, or call `completed`."
            )
        known = species_of(self.spacing_angstrom, "ace.spacing_angstrom")
        for number in species:
            if number not in known:
                raise BadInput(
                    f"ace.spacing_angstrom: has no {chemical_symbols[number]}, which the training "
                    "data have; give its distance of nearest neighbours in Å."
                )
        table = pair_table(self.spacing_angstrom, known, "arithmetic")
        chosen = table[np.ix_(*[[known.index(z) for z in species]] * 2)]
        shape = AceShape(
            spec=AceSpec(len(species), self.degrees, self.l_weight),
            species=species,
            spacings=tuple(tuple(row) for row in chosen.tolist()),
            cutoff=self.cutoff_angstrom,
        )
        repulsion = None if self.zbl is None else self.zbl.module(species, dtype)
        return AceModule.zero(shape, repulsion, dtype)
