"""Stochastic cell rescaling: the volume, or the whole cell, at constant pressure.

The strain ε of one step is exact in its noise: positions and cell are multiplied by e^ε,
velocities by e^(-ε).

Source: Bernetti & Bussi, J. Chem. Phys. 153, 114107 (2020), eq. 9 for the square root of the
volume; Del Tatto, Raiteri, Bernetti & Bussi, Appl. Sci. 12, 1139 (2022) for the whole cell. Here ε
is symmetric: no step turns the cell (many about different axes can, a little). Rotations of the
cell are no physical freedom, and leaving out their noise leaves the distribution of all shapes as
it is. With ε the term k_B T/V of the paper's drift of the cell cancels against that of Itô's lemma.

What is sampled has the weight e^(-(H + P V)/k_B T) dV (and the uniform measure of shapes) at fixed
scaled positions and momenta: N atoms without forces give V^N e^(-P V/k_B T), or V^(N-1) where the
thermostat keeps the centre of mass at rest.

Checked: tests/simulation/engine/test_barostat.py, exact volumes of an ideal gas and of a crystal.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.core.units import ACCELERATION
from karat.simulation.engine.rows import times_cells
from karat.simulation.engine.state import Physics, State, add, sum_systems
from karat.simulation.engine.thermostats import system_keys

PURPOSE = 2**20
"""Number of the barostat's noise among those of a step."""


def internal_pressure(
    physics: Physics, state: State, velocities: Float[Array, "atoms 3"]
) -> Float[Array, "systems 3 3"]:
    """Σ m v ⊗ v / V - stress, eV/Å³; its third of the trace is the pressure."""
    outer = velocities[:, :, None] * velocities[:, None, :]
    mass = physics.systems.mass[:, None, None]
    moving = sum_systems(mass * outer, physics.systems) / ACCELERATION
    virials = 0.5 * (state.virials + jnp.swapaxes(state.virials, 1, 2))
    return (moving - virials) / volumes(state)[:, None, None]


def volumes(state: State) -> Float[Array, "systems"]:
    """Å³."""
    return jnp.abs(jnp.linalg.det(state.cells))


def strain(
    physics: Physics, state: State, velocities: Float[Array, "atoms 3"]
) -> Float[Array, "systems 3 3"]:
    """ε of one step."""
    thermal, outside = physics.bath(state.step)
    inside, volume = internal_pressure(physics, state, velocities), volumes(state)
    keys = system_keys(physics, state.step, PURPOSE)
    dtype, unit = velocities.dtype, jnp.eye(3, dtype=velocities.dtype)
    rate, time = physics.compressibility, physics.timestep
    if physics.barostat == "isotropic":
        noise = jax.vmap(lambda key: jax.random.normal(key, (), dtype))(keys)
        root = jnp.sqrt(volume)
        pressure = jnp.trace(inside, axis1=1, axis2=2) / 3
        drift = -0.5 * rate * root * (outside - pressure - 0.5 * thermal / volume)
        new = root + drift * time + jnp.sqrt(0.5 * thermal * rate * time) * noise
        return (2 / 3 * jnp.log(new / root))[:, None, None] * unit[None]
    noise = jax.vmap(lambda key: jax.random.normal(key, (3, 3), dtype))(keys)
    noise = (noise + jnp.swapaxes(noise, 1, 2)) / jnp.sqrt(jnp.asarray(2.0, dtype))
    spread = jnp.sqrt(rate * thermal * time / (3 * volume))
    drift = -rate / 3 * (outside * unit[None] - inside)
    return drift * time + spread[:, None, None] * noise


def rescale(
    physics: Physics, state: State, velocities: Float[Array, "atoms 3"]
) -> tuple[State, Float[Array, "atoms 3"]]:
    """Cell, positions and velocities after one step of the barostat."""
    change = strain(physics, state, velocities)
    change = jnp.where(physics.systems.periodic.all(axis=1)[:, None, None], change, 0)
    squeeze, grow = exponential(-change), exponential(change)
    grow = grow - jnp.eye(3, dtype=change.dtype)[None]
    whole = state.cells + state.cells_low
    cells, cells_low = add(state.cells, state.cells_low, whole @ grow)
    moved = times_cells(state.high + state.low, physics.systems, grow)
    high, low = add(state.high, state.low, moved)
    new = eqx.tree_at(
        lambda s: (s.cells, s.cells_low, s.high, s.low), state, (cells, cells_low, high, low)
    )
    return new, times_cells(velocities, physics.systems, squeeze)


def exponential(small: Float[Array, "systems 3 3"]) -> Float[Array, "systems 3 3"]:
    """e^ε by Taylor's series, to 2e-14 up to |ε| = 0.5 (a step of the barostat is far below)."""
    unit = jnp.broadcast_to(jnp.eye(3, dtype=small.dtype), small.shape)
    value = unit
    for order in range(12, 0, -1):
        value = unit + small @ value / order
    return value
