"""Structure, Labels, LevelOfTheory and Topology: what is refused, kept and told apart."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from karat.core.errors import BadInput
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.structures.topology import Topology

WATER = {
    "numbers": np.array([8, 1, 1]),
    "positions": np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
}
NO_BONDS = Topology(np.zeros((0, 2), int), np.zeros(0), np.zeros(2, int))
BOX = np.diag([4.0, 5.0, 6.0])


def water(**changes):
    return Structure(**(WATER | changes))


def test_arrays_are_read_only_copies():
    positions = WATER["positions"].copy()
    structure = Structure(WATER["numbers"], positions)
    positions += 1.0
    np.testing.assert_array_equal(structure.positions, WATER["positions"])
    with pytest.raises(ValueError, match="read-only"):
        structure.positions[0, 0] = 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"numbers": np.array([8, 1, 0])}, "Unknown atomic number 0"),
        ({"numbers": np.array([8, 1, 119])}, "Unknown atomic number 119"),
        ({"numbers": np.zeros(0, int), "positions": np.zeros((0, 3))}, "at least one atom"),
        ({"positions": np.full((3, 3), np.nan)}, "NaN"),
        ({"cell": np.full((3, 3), np.inf)}, "NaN or infinity"),
        ({"cell": np.zeros((3, 3)), "periodic": np.ones(3, bool)}, "linearly dependent"),
        ({"cell": np.ones((3, 3)), "periodic": np.ones(3, bool)}, "linearly dependent"),
        ({"multiplicity": 2}, "must be odd"),
        ({"charge": 1, "multiplicity": 1}, "9 electrons.*must be even"),
        ({"charge": 8, "multiplicity": 5}, "do not fit"),
        ({"topology": NO_BONDS}, "2 atoms, not 3"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(BadInput, match=words):
        water(**changes)


def test_electrons_and_spin():
    assert (water().electrons, water().unpaired_electrons) == (10, 0)
    cation = water(charge=1)
    assert (cation.electrons, cation.unpaired_electrons) == (9, 1)
    assert water(multiplicity=3).unpaired_electrons == 2


def test_slab_needs_only_its_periodic_vectors():
    cell = np.array([[4.0, 0, 0], [0, 5.0, 0], [0, 0, 0]])
    slab = water(cell=cell, periodic=np.array([True, True, False]))
    with pytest.raises(BadInput, match="3 directions"):
        _ = slab.volume


def test_names():
    assert water().formula == "H2O"
    assert water().symbols == ("O", "H", "H")
    assert len(water()) == 3


def test_digest_tells_apart_what_differs_and_nothing_else():
    box = {"cell": BOX, "periodic": np.ones(3, bool)}
    moved = WATER["positions"].copy()
    moved[0, 0] = np.nextafter(0.0, 1.0)
    different = [
        water(),
        water(positions=moved),
        water(numbers=np.array([8, 1, 9])),
        water(charge=2),
        water(multiplicity=3),
        water(**box),
        water(**(box | {"periodic": np.array([True, True, False])})),
        water(**(box | {"cell": BOX[[1, 0, 2]]})),
    ]
    assert len({structure.digest for structure in different}) == len(different)
    bonds = Topology(np.array([[0, 1], [0, 2]]), np.ones(2), np.zeros(3, int))
    assert water(topology=bonds).digest == water().digest == water(multiplicity=1).digest


def test_ase_and_back():
    structure = water(cell=BOX, periodic=np.array([True, False, True]), charge=1, multiplicity=2)
    back = Structure.from_ase(structure.to_ase())
    assert back.digest == structure.digest
    assert (back.charge, back.multiplicity) == (1, 2)


def test_labels_have_declared_shapes():
    # in tests jaxtyping refuses it first, in use karat
    with pytest.raises((BadInput, TypeCheckError), match="stress"):
        Labels(stress=np.zeros((3, 2)))
    labels = Labels(energy=np.float64(1.0), forces=np.zeros((2, 3)))
    assert type(labels.energy) is float
    assert labels.quantities == ("energy", "forces")
    assert not Labels(energy=float("nan")).finite()
    with pytest.raises(ValueError, match="read-only"):
        labels.forces[0, 0] = 1.0


def test_levels_of_theory():
    level = LevelOfTheory("PBE", "def2-SVP", "D3(BJ)", "ORCA 5", {"grid": "5"})
    assert level.label == "PBE-D3(BJ)/def2-SVP"
    assert LevelOfTheory.from_dict(level.as_dict()).digest == level.digest
    assert level.same_as(LevelOfTheory("pbe", "DEF2-SVP", "D3(bj)", "PySCF"))
    assert not level.same_as(LevelOfTheory("PBE", "def2-SVP"))
    unknown = LevelOfTheory("unknown")
    assert not unknown.same_as(unknown)
    assert LevelOfTheory("GFN2-xTB").semiempirical
    assert not level.semiempirical


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bonds": [[0, 3]], "orders": [1.0]}, "outside"),
        ({"bonds": [[-1, 0]], "orders": [1.0]}, "outside"),
        ({"bonds": [[1, 1]], "orders": [1.0]}, "itself"),
        ({"bonds": [[0, 1]], "orders": [1.0], "residues": ("A",)}, "1 residues for 3"),
    ],
)
def test_topologies_that_cannot_be(values, words):
    arrays = {key: np.array(values[key]) for key in ("bonds", "orders")}
    with pytest.raises(BadInput, match=words):
        Topology(**(values | arrays), formal_charges=np.zeros(3, int))


def test_topology_digest_sees_everything():
    def topology(**changes):
        values = {
            "bonds": np.array([[0, 1]]),
            "orders": np.array([1.0]),
            "formal_charges": np.zeros(3, int),
        }
        return Topology(**(values | changes))

    variants = [
        topology(),
        topology(bonds=np.array([[0, 2]])),
        topology(orders=np.array([2.0])),
        topology(formal_charges=np.array([0, 0, 1])),
        topology(residues=("A", "A", "B")),
        topology(smiles="O"),
    ]
    assert len({one.digest for one in variants}) == len(variants)
