"""One step: what happens before the forces are known, and what after.

Velocity Verlet with the thermostat in the middle (B A O A B), a Nosé–Hoover chain around it, the
barostat in the middle, or several steps of an inner potential between the kicks of the slow forces
(r-RESPA).

Checked: tests/simulation/engine/test_run.py, test_thermostats.py, test_respa.py.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from karat.core.units import ACCELERATION
from karat.simulation.engine.barostat import rescale
from karat.simulation.engine.forces import Forces
from karat.simulation.engine.rows import times_cells
from karat.simulation.engine.state import (
    MOVING,
    Physics,
    State,
    add,
    select,
)
from karat.simulation.engine.systems import Systems
from karat.simulation.engine.thermostats import kinetic, langevin, nose_hoover, rescaled
from karat.simulation.loop import MAX_STEP_ANGSTROM

JUMP, NOT_FINITE, TOO_HOT, FAILED = 1, 2, 3, 4
KINDS = {JUMP: "jump", NOT_FINITE: "not-finite", TOO_HOT: "too-hot"}
"""Explosions; `FAILED`: the potential gave no answer."""

Inner = Callable[[Float[Array, "atoms 3"], Float[Array, "systems 3 3"]], Array]
"""Positions and cells → forces of the inner potential and whether its list was complete."""


def kick(
    physics: Physics, velocities: Array, forces: Array, duration: Array
) -> Float[Array, "atoms 3"]:
    """Velocities after `duration` fs of constant forces."""
    return velocities + duration * ACCELERATION / physics.systems.mass[:, None] * forces


def before(physics: Physics, state: State, inner: Callable | None) -> tuple[State, Bool[Array, ""]]:
    """Everything of a step up to the new positions, and whether the inner lists were complete."""
    half = 0.5 * physics.timestep
    velocities, chain = state.velocities, state.chain
    if physics.ensemble == "nose-hoover":
        place = state.high + state.low
        velocities, chain = nose_hoover(physics, place, velocities, chain, state.step, half)
    velocities = kick(physics, velocities, state.forces, half)
    state = eqx.tree_at(lambda s: (s.velocities, s.chain), state, (velocities, chain))
    if physics.inner_steps > 1:
        assert inner is not None
        return _inner(physics, state, inner)
    state = _drift(physics, state, 0, physics.timestep, physics.barostat != "none")
    return state, jnp.asarray(True)


def _drift(
    physics: Physics, state: State, part: int | Array, duration: Array, barostat: bool
) -> State:
    """A O A, or A O C A with the barostat C."""
    old = state.velocities
    new, heat = _thermostat(physics, state, part, duration)
    high, low = state.high, state.low
    if barostat:
        high, low = add(high, low, 0.5 * duration * old)
        state = eqx.tree_at(lambda s: (s.high, s.low), state, (high, low))
        state, new = rescale(physics, state, new)
        high, low = add(state.high, state.low, 0.5 * duration * new)
    else:
        high, low = add(high, low, 0.5 * duration * (old + new))
    heat, heat_low = add(state.heat, state.heat_low, heat)
    return eqx.tree_at(
        lambda s: (s.high, s.low, s.velocities, s.heat, s.heat_low),
        state,
        (high, low, new, heat, heat_low),
    )


def _thermostat(
    physics: Physics, state: State, part: int | Array, duration: Array
) -> tuple[Float[Array, "atoms 3"], Float[Array, "systems"]]:
    """Velocities after the stochastic thermostat, and the heat that it gave, eV."""
    velocities = state.velocities
    if physics.ensemble == "langevin":
        new = langevin(physics, velocities, state.step, part, duration)
    elif physics.ensemble == "velocity-rescaling":
        place = state.high + state.low
        new = rescaled(physics, place, velocities, state.step, part, duration)
    else:
        return velocities, jnp.zeros_like(state.heat)
    return new, kinetic(physics, new) - kinetic(physics, velocities)


def _inner(physics: Physics, state: State, inner: Callable) -> tuple[State, Bool[Array, ""]]:
    """Steps of the inner potential within one step of the whole one.

    Source: Tuckerman, Berne & Martyna, J. Chem. Phys. 97, 1990 (1992).
    """
    duration = physics.timestep / physics.inner_steps

    def once(part: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, listed = carry
        velocities = kick(physics, state.velocities, state.fast, 0.5 * duration)
        state = eqx.tree_at(lambda s: s.velocities, state, velocities)
        state = _drift(physics, state, part, duration, False)
        fast, complete = inner(state)
        velocities = kick(physics, state.velocities, fast, 0.5 * duration)
        state = eqx.tree_at(lambda s: (s.velocities, s.fast), state, (velocities, fast))
        return state, listed & complete

    return jax.lax.fori_loop(0, physics.inner_steps, once, (state, jnp.asarray(True)))


def after(physics: Physics, old: State, moved: State, found: Forces) -> State:
    """The rest of a step, now that forces are known; systems that exploded stay where they were.

    The step to 0 (`old.step` is -1) only finds the forces of the start.
    """
    began = old.step >= 0
    forces = found.forces
    if physics.inner_steps > 1:
        forces = forces - moved.fast
    half = 0.5 * physics.timestep
    velocities, chain = kick(physics, moved.velocities, forces, half), moved.chain
    if physics.ensemble == "nose-hoover":
        place = moved.high + moved.low
        velocities, chain = nose_hoover(physics, place, velocities, chain, old.step, half)
    velocities = jnp.where(began, velocities, old.velocities)
    new = eqx.tree_at(
        lambda s: (s.step, s.velocities, s.forces, s.chain, s.energies, s.virials),
        moved,
        (
            old.step + 1,
            velocities,
            forces,
            jnp.where(began, chain, old.chain),
            found.energies,
            found.virials,
        ),
    )
    status = _trouble(physics, old, new)
    well = status == MOVING
    stopped = jnp.where((old.status == MOVING) & ~well, new.step, old.stopped)
    kept = _keep(physics.systems, well, old, new)
    return eqx.tree_at(lambda s: (s.step, s.status, s.stopped), kept, (new.step, status, stopped))


def _trouble(physics: Physics, old: State, new: State) -> Array:
    """The status of each system after a step."""
    systems = physics.systems
    finite = jnp.isfinite(new.energies) & ~_any(~jnp.isfinite(new.forces).all(axis=1), systems)
    hot = ~(kinetic(physics, new.velocities) <= physics.hottest)
    moved = _moved(physics, old, new)
    far = ~(jnp.sum(moved * moved, axis=1) <= MAX_STEP_ANGSTROM**2)
    status = jnp.where(hot, TOO_HOT, MOVING)
    status = jnp.where(finite, status, NOT_FINITE)
    status = jnp.where(_any(far & systems.real, systems), JUMP, status)
    status = jnp.where(old.status == MOVING, status, old.status)
    return status.at[-1].set(MOVING).astype(jnp.int32)


def _moved(physics: Physics, old: State, new: State) -> Float[Array, "atoms 3"]:
    """How far atoms went in one step, Å, beside what the barostat did to the whole cell: far from
    the origin (positions are not wrapped) a small strain is a long way."""
    moved = (new.high - old.high) + (new.low - old.low)
    if physics.barostat == "none":
        return moved
    change = (new.cells - old.cells) + (new.cells_low - old.cells_low)
    grow = jnp.linalg.inv(old.cells + old.cells_low) @ change
    return moved - times_cells(old.high + old.low, physics.systems, grow)


def _any(mask: Bool[Array, "atoms"], systems: Systems) -> Bool[Array, "systems"]:
    """Whether it holds for an atom of each system."""
    if systems.count == 2:
        return jnp.stack([jnp.any(mask & systems.real), jnp.asarray(False)])
    counted = jax.ops.segment_sum(
        mask.astype(jnp.int32), systems.system, num_segments=systems.count,
        indices_are_sorted=True,
    )  # fmt: skip
    return counted > 0


def _keep(systems: Systems, well: Bool[Array, "systems"], old: State, new: State) -> State:
    """`new` for systems that are well, `old` for others."""
    by_atom = well[:1] if systems.count == 2 else well[systems.system]
    chosen = {}
    for name in ("high", "low", "velocities", "forces", "fast"):
        one, other = getattr(new, name), getattr(old, name)
        chosen[name] = select(by_atom, one, other) if len(one) else one
    for name in ("cells", "cells_low", "energies", "virials", "heat", "heat_low"):
        chosen[name] = select(well, getattr(new, name), getattr(old, name))
    chosen["chain"] = jnp.where(well[None, :, None], new.chain, old.chain)
    return State(step=new.step, status=old.status, stopped=old.stopped, **chosen)
