"""What the trainer may be told, and the learning rate that follows from it.

Checked: tests/training/test_settings.py, against optax's schedules.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from karat.core.errors import BadInput

Schedule = Literal["constant", "cosine", "exponential"]


@dataclass(frozen=True)
class TrainingSettings:
    """How a potential is fitted. The loss, over the structures of a batch, is

    energy_weight · mean (ΔE/N)² + force_weight · mean ΔF² + stress_weight · mean (V Δσ/N)²

    with the second mean over force components and the third over stress components of the
    structures that have stress labels; eV and Å.

    Attributes:
        epochs: passes over the training data.
        batch_size: structures per step; the last batches of an epoch are evened out.
        learning_rate: of Adam, after warm-up.
        schedule: how it falls to `final_learning_rate_ratio` of itself over all steps.
        warmup_fraction: part of all steps during which it rises linearly from zero.
        energy_weight, force_weight, stress_weight: see above.
        ema_decay: of the exponential moving average of the parameters, which is what is
            validated and returned; step t uses min(ema_decay, (1+t)/(10+t)). 0 switches it off.
        patience: stop after this many epochs without a lower validation loss; 0 for never.
        max_seconds: stop after the epoch in which this wall time is passed; what comes out then
            depends on the machine's speed, so `None` (never) is the default.
        gradient_clip: largest global norm of the gradient; 0 for no limit.
        weight_decay: decoupled (AdamW), of all but biases.
        seed: of the first parameters and of the order of the structures.
        dtype: ``float32`` or ``float64``, of parameters and arithmetic; energies are always
            taken relative to the reference energies in float64 first.
        reference_energies: ``regress`` (least squares on the composition of the training data)
            or eV by element symbol.

    Raises:
        BadInput: a value outside its range.
    """

    epochs: int = 200
    batch_size: int = 5
    learning_rate: float = 1e-2
    schedule: Schedule = "cosine"
    final_learning_rate_ratio: float = 0.01
    warmup_fraction: float = 0.02
    energy_weight: float = 10.0
    force_weight: float = 1.0
    stress_weight: float = 0.0
    ema_decay: float = 0.99
    patience: int = 0
    max_seconds: float | None = None
    gradient_clip: float = 10.0
    weight_decay: float = 0.0
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    reference_energies: Literal["regress"] | Mapping[str, float] = "regress"

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise BadInput(f"training.{name} {getattr(self, name)} must be {least} or more.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise BadInput(f"training.learning_rate {self.learning_rate} must be positive.")
        if not 0 < self.final_learning_rate_ratio <= 1:
            raise BadInput(
                f"training.final_learning_rate_ratio {self.final_learning_rate_ratio} must be in "
                "(0, 1]."
            )
        for name in ("warmup_fraction", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(f"training.{name} {getattr(self, name)} must be in [0, 1).")
        weights = ("energy_weight", "force_weight", "stress_weight")
        for name in (*weights, "gradient_clip", "weight_decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadInput(f"training.{name} {value} must be 0 or more.")
        if not any(getattr(self, name) > 0 for name in weights):
            raise BadInput("training: all weights of the loss are zero; nothing can be learned.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise BadInput(f"training.max_seconds {self.max_seconds} must be positive or left out.")


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    Linear from 0 over the warm-up, then constant, half a cosine, or exponential, reaching
    `final_learning_rate_ratio` of the peak after the last step.
    """
    peak, ratio = settings.learning_rate, settings.final_learning_rate_ratio
    warmup = math.floor(settings.warmup_fraction * steps)
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "exponential":
        return peak * ratio**progress
    return peak * (ratio + (1 - ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


def ema_decay(settings: TrainingSettings, step: int) -> float:
    """Weight of the old average in step `step` (from 0): rises to `ema_decay`, so that the
    random first parameters are forgotten."""
    return min(settings.ema_decay, (1 + step) / (10 + step))
