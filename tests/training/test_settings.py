"""Schedules against optax, averaging by hand, refusals."""

import numpy as np
import optax
import pytest

from karat.core.components import parse
from karat.core.errors import BadInput, UnknownKey
from karat.training.settings import TrainingSettings, ema_decay, learning_rate

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


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"patience": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"final_learning_rate_ratio": 0.0},
        {"warmup_fraction": 1.0},
        {"ema_decay": 1.0},
        {"energy_weight": -1.0},
        {"energy_weight": 0.0, "force_weight": 0.0},
        {"gradient_clip": float("inf")},
        {"max_seconds": 0.0},
        {"schedule": "sawtooth"},
        {"dtype": "float16"},
        {"reference_energies": "guess"},
        {"reference_energies": {"C": "much"}},
    ],
)
def test_senseless_values_are_refused(values):
    with pytest.raises(BadInput, match="training"):
        parse(TrainingSettings, values, "training")


def test_a_misspelt_key_gets_a_suggestion():
    with pytest.raises(UnknownKey, match="did you mean 'learning_rate'"):
        parse(TrainingSettings, {"learning_rte": 0.1}, "training")
