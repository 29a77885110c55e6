"""One door for models that are descended to and models that are solved for."""

import pytest

from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.potentials.kernel.sgdml import Sgdml
from karat.potentials.native.bpnn import Bpnn, RadialGrid
from karat.potentials.native.deeppot_compressed import DeepPotCompressed
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure
from karat.training.fit import check_settings, fit
from karat.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def water():
    """Rattled water with harmonic bonds and angle: (train, valid)."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from karat.structures.labels import Labels

    def energy(r):
        bonds = jnp.linalg.norm(r[1:] - r[:1], axis=1)
        far = jnp.linalg.norm(r[1] - r[2])
        return 15.0 * jnp.sum((bonds - 0.96) ** 2) + 4.0 * (far - 1.51) ** 2 - 20.0

    start = np.array([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    generator = np.random.default_rng(3)
    both = jax.jit(jax.value_and_grad(energy))
    records = []
    for index in range(40):
        positions = start + generator.normal(0, 0.05, (3, 3))
        value, slope = both(jnp.asarray(positions))
        labels = Labels(float(value), -np.asarray(slope))
        records.append(Record(Structure(np.array([8, 1, 1]), positions), labels, f"w{index}"))
    dataset = Dataset(tuple(records), LevelOfTheory("springs"))
    return dataset.subset(range(30)), dataset.subset(range(30, 40))


def test_a_solved_model_has_errors_but_no_epochs(water, tmp_path):
    stages = []
    found = fit(Sgdml(), *water, TrainingSettings(), tmp_path, stages.append)
    assert found.curve is None
    assert found.best_epoch is None
    assert found.summary["valid_force_rmse_mev_per_angstrom"] < 20
    assert found.summary["permutations"] == 2
    assert {stage.words.split()[0] for stage in stages} >= {"matching", "trying", "calibrating"}
    assert found.potential.level == LevelOfTheory("springs")


def test_an_architecture_has_a_curve(water, tmp_path):
    stages = []
    small = Bpnn(radial=RadialGrid(count=4), angular=(), hidden=(4,), cutoff_angstrom=3.0)
    settings = TrainingSettings(epochs=3)
    found = fit(small, *water, settings, tmp_path, stages.append)
    epochs = [stage for stage in stages if stage.words.startswith("epochs")]
    assert [stage.done for stage in epochs] == [1, 2, 3]
    assert "meV/atom" in epochs[0].words
    assert "meV/Å" in epochs[0].words
    assert len(found.curve.epoch) == 3
    assert found.best_epoch in (1, 2, 3)


def test_settings_of_the_trainer_are_refused_where_they_mean_nothing():
    check_settings(Sgdml(), TrainingSettings(seed=5), "sgdml")
    check_settings(Bpnn(), TrainingSettings(epochs=3), "bpnn")
    with pytest.raises(BadInput, match="sgdml is solved for.*epochs, learning_rate"):
        check_settings(Sgdml(), TrainingSettings(epochs=3, learning_rate=1.0), "sgdml")


def test_a_model_that_others_are_turned_into_is_not_fitted():
    table = DeepPotCompressed(5.0, 0.5, 4, (8,), (10,))
    with pytest.raises(BadInput, match="deeppot_compressed cannot be fitted"):
        check_settings(table, TrainingSettings(), "deeppot_compressed")


def test_data_are_checked_for_both(water, tmp_path):
    train, valid = water
    leaked = Dataset((train.records[0], *valid.records), valid.level)
    with pytest.raises(BadInput, match="both the training and the validation"):
        fit(Sgdml(), train, leaked, TrainingSettings(), tmp_path)
