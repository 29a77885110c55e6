from collections.abc import Sequence

import numpy as np
import pytest

from karat.core.errors import CalculationFailed, UnknownElement, UnsuitableStructure
from karat.potentials.protocol import (
    AbstractPotential,
    Traits,
    check_suitable,
    predict_each,
    require_finite,
)
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure


class Counting(AbstractPotential):
    """Energy = number of atoms; structures of two atoms fail."""

    def __init__(self, **declared) -> None:
        self.declared = {"species": (1, 2), "periodic": True, "molecules": True} | declared
        self.computed = 0

    @property
    def traits(self) -> Traits:
        return Traits(**({"quantities": ("energy", "forces")} | self.declared))

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        for structure in structures:
            check_suitable(self, structure, want)
        if any(len(s) == 2 for s in structures):
            raise CalculationFailed("two atoms", kind="not-converged")
        self.computed += len(structures)
        return [Labels(energy=float(len(s)), forces=np.zeros((len(s), 3))) for s in structures]


def row(atoms, number=1, periodic=False):
    box = {"cell": 9 * np.eye(3), "periodic": np.ones(3, bool)} if periodic else {}
    positions = np.arange(3.0 * atoms).reshape(-1, 3)
    return Structure(numbers=np.full(atoms, number), positions=positions, **box)


@pytest.mark.parametrize(
    ("declared", "structure", "want", "error", "words"),
    [
        ({}, row(1, number=26), "energy", UnknownElement, "Fe .* it knows H, He"),
        (
            {"periodic": False},
            row(1, periodic=True),
            "energy",
            UnsuitableStructure,
            "molecules only",
        ),
        ({"molecules": False}, row(1), "energy", UnsuitableStructure, "crystals only"),
        ({"needs_topology": True}, row(1), "energy", UnsuitableStructure, "needs bonds"),
        ({}, row(1), "charges", UnsuitableStructure, "does not predict charges"),
        (
            {"quantities": ("energy", "stress")},
            row(1),
            "stress",
            UnsuitableStructure,
            "three periodic directions",
        ),
    ],
)
def test_refusals_name_the_value(declared, structure, want, error, words):
    potential = Counting(**declared)
    with pytest.raises(error, match=words):
        potential.predict([row(1, periodic=structure.periodic.all()), structure], (want,))
    assert potential.computed == 0


def test_any_element_where_species_is_none():
    check_suitable(Counting(species=None), row(1, number=92), ("energy",))


def test_one_failure_costs_no_other():
    outcome = predict_each(Counting(), [row(1), row(2), row(3), row(1, number=26)], ("energy",))
    assert [getattr(o, "energy", type(o)) for o in outcome] == [
        1.0,
        CalculationFailed,
        3.0,
        UnknownElement,
    ]
    assert outcome[1].kind == "not-converged"
    assert [o.energy for o in predict_each(Counting(), [row(1), row(3)], ("energy",))] == [1.0, 3.0]


def test_not_finite_labels_are_refused():
    with pytest.raises(CalculationFailed, match="X returned NaN"):
        require_finite(Labels(energy=1.0, forces=np.full((1, 3), np.nan)), "X")
