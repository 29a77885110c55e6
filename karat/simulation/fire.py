"""FIRE for many systems at once: the fast inertial relaxation engine.

Checked: tests/simulation/test_batched_relax.py, against ASE's FIRE step by step.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

FIRST_TIMESTEP = 0.1
LONGEST_TIMESTEP = 1.0
"""With masses of one: Å·eV^(-1/2)."""
LONGEST_MOVE = 0.2
"""Å; of any atom in one step."""
PATIENCE = 5
"""Steps downhill before the time step grows."""
FASTER, SLOWER = 1.1, 0.5
FIRST_MIXING, MIXING_DECAY = 0.1, 0.99


@dataclass(frozen=True, eq=False)
class Fire:
    """What FIRE remembers of each system; the systems' rows stand one below the other.

    Attributes:
        sizes: rows (atoms, and whatever else moves) of each system.
        velocities: Å·eV^½/Å, mass one.
        timestep: of each system.
        mixing: how strongly velocities are turned towards the forces.
        downhill: steps since the last one uphill; -1 before the first step.
    """

    sizes: Int[np.ndarray, "systems"]
    velocities: Float[np.ndarray, "rows 3"]
    timestep: Float[np.ndarray, "systems"]
    mixing: Float[np.ndarray, "systems"]
    downhill: Int[np.ndarray, "systems"]

    def keep(self, chosen: Bool[np.ndarray, "systems"]) -> "Fire":
        """Only the chosen systems."""
        return Fire(
            sizes=self.sizes[chosen],
            velocities=self.velocities[np.repeat(chosen, self.sizes)],
            timestep=self.timestep[chosen],
            mixing=self.mixing[chosen],
            downhill=self.downhill[chosen],
        )

    def join(self, sizes: Int[np.ndarray, "others"]) -> "Fire":
        """These systems, then others that stand still."""
        other = fire_start(sizes)
        return Fire(
            sizes=np.concatenate([self.sizes, other.sizes]),
            velocities=np.concatenate([self.velocities, other.velocities]),
            timestep=np.concatenate([self.timestep, other.timestep]),
            mixing=np.concatenate([self.mixing, other.mixing]),
            downhill=np.concatenate([self.downhill, other.downhill]),
        )


def fire_start(sizes: Int[np.ndarray, "systems"]) -> Fire:
    """All systems standing still."""
    count = len(sizes)
    return Fire(
        sizes=sizes,
        velocities=np.zeros((int(sizes.sum()), 3)),
        timestep=np.full(count, FIRST_TIMESTEP),
        mixing=np.full(count, FIRST_MIXING),
        downhill=np.full(count, -1),
    )


def fire_step(
    state: Fire, forces: Float[np.ndarray, "rows 3"]
) -> tuple[Fire, Float[np.ndarray, "rows 3"]]:
    """The next state and by how much to move, Å; the systems do not feel each other.

    Symplectic Euler; no row moves farther than `LONGEST_MOVE`.

    Source: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), with its parameters.
    """
    starts = np.concatenate([[0], np.cumsum(state.sizes)[:-1]])

    def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.sum(first * second, axis=1), starts)

    def spread(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, state.sizes)[:, None]

    velocities = state.velocities
    good = dot(forces, velocities) > 0
    size = np.sqrt(dot(forces, forces))
    ratio = np.sqrt(dot(velocities, velocities)) / np.where(size > 0, size, 1.0)
    mixed = spread(1 - state.mixing) * velocities + spread(state.mixing * ratio) * forces
    speed_up = good & (state.downhill > PATIENCE)
    uphill = ~good & (state.downhill >= 0)
    timestep = np.where(
        speed_up, np.minimum(state.timestep * FASTER, LONGEST_TIMESTEP), state.timestep
    )
    timestep = np.where(uphill, timestep * SLOWER, timestep)
    mixing = np.where(speed_up, state.mixing * MIXING_DECAY, state.mixing)
    velocities = np.where(spread(good), mixed, 0.0) + spread(timestep) * forces
    moves = spread(timestep) * velocities
    longest = np.sqrt(np.maximum.reduceat(np.sum(moves * moves, axis=1), starts))
    moves = moves * spread(LONGEST_MOVE / np.maximum(longest, LONGEST_MOVE))
    after = Fire(
        sizes=state.sizes,
        velocities=velocities,
        timestep=timestep,
        mixing=np.where(good, mixing, FIRST_MIXING),
        downhill=np.where(good, state.downhill + 1, 0),
    )
    return after, moves
