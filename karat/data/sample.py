"""`Sample`: some frames of each system, kept whole, so that near ones can be paired.

Checked: tests/data/test_survey.py.
"""

import numpy as np
from jaxtyping import Int

from karat.data.steps import Steps, steps_between
from karat.data.survey_block import Block

FRAMES = 256
"""Frames kept of one system; beyond it every second is dropped, so that they stay spread out."""

ATOMS = 600_000
"""Atoms kept in all: 50 MB."""

NEAREST = 3
"""Neighbours of each kept frame that it is paired with."""


class _Kept:
    """Every `stride`-th frame of one system."""

    def __init__(self) -> None:
        self.stride = 1
        self.seen = 0
        self.rows: list[int] = []
        self.traces: list[np.ndarray] = []
        self.frames: list[Block] = []

    def add(self, row: int, trace: np.ndarray, block: Block, place: int) -> int:
        """Atoms more (or fewer) that are kept now."""
        before = len(self.rows)
        if self.seen % self.stride == 0:
            self.rows.append(row)
            self.traces.append(trace)
            self.frames.append(_copy(block, place))
        self.seen += 1
        if len(self.rows) > FRAMES:
            self.stride *= 2
            for kept in (self.rows, self.traces, self.frames):
                del kept[1::2]
        return (len(self.rows) - before) * block.numbers.shape[1]


def _copy(block: Block, place: int) -> Block:
    """One structure, without holding on to the others."""
    one = block.take(slice(place, place + 1))
    return Block(*(np.array(getattr(one, name)) for name in Block.__dataclass_fields__))


def _stack(blocks: list[Block]) -> Block:
    names = Block.__dataclass_fields__
    return Block(*(np.concatenate([getattr(b, name) for b in blocks]) for name in names))


class Sample:
    """Fed block by block; gives the pairs of consecutive frames at once, those of near frames at
    the end."""

    def __init__(self) -> None:
        self._systems: dict[tuple, _Kept] = {}
        self._last: dict[int, tuple[int, tuple, Block]] = {}
        self._atoms = 0

    def add(
        self, rows: Int[np.ndarray, "n"], columns: dict[str, np.ndarray], block: Block
    ) -> list[Steps]:
        """Pairs of frames that follow each other in the file (`rows` ascend) in one group."""
        usable = columns["fine_geometry"]
        system = [
            (*key, tuple(flags))
            for key, flags in zip(
                np.stack([columns["system"], columns["level"]], 1).tolist(),
                block.periodic.tolist(),
            )
        ]
        group = columns["group"].tolist()
        for place in np.flatnonzero(usable & columns["has_energy"]).tolist():
            kept = self._systems.setdefault(system[place], _Kept())
            if self._atoms < ATOMS or len(kept.rows) >= FRAMES:
                row = int(rows[place])
                self._atoms += kept.add(row, columns["trace"][place], block, place)
        size = block.numbers.shape[1]
        found = []
        keys = [(*one, number) for one, number in zip(system, group)]
        previous = self._last.get(size)
        if previous and usable[0] and previous[1] == keys[0] and previous[0] + 1 == rows[0]:
            a, b = previous[2], block.take(slice(0, 1))
            found.append(steps_between(np.array([previous[0]]), rows[:1], a, b, True))
        follows = [
            i
            for i in range(1, len(rows))
            if keys[i] == keys[i - 1] and usable[i] and usable[i - 1] and rows[i] == rows[i - 1] + 1
        ]
        if follows:
            second = np.array(follows)
            a, b = block.take(second - 1), block.take(second)
            found.append(steps_between(rows[second - 1], rows[second], a, b, True))
        self._last.pop(size, None)
        if usable[-1]:
            self._last[size] = (int(rows[-1]), keys[-1], _copy(block, len(rows) - 1))
        return found

    def closest(self) -> list[Steps]:
        """Each kept frame with its nearest ones of the same system."""
        found = []
        for kept in self._systems.values():
            if len(kept.rows) < 2:
                continue
            traces = np.array(kept.traces, np.float64)
            squares = np.square(traces).sum(axis=1)
            distance = squares[:, None] + squares[None, :] - 2 * traces @ traces.T
            np.fill_diagonal(distance, np.inf)
            nearest = np.argsort(distance, axis=1)[:, :NEAREST]
            pairs = {
                (min(i, j), max(i, j))
                for i, row in enumerate(nearest.tolist())
                for j in row
                if i != j
            }
            chosen = np.array(sorted(pairs))
            chosen = chosen[np.abs(np.diff(np.array(kept.rows)[chosen], axis=1)[:, 0]) > 1]
            if len(chosen) == 0:
                continue
            whole, rows = _stack(kept.frames), np.array(kept.rows)
            first, second = chosen.T
            found.append(
                steps_between(
                    rows[first], rows[second], whole.take(first), whole.take(second), False
                )
            )
        return found
