"""`NativeRun`: the compiled loop, driven from the host a piece at a time.

The host makes plans and receives frames; nothing else is done there. Rows are built at the start
of every piece, and pieces depend on the settings only: a run that is taken up again from the
state after a piece gives the same bits as one that was never interrupted.

Checked: tests/simulation/engine/test_run.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.core.errors import BadInput, CalculationFailed, KaratError
from karat.core.units import ACCELERATION, BOLTZMANN
from karat.potentials.analytic.pairwise import AbstractPairPotential
from karat.potentials.native_protocol import NativePotential
from karat.simulation.engine.advance import FULL, OUTRUN, Buffer, Modules, advance
from karat.simulation.engine.plan import (
    BUILD_COST,
    PAIR_BUILD_COST,
    Grid,
    Plan,
    best_skin,
    fullest_cell,
    longest_row,
    make_plan,
    roomier,
)
from karat.simulation.engine.rows import build_rows
from karat.simulation.engine.saved import Saved, load_state, save_state
from karat.simulation.engine.state import Physics, State, make_physics, start_state
from karat.simulation.engine.systems import Systems, pack_systems
from karat.simulation.loop import MAX_STEP_ANGSTROM, Dynamics, clock
from karat.structures.structure import Structure

BUFFER_BYTES = 32_000_000
"""Upper size of the frames kept on the device between two transfers."""
REPORTS = 20
"""A run is cut into at least this many pieces, for progress."""
ALL_PAIRS = 24
"""Molecules up to this size list every pair once and for all."""
FASTEST = 3.5
"""The fastest of some hundred atoms, in standard deviations of one velocity component."""
HOST_ATOMS = 20_000
"""Up to this many, the neighbours of the start are counted on the host."""
ATTEMPTS = 30
"""Plans that are made within one piece of a run, at most."""
WIDEST = 8 * MAX_STEP_ANGSTROM
"""Å; a skin that one step outruns is doubled up to this."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive frames of all systems, side by side, padding removed.

    Attributes:
        first: number of the first frame.
        positions, velocities: Å, Å/fs.
        energies, conserved: eV, potential energies and what is to be added to the total energy
            so that it is conserved.
        cells: Å, of each system.
        stress: eV/Å³, of each system; `None` if not asked for.
    """

    first: int
    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    energies: Float[np.ndarray, "frames systems"]
    conserved: Float[np.ndarray, "frames systems"]
    cells: Float[np.ndarray, "frames systems 3 3"] | None
    stress: Float[np.ndarray, "frames systems 3 3"] | None


class NativeRun:
    """A run of one or several systems.

    Attributes:
        state: where it is.
        seconds: wall time so far, compilation excluded.
        builds: how often rows were built.
    """

    def __init__(
        self,
        potential: NativePotential,
        structures: Sequence[Structure],
        velocities: Sequence[Float[np.ndarray, "_ 3"]],
        settings: Dynamics,
        seeds: Sequence[int],
        inner: NativePotential | None = None,
        saved: Saved | None = None,
        piece_frames: int | None = None,
    ) -> None:
        """`piece_frames`: at most so many frames in a piece."""
        self._settings, self._structures = settings, structures
        species = tuple(sorted({int(z) for one in structures for z in one.numbers}))
        self._modules = Modules(
            potential.module.prepared(species),
            None if inner is None else inner.module.prepared(species),
        )
        self._dtype = potential.dtype
        self._systems: Systems = pack_systems(structures, self._dtype)
        self.physics: Physics = make_physics(
            self._systems, structures, settings, velocities, seeds, self._dtype
        )
        self.state: State = start_state(structures, velocities, settings, self._dtype)
        self.seconds, self.builds = 0.0, 0
        self.failures: dict[int, KaratError] = {}  # of potentials that are not native
        self._skin = self._first_skin(velocities)
        if saved is None:
            self._plan, self._grid = self._planned(1, 1)
            self._measure()
        else:
            if saved.plan is None or saved.grid is None:
                raise BadInput("the checkpoint was made with a potential that is not native.")
            self.state = load_state(saved, self.state)
            self._skin, self._plan, self._grid = saved.skin, saved.plan, saved.grid
        self._piece_frames = piece_frames
        self._buffer = self._make_buffer()
        self._warm()

    @property
    def finished(self) -> bool:
        """Whether the last frame was reached."""
        return int(self.state.step) >= self._settings.intervals * self._settings.every

    @property
    def saved(self) -> Saved:
        """All that is needed to go on from here."""
        return save_state(self.state, self._plan, self._grid, self._skin)

    def next_piece(self) -> Piece:
        """The next frames; the last piece also when all systems have stopped.

        Raises:
            CalculationFailed: atoms or cell move faster than any neighbour list can follow.
        """
        every, total = self._settings.every, self._settings.intervals * self._settings.every
        first = int(self.state.step) // every + 1 if int(self.state.step) >= 0 else 0
        capacity = self._buffer.energies.shape[0]
        end = min((first + capacity - 1) * every, total)
        for _ in range(ATTEMPTS):
            began = clock()
            status, self.state, self._buffer, needed, builds = advance(
                self._modules, self._plan, self._grid, self.physics, self.state, self._buffer,
                _count(end), _count(first),
            )  # fmt: skip
            self.builds += int(builds)
            self.seconds += clock() - began
            if int(status) == FULL:
                self._grow(np.asarray(needed))
            elif int(status) == OUTRUN:
                self._widen()
            else:
                break
            self._warm()
        else:
            raise CalculationFailed(
                f"dynamics: no neighbour list fits at step {int(self.state.step)}, after "
                f"{ATTEMPTS} attempts: atoms gather or the cell shrinks too fast.",
                kind="collapse",
            )
        reached = int(self.state.step) // every
        return self._fetch(first, reached - first + 1)

    def _first_skin(self, velocities: Sequence[np.ndarray]) -> float:
        settings, mass = self._settings, np.asarray(self._systems.mass, float)[:-1].min()
        warmest = max(settings.temperature_k, settings.last_temperature_k)
        speed = FASTEST * np.sqrt(BOLTZMANN * warmest * ACCELERATION / mass)
        given = max(float(np.linalg.norm(own, axis=1).max()) for own in velocities)
        pairs = isinstance(self._modules.whole, AbstractPairPotential)
        cost = PAIR_BUILD_COST if pairs else BUILD_COST
        return best_skin(self._modules.cutoff, settings.timestep_fs * max(speed, given), cost)

    @property
    def _reach(self) -> float:
        alone = not np.asarray(self._systems.periodic).any()
        largest = max(len(structure) for structure in self._structures)
        if alone and largest <= ALL_PAIRS:
            return float("inf")
        return float(self._modules.cutoff + self._skin)

    def _planned(self, width: int, capacity: int) -> tuple[Plan, Grid]:
        largest = max(len(structure) for structure in self._structures)
        if self._reach == np.inf:
            width, capacity = max(largest - 1, 1), largest
        return make_plan(
            periodic=np.array([s.periodic for s in self._structures]),
            sizes=np.array([len(s) for s in self._structures]),
            positions=np.asarray(self.state.high, float)[:-1],
            cells=np.asarray(self.state.cells, float)[:-1],
            reach=self._reach,
            width=width,
            capacity=capacity,
            loose=self._settings.barostat != "none",
            dtype=self._dtype,
        )

    def _measure(self) -> None:
        """Widths that hold the start: counted on the host, or where memory is dear by the device,
        which must be compiled for it."""
        if self._reach == np.inf:
            return
        if self._systems.atoms <= HOST_ATOMS:
            cells = fullest_cell(self._grid, self._structures)
            self._grow(np.array([longest_row(self._structures, self._reach), cells]))
            return
        for _ in range(2):  # the first finds how full a grid cell is: rows may miss some
            needed = np.asarray(
                _needed(self._plan, self._grid, self._systems, self.state.high, self.state.cells)
            )
            self._grow(needed)

    def _grow(self, needed: Int[np.ndarray, "2"]) -> None:
        width, capacity = (
            have if need <= have else roomier(int(need))
            for have, need in zip((self._plan.width, self._plan.capacity), needed)
        )
        self._plan, self._grid = self._planned(width, capacity)

    def _widen(self) -> None:
        self._skin *= 2
        if self._skin > WIDEST:
            raise CalculationFailed(
                f"dynamics: in one step of {self._settings.timestep_fs:g} fs atoms or cells move "
                f"further than a neighbour list can follow ({WIDEST:g} Å). Lower timestep_fs, or "
                "raise barostat_ps.",
                kind="too-fast",
            )
        self._plan, self._grid = self._planned(self._plan.width, self._plan.capacity)

    def _make_buffer(self) -> Buffer:
        atoms, systems = self._systems.atoms, self._systems.count
        room = BUFFER_BYTES // (6 * atoms * self._dtype.itemsize)
        frames = max(2, min(room, -(-self._settings.intervals // REPORTS) + 1))
        if self._piece_frames is not None:
            frames = min(frames, self._piece_frames)
        moving = frames if self._settings.barostat != "none" else 0
        strained = frames if self._settings.stress else 0
        return Buffer(
            positions=jnp.zeros((frames, atoms, 3), self._dtype),
            velocities=jnp.zeros((frames, atoms, 3), self._dtype),
            energies=jnp.zeros((frames, systems), self._dtype),
            conserved=jnp.zeros((frames, systems), self._dtype),
            cells=jnp.zeros((moving, systems, 3, 3), self._dtype),
            virials=jnp.zeros((strained, systems, 3, 3), self._dtype),
        )

    def _warm(self) -> None:
        """Compile: a run to a step that was already made does nothing else."""
        nothing = advance(
            self._modules, self._plan, self._grid, self.physics, self.state, self._buffer,
            _count(-1), _count(0),
        )  # fmt: skip
        jax.block_until_ready(nothing[0])

    def _fetch(self, first: int, count: int) -> Piece:
        def host(array: Array) -> Any:
            kept = np.asarray(array[:count], np.float64)
            return kept[:, :-1]

        buffer = self._buffer
        cells = host(buffer.cells) if len(buffer.cells) else None
        stress = None
        if len(buffer.virials):
            virials = host(buffer.virials)
            symmetric = 0.5 * (virials + np.swapaxes(virials, -1, -2))
            at = cells if cells is not None else np.asarray(self.state.cells, float)[None, :-1]
            stress = symmetric / np.abs(np.linalg.det(at))[..., None, None]
        return Piece(
            first=first,
            positions=host(buffer.positions),
            velocities=host(buffer.velocities),
            energies=host(buffer.energies),
            conserved=host(buffer.conserved),
            cells=cells,
            stress=stress,
        )


@eqx.filter_jit
def _needed(
    plan: Plan, grid: Grid, systems: Systems, positions: Array, cells: Array
) -> Int[Array, "2"]:
    return build_rows(plan, grid, systems, positions, cells).needed


def _count(value: int) -> Array:
    return jnp.asarray(value, dtype=jnp.int32)
