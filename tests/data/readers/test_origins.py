"""Names, groups and frames while a file streams."""

import numpy as np
import pytest

from karat.data.readers.origins import Origins, formula
from karat.structures.structure import Structure

WATER, METHANE = np.array([8, 1, 1]), np.array([6, 1, 1, 1, 1])


def test_first_group_is_called_as_the_file():
    origins = Origins("run")
    assert origins.next(WATER) == ("run:0", "run", 0)
    assert origins.next(METHANE) == ("run:1", "run/CH4", 0)
    assert origins.next(WATER) == ("run:2", "run", 1)
    assert origins.next(WATER, charge=1) == ("run:3", "run/H2O (2)", 0)
    assert origins.next(WATER, kind="hot") == ("run:4", "run/hot/H2O", 0)
    assert origins.next(WATER[::-1].copy()) == ("run:5", "run/H2O (3)", 0)


def test_the_file_goes_first():
    origins = Origins("run")
    assert origins.next(WATER, name="a", group="g", frame=7) == ("a", "g", 7)
    assert origins.next(WATER, name="a", group="g") == ("a#2", "g", 1)
    assert origins.next(WATER, name="a") == ("a#3", "run", 0)


@pytest.mark.parametrize("numbers", [[1, 6, 8, 1], [14, 8, 8], [1], [6, 17], [1, 11, 9]])
def test_formula_is_that_of_structures(numbers):
    structure = Structure(np.array(numbers), np.zeros((len(numbers), 3)))
    assert formula(np.array(numbers)) == structure.formula


def test_formula_of_what_is_no_element():
    assert formula(np.array([0, 500, -3, 1])) == "HX3"
