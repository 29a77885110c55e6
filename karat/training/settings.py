"""What the trainer may be told.

Checked: tests/training/test_settings.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from karat.core.errors import BadInput
from karat.training.optimisers import OPTIMISERS

Schedule = Literal["constant", "cosine", "exponential", "plateau"]
Kind = Literal["mse", "mae", "huber"]
OptimiserName = Literal["adam", "adamw", "amsgrad", "nadam", "adabelief", "lion", "sgd", "muon"]
MAX_MEMBERS = 256
WEIGHTS = ("energy_weight", "force_weight", "stress_weight")


@dataclass(frozen=True)
class TrainingSettings:
    """How a potential is fitted. The loss of a step is, over the structures of its batches,

    energy_weight · mean l(ΔE/N) + force_weight · mean l(ΔF) + stress_weight · mean l(V Δσ/N)

    with the second mean over force components and the third over stress components of the
    structures that have stress labels; eV and Å. Each l is its kind: ``mse`` e², ``mae`` |e|,
    ``huber`` e²/2 up to |e| = δ and δ (|e| - δ/2) beyond.

    Attributes:
        epochs: passes over the training data.
        batch_size: structures in a batch where all are of one size; elsewhere the mean number:
            each batch then has about so many times the mean number of pairs, and up to four
            times as many structures where that alone keeps padding below 15 % (see `packing`).
        accumulate: batches whose gradients make one step; the step is that of one large batch.
        devices: that share the batches of a step, one each; 0 for all there are.
        learning_rate: after warm-up.
        optimiser: of Optax; see `optimisers`.
        schedule: how the rate falls to `final_learning_rate_ratio` of itself over all steps;
            ``plateau``: times `plateau_factor` after `plateau_patience` epochs in which the
            validation loss did not fall (by 1e-4 of itself), not below that ratio.
        warmup_fraction: part of all steps during which it rises linearly from zero.
        energy_loss, force_loss, stress_loss: kinds of the terms.
        energy_delta, force_delta, stress_delta: δ of ``huber``, eV, eV/Å and eV (per atom).
        energy_weight, force_weight, stress_weight: see above.
        stage_two_start: part of the run after which the weights and the learning rate of stage
            two hold; 1 for never. Validation losses, and with them the best epoch, have the
            weights of the run's end throughout, so that epochs compare.
        stage_two_energy_weight, stage_two_force_weight, stage_two_stress_weight: left out: as
            before.
        stage_two_change: ``step``, or ``linear``: from the first weights at the start of the run
            to those of stage two at `stage_two_start` (1: at its end).
        stage_two_learning_rate_ratio: what the learning rate is multiplied by in stage two.
        ema_decay: of the exponential moving average of the parameters, which is what is
            validated and returned; step t uses min(ema_decay, (1+t)/(10+t)). 0 switches it off.
        patience: stop after this many epochs without a lower validation loss; 0 for never.
        max_seconds: stop after the epoch in which this wall time is passed; what comes out then
            depends on the machine's speed, so `None` (never) is the default.
        gradient_clip: largest global norm of the gradient; 0 for no limit.
        weight_decay: decoupled (as AdamW's), of all but biases.
        stability_picoseconds: of dynamics that the chosen epoch must survive (see `stability`):
            the best epochs of three tenths of the run are tried in order of validation loss. 0: no
            test; with one, 1 is enough to find holes.
        stability_temperature_k: of that dynamics.
        members: of a committee, trained together; 1 for a single potential. All see the same
            batches and have the same learning rate; they begin with different parameters, the
            first as a single potential would. Each keeps the parameters of its own best epoch;
            if one diverges, all go back. Deviations are calibrated on the validation data.
        member_data: ``shared``, or ``bootstrap``: each member weights every structure by how
            often it was drawn, as many draws with replacement as there are structures.
        member_trunk: ``own``, or ``shared``: only the readouts (see `AbstractArchitecture.heads`)
            are as many as members, all below them is there once and learns from the mean loss;
            cheaper, with one best epoch for all, and a spread of the readouts only.
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
    accumulate: int = 1
    devices: int = 1
    learning_rate: float = 1e-2
    optimiser: OptimiserName = "adam"
    schedule: Schedule = "cosine"
    final_learning_rate_ratio: float = 0.01
    plateau_factor: float = 0.8
    plateau_patience: int = 50
    warmup_fraction: float = 0.02
    energy_loss: Kind = "mse"
    force_loss: Kind = "mse"
    stress_loss: Kind = "mse"
    energy_delta: float = 0.01
    force_delta: float = 0.01
    stress_delta: float = 0.01
    energy_weight: float = 10.0
    force_weight: float = 1.0
    stress_weight: float = 0.0
    stage_two_start: float = 1.0
    stage_two_energy_weight: float | None = None
    stage_two_force_weight: float | None = None
    stage_two_stress_weight: float | None = None
    stage_two_change: Literal["step", "linear"] = "step"
    stage_two_learning_rate_ratio: float = 1.0
    ema_decay: float = 0.99
    patience: int = 0
    max_seconds: float | None = None
    gradient_clip: float = 10.0
    weight_decay: float = 0.0
    stability_picoseconds: float = 0.0
    stability_temperature_k: float = 300.0
    members: int = 1
    member_data: Literal["shared", "bootstrap"] = "shared"
    member_trunk: Literal["own", "shared"] = "own"
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    reference_energies: Literal["regress"] | Mapping[str, float] = "regress"

    @property
    def kinds(self) -> tuple[Kind, Kind, Kind]:
        """Of the terms: energies, forces, stress."""
        return self.energy_loss, self.force_loss, self.stress_loss

    @property
    def deltas(self) -> tuple[float, float, float]:
        """δ of the terms."""
        return float(self.energy_delta), float(self.force_delta), float(self.stress_delta)

    @property
    def first_weights(self) -> tuple[float, float, float]:
        """Of the terms when the run begins."""
        return float(self.energy_weight), float(self.force_weight), float(self.stress_weight)

    @property
    def last_weights(self) -> tuple[float, float, float]:
        """Of the terms when the run ends; those of validation losses."""
        if self.stage_two_start == 1 and self.stage_two_change == "step":
            return self.first_weights
        second = (getattr(self, f"stage_two_{name}") for name in WEIGHTS)
        a, b, c = (
            first if value is None else float(value)
            for first, value in zip(self.first_weights, second)
        )
        return a, b, c

    @property
    def largest_weights(self) -> tuple[float, float, float]:
        """What decides which labels are needed."""
        a, b, c = (max(pair) for pair in zip(self.first_weights, self.last_weights))
        return a, b, c

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_rates()
        self._check_loss()

    def _check_counts(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "accumulate": 1, "plateau_patience": 1}
        least["members"] = 1
        for name, least_value in {**least, "devices": 0, "patience": 0, "seed": 0}.items():
            if getattr(self, name) < least_value:
                raise BadInput(
                    f"training.{name} {getattr(self, name)} must be {least_value} or more."
                )
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise BadInput(f"training.max_seconds {self.max_seconds} must be positive or left out.")
        self._check_members()

    def _check_members(self) -> None:
        for name, usual in (("member_data", "shared"), ("member_trunk", "own")):
            value = getattr(self, name)
            if self.members == 1 and value != usual:
                raise BadInput(
                    f"training.{name} {value}: there is one member only. Set members, e.g. 4, or "
                    f"leave {name} out."
                )
        if self.members > MAX_MEMBERS:
            raise BadInput(f"training.members {self.members}: at most {MAX_MEMBERS} are possible.")
        if self.members > 1 and self.devices != 1:
            raise BadInput(
                f"training.devices {self.devices}: committees are trained on one device. Leave "
                "devices out, or set members to 1."
            )

    def _check_rates(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise BadInput(
                f"training.optimiser '{self.optimiser}': choose one of {', '.join(OPTIMISERS)}."
            )
        for name in ("learning_rate", "energy_delta", "force_delta", "stress_delta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BadInput(f"training.{name} {value} must be positive.")
        for name in (
            "final_learning_rate_ratio",
            "stage_two_start",
            "stage_two_learning_rate_ratio",
        ):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise BadInput(f"training.{name} {value} must be in (0, 1].")
        for name in ("warmup_fraction", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(f"training.{name} {getattr(self, name)} must be in [0, 1).")
        if not 0 <= self.stability_picoseconds < math.inf:
            raise BadInput(
                f"training.stability_picoseconds {self.stability_picoseconds} must be 0 or more."
            )
        if not 0 < self.stability_temperature_k < math.inf:
            raise BadInput(
                f"training.stability_temperature_k {self.stability_temperature_k} must be positive."
            )
        if not 0 < self.plateau_factor < 1:
            raise BadInput(f"training.plateau_factor {self.plateau_factor} must be in (0, 1).")

    def _check_loss(self) -> None:
        second = [f"stage_two_{name}" for name in WEIGHTS]
        for name in (*WEIGHTS, *second, "gradient_clip", "weight_decay"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise BadInput(f"training.{name} {value} must be 0 or more.")
        if not any(self.first_weights) or not any(self.last_weights):
            raise BadInput("training: all weights of the loss are zero; nothing can be learned.")
        unused = [name for name in second if getattr(self, name) is not None]
        unused += ["stage_two_learning_rate_ratio"] * (self.stage_two_learning_rate_ratio != 1)
        if self.stage_two_start == 1 and self.stage_two_change == "step" and unused:
            raise BadInput(
                f"training.{unused[0]} is given, but there is no stage two. Say when it begins: "
                "stage_two_start, e.g. 0.75 of the run."
            )
