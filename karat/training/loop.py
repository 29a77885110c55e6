"""The loop over epochs: steps, validation, checkpoints, returns after divergence, reasons to stop.

Checked: tests/training/test_trainer.py, test_resume.py, test_divergence.py.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from karat.core.errors import CalculationFailed
from karat.potentials.model import Stage
from karat.training import checkpoint
from karat.training.checkpoint import MEMBER_COLUMNS, Journal
from karat.training.committee_step import make_member_step, member_micros
from karat.training.curve import Progress
from karat.training.divergence import (
    MOST_ROLLBACKS,
    RATE_AFTER_ROLLBACK,
    Diverged,
    Rollback,
)
from karat.training.feeding import Feed
from karat.training.forecast import forecast
from karat.training.loss import Errors
from karat.training.members import Members, better
from karat.training.packing import pack
from karat.training.parity import Predictions
from karat.training.run_state import Kept, Plan, State
from karat.training.schedules import ema_decay, learning_rate, loss_weights
from karat.training.settings import TrainingSettings
from karat.training.stability import Candidate, place_of
from karat.training.step import Micro, Moving, Numbers, Recipe, Step, make_step, replicated
from karat.training.validation import Validation
from karat.training.watches import Watches


def run(plan: Plan, state: State, journal: Journal) -> tuple[State, Predictions]:
    """Do what is left of a run; `journal` is brought up to date.

    Returns:
        The last state, and what its best parameters predict for the validation data.

    Raises:
        CalculationFailed: kind ``diverged``: the loss grew out of bounds, also with the learning
            rate halved three times.
        BadInput: more memory needed than there is; before the first step.
    """
    start = time.monotonic() - journal.seconds
    engine = _Engine.prepare(plan, journal)
    _foresee(engine, state, journal)
    kept = Kept(plan, time.monotonic())
    kept.keep(state, journal)
    found = None
    try:
        while found is None:
            try:
                done = _epoch(engine, state, journal)
            except Diverged as diverged:
                _roll_back(diverged.rollback, journal, plan)
                state = kept.restored(state)
                kept.note(journal)
                continue
            state = _brought_up(journal, state, done, plan)
            journal.seconds = time.monotonic() - start
            journal.rows.append(_row(journal, done))
            journal.finished = _reason_to_stop(journal, plan.settings)
            if journal.finished:
                state = _chosen(plan, state, journal)
                found = engine.validation.predictions(state.best)
            kept.keep(state, journal, found)
            kept.write_at_times()
            if plan.report is not None:
                plan.report(_progress(journal, plan.settings, done))
    finally:
        kept.write()  # interrupted or diverged: the last whole epoch
    return state, found


@dataclass(eq=False)
class _Engine:
    """What is compiled or put together once for a run."""

    plan: Plan
    feed: Feed
    step: Step
    validation: Validation
    compiled: set[Any] = field(default_factory=set)

    @classmethod
    def prepare(cls, plan: Plan, journal: Journal) -> "_Engine":
        settings, recipe = plan.settings, Recipe.of(plan.settings)
        counts = np.array([graph.counts for graph in plan.train])
        packing = pack(counts, settings.batch_size, settings.seed)
        journal.packing = packing.summary()
        feed = Feed(plan.train, packing, settings.accumulate, recipe, settings.dtype)

        def announce(words: str) -> None:
            if plan.stage is not None:
                plan.stage(Stage(journal.epoch, settings.epochs, words))

        validation = Validation(plan.fixed, plan.valid, settings, announce)
        make = make_step if plan.members is None else make_member_step
        return cls(plan, feed, make(plan.fixed, settings), validation)

    def micros(self, group: Sequence[Sequence[np.ndarray]]) -> tuple[list[Micro], np.ndarray]:
        """The batches of a step, and the numbers of errors in it."""
        members, counts = self.plan.members, self.feed.counts(group)
        if members is None:
            return list(self.feed.micros(group)), counts
        return list(member_micros(self.feed, group, members)), counts * members.shares

    def announce(self, groups: Sequence[Sequence[np.ndarray]], epoch: int) -> None:
        """Say so, if the next step must be compiled first."""
        packing = self.feed.packing
        for group in groups:
            shape = packing.size_of_all(group)
            if shape not in self.compiled:
                self.compiled.add(shape)
                if self.plan.stage is not None:
                    total = packing.shapes.number
                    words = f"compiling the training step ({len(self.compiled)} of {total} shapes)"
                    self.plan.stage(Stage(epoch, self.plan.settings.epochs, words))


@dataclass(frozen=True)
class _Done:
    """An epoch that went well; `errors` are those of a committee's mean, `members` of its members;
    a single potential is its own only member."""

    moving: Moving
    steps: int
    loss: float
    terms: list[float]
    typical: list[float]
    errors: Errors
    members: list[Errors]
    rate: float
    padding: float
    seconds: float


def _epoch(engine: _Engine, state: State, journal: Journal) -> _Done:
    """One pass over the training data, and the errors after it.

    Raises:
        Diverged: the loss grew out of bounds.
    """
    settings, feed, start = engine.plan.settings, engine.feed, time.monotonic()
    recipe = feed.recipe
    moving = replicated((state.parameters, state.average, state.optimiser), recipe)
    groups = feed.epoch(journal.epoch)
    watch = Watches(
        settings.members, journal.epoch + 1, len(groups), journal.typical, settings.kinds
    )
    total = settings.epochs * feed.steps
    rate = 0.0
    for index, group in enumerate(groups):
        at = journal.epoch * feed.steps + index * feed.steps / len(groups)
        weights = loss_weights(settings, at / total)
        rate = _rate(settings, journal, at, total)
        micros, counts = engine.micros(group)
        values = (weights, counts, settings.deltas, rate)
        decay = ema_decay(settings, journal.step + index)
        numbers = Numbers(*(np.asarray(value, settings.dtype) for value in (*values, decay)))
        engine.announce(group, journal.epoch)
        moving, terms = engine.step(moving, micros, numbers)
        watch.add(terms, weights, rate)
    watch.finish()
    if recipe.mesh is not None:
        moving = jax.tree.map(lambda array: array.addressable_data(0), moving)
    rows = engine.validation.rows(moving[1])
    members = rows[: settings.members]
    for index, errors in enumerate(members):
        if math.isfinite(errors.loss):
            continue
        of_member = "" if len(members) == 1 else f" of member {index + 1}"
        reason = f"a validation loss{of_member} of {errors.loss:g}"
        raise Diverged(Rollback(journal.epoch + 1, len(groups), reason, rate))
    return _Done(
        moving=moving,
        steps=len(groups),
        loss=watch.mean_loss(),
        terms=watch.mean_terms(),
        typical=watch.medians(),
        errors=rows[-1],
        members=members,
        rate=rate,
        padding=feed.padding(groups),
        seconds=time.monotonic() - start,
    )


def _rate(settings: TrainingSettings, journal: Journal, at: float, total: int) -> float:
    """The learning rate: schedule, plateaus, returns after divergence."""
    factor = journal.plateau.scale * RATE_AFTER_ROLLBACK ** len(journal.rollbacks)
    return learning_rate(settings, at, total) * factor


def _brought_up(journal: Journal, state: State, done: _Done, plan: Plan) -> State:
    """The state after an epoch; the journal without its row."""
    settings, epoch, best = plan.settings, journal.epoch + 1, state.best
    loss = float(np.mean([errors.loss for errors in done.members]))
    if plan.members is None:
        if loss < journal.best_loss:
            journal.best_loss, journal.best_epoch = loss, epoch
            best = jax.tree.map(jnp.copy, done.moving[1])
    else:
        best = _best_members(journal, best, done, plan.members, epoch)
    journal.epoch = epoch
    journal.step += done.steps
    journal.typical = done.typical
    journal.plateau = journal.plateau.after(loss, settings)
    return State(*done.moving, best=best, rivals=_rivals(state, journal, done, loss, settings))


def _rivals(
    state: State, journal: Journal, done: _Done, loss: float, settings: TrainingSettings
) -> tuple[Any, ...]:
    """Parameters of the candidates after an epoch, where stability is going to be tested."""
    if not state.rivals:
        return ()
    place = place_of(journal.candidates, journal.epoch, loss, settings.epochs)
    if place is None:
        return state.rivals
    before, after = journal.candidates[:place], journal.candidates[place + 1 :]
    journal.candidates = [*before, Candidate(journal.epoch, loss), *after]
    mine = jax.tree.map(jnp.copy, done.moving[1])
    return (*state.rivals[:place], mine, *state.rivals[place + 1 :])


def _chosen(plan: Plan, state: State, journal: Journal) -> State:
    """The state whose best parameters are the best stable ones, where stability is tested. Of a
    committee there is one candidate: its members have their own best epochs."""
    if plan.choose is None:
        return state
    candidates, rivals = journal.candidates, state.rivals
    if plan.members is not None:
        candidates, rivals = [Candidate(journal.best_epoch, journal.best_loss)], (state.best,)
    place, found = plan.choose(candidates, rivals, lambda words: plan.say(journal.epoch, words))
    journal.stability = found.as_dict()
    journal.best_epoch, journal.best_loss = candidates[place].epoch, candidates[place].loss
    best = rivals[place]
    return State(state.parameters, state.average, state.optimiser, best, state.rivals)


def _foresee(engine: _Engine, state: State, journal: Journal) -> None:
    """Say what the run will take, before its first step.

    Raises:
        BadInput: more memory than there is.
    """
    plan, validation = engine.plan, engine.validation
    moving = (state.parameters, state.average, state.optimiser)
    made = forecast(
        plan.fixed,
        moving,
        engine.feed,
        validation,
        plan.settings,
        journal.epoch,
        lambda words: plan.say(journal.epoch, words),
        members=plan.members,
    )
    engine.compiled.add(engine.feed.packing.shapes.large)
    validation.compiled.add(max(validation.shapes, key=lambda shape: shape[1:3]))
    plan.say(journal.epoch, made.words)
    if plan.foreseen is not None:
        plan.foreseen(made)


def _best_members(journal: Journal, best: Any, done: _Done, members: Members, epoch: int) -> Any:
    """Each member's best parameters; with a shared trunk those of the epoch with the lowest mean
    loss."""
    losses = np.array([errors.loss for errors in done.members])
    if not members.own_trunk:
        losses = np.full(len(losses), losses.mean())
    before = np.array(journal.member_losses or [np.inf] * len(losses))
    improved = losses < before
    epochs = journal.member_epochs or [-1] * len(losses)
    journal.member_losses = np.where(improved, losses, before).tolist()
    journal.member_epochs = np.where(improved, epoch, epochs).tolist()
    journal.best_loss = float(np.mean(journal.member_losses))
    journal.best_epoch = max(journal.member_epochs)
    journal.member_rows = [
        *journal.member_rows,
        [[getattr(e, _FIELD.get(c, c)) for c in MEMBER_COLUMNS] for e in done.members],
    ]
    return better(done.moving[1], best, improved, members.own_trunk)


_FIELD = {"valid_loss": "loss"}


def _row(journal: Journal, done: _Done) -> list[float]:
    errors = done.errors
    return [
        float(journal.epoch),
        done.loss,
        errors.loss,
        errors.energy_mae,
        errors.energy_rmse,
        errors.force_mae,
        errors.force_rmse,
        done.rate,
        journal.seconds,
        *done.terms,
        *errors.terms,
        done.padding,
        float(len(journal.rollbacks)),
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


def _roll_back(rollback: Rollback, journal: Journal, plan: Plan) -> None:
    """Note a return to the last good epoch.

    Raises:
        CalculationFailed: there were three already.
    """
    settings = plan.settings
    if len(journal.rollbacks) < MOST_ROLLBACKS:
        journal.rollbacks.append(rollback)
        if plan.stage is not None:
            words = (
                f"diverged in epoch {rollback.epoch}: {rollback.reason}; back to epoch "
                f"{journal.epoch} with half the learning rate"
            )
            plan.stage(Stage(journal.epoch, settings.epochs, words))
        return
    kept = (
        f"The state after epoch {journal.epoch} (best: epoch {journal.best_epoch}) is kept in "
        f"{plan.folder / checkpoint.NAME}. "
        if journal.epoch
        else ""
    )
    clip = settings.gradient_clip
    clipping = f"a lower gradient_clip (now {clip:g})" if clip else "with a gradient_clip, e.g. 10"
    raise CalculationFailed(
        f"Training diverged in epoch {rollback.epoch} of {settings.epochs}, step {rollback.step}: "
        f"{rollback.reason}, learning rate {rollback.learning_rate:.3g}, after {MOST_ROLLBACKS} "
        f"returns with half the learning rate each. {kept}Train again with a lower learning_rate "
        f"(now {settings.learning_rate:g}) or {clipping}, and look for wrong labels with "
        "`karat check`.",
        kind="diverged",
    )


def _progress(journal: Journal, settings: TrainingSettings, done: _Done) -> Progress:
    per_epoch, errors = journal.seconds / journal.epoch, done.errors
    return Progress(
        epoch=journal.epoch,
        epochs=settings.epochs,
        loss=done.loss,
        energy_mae=errors.energy_mae,
        energy_rmse=errors.energy_rmse,
        force_mae=errors.force_mae,
        force_rmse=errors.force_rmse,
        learning_rate=done.rate,
        best_epoch=journal.best_epoch,
        seconds=journal.seconds,
        seconds_left=0.0 if journal.finished else per_epoch * (settings.epochs - journal.epoch),
        steps_per_second=done.steps / max(done.seconds, 1e-9),
        padding=done.padding,
        rollbacks=len(journal.rollbacks),
    )
