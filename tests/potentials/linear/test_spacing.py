"""Lengths that `ace` takes from the training crystals."""

import numpy as np
import pytest
from ase.build import bulk

from karat.core.components import dump
from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.potentials.linear.ace import Ace
from karat.potentials.linear.spacing import close_packed_spacing
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure


def dataset(structures):
    records = [Record(s, Labels(energy=0.0), f"s{i}") for i, s in enumerate(structures)]
    return Dataset(tuple(records), LevelOfTheory("none"))


def test_in_a_close_packing_it_is_the_distance_of_nearest_neighbours():
    copper = Structure.from_ase(bulk("Cu", "fcc", a=3.6))
    squeezed = Structure.from_ase(bulk("Cu", "fcc", a=2.0))
    found = close_packed_spacing(dataset([copper, copper, squeezed]))
    assert found == {"Cu": pytest.approx(3.6 / np.sqrt(2), abs=1e-3)}
    silicon = Structure.from_ase(bulk("Si", "diamond", a=5.43))
    spacing = close_packed_spacing(dataset([silicon]))["Si"]
    assert spacing == pytest.approx(2 ** (1 / 6) * (5.43**3 / 8) ** (1 / 3), abs=1e-3)


def test_what_is_given_stays_and_what_is_not_comes_from_the_data():
    data = dataset([Structure.from_ase(bulk("Cu", "fcc", a=3.6))])
    model = Ace().completed(data)
    assert model.cutoff_angstrom == pytest.approx(1.95 * 3.6 / np.sqrt(2), abs=2e-3)
    assert Ace({"Cu": 2.5}, 4.0).completed(data) == Ace({"Cu": 2.5}, 4.0)
    assert Ace({"Cu": 2.5}).completed(data).cutoff_angstrom == pytest.approx(4.875)
    assert dump(model)["spacing_angstrom"] == {"Cu": 2.546}
    with pytest.raises(BadInput, match="completed"):
        Ace().basis((29,), "float64")
    assert Ace({"Cu": 2.5}, 4.0).search_space()["cutoff_angstrom"] == "3.200..4.800"


def test_molecules_have_no_density():
    molecule = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.74, 0.0, 0.0]]))
    with pytest.raises(BadInput, match="spacing_angstrom"):
        Ace().completed(dataset([molecule]))
