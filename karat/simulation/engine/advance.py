"""The compiled loop: neighbour rows are built, steps are made until an atom has moved too far for
them, rows are built again, and so on, without the host.

Checked: tests/simulation/engine/test_run.py.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from karat.potentials.native_protocol import AbstractNativePotential
from karat.simulation.engine.forces import evaluate_rows
from karat.simulation.engine.plan import Grid, Plan
from karat.simulation.engine.rows import Rows, build_rows, times_cells
from karat.simulation.engine.state import MOVING, Physics, State
from karat.simulation.engine.step import after, before
from karat.simulation.engine.thermostats import chain_energy

RUNNING, FULL, OUTRUN, ALL_STOPPED = range(4)
"""The loop goes on; rows did not fit into the plan; one step outran the skin; nothing moves."""
AHEAD = 1.2
"""Rows are made anew before a step that would leave their reach at this many times the speed."""


class Buffer(eqx.Module):
    """Frames since the last transfer; entries beyond the reached step are leftovers.

    Attributes:
        conserved: eV; what the bath did is taken out.
    """

    positions: Float[Array, "frames atoms 3"]
    velocities: Float[Array, "frames atoms 3"]
    energies: Float[Array, "frames systems"]
    conserved: Float[Array, "frames systems"]
    cells: Float[Array, "cellframes systems 3 3"]
    virials: Float[Array, "stressframes systems 3 3"]


class Modules(eqx.Module):
    """The potential, and the inner one of r-RESPA."""

    whole: AbstractNativePotential
    inner: AbstractNativePotential | None

    @property
    def cutoff(self) -> float:
        """Å, the larger one."""
        cutoffs = [self.whole.cutoff] if self.inner is None else [
            self.whole.cutoff, self.inner.cutoff]  # fmt: skip
        return max(cutoffs)


@eqx.filter_jit
def advance(
    modules: Modules,
    plan: Plan,
    grid: Grid,
    physics: Physics,
    state: State,
    buffer: Buffer,
    end: Int[Array, ""],
    first: Int[Array, ""],
) -> tuple[Int[Array, ""], State, Buffer, Int[Array, "2"], Int[Array, ""]]:
    """Steps up to `end`, or until one cannot be made; frames from number `first` on are kept.

    Returns the status, the state, the frames, the sizes that the last rows needed, and how often
    rows were built.
    """

    def unfinished(carry: tuple) -> Bool[Array, ""]:
        status, state = carry[0], carry[1]
        return (status == RUNNING) & (state.step < end)

    def rebuild(carry: tuple) -> tuple:
        _, state, buffer, _, builds = carry
        rows = build_rows(plan, grid, physics.systems, state.high + state.low, _cells(state))

        def going(inner: tuple) -> Bool[Array, ""]:
            status, state, _, made = inner
            fresh = made == 0
            well = (status == RUNNING) & (state.step < end)
            return well & (fresh | _complete(modules, grid, physics, rows, state, ahead=True))

        def once(inner: tuple) -> tuple:
            _, old, buffer, made = inner
            new, listed = _step(modules, plan, grid, physics, rows, old)
            new = jax.tree.map(lambda a, b: jnp.where(listed, a, b), new, old)
            buffer = _record(physics, buffer, new, first, listed)
            status = jnp.where(listed, RUNNING, jnp.where(made == 0, OUTRUN, RUNNING))
            moving = jnp.any(new.status[:-1] == MOVING)
            status = jnp.where(moving, status, ALL_STOPPED).astype(jnp.int32)
            # a step that was not made ends this loop: the next `going` sees the same atoms
            return status, new, buffer, jnp.where(listed, made + 1, -1)

        start = (jnp.where(rows.fits, RUNNING, FULL).astype(jnp.int32), state, buffer, _zero())
        status, state, buffer, _ = jax.lax.while_loop(
            lambda inner: going(inner) & (inner[3] >= 0), once, start
        )
        return status, state, buffer, rows.needed, builds + 1

    start = (jnp.asarray(RUNNING, jnp.int32), state, buffer, jnp.zeros(2, jnp.int32), _zero())
    return jax.lax.while_loop(unfinished, rebuild, start)


def _zero() -> Array:
    return jnp.asarray(0, jnp.int32)


def _cells(state: State) -> Array:
    return state.cells + state.cells_low


def _step(
    modules: Modules, plan: Plan, grid: Grid, physics: Physics, rows: Rows, old: State
) -> tuple[State, Bool[Array, ""]]:
    """One step, and whether all lists were complete for it."""

    def inner(state: State) -> tuple[Array, Array]:
        assert modules.inner is not None
        positions, cells = state.high + state.low, _cells(state)
        found = evaluate_rows(modules.inner, plan, physics.systems, rows, positions, cells)
        return found.forces, _complete(modules, grid, physics, rows, state)

    began = old.step >= 0
    moved, listed = before(physics, old, inner if modules.inner is not None else None)
    moved = jax.tree.map(lambda a, b: jnp.where(began, a, b), moved, old)
    if modules.inner is not None:
        fast = jax.lax.cond(began, lambda: moved.fast, lambda: inner(old)[0])
        moved = eqx.tree_at(lambda s: s.fast, moved, fast)
    positions = moved.high + moved.low
    found = evaluate_rows(modules.whole, plan, physics.systems, rows, positions, _cells(moved))
    new = after(physics, old, moved, found)
    # a system that jumped stands still again: its atoms are not counted
    return new, _complete(modules, grid, physics, rows, new) & (listed | ~began)


def _complete(
    modules: Modules, grid: Grid, physics: Physics, rows: Rows, state: State, ahead: bool = False
) -> Bool[Array, ""]:
    """Whether rows hold all pairs within the cut-off, also after another step if `ahead`.

    With the cell C now and C₀ then, a pair within the cut-off r now was within
    r ‖C⁻¹C₀‖ + 2 max |moved| then, displacements being measured in C₀.
    """
    systems = physics.systems
    positions = state.high + state.low
    stretch = jnp.asarray(0.0, positions.dtype)
    if physics.barostat != "none":
        back = jnp.linalg.inv(_cells(state)) @ rows.built_cells
        positions = times_cells(positions, systems, back)
        change = back - jnp.eye(3, dtype=back.dtype)[None]
        stretch = jnp.max(jnp.sqrt(jnp.sum(change * change, axis=(1, 2))))
    moved = positions - rows.built
    furthest = jnp.sqrt(jnp.max(jnp.sum(moved * moved, axis=1)))
    if ahead:
        speed = jnp.sqrt(jnp.max(jnp.sum(state.velocities**2, axis=1)))
        furthest = furthest + AHEAD * physics.timestep * speed
    return modules.cutoff * (1 + stretch) + 2 * furthest <= grid.reach


def _record(physics: Physics, buffer: Buffer, state: State, first: Array, made: Array) -> Buffer:
    """The buffer with this step's frame, where one is due."""
    size = buffer.energies.shape[0]
    due = made & (state.step % physics.every == 0)
    place = jnp.where(due, state.step // physics.every - first, size)

    def put(frames: Array, value: Array) -> Array:
        return frames.at[place].set(value, mode="drop") if len(frames) else frames

    return Buffer(
        positions=put(buffer.positions, state.high),
        velocities=put(buffer.velocities, state.velocities),
        energies=put(buffer.energies, state.energies),
        conserved=put(buffer.conserved, bath_energy(physics, state)),
        cells=put(buffer.cells, state.cells),
        virials=put(buffer.virials, state.virials),
    )


def bath_energy(physics: Physics, state: State) -> Float[Array, "systems"]:
    """What is added to potential and kinetic energy so that the sum is conserved, eV."""
    if physics.ensemble == "nose-hoover":
        return chain_energy(physics, state.chain, state.step)
    return -state.heat
