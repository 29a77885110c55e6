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


def rescaled(
    physics: Physics,
    velocities: Float[Array, "atoms 3"],
    step: Int[Array, ""],
    part: int | Array,
    duration: Float[Array, ""],
) -> Float[Array, "atoms 3"]:
    """All velocities of a system times one number, drawn so that the kinetic energy is canonical.

    Source: Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007), appendix; the sign of
    Bussi & Parrinello, Comput. Phys. Commun. 179, 26 (2008), eq. 16.
    """
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
    cross = jnp.sqrt(keep * (1 - keep) * ratio)
    squared = keep + (1 - keep) * ratio * (first * first + others) + 2 * first * cross
    sign = jnp.sign(first + jnp.sqrt(keep / ((1 - keep) * ratio)))
    factor = jnp.where(moving, sign * jnp.sqrt(squared), 1)
    return velocities * factor[physics.systems.system][:, None]


def chain_masses(physics: Physics, thermal: Float[Array, ""], links: int) -> Array:
    """Q of each thermostat, eV fs²: N_f k_B T τ² and k_B T τ². Shape (systems, links)."""
    unit = thermal * physics.relaxation**2
    first = jnp.maximum(physics.systems.freedom, 1) * unit
    rest = jnp.broadcast_to(unit, (physics.systems.count, links - 1))
    return jnp.concatenate([first[:, None], rest], axis=1)


def nose_hoover(
    physics: Physics,
    velocities: Float[Array, "atoms 3"],
    chain: Float[Array, "2 systems links"],
    step: Int[Array, ""],
    duration: Float[Array, ""],
) -> tuple[Float[Array, "atoms 3"], Float[Array, "2 systems links"]]:
    """The chain's half of a step: velocities and chain after `duration` (fs).

    Source: Martyna, Tuckerman, Tobias & Klein, Mol. Phys. 87, 1117 (1996), section 2.
    """
    thermal, _ = physics.bath(step)
    freedom, links = physics.systems.freedom, chain.shape[2]
    inertia = chain_masses(physics, thermal, links)
    energy = kinetic(physics, velocities)
    positions, speeds = chain[0], chain[1]
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
        positions = positions + time * speeds
        for k in range(links):
            speeds = kick(k, speeds, energy, time)
    scale = jnp.where(freedom > 0, scale, 1)
    return velocities * scale[physics.systems.system][:, None], jnp.stack([positions, speeds])


def chain_energy(
    physics: Physics, chain: Float[Array, "2 systems links"], step: Int[Array, ""]
) -> Float[Array, "systems"]:
    """What the chain adds to the conserved energy, eV (Martyna et al. 1996, eq. 9)."""
    thermal, _ = physics.bath(step)
    inertia = chain_masses(physics, thermal, chain.shape[2])
    moving = 0.5 * jnp.sum(inertia * chain[1] ** 2, axis=1)
    rest = thermal * jnp.sum(chain[0, :, 1:], axis=1)
    return moving + physics.systems.freedom * thermal * chain[0, :, 0] + rest
