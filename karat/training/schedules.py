"""What changes with time: learning rate, weights of the loss, weight of the running average.

Checked: tests/training/test_schedules.py, against optax's schedules.
"""

import math
from dataclasses import dataclass

from karat.training.settings import TrainingSettings

PLATEAU_THRESHOLD = 1e-4
"""Relative fall of the validation loss that counts as one."""


def learning_rate(settings: TrainingSettings, step: float | int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    Linear from 0 over the warm-up, then constant, half a cosine, or exponential, reaching
    `final_learning_rate_ratio` of the peak after the last step; times its ratio in stage two.
    ``plateau`` is constant here: its factor comes from `Plateau`.
    """
    peak, ratio = settings.learning_rate, settings.final_learning_rate_ratio
    if in_stage_two(settings, step / steps):
        peak *= settings.stage_two_learning_rate_ratio
    warmup = math.floor(settings.warmup_fraction * steps)
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    if settings.schedule in ("constant", "plateau"):
        return peak
    if settings.schedule == "exponential":
        return peak * ratio**progress
    return peak * (ratio + (1 - ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


def in_stage_two(settings: TrainingSettings, progress: float) -> bool:
    """Whether stage two has begun after this part of the run."""
    return settings.stage_two_start < 1 and progress >= settings.stage_two_start


def loss_weights(settings: TrainingSettings, progress: float) -> tuple[float, float, float]:
    """Weights of energies, forces and stress after this part of the run (0 … 1)."""
    first, last = settings.first_weights, settings.last_weights
    if settings.stage_two_change == "linear":
        share = min(progress / settings.stage_two_start, 1.0)
        a, b, c = ((1 - share) * old + share * new for old, new in zip(first, last))
        return a, b, c
    return last if in_stage_two(settings, progress) else first


def ema_decay(settings: TrainingSettings, step: int) -> float:
    """Weight of the old average in step `step` (from 0): rises to `ema_decay`, so that the
    random first parameters are forgotten."""
    return min(settings.ema_decay, (1 + step) / (10 + step))


@dataclass(frozen=True)
class Plateau:
    """The learning rate's factor where it falls when the validation loss does not.

    Attributes:
        scale: what the learning rate is multiplied by.
        best: lowest validation loss that counted.
        waited: epochs since.
    """

    scale: float = 1.0
    best: float = math.inf
    waited: int = 0

    def after(self, loss: float, settings: TrainingSettings) -> "Plateau":
        """After an epoch with this validation loss; unchanged under other schedules."""
        if settings.schedule != "plateau":
            return self
        if loss < (1 - PLATEAU_THRESHOLD) * self.best:
            return Plateau(self.scale, loss, 0)
        if self.waited + 1 < settings.plateau_patience:
            return Plateau(self.scale, self.best, self.waited + 1)
        lower = max(self.scale * settings.plateau_factor, settings.final_learning_rate_ratio)
        return Plateau(lower, self.best, 0)
