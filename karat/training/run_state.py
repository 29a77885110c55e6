"""The state of a run: on the device, and the last good one on the host.

Checked: tests/training/test_resume.py, test_divergence.py.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from karat.potentials.model import Stage, named_arrays, with_arrays
from karat.training import checkpoint
from karat.training.batches import Graph
from karat.training.checkpoint import Journal
from karat.training.curve import Progress
from karat.training.forecast import Forecast
from karat.training.members import Members
from karat.training.optimisers import make_optimiser
from karat.training.parity import Predictions
from karat.training.settings import TrainingSettings
from karat.training.stability import CANDIDATES, Candidate, Stability


class State(eqx.Module):
    """What changes from step to step (`best`: from epoch to epoch).

    `parameters`, `average`, `best` and each of `rivals` (the epochs of `Journal.candidates`, where
    stability is tested) are the trainable part of a module, `None` elsewhere.
    """

    parameters: Any
    average: Any
    optimiser: Any
    best: Any
    rivals: tuple[Any, ...] = ()


Choose = Callable[
    [Sequence[Candidate], Sequence[Any], Callable[[str], None]], tuple[int, Stability]
]
"""Candidates, their parameters, who is told in words → which one is chosen, and what was found."""


@dataclass(frozen=True)
class Plan:
    """What stays the same through a run.

    Attributes:
        fixed: the module without its trainable arrays.
        train, valid: graphs.
        folder: of the checkpoint.
        checkpoint_seconds: wall time between two checkpoints.
        report: told after each epoch.
        stage: told before a compilation.
        members: of a committee; `None` for a single potential.
        foreseen: told what the run will take, before its first step.
        choose: tests the stability of candidates; `None`: no test.
    """

    fixed: Any
    train: Sequence[Graph]
    valid: Sequence[Graph]
    settings: TrainingSettings
    folder: Path
    checkpoint_seconds: float
    report: Callable[[Progress], None] | None = None
    stage: Callable[[Stage], None] | None = None
    members: Members | None = None
    foreseen: Callable[[Forecast], None] | None = None
    choose: Choose | None = None

    def say(self, epoch: int, words: str) -> None:
        """Tell who is told before a compilation."""
        if self.stage is not None:
            self.stage(Stage(epoch, self.settings.epochs, words))


def first_state(parameters: Any, settings: TrainingSettings) -> State:
    """The state before the first step; every part has its own copy, for buffers are donated.

    Members of a committee that share nothing have their own memories of the optimiser.
    """
    copy = lambda: jax.tree.map(jnp.copy, parameters)  # noqa: E731
    transform = make_optimiser(
        settings.optimiser, float(settings.gradient_clip), float(settings.weight_decay)
    )
    separate = settings.members > 1 and settings.member_trunk == "own"
    start = jax.vmap(transform.init) if separate else transform.init
    tested = settings.stability_picoseconds > 0 and settings.members == 1
    rivals = tuple(copy() for _ in range(CANDIDATES if tested else 0))
    return State(copy(), copy(), start(parameters), copy(), rivals)


def state_arrays(state: State, fixed: Any) -> dict[str, Array]:
    """All arrays of a run by name."""
    return named_arrays(state) | {f"fixed.{k}": v for k, v in named_arrays(fixed).items()}


@dataclass(eq=False)
class Kept:
    """The run after the last good epoch, on the host, and its checkpoint."""

    plan: Plan
    written: float
    pending: bool = False

    def keep(self, state: State, journal: Journal, found: Predictions | None = None) -> None:
        """From now on this state; at the end of a run also what it predicts.

        Arrays are truly copied: their own memory is given to the next step.
        """
        arrays = state_arrays(state, self.plan.fixed)
        copies = {name: np.array(array) for name, array in arrays.items()}
        predicted = {} if found is None else found.as_arrays()
        self.arrays, self.predicted = copies, predicted
        self.note(journal)

    def note(self, journal: Journal) -> None:
        """The journal as it is now."""
        rows, rollbacks = list(journal.rows), list(journal.rollbacks)
        self.journal = replace(journal, rows=rows, rollbacks=rollbacks)
        self.pending = journal.epoch > 0

    def restored(self, state: State) -> State:
        """The kept state on the device; `state` says only how it is built."""
        kept: State = with_arrays(state, {k: jnp.array(v) for k, v in self.arrays.items()})
        return kept

    def write_at_times(self) -> None:
        """Write at the end, or if the last time is long enough ago."""
        pause = time.monotonic() - self.written
        if self.journal.finished or pause >= self.plan.checkpoint_seconds:
            self.write()

    def write(self) -> None:
        """Write what is not yet written."""
        if self.pending:
            content = checkpoint.encode(self.journal, self.arrays | self.predicted)
            checkpoint.write(self.plan.folder, content)
            self.written, self.pending = time.monotonic(), False
