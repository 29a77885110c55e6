"""A run in words: where it stands, times and amounts of memory.

Checked: tests/training/test_progress_words.py.
"""

import math

from karat.training.curve import Progress


def progress_words(now: Progress) -> str:
    """Loss, validation errors, speed, learning rate, best epoch and time left, in a line."""
    errors = f"{now.energy_mae:.2f} meV/atom"
    if not math.isnan(now.force_mae):
        errors += f", {now.force_mae:.1f} meV/Å"
    words = (
        f"epochs: loss {now.loss:.3g}, validation MAE {errors}, best epoch {now.best_epoch}, "
        f"{now.steps_per_second:.3g} steps/s, rate {now.learning_rate:.2g}, "
        f"{duration(now.seconds_left)} left"
    )
    return words + (f", went back {now.rollbacks} ×" if now.rollbacks else "")


def duration(seconds: float) -> str:
    """``12 ms``, ``3.4 s``, ``12 min``, ``3 h 5 min``, ``2 d 3 h``."""
    if seconds < 0.095:
        return f"{1e3 * seconds:.2g} ms" if seconds else "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def amount(used: int, limit: int) -> str:
    """``0.61 of 23 GiB``; at least 0.01."""
    return f"{_gib(used)} of {_gib(limit)} GiB"


def _gib(size: int) -> str:
    value = max(size / 2**30, 0.01)
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
