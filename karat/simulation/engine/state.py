"""What changes from step to step, and what does not.

Positions and cells are sums of two numbers (`high + low`, error-free addition): thousands of
small steps lose nothing, in float32 either.

Checked: tests/simulation/engine/test_run.py.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

from karat.core.units import BOLTZMANN, GPA
from karat.simulation.engine.systems import Systems, joined, pack_cells
from karat.simulation.loop import Dynamics, hottest
from karat.simulation.velocities import kinetic_energy, masses
from karat.structures.structure import Structure

MOVING = 0
"""Status of a system that is well; others are numbers of `KINDS`."""


class State(eqx.Module):
    """After `step` steps; -1 before the forces of the start are known.

    Attributes:
        step: how many steps were made.
        high, low: Å, positions; not wrapped.
        velocities: Å/fs.
        forces: eV/Å; of r-RESPA the slow part only.
        fast: eV/Å, forces of the inner potential; zero rows where there is none.
        cells, cells_low: Å.
        energies: eV, potential energies.
        virials: eV.
        chain: positions of the Nosé–Hoover thermostats, and in a second layer their velocities
            in 1/fs.
        heat, heat_low: eV that the bath gave to each system.
        status: `MOVING`, or why a system stands still.
        stopped: the step that it could not make.
    """

    step: Int[Array, ""]
    high: Float[Array, "atoms 3"]
    low: Float[Array, "atoms 3"]
    velocities: Float[Array, "atoms 3"]
    forces: Float[Array, "atoms 3"]
    fast: Float[Array, "fast 3"]
    cells: Float[Array, "systems 3 3"]
    cells_low: Float[Array, "systems 3 3"]
    energies: Float[Array, "systems"]
    virials: Float[Array, "systems 3 3"]
    chain: Float[Array, "2 systems links"]
    heat: Float[Array, "systems"]
    heat_low: Float[Array, "systems"]
    status: Int[Array, "systems"]
    stopped: Int[Array, "systems"]


class Physics(eqx.Module):
    """Constants of a run, in the precision of the potential.

    Attributes:
        systems: the atoms.
        seeds: of each system's noise.
        timestep: fs.
        thermal, last_thermal: k_B T in eV, at first and at the end.
        pressure, last_pressure: eV/Å³.
        friction: 1/fs.
        relaxation: fs, of the thermostat.
        compressibility: Å³/eV, divided by the barostat's relaxation time in fs.
        hottest: eV, bound of the kinetic energy of each system.
        steps: of the whole run.
        every: steps between frames.
        settings: what decides which code is compiled.
    """

    systems: Systems
    seeds: UInt[Array, "systems"]
    timestep: Float[Array, ""]
    thermal: Float[Array, ""]
    last_thermal: Float[Array, ""]
    pressure: Float[Array, ""]
    last_pressure: Float[Array, ""]
    friction: Float[Array, ""]
    relaxation: Float[Array, ""]
    compressibility: Float[Array, ""]
    hottest: Float[Array, "systems"]
    steps: Float[Array, ""]
    every: Int[Array, ""]
    ensemble: str = eqx.field(static=True)
    barostat: str = eqx.field(static=True)
    inner_steps: int = eqx.field(static=True)
    stress: bool = eqx.field(static=True)

    def bath(self, step: Int[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """k_B T (eV) and pressure (eV/Å³) at a step."""
        done = step.astype(self.steps.dtype) / self.steps
        thermal = self.thermal + done * (self.last_thermal - self.thermal)
        return thermal, self.pressure + done * (self.last_pressure - self.pressure)


def make_physics(
    systems: Systems,
    structures: Sequence[Structure],
    settings: Dynamics,
    velocities: Sequence[Float[np.ndarray, "_ 3"]],
    seeds: Sequence[int],
    dtype: np.dtype,
) -> Physics:
    """The constants of a run of `structures` with `settings`."""
    limits = [
        hottest(settings, float(kinetic_energy(masses(s), v)), len(s))
        for s, v in zip(structures, velocities)
    ]

    def number(value: float | int) -> Array:
        return jnp.asarray(value, dtype)

    return Physics(
        systems=systems,
        seeds=jnp.asarray([*seeds, 0], jnp.uint32),
        timestep=number(settings.timestep_fs),
        thermal=number(BOLTZMANN * settings.temperature_k),
        last_thermal=number(BOLTZMANN * settings.last_temperature_k),
        pressure=number(GPA * settings.pressure_gpa),
        last_pressure=number(GPA * settings.last_pressure_gpa),
        friction=number(settings.friction_per_ps / 1000),
        relaxation=number(settings.thermostat_ps * 1000),
        compressibility=number(
            settings.compressibility_per_gpa / GPA / (1000 * settings.barostat_ps)
        ),
        hottest=jnp.asarray([*limits, np.inf], dtype),
        steps=number(settings.intervals * settings.every),
        every=jnp.asarray(settings.every, jnp.int32),
        ensemble=settings.ensemble,
        barostat=settings.barostat,
        inner_steps=settings.inner_steps,
        stress=settings.stress,
    )


def start_state(
    structures: Sequence[Structure],
    velocities: Sequence[Float[np.ndarray, "_ 3"]],
    settings: Dynamics,
    dtype: np.dtype,
) -> State:
    """The state before the first step."""
    high, low = split(joined([s.positions for s in structures], 0.0), dtype)
    cells, cells_low = split(pack_cells(structures), dtype)
    atoms, systems = len(high), len(cells)
    fast = atoms if settings.inner_steps > 1 else 0
    zero = {
        "forces": (atoms, 3),
        "fast": (fast, 3),
        "energies": (systems,),
        "virials": (systems, 3, 3),
        "chain": (2, systems, settings.chain_length),
        "heat": (systems,),
        "heat_low": (systems,),
    }
    return State(
        step=jnp.asarray(-1, jnp.int32),
        high=high,
        low=low,
        velocities=jnp.asarray(joined(list(velocities), 0.0), dtype),
        cells=cells,
        cells_low=cells_low,
        status=jnp.full(systems, MOVING, jnp.int32),
        stopped=jnp.full(systems, -1, jnp.int32),
        **{name: jnp.zeros(shape, dtype) for name, shape in zero.items()},
    )


def split(values: Float[np.ndarray, "*shape"], dtype: np.dtype) -> tuple[Array, Array]:
    """`values` as high + low of that precision."""
    high = values.astype(dtype)
    return jnp.asarray(high), jnp.asarray((values - high).astype(dtype))


def add(high: Array, low: Array, change: Array) -> tuple[Array, Array]:
    """(high + low) + change without loss; |high| is not small beside |low + change|.

    Source: Dekker, Numer. Math. 18, 224 (1971); Knuth's TwoSum, TAOCP vol. 2, 4.2.2.
    """
    change = low + change
    total = high + change
    part = total - high
    return total, (high - (total - part)) + (change - part)


def select(mask: Array, one: Array, other: Array) -> Array:
    """`one` where `mask` (over the first axis, or of one entry) holds."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (one.ndim - mask.ndim)), one, other)


def sum_systems(values: Array, systems: Systems) -> Array:
    """Sum over the atoms of each system."""
    if systems.count == 2:
        real = select(systems.real, values, jnp.zeros_like(values))
        whole = jnp.sum(real, axis=0)
        return jnp.stack([whole, jnp.zeros_like(whole)])
    return jax.ops.segment_sum(
        values, systems.system, num_segments=systems.count, indices_are_sorted=True
    )
