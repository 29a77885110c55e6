"""What is done before the first step of a run and after its last: forecast, choice by stability."""

import dataclasses

import jax
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.model import named_arrays
from karat.training import checkpoint, forecast, loop
from karat.training.fit import fit
from karat.training.forecast import Forecast, Room
from karat.training.settings import TrainingSettings
from karat.training.stability import CANDIDATES, Instability, StabilityTest
from karat.training.trainer import Trained, train

SETTINGS = TrainingSettings(epochs=12, batch_size=4, seed=3)
TESTED = dataclasses.replace(SETTINGS, stability_picoseconds=0.1)
FAILURE = Instability("cluster 0", "jump", 12.0, "it broke")


@pytest.fixture(scope="module")
def data(clusters):
    return clusters(22, 0), clusters(7, 1)


def parameters(trained: Trained) -> dict[str, bytes]:
    arrays = named_arrays(trained.potential.module)
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()}


@pytest.fixture(scope="module")
def plain(small, data, tmp_path_factory):
    return train(small, *data, SETTINGS, tmp_path_factory.mktemp("plain"))


def test_the_forecast_comes_first_and_changes_nothing(plain, small, data, tmp_path, monkeypatch):
    said, made = [], []
    told = train(small, *data, SETTINGS, tmp_path / "told", stage=said.append, foreseen=made.append)
    words = [stage.words for stage in said]
    (forecast_made,) = made
    assert isinstance(forecast_made, Forecast)
    assert forecast_made.words in words
    assert "for 12 epochs" in forecast_made.words
    compiled = [word for word in words if word.startswith("compiling")]
    assert len(compiled) == len(set(compiled))  # nothing is announced twice
    assert {stage.done for stage in said[: words.index(forecast_made.words) + 1]} == {0}
    assert parameters(told) == parameters(plain)
    monkeypatch.setattr(loop, "_foresee", lambda engine, state, journal: None)
    assert parameters(train(small, *data, SETTINGS, tmp_path / "without")) == parameters(plain)


def test_too_little_memory_is_refused_before_the_first_step(small, data, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "find_room", lambda: Room(10**6, 10**6, "a small machine"))
    with pytest.raises(BadInput, match="of a small machine; no step was made"):
        train(small, *data, SETTINGS, tmp_path, pytest.fail)
    assert not (tmp_path / checkpoint.NAME).exists()


@pytest.mark.slow
def test_a_committee_is_foreseen_too(small, data, tmp_path):
    made = []
    settings = dataclasses.replace(
        SETTINGS, epochs=1, members=2, member_data="bootstrap", accumulate=2
    )
    train(small, *data, settings, tmp_path, foreseen=made.append)
    assert made[0].epochs == 1
    assert made[0].seconds > 0


@pytest.fixture(scope="module")
def judged():
    """A test of stability that fails the first `number` candidates it sees."""

    def patch(monkeypatch, number):
        seen = []

        def run(self, potential):
            seen.append(potential)
            return (FAILURE,) if len(seen) <= number else ()

        monkeypatch.setattr(StabilityTest, "run", run)
        return seen

    return patch


def test_the_next_best_epoch_is_returned_with_its_own_numbers(
    judged, plain, small, data, tmp_path, monkeypatch
):
    seen = judged(monkeypatch, 1)
    trained = train(small, *data, TESTED, tmp_path)
    assert len(seen) == 2
    assert plain.best_epoch != trained.best_epoch
    losses = trained.curve.valid_loss
    np.testing.assert_array_equal(losses, plain.curve.valid_loss)  # the run itself is the same
    summary = trained.summary(*data, TESTED)
    first, second = summary["stability"]["tried"]
    assert (first["epoch"], first["loss"]) == (plain.best_epoch, losses.min())
    assert second["epoch"] == trained.best_epoch == summary["best_epoch"]
    assert second["loss"] == losses[trained.best_epoch - 1]
    assert first["failures"][0]["reason"] == "it broke"
    assert summary["stability"]["passed"]
    assert (
        summary["valid_energy_rmse_mev_per_atom"] == trained.curve.energy_rmse[second["epoch"] - 1]
    )
    # parity, potential and curve are those of that epoch
    parity = trained.parity
    found = trained.potential.predict(data[1].structures)
    forces = np.concatenate([labels.forces for labels in found])
    np.testing.assert_allclose(parity.force_predicted, forces, rtol=0, atol=2e-5)  # float32
    rmse = 1e3 * np.sqrt(np.mean((parity.force_predicted - parity.force_reference) ** 2))
    assert rmse == pytest.approx(trained.curve.force_rmse[trained.best_epoch - 1], rel=1e-3)
    # asked again it is read from the checkpoint
    again = train(small, *data, TESTED, tmp_path)
    assert len(seen) == 2
    assert parameters(again) == parameters(trained)
    assert again.stability == trained.stability


def test_where_none_is_stable_the_best_is_returned_and_said_so(
    judged, plain, small, data, tmp_path, monkeypatch
):
    seen = judged(monkeypatch, 99)
    said = []
    fitted = fit(small, *data, TESTED, tmp_path, said.append)
    assert len(seen) == CANDIDATES
    assert fitted.best_epoch == plain.best_epoch
    arrays = named_arrays(fitted.potential.module)
    assert {k: np.asarray(a).tobytes() for k, a in arrays.items()} == parameters(plain)
    assert "WARNING: not stable: none of 3 candidates is" in fitted.note
    assert fitted.summary["stability"]["passed"] is False
    assert len([s for s in said if s.words.startswith("testing the stability")]) == CANDIDATES
    assert fitted.parity.energy_reference.shape == (7,)


class Interrupted(Exception):
    pass


def test_interrupted_runs_have_the_same_candidates(judged, small, data, tmp_path, monkeypatch):
    judged(monkeypatch, 2)
    undisturbed = train(small, *data, TESTED, tmp_path / "undisturbed")

    def report(progress):
        if progress.epoch in (4, 7):
            raise Interrupted

    judged(monkeypatch, 2)
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(small, *data, TESTED, tmp_path / "disturbed", report)
    disturbed = train(small, *data, TESTED, tmp_path / "disturbed")
    assert parameters(disturbed) == parameters(undisturbed)
    assert disturbed.stability == undisturbed.stability
    assert len(disturbed.stability["tried"]) == 3


def test_without_a_test_nothing_more_is_kept(plain, small, data):
    assert plain.summary(*data, SETTINGS)["stability"] is None


@pytest.mark.slow
def test_a_real_run_of_dynamics_decides(small, data, tmp_path):
    """60 epochs on exact labels are enough to hold a cluster together for 0.1 ps."""
    settings = dataclasses.replace(TESTED, epochs=60, dtype="float64")
    trained = train(small, *data, settings, tmp_path)
    found = trained.stability
    assert found["passed"]
    assert (found["picoseconds"], found["temperature_k"]) == (0.1, 300.0)
    assert len(found["structures"]) == 4
    hot = dataclasses.replace(settings, stability_temperature_k=60000.0)
    assert not train(small, *data, hot, tmp_path / "hot").stability["passed"]


@pytest.mark.parametrize(
    "changed", [{"stability_picoseconds": -1.0}, {"stability_temperature_k": 0.0}]
)
def test_settings_out_of_range(changed):
    with pytest.raises(BadInput, match="stability"):
        TrainingSettings(**changed)


@pytest.mark.slow
def test_committees_are_tested_as_a_whole(judged, small, data, tmp_path, monkeypatch):
    seen = judged(monkeypatch, 1)
    settings = dataclasses.replace(TESTED, epochs=2, members=2)
    trained = train(small, *data, settings, tmp_path)
    assert len(seen) == 1
    assert not trained.stability["passed"]
    assert trained.stability["note"].startswith("WARNING: not stable: it is not stable")
    assert jax.tree.leaves(trained.potential.module)
