"""Divergence: noticed in the middle of an epoch, undone, and remembered to the bit."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.model import named_arrays
from karat.training import loop
from karat.training.divergence import LAG, WINDOW, Diverged, Rollback, Watch, largest_growth
from karat.training.settings import TrainingSettings
from karat.training.trainer import Trained, train

ALL_SQUARED = ("mse", "mse", "mse")
FORCES = (0.0, 1.0, 0.0)


def watched(losses, typical=(0.0, 1.0, 0.0), kinds=ALL_SQUARED, steps=100) -> Rollback | None:
    """What a watch says about these losses of forces."""
    watch = Watch(4, steps, typical, kinds)
    try:
        for loss in losses:
            watch.add(jnp.array([np.nan, loss, 0.0]), FORCES, 0.5)
        watch.finish()
    except Diverged as diverged:
        return diverged.rollback
    return None


def test_a_loss_that_is_not_finite_is_noticed_at_its_step():
    for bad in (np.nan, np.inf):
        found = watched([1.0, 1.0, bad, 1.0])
        assert found == Rollback(4, 3, f"a training loss of {bad:g}", 0.5)


def test_it_is_noticed_while_the_epoch_runs():
    watch = Watch(1, 100, [], ALL_SQUARED)
    watch.add(jnp.array([0.0, np.inf, 0.0]), FORCES, 0.1)
    for _ in range(LAG - 1):
        watch.add(jnp.array([0.0, 1.0, 0.0]), FORCES, 0.1)
    with pytest.raises(Diverged):
        watch.add(jnp.array([0.0, 1.0, 0.0]), FORCES, 0.1)


def test_a_few_odd_structures_are_no_divergence():
    odd = [1.0, 1e6, 1.0, 1e9, 1.0, 1.0, 1e4, 1.0, 1.0, 1.0] * 3
    assert watched(odd) is None
    assert watched([90.0] * 20) is None
    found = watched([1.0] * 5 + [150.0] * 20)
    assert found.epoch == 4
    # the median of 8 is above 100 from the fifth large one on
    assert found.step == 5 + WINDOW // 2 + 1
    assert "more than 100 times those before (1)" in found.reason


def test_absolute_errors_may_grow_tenfold_only():
    assert largest_growth(("mse", "mae", "mae"), FORCES) == 10.0
    assert largest_growth(("mae", "huber", "mae"), (1.0, 1.0, 0.0)) == 100.0
    kinds = ("mse", "mae", "mse")
    assert watched([9.0] * 20, kinds=kinds) is None
    assert watched([11.0] * 20, kinds=kinds) is not None


def test_the_first_epoch_is_compared_with_its_beginning():
    assert watched([5.0] * 8 + [300.0] * 8, typical=()) is None
    assert watched([5.0] * 8 + [600.0] * 8, typical=()) is not None
    assert watched([1.0, 300.0, 300.0], typical=()) is None  # too short to say


def test_short_epochs_are_compared_as_a_whole():
    assert watched([300.0, 1.0, 1.0], steps=3) is None
    assert watched([1.0, 300.0, 300.0], steps=3).step == 3


def test_tiny_errors_may_grow():
    # 0.3 meV/Å → 5 meV/Å is a hundredfold growth of what nobody sees
    assert watched([25e-6] * 20, typical=(0.0, 9e-8, 0.0)) is None
    assert watched([1.0] * 20, typical=(0.0, 9e-8, 0.0)) is not None


SETTINGS = TrainingSettings(epochs=6, batch_size=4, seed=3, warmup_fraction=0.0)
STEPS = 6  # of an epoch of 22 structures


@pytest.fixture(scope="module")
def data(clusters):
    return clusters(22, 0), clusters(7, 1)


def spoil(monkeypatch, first: int, times: int, rate: float):
    """Let the learning rate be `rate` from step `first` to the end of its epoch, until it was
    undone `times` times."""
    real, end = loop._rate, (first // STEPS + 1) * STEPS

    def spoilt(settings, journal, at, total):
        bad = first <= at < end and len(journal.rollbacks) < times
        return rate if bad else real(settings, journal, at, total)

    monkeypatch.setattr(loop, "_rate", spoilt)


def bits(trained: Trained) -> list[bytes]:
    arrays = named_arrays(trained.potential.module)
    columns = trained.curve.as_arrays()
    return [
        *(np.asarray(a).tobytes() for a in arrays.values()),
        *(array.tobytes() for name, array in columns.items() if name != "seconds"),
        *(array.tobytes() for array in trained.parity.as_arrays().values()),
    ]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("rate", [1e30, 30.0])
def test_a_run_goes_on_from_the_last_good_epoch(rate, small, data, tmp_path, monkeypatch):
    """Spoilt in the fourth epoch, twice; `rate` gives infinite or merely large losses."""
    plain = train(small, *data, SETTINGS, tmp_path / "plain")
    spoil(monkeypatch, 3 * STEPS + 2, 2, rate)
    stages = []
    trained = train(small, *data, SETTINGS, tmp_path / "a", stage=stages.append)
    curve = trained.curve
    assert curve.epoch.tolist() == [1, 2, 3, 4, 5, 6]
    assert curve.rollbacks.tolist() == [0, 0, 0, 2, 2, 2]
    assert [r.epoch for r in trained.rollbacks] == [4, 4]
    assert all(r.step > 2 and r.learning_rate == rate for r in trained.rollbacks)
    assert np.isfinite(curve.train_loss).all()
    assert curve.valid_loss[-1] < curve.valid_loss[2]
    assert curve.valid_loss[:3].tobytes() == plain.curve.valid_loss[:3].tobytes()
    np.testing.assert_allclose(curve.learning_rate[3:], plain.curve.learning_rate[3:] / 4)
    told = [stage.words for stage in stages if "diverged" in stage.words]
    assert len(told) == 2
    assert "diverged in epoch 4" in told[0]
    assert "back to epoch 3 with half the learning rate" in told[0]
    assert len(trained.summary(*data, SETTINGS)["rollbacks"]) == 2
    # interrupted before and after the return, it is the same run
    for stop in (2, 5):
        with pytest.raises(Interrupted):
            train(small, *data, SETTINGS, tmp_path / "b", partial(stop_at, stop))
    assert bits(train(small, *data, SETTINGS, tmp_path / "b")) == bits(trained)


def stop_at(epoch, progress):
    if progress.epoch == epoch:
        raise Interrupted


def test_without_a_good_epoch_it_begins_anew(small, data, tmp_path, monkeypatch):
    """Then it is the run with half the learning rate, to the bit."""
    half = dataclasses.replace(SETTINGS, learning_rate=SETTINGS.learning_rate / 2, epochs=2)
    expected = train(small, *data, half, tmp_path / "half")
    spoil(monkeypatch, 3, 1, 1e30)
    settings = dataclasses.replace(SETTINGS, epochs=2)
    trained = train(small, *data, settings, tmp_path / "spoilt")
    assert [r.epoch for r in trained.rollbacks] == [1]
    mine, theirs = (jax.tree.leaves(t.potential.module) for t in (trained, expected))
    for a, b in zip(mine, theirs):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert trained.curve.train_loss.tobytes() == expected.curve.train_loss.tobytes()
