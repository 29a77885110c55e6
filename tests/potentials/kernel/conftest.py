"""A small molecule with labels, and what the `sgdml` package made of it (stored/README.md)."""

from pathlib import Path

import numpy as np
import pytest

from karat.data.dataset import Dataset, Record
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

STORED = Path(__file__).parent / "stored"
LEVEL = LevelOfTheory("GFN2-xTB")


@pytest.fixture(scope="session")
def stored():
    with np.load(STORED / "methanol_predicted_by_sgdml.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="session")
def methanol(stored):
    """(train, valid): 16 labelled structures; 24 others with the package's predictions."""

    def dataset(positions, energies, forces, name):
        return Dataset(
            tuple(
                Record(Structure(stored["z"], r), Labels(float(e), f), f"{name}{index}")
                for index, (r, e, f) in enumerate(zip(positions, energies, forces))
            ),
            LEVEL,
        )

    train = dataset(stored["train_R"], stored["train_E"], stored["train_F"], "t")
    return train, dataset(stored["R"], stored["E"], stored["F"], "v")
