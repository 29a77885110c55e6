"""The quality that a user may expect, on real data: acetylacetone at 300 K, PBE-D3."""

import os
from pathlib import Path

import numpy as np
import pytest

from karat.data.files import read_dataset
from karat.potentials.native.bpnn import Bpnn
from karat.structures.labels import LevelOfTheory
from karat.training.settings import TrainingSettings
from karat.training.trainer import train

DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "acac"
LEVEL = LevelOfTheory("PBE", "def2-SVP", "D3")


@pytest.mark.slow
def test_force_errors_fall_with_the_number_of_labels(tmp_path):
    if not DATA.exists():
        pytest.skip(f"{DATA}: no such folder; set KARAT_DATA to the test data")
    frames = read_dataset(DATA / "train_300K.xyz.gz", LEVEL)
    test = read_dataset(DATA / "test_MD_300K.xyz.gz", LEVEL)
    order = np.random.default_rng(1).permutation(500).tolist()
    errors = []
    for size, epochs in ((50, 150), (150, 100), (450, 50)):
        trained = train(
            Bpnn(),
            frames.subset(order[50 : 50 + size]),
            frames.subset(order[:50]),
            TrainingSettings(epochs=epochs),
            tmp_path / str(size),
        )
        found = trained.potential.predict(test.structures)
        squares = [(f.forces - label.forces) ** 2 for f, label in zip(found, test.labels)]
        errors.append(1e3 * float(np.sqrt(np.mean(squares))))
    assert errors == sorted(errors, reverse=True)
    # 115, 60, 43 meV/Å were seen; the forces themselves are 1.0 eV/Å
    assert errors[0] < 160
    assert errors[2] < 60
