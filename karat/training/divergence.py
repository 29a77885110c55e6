"""When a run has gone wrong: noticed in the middle of an epoch.

Checked: tests/training/test_divergence.py.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float

from karat.training.loss import weighted
from karat.training.settings import Kind

WINDOW = 8
"""Steps whose median is compared: one or two odd structures are no divergence."""
FLOOR = (1e-4, 1e-3, 1e-4)
"""eV/atom, eV/Å, eV: errors below these may grow tenfold by chance."""
LAG = 2
"""Steps that may run before a loss is looked at, so that the device never waits for the host."""
MOST_ROLLBACKS = 3
RATE_AFTER_ROLLBACK = 0.5
"""What the learning rate is multiplied by, for the rest of the run, each time."""


@dataclass(frozen=True)
class Rollback:
    """A return to the state after the last good epoch.

    Attributes:
        epoch: in which the run diverged, from 1.
        step: of that epoch, from 1.
        reason: for people.
        learning_rate: at that step.
    """

    epoch: int
    step: int
    reason: str
    learning_rate: float


class Diverged(Exception):
    """The run has diverged; what it was is in `rollback`. Caught by the loop."""

    def __init__(self, rollback: Rollback) -> None:
        super().__init__(rollback.reason)
        self.rollback = rollback


def largest_growth(kinds: Sequence[Kind], weights: Sequence[float]) -> float:
    """By how much the loss may grow: errors ten times as large (squared where errors are)."""
    used = {kind for kind, weight in zip(kinds, weights) if weight}
    return 10.0 if used == {"mae"} else 100.0


class Watch:
    """Looks at the losses of an epoch's steps.

    A run has diverged when a loss is not finite, or when the median of 8 consecutive steps' losses
    (of an epoch's steps, if fewer) exceeds 100 times (10 times, if all terms are absolute errors)
    the median of the epoch before; in the first epoch that of its first 8 steps. Losses are
    compared under the weights of the moment, and errors below `FLOOR` count as that.

    Args:
        epoch: from 1.
        steps: of the epoch.
        typical: medians of the terms in the epoch before, empty in the first.
        kinds: of the terms.
    """

    def __init__(
        self, epoch: int, steps: int, typical: Sequence[float], kinds: Sequence[Kind]
    ) -> None:
        self.epoch = epoch
        self.window = min(WINDOW, steps)
        self.typical = list(typical)
        self.kinds = kinds
        self.floor = [e if kind == "mae" else e * e for kind, e in zip(kinds, FLOOR)]
        self.terms: list[list[float]] = []
        self.losses: list[float] = []
        self._waiting: deque[tuple[Float[Array, "3"], tuple[float, float, float], float]] = deque()
        self._ratios: deque[float] = deque(maxlen=self.window)

    def add(
        self, terms: Float[Array, "3"], weights: tuple[float, float, float], rate: float
    ) -> None:
        """The next step, which may still be running.

        Raises:
            Diverged: an earlier one has.
        """
        self._waiting.append((terms, weights, rate))
        if len(self._waiting) > LAG:
            self._look()

    def finish(self) -> None:
        """Wait for the last steps.

        Raises:
            Diverged: one of them has.
        """
        while self._waiting:
            self._look()

    def medians(self) -> list[float]:
        """Of the terms over the epoch's steps."""
        return [float(value) for value in np.median(self.terms, axis=0)]

    def _look(self) -> None:
        terms, weights, rate = self._waiting.popleft()
        values = np.asarray(terms, np.float64).tolist()
        loss = weighted(weights, values)
        self.terms.append(values)
        self.losses.append(loss)
        if not np.isfinite(loss):
            self._stop(f"a training loss of {loss:g}", rate)
        if not self.typical:
            if len(self.terms) == WINDOW:
                self.typical = self.medians()
            return
        usual = weighted(weights, [max(pair) for pair in zip(self.typical, self.floor)])
        self._ratios.append(loss / usual)
        growth = largest_growth(self.kinds, weights)
        if len(self._ratios) == self.window and float(np.median(self._ratios)) > growth:
            self._stop(
                f"training losses (now {loss:g}) more than {growth:g} times those before "
                f"({usual:g})",
                rate,
            )

    def _stop(self, reason: str, rate: float) -> None:
        raise Diverged(Rollback(self.epoch, len(self.terms), reason, rate))
