"""The engine's steps with forces from a formula: no neighbour rows, so that it compiles quickly."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.simulation.dynamics import seeds_of, start_velocities
from karat.simulation.engine.advance import bath_energy
from karat.simulation.engine.forces import Forces
from karat.simulation.engine.state import make_physics, start_state
from karat.simulation.engine.step import after, before
from karat.simulation.engine.systems import pack_systems
from karat.simulation.engine.thermostats import kinetic


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of systems of equal size, the start included; axes frames, systems, …"""

    positions: np.ndarray
    velocities: np.ndarray
    cells: np.ndarray
    virials: np.ndarray
    potential: np.ndarray
    kinetic: np.ndarray
    bath: np.ndarray
    state: object
    physics: object


@eqx.filter_jit
def _run(physics, state, forces, frames):
    """`frames`: an array of that many numbers, so that its length is part of the shapes."""

    def once(_, state):
        moved, _ = before(physics, state, None)
        return after(physics, state, moved, _forces(moved))

    def _forces(state):
        return forces(physics.systems, state.high + state.low, state.cells + state.cells_low)

    def frame(state, _):
        state = jax.lax.fori_loop(0, physics.every, once, state)
        return state, _seen(physics, state)

    began = state.step < 0
    first = after(physics, state, state, _forces(state))
    state = jax.tree.map(lambda a, b: jnp.where(began, a, b), first, state)
    last, kept = jax.lax.scan(frame, state, frames)
    start = jax.tree.map(lambda a: a[None], _seen(physics, state))
    return last, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), start, kept)


def _seen(physics, state):
    return (
        state.high + state.low, state.velocities, state.cells + state.cells_low, state.virials,
        state.energies, kinetic(physics, state.velocities), bath_energy(physics, state),
    )  # fmt: skip


def integrate(structures, settings, forces, velocities=None, state=None):
    """`Frames` of a run of `structures`; `forces`(systems, positions, cells) gives `Forces`."""
    seeds = seeds_of(structures, settings, None)
    start = start_velocities(structures, settings, velocities, seeds)
    dtype = np.dtype("float64")
    physics = make_physics(
        pack_systems(structures, dtype), structures, settings, start, seeds, dtype
    )
    if state is None:
        state = start_state(structures, start, settings, dtype)
    last, seen = _run(physics, state, forces, jnp.arange(settings.intervals))
    assert (np.asarray(last.status) == 0).all()
    columns = [np.asarray(column)[:, :-1] for column in seen]
    size = len(structures[0])
    for k in range(2):
        columns[k] = columns[k].reshape(len(columns[k]), len(structures), size, 3)
    return Frames(*columns, state=last, physics=physics)


def no_forces(systems, positions, cells):
    """An ideal gas."""
    nothing = jnp.zeros(systems.count)
    return Forces(nothing, jnp.zeros_like(positions), jnp.zeros((systems.count, 3, 3)))


@pytest.fixture(scope="session", name="integrate")
def integrate_fixture():
    return integrate


@pytest.fixture(scope="session", name="no_forces")
def no_forces_fixture():
    return no_forces
