"""Thermostats: what they make of velocities, and the heat that they give.

Checked: tests/simulation/engine/test_thermostats.py, against exact harmonic results, and
test_ensembles.py, with physical_validation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from karat.core.units import ACCELERATION
from karat.simulation.engine.state import Physics, sum_systems

SUZUKI_YOSHIDA = (1.3512071919596578, -1.7024143839193153, 1.3512071919596578)
"""Weights of the fourth order, 1/(2 - 2^(1/3)) and 1 - 2/(2 - 2^(1/3)).

Source: Yoshida, Phys. Lett. A 150, 262 (1990); Martyna et al. (1996), eq. 29.
"""

LINEAR = 1e-6
"""Part of the trace that is added to moments of inertia, so that linear molecules have three."""


def kinetic(physics: Physics, velocities: Float[Array, "atoms 3"]) -> Float[Array, "systems"]:
    """Kinetic energy of each system, eV."""
    squared = jnp.sum(velocities * velocities, axis=1)
    return sum_systems(0.5 * physics.systems.mass * squared, physics.systems) / ACCELERATION


def system_keys(
    physics: Physics, step: Int[Array, ""], purpose: int | Array
) -> Key[Array, "systems"]:
    """A key for each system, step and purpose: no system's noise depends on the others'."""

    def one(seed: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), purpose)

    return jax.vmap(one)(physics.seeds)


def langevin(
    physics: Physics,
    velocities: Float[Array, "atoms 3"],
    step: Int[Array, ""],
    part: int | Array,
    duration: Float[Array, ""],
) -> Float[Array, "atoms 3"]:
    """The O of BAOAB: an exact Ornstein–Uhlenbeck step.

    Source: Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013).
    """
    keys = system_keys(physics, step, part)
    own = jax.vmap(jax.random.fold_in)(keys[physics.systems.system], physics.systems.order)
    dtype = velocities.dtype
    noise = jax.vmap(lambda key: jax.random.normal(key, (3,), dtype))(own)
    thermal, _ = physics.bath(step)
    keep = jnp.exp(-physics.friction * duration)
    spread = jnp.sqrt((1 - keep * keep) * thermal * ACCELERATION / physics.systems.mass)
    noise = jnp.where(physics.systems.real[:, None], noise, 0)
    return keep * velocities + spread[:, None] * noise


def at_rest(
    physics: Physics, positions: Float[Array, "atoms 3"], velocities: Float[Array, "atoms 3"]
) -> Float[Array, "atoms 3"]:
    """`velocities` without each system's overall motion: that of the centre of mass and, of
    molecules, the rotation; a single atom in vacuum keeps its velocity.

    Forces leave the overall motion alone, but a thermostat that scales all velocities would let
    what rounding left of it grow: its logarithm would walk at random, by √(t/(N_f τ)) in a time
    t with velocity rescaling.
    """
    systems, mass = physics.systems, physics.systems.mass[:, None]
    size = sum_systems(jnp.ones_like(systems.mass), systems)
    held = systems.freedom < 3 * size - 0.5
    total = jnp.maximum(sum_systems(systems.mass, systems), 1e-6)[:, None]
    drift = jnp.where(held[:, None], sum_systems(mass * velocities, systems) / total, 0)
    velocities = velocities - drift[systems.system]
    turning = held & ~systems.periodic.any(axis=1)
    turning = turning.at[-1].set(False)

    def spin() -> Array:
        centre = sum_systems(mass * positions, systems) / total
        arm = positions - centre[systems.system]
        momentum = sum_systems(mass * jnp.cross(arm, velocities), systems)
        tensor = sum_systems(mass[:, :, None] * arm[:, :, None] * arm[:, None, :], systems)
        rate = jnp.where(turning[:, None], _rotation(tensor, momentum), 0)
        return jnp.cross(rate[systems.system], arm)

    return velocities - jax.lax.cond(turning.any(), spin, lambda: jnp.zeros_like(velocities))


def _rotation(
    tensor: Float[Array, "systems 3 3"], momentum: Float[Array, "systems 3"]
) -> Float[Array, "systems 3"]:
    """Angular velocity, 1/fs, from Σ m r ⊗ r and the angular momentum (Cramer's rule); none about
    the axis of a linear molecule."""
    unit = jnp.eye(3, dtype=tensor.dtype)[None]
    trace = jnp.trace(tensor, axis1=1, axis2=2)
    trace = jnp.where(trace > 0, trace, 1)[:, None]
    inertia = (1 + LINEAR) * unit - tensor / trace[:, :, None]
    a, b, c = inertia[:, 0], inertia[:, 1], inertia[:, 2]
    scaled = momentum / trace
    parts = [jnp.sum(scaled * jnp.cross(*pair), axis=1) for pair in ((b, c), (c, a), (a, b))]
    return jnp.stack(parts, axis=1) / jnp.sum(a * jnp.cross(b, c), axis=1)[:, None]


def rescaled(
    physics: Physics,
    positions: Float[Array, "atoms 3"],
    velocities: Float[Array, "atoms 3"],
    step: Int[Array, ""],
    part: int | Array,
    duration: Float[Array, ""],
) -> Float[Array, "atoms 3"]:
    """All velocities of a system times one number, drawn so that the kinetic energy is canonical;
    the overall motion is taken out.

    Source: Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007), appendix; the sign of
    Bussi & Parrinello, Comput. Phys. Commun. 179, 26 (2008), eq. 16.
    """
    velocities = at_rest(physics, positions, velocities)
    freedom = physics.systems.freedom
    keys = jax.vmap(lambda key: jax.random.split(key, 2))(system_keys(physics, step, part))
    dtype = velocities.dtype
    first = jax.vmap(lambda key: jax.random.normal(key, (), dtype))(keys[:, 0])
    shape = jnp.maximum(0.5 * (freedom - 1), 0.5)
    others = 2 * jax.vmap(lambda key, a: jax.random.gamma(key, a, dtype=dtype))(keys[:, 1], shape)
    others = jnp.where(freedom > 1, others, 0)
    thermal, _ = physics.bath(step)
    keep = jnp.exp(-duration / physics.relaxation)
    energy = kinetic(physics, velocities)
    moving = (energy > 0) & (freedom > 0)
    ratio = 0.5 * thermal / jnp.where(moving, energy, 1)
    # the sum of the paper with its square completed: rounding cannot make it negative
    base = jnp.sqrt(keep) + first * jnp.sqrt((1 - keep) * ratio)
    length = jnp.sqrt(base * base + (1 - keep) * ratio * others)
    factor = jnp.where(moving, jnp.sign(base) * length, 1)
    return velocities * factor[physics.systems.system][:, None]


def chain_masses(physics: Physics, thermal: Float[Array, ""], links: int) -> Array:
    """Q of each thermostat, eV fs²: N_f k_B T τ² and k_B T τ². Shape (systems, links)."""
    unit = thermal * physics.relaxation**2
    first = jnp.maximum(physics.systems.freedom, 1) * unit
    rest = jnp.broadcast_to(unit, (physics.systems.count, links - 1))
    return jnp.concatenate([first[:, None], rest], axis=1)


def nose_hoover(
    physics: Physics,
    positions: Float[Array, "atoms 3"],
    velocities: Float[Array, "atoms 3"],
    chain: Float[Array, "2 systems links"],
    step: Int[Array, ""],
    duration: Float[Array, ""],
) -> tuple[Float[Array, "atoms 3"], Float[Array, "2 systems links"]]:
    """The chain's half of a step: velocities and chain after `duration` (fs); the overall motion
    is taken out.

    Source: Martyna, Tuckerman, Tobias & Klein, Mol. Phys. 87, 1117 (1996), section 2.
    """
    thermal, _ = physics.bath(step)
    freedom, links = physics.systems.freedom, chain.shape[2]
    inertia = chain_masses(physics, thermal, links)
    velocities = at_rest(physics, positions, velocities)
    energy = kinetic(physics, velocities)
    places, speeds = chain[0], chain[1]
    scale = jnp.ones_like(energy)

    def push(k: int, speeds: Array, energy: Array) -> Array:
        """What drives thermostat k, in 1/fs²."""
        if k == 0:
            return (2 * energy - freedom * thermal) / inertia[:, 0]
        return (inertia[:, k - 1] * speeds[:, k - 1] ** 2 - thermal) / inertia[:, k]

    def kick(k: int, speeds: Array, energy: Array, time: Array) -> Array:
        slow = jnp.exp(-0.25 * time * speeds[:, k + 1]) if k + 1 < links else 1.0
        new = (speeds[:, k] * slow + 0.5 * time * push(k, speeds, energy)) * slow
        return speeds.at[:, k].set(new)

    for weight in SUZUKI_YOSHIDA:
        time = weight * duration
        for k in reversed(range(links)):
            speeds = kick(k, speeds, energy, time)
        factor = jnp.exp(-time * speeds[:, 0])
        scale, energy = scale * factor, energy * factor * factor
        places = places + time * speeds
        for k in range(links):
            speeds = kick(k, speeds, energy, time)
    scale = jnp.where(freedom > 0, scale, 1)
    return velocities * scale[physics.systems.system][:, None], jnp.stack([places, speeds])


def chain_energy(
    physics: Physics, chain: Float[Array, "2 systems links"], step: Int[Array, ""]
) -> Float[Array, "systems"]:
    """What the chain adds to the conserved energy, eV (Martyna et al. 1996, eq. 9)."""
    thermal, _ = physics.bath(step)
    inertia = chain_masses(physics, thermal, chain.shape[2])
    moving = 0.5 * jnp.sum(inertia * chain[1] ** 2, axis=1)
    rest = thermal * jnp.sum(chain[0, :, 1:], axis=1)
    return moving + physics.systems.freedom * thermal * chain[0, :, 0] + rest
