"""Dynamics of native potentials: the whole loop compiled.

The host builds neighbour lists and receives frames; between two lists everything runs inside one
`while_loop`. A step is accepted only if the list was complete for it: as long as no atom has
moved further than half the skin since the list was built. A step that breaks this is not made;
the host builds a new list at the last good positions and the same step is done again, with the
same random numbers. So the trajectory does not depend on the skin beyond rounding.

Positions are sums of two numbers (`high + low`, error-free addition): thousands of small steps
lose nothing, in float32 either.

Checked: tests/simulation/test_native_loop.py.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt

from karat.core.units import ACCELERATION, BOLTZMANN
from karat.potentials.batch import Batch
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, derive
from karat.simulation.loop import (
    MAX_STEP_ANGSTROM,
    Dynamics,
    Frames,
    Progress,
    Stop,
    clock,
    hottest,
    stop_at,
)
from karat.simulation.neighbour_mesh import MeshBuilder
from karat.simulation.velocities import kinetic_energy, masses
from karat.structures.structure import Structure

RUNNING, STALE, JUMP, NOT_FINITE, TOO_HOT = range(5)
KINDS = {JUMP: "jump", NOT_FINITE: "not-finite", TOO_HOT: "too-hot"}
BUFFER_BYTES = 32_000_000
"""Upper size of the frames kept on the device between two transfers."""
REPORTS = 20
"""A run is cut into at least this many pieces, for progress."""


class Mesh(eqx.Module):
    """A batch whose vectors are made anew from positions at each step.

    Attributes:
        batch: of the list; its vectors are not used.
        offsets: Å, lattice translation of each pair's neighbour.
        built: positions at which the list was built.
        reach: Å, how far an atom may move from `built`; infinite where all pairs are listed.
    """

    batch: Batch
    offsets: Float[Array, "pairs 3"]
    built: Float[Array, "atoms 3"]
    reach: Float[Array, ""]


class State(eqx.Module):
    """Everything that a step changes; `step` is -1 before the forces of the start are known."""

    step: Int[Array, ""]
    high: Float[Array, "atoms 3"]
    low: Float[Array, "atoms 3"]
    velocities: Float[Array, "atoms 3"]
    forces: Float[Array, "atoms 3"]
    energy: Float[Array, ""]


class Physics(eqx.Module):
    """Constants of a run, in the precision of the potential.

    Attributes:
        mass: amu; 1 on padding.
        noise: √(k_B T / m) in Å/fs; 0 on padding.
        timestep: fs.
        keep: e^(-γ Δt).
        hottest: eV, bound of the kinetic energy.
        seed, every: seed of the noise, steps between frames.
        langevin: whether there is a thermostat.
    """

    mass: Float[Array, "atoms"]
    noise: Float[Array, "atoms"]
    timestep: Float[Array, ""]
    keep: Float[Array, ""]
    hottest: Float[Array, ""]
    seed: UInt[Array, ""]
    every: Int[Array, ""]
    langevin: bool = eqx.field(static=True)


class Buffer(eqx.Module):
    """Frames since the last transfer; entries beyond the reached step are leftovers."""

    positions: Float[Array, "frames atoms 3"]
    velocities: Float[Array, "frames atoms 3"]
    energies: Float[Array, "frames"]


def run_native(
    potential: NativePotential,
    structure: Structure,
    settings: Dynamics,
    velocities: Float[np.ndarray, "atoms 3"],
    progress: Progress | None = None,
) -> Frames:
    """Velocity Verlet or BAOAB under jit; see the module's docstring."""
    builder = MeshBuilder(potential, structure)
    mesh = _mesh(builder, structure.positions)
    physics = _physics(settings, structure, velocities, builder)
    state = _start(structure, velocities, builder)
    atoms, total = len(structure), settings.intervals * settings.every
    buffer = _buffer(settings, builder)
    capacity = buffer.energies.shape[0]
    _, warm = _advance(potential.module, mesh, physics, state, buffer, _count(-1), _count(0))[:2]
    jax.block_until_ready(warm)
    pieces: list[tuple[np.ndarray, ...]] = []
    stop: Stop | None = None
    began = clock()
    first = 0
    while stop is None and first <= settings.intervals:
        end = min((first + capacity - 1) * settings.every, total)
        status, state, buffer = _advance(
            potential.module, mesh, physics, state, buffer, _count(end), _count(first)
        )
        step = int(state.step)
        if int(status) in KINDS:
            stop = stop_at(step + 1, KINDS[int(status)], settings)
        elif int(status) == STALE:
            mesh = _mesh(builder, np.asarray(state.high, float)[:atoms], since=step)
            continue
        pieces.append(_fetch(buffer, step // settings.every - first + 1, atoms))
        first = step // settings.every + 1
        if progress is not None and stop is None:
            progress(step, total)
    seconds = clock() - began
    joined = [np.concatenate(parts) for parts in zip(*pieces)]
    energies = joined[2] + potential.offset(structure)
    return Frames(joined[0], joined[1], energies, stop, seconds)


def _mesh(builder: MeshBuilder, positions: np.ndarray, since: int | None = None) -> Mesh:
    batch, offsets, reach = builder.build(positions, since)
    built = np.zeros((batch.atoms, 3))
    built[: len(positions)] = positions
    dtype = builder.dtype
    return Mesh(
        batch, jnp.asarray(offsets, dtype), jnp.asarray(built, dtype), _scalar(reach, dtype)
    )


def _count(value: int) -> Array:
    return jnp.asarray(value, dtype=jnp.int32)


def _scalar(value: float | int, dtype: Any) -> Array:
    return jnp.asarray(value, dtype=dtype)


def _physics(
    settings: Dynamics, structure: Structure, velocities: np.ndarray, builder: MeshBuilder
) -> Physics:
    dtype, real = builder.dtype, masses(structure)
    mass, noise = np.ones(builder.atoms), np.zeros(builder.atoms)
    mass[: len(real)] = real
    thermal = BOLTZMANN * settings.temperature_k * ACCELERATION
    noise[: len(real)] = np.sqrt(thermal / real)
    limit = hottest(settings, float(kinetic_energy(real, velocities)), len(structure))
    decay = np.exp(-settings.friction_per_ps / 1000.0 * settings.timestep_fs)
    return Physics(
        mass=jnp.asarray(mass, dtype),
        noise=jnp.asarray(noise, dtype),
        timestep=_scalar(settings.timestep_fs, dtype),
        keep=_scalar(decay, dtype),
        hottest=_scalar(limit, dtype),
        seed=_scalar(settings.seed, jnp.uint32),
        every=_count(settings.every),
        langevin=settings.ensemble == "langevin",
    )


def _start(structure: Structure, velocities: np.ndarray, builder: MeshBuilder) -> State:
    dtype, atoms = builder.dtype, len(structure)
    positions, speeds = np.zeros((2, builder.atoms, 3))
    positions[:atoms], speeds[:atoms] = structure.positions, velocities
    high = positions.astype(dtype)
    zeros = jnp.zeros((builder.atoms, 3), dtype)
    return State(
        step=_count(-1),
        high=jnp.asarray(high),
        low=jnp.asarray((positions - high).astype(dtype)),
        velocities=jnp.asarray(speeds, dtype),
        forces=zeros,
        energy=_scalar(0.0, dtype),
    )


def _buffer(settings: Dynamics, builder: MeshBuilder) -> Buffer:
    room = BUFFER_BYTES // (6 * builder.atoms * builder.dtype.itemsize)
    pieces = -(-settings.intervals // REPORTS)
    frames = max(2, min(room, pieces + 1))
    shape = (frames, builder.atoms, 3)
    return Buffer(
        positions=jnp.zeros(shape, builder.dtype),
        velocities=jnp.zeros(shape, builder.dtype),
        energies=jnp.zeros(frames, builder.dtype),
    )


def _fetch(buffer: Buffer, count: int, atoms: int) -> tuple[np.ndarray, ...]:
    """The first `count` frames, padding removed, in float64."""
    return (
        np.asarray(buffer.positions, np.float64)[:count, :atoms],
        np.asarray(buffer.velocities, np.float64)[:count, :atoms],
        np.asarray(buffer.energies, np.float64)[:count],
    )


@eqx.filter_jit
def _advance(
    module: AbstractNativePotential,
    mesh: Mesh,
    physics: Physics,
    state: State,
    buffer: Buffer,
    end: Int[Array, ""],
    first: Int[Array, ""],
) -> tuple[Array, State, Buffer]:
    """Steps up to `end`, or until one cannot be made; frames from number `first` on are kept.

    Returns the status, the last good state and the frames.
    """

    def unfinished(carry: tuple[Array, State, Buffer]) -> Bool[Array, ""]:
        return (carry[0] == RUNNING) & (carry[1].step < end)

    def body(carry: tuple[Array, State, Buffer]) -> tuple[Array, State, Buffer]:
        _, old, kept = carry
        status, new = _step(module, mesh, physics, old)
        good = status == RUNNING
        new = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)
        size = kept.energies.shape[0]
        due = good & (new.step % physics.every == 0)
        place = jnp.where(due, new.step // physics.every - first, size)
        kept = Buffer(
            positions=kept.positions.at[place].set(new.high, mode="drop"),
            velocities=kept.velocities.at[place].set(new.velocities, mode="drop"),
            energies=kept.energies.at[place].set(new.energy, mode="drop"),
        )
        return status, new, kept

    return jax.lax.while_loop(unfinished, body, (_count(RUNNING), state, buffer))


def _step(
    module: AbstractNativePotential, mesh: Mesh, physics: Physics, state: State
) -> tuple[Int[Array, ""], State]:
    """One step B A (O) A B and whether it may be kept; the "step" to 0 only finds the forces."""
    began = state.step >= 0
    timestep = jnp.where(began, physics.timestep, 0)
    kick = 0.5 * timestep * ACCELERATION / physics.mass[:, None]
    half = state.velocities + kick * state.forces
    turned = _thermostat(physics, half, state.step, began) if physics.langevin else half
    drift = 0.5 * timestep * (half + turned)
    high, low = _add(state.high, state.low, drift)
    derived = derive(module, _at(mesh, module.cutoff, high, low))
    velocities = turned + kick * derived.forces
    energy = derived.energies[0]
    new = State(state.step + 1, high, low, velocities, derived.forces, energy)
    kinetic = jnp.sum(0.5 * physics.mass[:, None] * velocities * velocities) / ACCELERATION
    jump = ~jnp.all(jnp.sum(drift * drift, axis=1) <= MAX_STEP_ANGSTROM**2)
    stale = ~jnp.all(jnp.sum((high - mesh.built) ** 2, axis=1) <= mesh.reach**2)
    finite = jnp.isfinite(energy) & jnp.all(jnp.isfinite(derived.forces))
    status = jnp.where(kinetic <= physics.hottest, RUNNING, TOO_HOT)
    status = jnp.where(finite, status, NOT_FINITE)
    status = jnp.where(stale, STALE, status)
    status = jnp.where(jump, JUMP, status)
    return status.astype(jnp.int32), new


def _thermostat(
    physics: Physics, velocities: Float[Array, "atoms 3"], step: Array, began: Array
) -> Float[Array, "atoms 3"]:
    """The O of BAOAB: exact Ornstein–Uhlenbeck step, its noise a function of seed and step."""
    key = jax.random.fold_in(jax.random.key(physics.seed), step)
    noise = jax.random.normal(key, velocities.shape, velocities.dtype)
    spread = jnp.sqrt(1 - physics.keep**2) * physics.noise[:, None]
    return jnp.where(began, physics.keep * velocities + spread * noise, velocities)


def _add(high: Array, low: Array, change: Array) -> tuple[Array, Array]:
    """(high + low) + change without loss; |high| is not small beside |low + change|.

    Source: Dekker, Numer. Math. 18, 224 (1971); Knuth's TwoSum, TAOCP vol. 2, 4.2.2.
    """
    change = low + change
    total = high + change
    part = total - high
    return total, (high - (total - part)) + (change - part)


def _at(mesh: Mesh, cutoff: float, high: Array, low: Array) -> Batch:
    """The batch at these positions; listed pairs beyond the cut-off look like padding."""
    batch = mesh.batch
    near, far = batch.centers, batch.neighbours
    vectors = (high[far] - high[near]) + (low[far] - low[near]) + mesh.offsets
    inside = batch.pair_mask & (jnp.sum(vectors * vectors, axis=1) < cutoff**2)
    vectors = jnp.where(inside[:, None], vectors, batch.vectors[-1:])
    batch = eqx.tree_at(lambda b: (b.vectors, b.pair_mask), batch, (vectors, inside))
    if batch.triplets is None:
        return batch
    both = batch.triplet_mask & inside[batch.triplets[:, 0]] & inside[batch.triplets[:, 1]]
    return eqx.tree_at(lambda b: b.triplet_mask, batch, both)
