"""Times, amounts and where a run stands, as people read them."""

import math

import pytest

from karat.training.curve import Progress
from karat.training.progress_words import amount, duration, progress_words

NOW = Progress(
    epoch=3,
    epochs=200,
    loss=0.012345,
    energy_mae=1.234,
    energy_rmse=2.0,
    force_mae=12.34,
    force_rmse=20.0,
    learning_rate=0.00351,
    best_epoch=2,
    seconds=10.0,
    seconds_left=725.0,
    steps_per_second=85.44,
    padding=0.1,
    rollbacks=0,
)


def test_all_that_was_promised_is_there():
    assert progress_words(NOW) == (
        "epochs: loss 0.0123, validation MAE 1.23 meV/atom, 12.3 meV/Å, best epoch 2, "
        "85.4 steps/s, rate 0.0035, 12 min left"
    )


def test_without_forces_and_after_a_return():
    from dataclasses import replace

    words = progress_words(replace(NOW, force_mae=math.nan, rollbacks=2))
    assert "Å" not in words
    assert words.endswith("went back 2 ×")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.0123, "12 ms"),
        (0.41, "0.4 s"),
        (3.44, "3.4 s"),
        (59.6, "60 s"),
        (725, "12 min"),
        (5999, "1 h 40 min"),
        (7200, "2 h"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(float(seconds)) == words


def test_amounts():
    assert amount(int(0.61 * 2**30), 23 * 2**30) == "0.61 of 23 GiB"
    assert amount(1000, 2**40) == "0.01 of 1024 GiB"
