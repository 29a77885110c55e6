"""Schedules against optax, averaging and weights by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from karat.training.schedules import Plateau, ema_decay, learning_rate, loss_weights
from karat.training.settings import TrainingSettings

STEPS, WARMUP = 200, 20


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential"])
def test_learning_rates_equal_optax(schedule):
    settings = TrainingSettings(
        learning_rate=0.02, schedule=schedule, final_learning_rate_ratio=0.05, warmup_fraction=0.1
    )
    decay = STEPS - WARMUP
    after = {
        "constant": optax.constant_schedule(0.02),
        "cosine": optax.cosine_decay_schedule(0.02, decay, alpha=0.05),
        "exponential": optax.exponential_decay(0.02, decay, 0.05),
    }[schedule]
    warm = optax.linear_schedule(0.0, 0.02, WARMUP)
    expected = optax.join_schedules([warm, after], [WARMUP])
    for step in (0, 1, 7, 19, 20, 21, 100, 199, 200):
        # optax counts in float32 unless told otherwise
        np.testing.assert_allclose(
            learning_rate(settings, step, STEPS), float(expected(np.float64(step))), rtol=1e-6
        )


def test_without_warmup_the_first_step_is_the_peak():
    settings = TrainingSettings(warmup_fraction=0.0, learning_rate=0.5)
    assert learning_rate(settings, 0, 10) == 0.5
    assert learning_rate(TrainingSettings(learning_rate=0.5), 0, 1) == 0.5


def test_averaging_forgets_the_first_parameters():
    settings = TrainingSettings(ema_decay=0.9)
    decays = [ema_decay(settings, step) for step in range(200)]
    assert decays[:3] == [1 / 10, 2 / 11, 3 / 12]
    assert decays[-1] == 0.9
    assert decays == sorted(decays)
    assert ema_decay(TrainingSettings(ema_decay=0.0), 50) == 0.0


def test_stage_two_has_its_own_rate_and_weights():
    settings = TrainingSettings(
        learning_rate=0.01,
        schedule="constant",
        warmup_fraction=0.0,
        energy_weight=1.0,
        force_weight=100.0,
        stage_two_start=0.75,
        stage_two_energy_weight=1000.0,
        stage_two_learning_rate_ratio=0.1,
    )
    assert [learning_rate(settings, step, 100) for step in (0, 74)] == [0.01, 0.01]
    np.testing.assert_allclose([learning_rate(settings, s, 100) for s in (75, 99)], 0.001)
    assert loss_weights(settings, 0.0) == (1.0, 100.0, 0.0)
    assert loss_weights(settings, 0.749) == (1.0, 100.0, 0.0)
    assert loss_weights(settings, 0.75) == (1000.0, 100.0, 0.0)


def test_weights_may_change_linearly():
    settings = TrainingSettings(
        energy_weight=0.0,
        force_weight=100.0,
        stage_two_start=0.8,
        stage_two_change="linear",
        stage_two_energy_weight=40.0,
        stage_two_force_weight=20.0,
    )
    found = [loss_weights(settings, at) for at in (0.0, 0.2, 0.4, 0.8, 1.0)]
    expected = [(0, 100), (10, 80), (20, 60), (40, 20), (40, 20)]
    np.testing.assert_allclose(found, [(*pair, 0) for pair in expected])
    whole = TrainingSettings(stage_two_change="linear", stage_two_energy_weight=30.0)
    np.testing.assert_allclose(loss_weights(whole, 0.5), (20.0, 1.0, 0.0))


@pytest.mark.parametrize(("patience", "ratio"), [(1, 0.01), (3, 0.01), (2, 0.3)])
def test_plateaus_equal_optax(patience, ratio):
    """On a noisy falling loss with long flat parts; 200 epochs."""
    generator = np.random.default_rng(patience)
    losses = np.exp(-np.minimum(np.arange(200), 60) / 10) * generator.uniform(0.9, 1.1, 200)
    settings = TrainingSettings(
        schedule="plateau",
        plateau_patience=patience,
        plateau_factor=0.7,
        final_learning_rate_ratio=ratio,
    )
    transform = optax.contrib.reduce_on_plateau(
        factor=0.7, patience=patience, rtol=1e-4, atol=0.0, min_scale=ratio
    )
    state, mine = transform.init(jnp.zeros(())), Plateau()

    @jax.jit
    def updated(state, loss):
        return transform.update(jnp.ones(()), state, value=loss)[1]

    for loss in losses:
        with jax.numpy_dtype_promotion("standard"):
            state = updated(state, jnp.asarray(loss))
        mine = mine.after(float(loss), settings)
        np.testing.assert_allclose(mine.scale, float(state.scale), rtol=1e-6)
    assert mine.scale == pytest.approx(ratio)  # the floor was reached


def test_other_schedules_know_no_plateau():
    assert Plateau().after(1.0, TrainingSettings()) == Plateau()
