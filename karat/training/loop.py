"""The loop over epochs: steps, averaging, validation, checkpoints, reasons to stop.

Checked: tests/training/test_trainer.py, tests/training/test_resume.py.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from karat.core.errors import CalculationFailed
from karat.potentials.batch import Batch
from karat.potentials.model import named_arrays
from karat.potentials.native_protocol import derive
from karat.training import checkpoint
from karat.training.batches import (
    Graph,
    Targets,
    assemble,
    choose_shapes,
    in_sequence,
    order,
)
from karat.training.checkpoint import Journal
from karat.training.curve import Progress
from karat.training.loss import Errors, Sums, batch_loss, error_sums, total_errors
from karat.training.settings import TrainingSettings, ema_decay, learning_rate

VALIDATION_BATCH = 25


class State(eqx.Module):
    """What changes from step to step (`best`: from epoch to epoch).

    `parameters`, `average` and `best` are the trainable part of a module, `None` elsewhere.
    """

    parameters: Any
    average: Any
    optimiser: Any
    best: Any


@dataclass(frozen=True)
class Plan:
    """What stays the same through a run.

    Attributes:
        fixed: the module without its trainable arrays.
        train, valid: graphs.
        folder: of the checkpoint.
        checkpoint_seconds: wall time between two checkpoints.
    """

    fixed: Any
    train: Sequence[Graph]
    valid: Sequence[Graph]
    settings: TrainingSettings
    folder: Path
    checkpoint_seconds: float

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of energies, forces, stress in the loss."""
        s = self.settings
        return (float(s.energy_weight), float(s.force_weight), float(s.stress_weight))


def optimiser(gradient_clip: float, weight_decay: float) -> optax.GradientTransformation:
    """Adam's direction with clipping before and decoupled weight decay after it; the learning
    rate is multiplied in the step. Source: Kingma & Ba (2015); Loshchilov & Hutter (2019)."""

    def decayed(parameters: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "bias" not in jax.tree_util.keystr(path), parameters
        )

    parts = [optax.clip_by_global_norm(gradient_clip)] if gradient_clip else []
    parts.append(optax.scale_by_adam())
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=decayed))
    return optax.chain(*parts)


def first_state(parameters: Any, settings: TrainingSettings) -> State:
    """The state before the first step; every part has its own copy, for buffers are donated."""
    copy = lambda: jax.tree.map(jnp.copy, parameters)  # noqa: E731
    transform = optimiser(float(settings.gradient_clip), float(settings.weight_decay))
    return State(copy(), copy(), transform.init(parameters), copy())


def state_arrays(state: State, fixed: Any) -> dict[str, Array]:
    """All arrays of a run by name."""
    return named_arrays(state) | {f"fixed.{k}": v for k, v in named_arrays(fixed).items()}


Moving = tuple[Any, Any, Any]
"""Parameters, average, memory of the optimiser."""


@partial(
    jax.jit,
    static_argnames=("static", "gradient_clip", "weight_decay"),
    donate_argnames=("moving",),
)
def _step(
    moving: Moving,
    arrays: Any,
    batch: Batch,
    targets: Targets,
    weights: Float[Array, "3"],
    rate: Float[Array, ""],
    decay: Float[Array, ""],
    *,
    static: Any,
    gradient_clip: float,
    weight_decay: float,
) -> tuple[Moving, Float[Array, ""]]:
    """One step. All numbers are arguments, none is a constant of the compiled code: runs on
    other data with the same shapes share it, also through JAX's persistent cache."""
    parameters, average, memory = moving

    def loss(p: Any) -> Float[Array, ""]:
        return batch_loss(eqx.combine(p, arrays, static), batch, targets, weights)

    value, gradient = jax.value_and_grad(loss)(parameters)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        transform = optimiser(gradient_clip, weight_decay)
        updates, memory = transform.update(gradient, memory, parameters)
    parameters = jax.tree.map(lambda p, u: p - rate * u, parameters, updates)
    average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, parameters)
    return (parameters, average, memory), value


@partial(jax.jit, static_argnames=("static",))
def _sums(parameters: Any, arrays: Any, batch: Batch, targets: Targets, *, static: Any) -> Sums:
    derived = derive(eqx.combine(parameters, arrays, static), batch)
    return error_sums(derived, targets, batch.volume)


def make_step(plan: Plan) -> Callable[..., tuple[Moving, Float[Array, ""]]]:
    """The compiled step: (parameters, average, optimiser), batch, targets, rate, decay → the
    same three and the loss before the step."""
    arrays, static = eqx.partition(plan.fixed, eqx.is_array)
    weights = jnp.asarray(plan.weights, plan.settings.dtype)
    clip, shrink = float(plan.settings.gradient_clip), float(plan.settings.weight_decay)

    def step(
        moving: Moving,
        batch: Batch,
        targets: Targets,
        rate: Float[Array, ""],
        decay: Float[Array, ""],
    ) -> tuple[Moving, Float[Array, ""]]:
        done: tuple[Moving, Float[Array, ""]] = _step(
            moving,
            arrays,
            batch,
            targets,
            weights,
            rate,
            decay,
            static=static,
            gradient_clip=clip,
            weight_decay=shrink,
        )
        return done

    return step


def make_validation(plan: Plan) -> Callable[[Any], Errors]:
    """Errors over the validation data for given parameters; compiled, batches kept."""
    dtype = plan.settings.dtype
    groups = in_sequence(len(plan.valid), VALIDATION_BATCH)
    shapes = choose_shapes(np.array([graph.counts for graph in plan.valid]), groups)
    members = [[plan.valid[i] for i in group] for group in groups]
    batches = [assemble(graphs, shapes.of(graphs), dtype) for graphs in members]
    arrays, static = eqx.partition(plan.fixed, eqx.is_array)
    return lambda parameters: total_errors(
        [_sums(parameters, arrays, *batch, static=static) for batch in batches], plan.weights
    )


def run(
    plan: Plan, state: State, journal: Journal, report: Callable[[Progress], None] | None
) -> State:
    """Do what is left of a run; `journal` is brought up to date.

    Raises:
        CalculationFailed: kind ``diverged``: the loss is no longer finite.
    """
    settings = plan.settings
    start = time.monotonic() - journal.seconds
    orders = [
        order(settings.seed, epoch, len(plan.train), settings.batch_size)
        for epoch in range(settings.epochs)
    ]
    counts = np.array([graph.counts for graph in plan.train])
    shapes = choose_shapes(counts, [batch for epoch in orders for batch in epoch])
    steps = sum(len(epoch) for epoch in orders)
    step, validate = make_step(plan), make_validation(plan)
    written, pending = time.monotonic(), b""
    try:
        while not journal.finished:
            moving = (state.parameters, state.average, state.optimiser)
            losses = []
            for indices in orders[journal.epoch]:
                graphs = [plan.train[i] for i in indices]
                batch, targets = assemble(graphs, shapes.of(graphs), settings.dtype)
                rate = learning_rate(settings, journal.step, steps)
                decay = ema_decay(settings, journal.step)
                numbers = (jnp.asarray(x, settings.dtype) for x in (rate, decay))
                moving, loss = step(moving, batch, targets, *numbers)
                losses.append(loss)
                journal.step += 1
            loss_mean = float(np.mean(np.asarray(losses, np.float64)))
            errors = validate(moving[1])
            _refuse_divergence(loss_mean, errors, journal, plan, rate)
            best = state.best
            if errors.loss < journal.best_loss:
                journal.best_loss, journal.best_epoch = errors.loss, journal.epoch + 1
                best = jax.tree.map(jnp.copy, moving[1])
            state = State(*moving, best=best)
            journal.epoch += 1
            journal.seconds = time.monotonic() - start
            journal.rows.append(_row(journal, loss_mean, errors, rate))
            journal.finished = _reason_to_stop(journal, settings)
            pending = checkpoint.encode(journal, state_arrays(state, plan.fixed))
            if journal.finished or time.monotonic() - written >= plan.checkpoint_seconds:
                checkpoint.write(plan.folder, pending)
                written, pending = time.monotonic(), b""
            if report is not None:
                report(_progress(journal, settings, loss_mean, errors, rate))
    finally:
        if pending:  # interrupted or diverged: keep the last whole epoch
            checkpoint.write(plan.folder, pending)
    return state


def _row(journal: Journal, loss: float, errors: Errors, rate: float) -> list[float]:
    return [
        float(journal.epoch),
        loss,
        errors.loss,
        errors.energy_mae,
        errors.energy_rmse,
        errors.force_mae,
        errors.force_rmse,
        rate,
        journal.seconds,
    ]


def _reason_to_stop(journal: Journal, settings: TrainingSettings) -> str:
    """Why the run ends after this epoch, "" if it goes on."""
    if journal.epoch >= settings.epochs:
        return f"all {settings.epochs} epochs done"
    if settings.patience and journal.epoch - journal.best_epoch >= settings.patience:
        return f"no lower validation loss in {settings.patience} epochs"
    if settings.max_seconds is not None and journal.seconds >= settings.max_seconds:
        return f"the time limit of {settings.max_seconds:g} s was reached"
    return ""


def _refuse_divergence(
    loss: float, errors: Errors, journal: Journal, plan: Plan, rate: float
) -> None:
    if math.isfinite(loss) and math.isfinite(errors.loss):
        return
    kept = (
        f"The state after epoch {journal.epoch} (best: epoch {journal.best_epoch}) is kept in "
        f"{plan.folder / checkpoint.NAME}. "
        if journal.epoch
        else ""
    )
    clip = plan.settings.gradient_clip
    clipping = f"a lower gradient_clip (now {clip:g})" if clip else "with a gradient_clip, e.g. 10"
    raise CalculationFailed(
        f"Training diverged in epoch {journal.epoch + 1} of {plan.settings.epochs}: training loss "
        f"{loss:g}, validation loss {errors.loss:g}, learning rate {rate:.3g}. {kept}"
        f"Train again with a lower learning_rate (now {plan.settings.learning_rate:g}) or "
        f"{clipping}, and look for wrong labels with `karat check`.",
        kind="diverged",
    )


def _progress(
    journal: Journal, settings: TrainingSettings, loss: float, errors: Errors, rate: float
) -> Progress:
    per_epoch = journal.seconds / journal.epoch
    return Progress(
        epoch=journal.epoch,
        epochs=settings.epochs,
        loss=loss,
        energy_mae=errors.energy_mae,
        energy_rmse=errors.energy_rmse,
        force_mae=errors.force_mae,
        force_rmse=errors.force_rmse,
        learning_rate=rate,
        best_epoch=journal.best_epoch,
        seconds=journal.seconds,
        seconds_left=0.0 if journal.finished else per_epoch * (settings.epochs - journal.epoch),
    )
