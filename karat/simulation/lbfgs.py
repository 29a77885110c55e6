"""Limited-memory BFGS for many systems at once: steps from remembered curvatures, no energies.

Checked: tests/simulation/test_lbfgs.py, against the full matrix and ASE's optimisers.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

MEMORY = 20
"""How many steps are remembered."""
FIRST_STIFFNESS = 70.0
"""eV/Å²; what every direction is taken for before anything is known: stiffer than most bonds."""
LONGEST_MOVE = 0.2
"""Å; of any row in one step."""
FLATTEST = 1e-3
"""A curvature below this many times the stiffness is not believed."""
SHORTEST_RETREAT, LONGEST_RETREAT = 0.1, 0.5
"""Part of a step that is left when it is taken back."""


@dataclass(frozen=True, eq=False)
class Lbfgs:
    """What L-BFGS remembers of each system; the systems' rows stand one below the other.

    Attributes:
        sizes: rows (atoms, and whatever else moves) of each system.
        forces: where the last accepted step ended, eV/Å.
        offset: how far each system stands from there: the step under trial, Å.
        stiffness: of directions that nothing is remembered of, eV/Å².
        moves: accepted steps s, newest first, Å.
        changes: by how much the gradient changed over each (y), eV/Å.
        weights: 1/(s·y); 0 where a system has not made so many steps.
    """

    sizes: Int[np.ndarray, "systems"]
    forces: Float[np.ndarray, "rows 3"]
    offset: Float[np.ndarray, "rows 3"]
    stiffness: Float[np.ndarray, "systems"]
    moves: Float[np.ndarray, "memory rows 3"]
    changes: Float[np.ndarray, "memory rows 3"]
    weights: Float[np.ndarray, "memory systems"]

    def keep(self, chosen: Bool[np.ndarray, "systems"]) -> "Lbfgs":
        """Only the chosen systems."""
        rows = np.repeat(chosen, self.sizes)
        return Lbfgs(
            sizes=self.sizes[chosen],
            forces=self.forces[rows],
            offset=self.offset[rows],
            stiffness=self.stiffness[chosen],
            moves=self.moves[:, rows],
            changes=self.changes[:, rows],
            weights=self.weights[:, chosen],
        )

    def join(self, sizes: Int[np.ndarray, "others"]) -> "Lbfgs":
        """These systems, then others of which nothing is known."""
        other = lbfgs_start(sizes)
        return Lbfgs(
            sizes=np.concatenate([self.sizes, other.sizes]),
            forces=np.concatenate([self.forces, other.forces]),
            offset=np.concatenate([self.offset, other.offset]),
            stiffness=np.concatenate([self.stiffness, other.stiffness]),
            moves=np.concatenate([self.moves, other.moves], axis=1),
            changes=np.concatenate([self.changes, other.changes], axis=1),
            weights=np.concatenate([self.weights, other.weights], axis=1),
        )

    def dot(
        self, first: Float[np.ndarray, "rows 3"], second: Float[np.ndarray, "rows 3"]
    ) -> Float[np.ndarray, "systems"]:
        """Scalar product of each system."""
        return np.add.reduceat(np.sum(first * second, axis=1), self._starts)

    def longest(self, rows: Float[np.ndarray, "rows 3"]) -> Float[np.ndarray, "systems"]:
        """Length of the longest row of each system."""
        return np.sqrt(np.maximum.reduceat(np.sum(rows * rows, axis=1), self._starts))

    def spread(self, values: np.ndarray) -> np.ndarray:
        """One value per system onto its rows."""
        return np.repeat(values, self.sizes)[:, None]

    @property
    def _starts(self) -> Int[np.ndarray, "systems"]:
        return np.cumsum(self.sizes) - self.sizes


def lbfgs_start(sizes: Int[np.ndarray, "systems"]) -> Lbfgs:
    """Systems of which nothing is known."""
    rows, count = int(sizes.sum()), len(sizes)
    return Lbfgs(
        sizes=sizes,
        forces=np.zeros((rows, 3)),
        offset=np.zeros((rows, 3)),
        stiffness=np.full(count, FIRST_STIFFNESS),
        moves=np.zeros((MEMORY, rows, 3)),
        changes=np.zeros((MEMORY, rows, 3)),
        weights=np.zeros((MEMORY, count)),
    )


def lbfgs_step(
    state: Lbfgs, forces: Float[np.ndarray, "rows 3"]
) -> tuple[Lbfgs, Float[np.ndarray, "rows 3"]]:
    """The next state and by how much to move, Å; the systems do not feel each other.

    No row moves farther than `LONGEST_MOVE` by a new step. Instead of energies, which rounding
    blurs near a minimum and a band of images does not have, the trapezoidal rule along the step
    says whether it went uphill; such a step is taken back to where the forces along it should
    vanish. Where the curvature along a step is negative its absolute value is remembered
    instead, so that the matrix stays positive and the next step goes on downhill.

    Source: Liu & Nocedal, Math. Program. 45, 503 (1989), scaled anew at every step;
    the absolute curvature: the gradient's change is shifted along the step as in Li & Fukushima,
    J. Comput. Appl. Math. 129, 15 (2001), by as much as turns the sign.
    """
    before, after = state.dot(state.forces, state.offset), state.dot(forces, state.offset)
    uphill = (before > 0) & (before + after < 0)
    state = _remembered(state, forces, ~uphill & (before > 0), before - after)
    onward = _direction(state, forces)
    longest = state.longest(onward)
    onward = onward * state.spread(LONGEST_MOVE / np.maximum(longest, LONGEST_MOVE))
    zero = before / np.where(uphill, before - after, 1.0)
    left = state.spread(np.clip(zero, SHORTEST_RETREAT, LONGEST_RETREAT)) * state.offset
    back = state.spread(uphill)
    moves = np.where(back, left - state.offset, onward)
    state = replace(
        state,
        forces=np.where(back, state.forces, forces),
        offset=np.where(back, left, onward),
    )
    return state, moves


def _remembered(
    state: Lbfgs,
    forces: Float[np.ndarray, "rows 3"],
    accepted: Bool[np.ndarray, "systems"],
    bend: Float[np.ndarray, "systems"],
) -> Lbfgs:
    """With the accepted steps in front; `bend` is s·y, by how much the force along s fell."""
    length = np.where(accepted, state.dot(state.offset, state.offset), 1.0)
    curvature = bend / length
    least = FLATTEST * state.stiffness
    believed = np.where(curvature < least, np.maximum(np.abs(curvature), least), curvature)
    change = state.forces - forces + state.spread(believed - curvature) * state.offset
    weight = 1 / np.where(accepted, believed * length, 1.0)
    rows = state.spread(accepted)

    def pushed(old: np.ndarray, new: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return np.where(chosen, np.concatenate([new[None], old[:-1]]), old)

    return replace(
        state,
        stiffness=np.where(accepted, state.dot(change, change) * weight, state.stiffness),
        moves=pushed(state.moves, state.offset, rows),
        changes=pushed(state.changes, change, rows),
        weights=pushed(state.weights, weight, accepted),
    )


def _direction(state: Lbfgs, forces: Float[np.ndarray, "rows 3"]) -> Float[np.ndarray, "rows 3"]:
    """Forces times the inverse of the remembered Hessian: the two loops over the memory."""
    newest_first = list(zip(state.moves, state.changes, state.weights))
    rest, parts = forces, []
    for move, change, weight in newest_first:
        parts.append(weight * state.dot(move, rest))
        rest = rest - state.spread(parts[-1]) * change
    found = rest / state.spread(state.stiffness)
    for (move, change, weight), part in zip(reversed(newest_first), reversed(parts)):
        found = found + state.spread(part - weight * state.dot(change, found)) * move
    return found
