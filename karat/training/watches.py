"""A watch over the losses of each member of a committee, or of a single potential.

If one member has diverged, the run has: all go back to the last good epoch, and all go on with
half the learning rate, for the batches and the learning rate are common to them.

Checked: tests/training/test_committee.py, test_divergence.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Array, Float

from karat.training.divergence import Diverged, Watch
from karat.training.settings import Kind


class Watches:
    """As `Watch`, for terms that may have an axis of members.

    Args:
        members: number of them; 1 for a single potential.
        epoch, steps, kinds: see `Watch`.
        typical: medians of the terms in the epoch before, one member after the other.
    """

    def __init__(
        self,
        members: int,
        epoch: int,
        steps: int,
        typical: Sequence[float],
        kinds: Sequence[Kind],
    ) -> None:
        mine = np.reshape(typical, (members, -1)).tolist()
        self.each = [Watch(epoch, steps, one, kinds) for one in mine]

    def add(
        self,
        terms: Float[Array, "*members 3"],
        weights: tuple[float, float, float],
        rate: float,
    ) -> None:
        """The next step, which may still be running.

        Raises:
            Diverged: an earlier one has, of any member.
        """
        rows = [terms] if len(self.each) == 1 else _apart(terms)
        for index, (watch, row) in enumerate(zip(self.each, rows, strict=True)):
            with self._named(index):
                watch.add(row, weights, rate)

    def finish(self) -> None:
        """Wait for the last steps.

        Raises:
            Diverged: one of them has.
        """
        for index, watch in enumerate(self.each):
            with self._named(index):
                watch.finish()

    @contextmanager
    def _named(self, index: int) -> Iterator[None]:
        """Say which member has diverged."""
        try:
            yield
        except Diverged as diverged:
            if len(self.each) == 1:
                raise
            reason = f"member {index + 1}: {diverged.rollback.reason}"
            raise Diverged(replace(diverged.rollback, reason=reason)) from diverged

    def medians(self) -> list[float]:
        """Of the terms over the epoch's steps, one member after the other."""
        return [value for watch in self.each for value in watch.medians()]

    def mean_loss(self) -> float:
        """Over the epoch's steps and the members."""
        return float(np.mean([watch.losses for watch in self.each]))

    def mean_terms(self) -> list[float]:
        """Over the epoch's steps and the members."""
        terms: list[float] = np.mean([watch.terms for watch in self.each], axis=(0, 1)).tolist()
        return terms


@jax.jit
def _apart(terms: Float[Array, "members 3"]) -> tuple[Float[Array, "3"], ...]:
    """The rows, in one call; they may still be being computed."""
    return tuple(terms)
