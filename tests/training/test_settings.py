"""Refusals, and what settings say together."""

import pytest

from karat.core.components import parse
from karat.core.errors import BadInput, UnknownKey
from karat.training.settings import TrainingSettings


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
        {"accumulate": 0},
        {"devices": -1},
        {"optimiser": "adagrad"},
        {"energy_loss": "mape"},
        {"force_delta": 0.0},
        {"plateau_factor": 1.0},
        {"plateau_patience": 0},
        {"stage_two_start": 0.0},
        {"stage_two_start": 1.5},
        {"stage_two_start": 0.5, "stage_two_energy_weight": -1.0},
        {
            "stage_two_start": 0.5,
            "stage_two_energy_weight": 0.0,
            "stage_two_force_weight": 0.0,
        },
        {"stage_two_energy_weight": 1000.0},  # but no stage two
        {"stage_two_learning_rate_ratio": 0.1},  # the same
        {"stage_two_start": 0.5, "stage_two_learning_rate_ratio": 0.0},
    ],
)
def test_senseless_values_are_refused(values):
    with pytest.raises(BadInput, match="training"):
        parse(TrainingSettings, values, "training")


def test_a_misspelt_key_gets_a_suggestion():
    with pytest.raises(UnknownKey, match="did you mean 'learning_rate'"):
        parse(TrainingSettings, {"learning_rte": 0.1}, "training")


def test_weights_of_two_stages():
    settings = TrainingSettings(
        energy_weight=1.0,
        force_weight=100.0,
        stage_two_start=0.75,
        stage_two_energy_weight=1000.0,
        stage_two_stress_weight=2.0,
    )
    assert settings.first_weights == (1.0, 100.0, 0.0)
    assert settings.last_weights == (1000.0, 100.0, 2.0)
    assert settings.largest_weights == (1000.0, 100.0, 2.0)
    assert TrainingSettings().last_weights == TrainingSettings().first_weights
