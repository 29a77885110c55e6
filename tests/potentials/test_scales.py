"""Sizes of labels against what they were drawn from."""

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.potentials.native.scales import force_rms, force_rms_by_species, regressed_energies
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

SIZE = {1: 0.5, 8: 2.0}


def waters(count: int, forces: bool = True) -> Dataset:
    """Forces drawn with 0.5 eV/Å on H and 2 eV/Å on O; one atom of He without forces."""
    generator = np.random.default_rng(0)
    records = []
    for index in range(count):
        numbers = np.array([8, 1, 1])
        scale = np.array([SIZE[int(z)] for z in numbers])[:, None]
        labels = Labels(-1.0e4, generator.normal(size=(3, 3)) * scale if forces else None)
        positions = generator.normal(size=(3, 3))
        records.append(Record(Structure(numbers, positions), labels, f"w{index}"))
    helium = Structure(np.array([2]), np.zeros((1, 3)))
    records.append(Record(helium, Labels(-78.0), "he"))
    return Dataset(tuple(records), LevelOfTheory("test"))


def test_root_mean_squares_are_those_drawn_from():
    data = waters(4000)
    every = np.sqrt((4.0 + 0.25 + 0.25) / 3)
    # relative standard error of an RMS of n numbers: 1/√(2n) = 0.6 % for O, 0.5 % for H; 4 σ
    np.testing.assert_allclose(force_rms(data), every, rtol=0.025)
    assert data.species == (1, 2, 8)
    np.testing.assert_allclose(force_rms_by_species(data), [0.5, every, 2.0], rtol=0.025)


def test_by_hand():
    forces = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 0]])
    structure = Structure(np.array([8, 1, 1]), np.eye(3))
    data = Dataset((Record(structure, Labels(0.0, forces), "w"),), LevelOfTheory("test"))
    np.testing.assert_allclose(force_rms(data), np.sqrt(25 / 9))
    np.testing.assert_allclose(force_rms_by_species(data), np.sqrt([16 / 6, 9 / 3]))


def test_without_forces_there_is_no_scale():
    for function in (force_rms, force_rms_by_species):
        with pytest.raises(BadInput, match="None of the 3 training structures has forces"):
            function(waters(2, forces=False))


def test_energies_of_atoms_are_recovered():
    data = waters(3)
    structures = [*data.structures, Structure(np.array([1, 1]), np.eye(3)[:2])]
    truth = {1: -13.6, 2: -78.9, 8: -2041.3}
    energies = np.array([sum(truth[int(z)] for z in s.numbers) for s in structures])
    found, rank = regressed_energies(structures, energies, data.species)
    assert rank == 3
    np.testing.assert_allclose(found, list(truth.values()), rtol=0, atol=1e-9)
    # water alone determines one combination only: the sum is still exact
    found, rank = regressed_energies(structures[:2], energies[:2], (1, 8))
    assert rank == 1
    np.testing.assert_allclose(2 * found[0] + found[1], energies[0], rtol=0, atol=1e-9)
