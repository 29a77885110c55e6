"""`HostedRun`: potentials that are not native, moved by the same compiled half steps; only their
forces come from `predict`.

Checked: tests/simulation/test_dynamics.py, against the compiled loop.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.errors import CalculationFailed, KaratError
from karat.potentials.precision import require
from karat.potentials.protocol import AbstractPotential, predict_each
from karat.simulation.engine.advance import bath_energy
from karat.simulation.engine.forces import Forces
from karat.simulation.engine.run import REPORTS, Piece
from karat.simulation.engine.saved import Saved, load_state, save_state
from karat.simulation.engine.state import MOVING, Physics, State, make_physics, start_state
from karat.simulation.engine.step import FAILED, after, before
from karat.simulation.engine.systems import pack_systems
from karat.simulation.loop import Dynamics, clock
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure


class HostedRun:
    """A run of one or several systems; see `NativeRun`, whose attributes and methods it has.

    Attributes:
        failures: what the potential said where it failed, by system.
    """

    def __init__(
        self,
        potential: AbstractPotential,
        structures: Sequence[Structure],
        velocities: Sequence[Float[np.ndarray, "_ 3"]],
        settings: Dynamics,
        seeds: Sequence[int],
        saved: Saved | None = None,
        piece_frames: int | None = None,
    ) -> None:
        dtype = require("float64")
        self._potential, self._structures, self._settings = potential, structures, settings
        systems = pack_systems(structures, dtype)
        self.physics: Physics = make_physics(
            systems, structures, settings, velocities, seeds, dtype
        )
        self.state: State = start_state(structures, velocities, settings, dtype)
        if saved is not None:
            self.state = load_state(saved, self.state)
        self.seconds, self.builds = 0.0, 0
        self.failures: dict[int, KaratError] = {}
        self._ends = np.cumsum([len(s) for s in structures])
        self._frames = max(2, -(-settings.intervals // REPORTS))
        if piece_frames is not None:
            self._frames = min(self._frames, piece_frames)
        self._wants: tuple[Quantity, ...] = ("energy", "forces")
        if settings.barostat != "none" or settings.stress:
            self._wants += ("stress",)

    @property
    def finished(self) -> bool:
        """Whether the last frame was reached."""
        return int(self.state.step) >= self._settings.intervals * self._settings.every

    @property
    def saved(self) -> Saved:
        """All that is needed to go on from here."""
        return save_state(self.state, None, None, 0.0)

    def next_piece(self) -> Piece:
        """The next frames; fewer where all systems have stopped."""
        every = self._settings.every
        total = self._settings.intervals * every
        first = int(self.state.step) // every + 1 if int(self.state.step) >= 0 else 0
        end = min((first + self._frames - 1) * every, total)
        kept: list[tuple[np.ndarray, ...]] = []
        began = clock()
        while int(self.state.step) < end and (np.asarray(self.state.status)[:-1] == MOVING).any():
            self._step()
            if int(self.state.step) % every == 0:
                kept.append(self._frame())
        self.seconds += clock() - began
        columns = [np.array([frame[k] for frame in kept]) for k in range(6)]
        if not kept:
            columns = [np.zeros((0, *value.shape)) for value in self._frame()]
        moving = self._settings.barostat != "none"
        return Piece(
            first=first,
            positions=columns[0],
            velocities=columns[1],
            energies=columns[2],
            conserved=columns[3],
            cells=columns[4] if moving else None,
            stress=columns[5] if self._settings.stress else None,
        )

    def _step(self) -> None:
        old = self.state
        moved = old if int(old.step) < 0 else _before(self.physics, old)
        found, failed = self._forces(moved, np.asarray(old.status) == MOVING)
        new = _after(self.physics, old, moved, found, jnp.asarray(failed))
        self.state = new

    def _forces(self, state: State, moving: np.ndarray) -> tuple[Forces, np.ndarray]:
        """Forces of all systems that move, and which failed."""
        positions = np.asarray(state.high + state.low)
        cells = np.asarray(state.cells + state.cells_low)
        forces = np.zeros(positions.shape)
        energies, virials = np.zeros(len(cells)), np.zeros((len(cells), 3, 3))
        failed = np.zeros(len(cells), bool)
        live = np.flatnonzero(moving[:-1]).tolist()
        here = [self._at(i, positions, cells) for i in live]
        fit = [i for i, structure in zip(live, here) if structure is not None]
        found = predict_each(self._potential, [s for s in here if s is not None], self._wants)
        for i in set(live) - set(fit):  # the next look at the positions says what happened
            forces[self._slice(i)] = np.nan
        for i, labels in zip(fit, found):
            if isinstance(labels, Labels):
                assert labels.energy is not None
                energies[i] = labels.energy
                forces[self._slice(i)] = labels.forces
                if labels.stress is not None:
                    virials[i] = labels.stress * np.abs(np.linalg.det(cells[i]))
            elif isinstance(labels, CalculationFailed) and labels.kind == "not-finite":
                forces[self._slice(i)] = np.nan
            else:
                failed[i] = True
                self.failures[int(i)] = labels
        return Forces(*(jnp.asarray(one) for one in (energies, forces, virials))), failed

    def _at(self, i: int, positions: np.ndarray, cells: np.ndarray) -> Structure | None:
        structure, own = self._structures[i], positions[self._slice(i)]
        if not np.isfinite(own).all():
            return None
        if self._settings.barostat == "none":
            return structure.replace(positions=own)
        return structure.replace(positions=own, cell=cells[i])

    def _slice(self, i: int) -> slice:
        return slice(self._ends[i] - len(self._structures[i]), self._ends[i])

    def _frame(self) -> tuple[np.ndarray, ...]:
        state = self.state
        cells = np.asarray(state.cells + state.cells_low)
        volumes = np.abs(np.linalg.det(cells))
        columns = (
            np.asarray(state.high + state.low),
            np.asarray(state.velocities),
            np.asarray(state.energies),
            np.asarray(_bath(self.physics, state)),
            cells,
            np.asarray(state.virials) / volumes[:, None, None],
        )
        return tuple(np.array(column[:-1]) for column in columns)


@eqx.filter_jit
def _before(physics: Physics, state: State) -> State:
    return before(physics, state, None)[0]


@eqx.filter_jit
def _after(physics: Physics, old: State, moved: State, found: Forces, failed: Array) -> State:
    new = after(physics, old, moved, found)
    return eqx.tree_at(
        lambda s: (s.status, s.stopped),
        new,
        (
            jnp.where(failed & (new.status == MOVING), FAILED, new.status).astype(jnp.int32),
            jnp.where(failed & (new.status == MOVING), new.step, new.stopped),
        ),
    )


@eqx.filter_jit
def _bath(physics: Physics, state: State) -> Float[Array, "systems"]:
    return bath_energy(physics, state)
