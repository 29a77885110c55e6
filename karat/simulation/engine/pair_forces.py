"""Forces of pair potentials from neighbour rows.

Each pair stands in the rows of both its atoms, and pulls at them by its slope alone: nothing is
scattered to neighbours, and no gradient of a vector is kept. Coordinates are handled axis by axis,
so that a CPU's vector units are filled: about four times faster than the general way.

Checked: tests/simulation/engine/test_forces.py, against `predict`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import AbstractPairPotential, species_index
from karat.simulation.engine.plan import Plan
from karat.simulation.engine.rows import Rows, images_of
from karat.simulation.engine.systems import Systems


class Forces(eqx.Module):
    """What moves atoms.

    Attributes:
        energies: eV, without reference energies.
        forces: eV/Å, zero on padding.
        virials: Σ v ⊗ ∂E/∂v = volume times stress (tension positive), eV; NaN where forces are
            not the gradient: whoever needs them is refused before.
    """

    energies: Float[Array, "systems"]
    forces: Float[Array, "atoms 3"]
    virials: Float[Array, "systems 3 3"]


def pair_forces(
    module: AbstractPairPotential,
    plan: Plan,
    systems: Systems,
    rows: Rows,
    wrapped: Float[Array, "atoms 3"],
    images: Float[Array, "_ 3"],
) -> Forces:
    """Energies, forces and virials, block by block.

    Args:
        wrapped, images: see `rows.wrap` and `rows.image_vectors`.
    """
    last = systems.atoms - 1
    shape = (plan.blocks, plan.block)
    atoms = jnp.minimum(jnp.arange(plan.blocks * plan.block, dtype=jnp.int32), last)
    listed = (
        atoms.reshape(shape),
        rows.neighbours.reshape(*shape, plan.width),
        rows.images.reshape(*shape, plan.width),
    )
    species = species_index(systems.numbers, module.species)

    def one(block: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centers, neighbours, codes = block
        place = (systems.system[centers] * images_of(plan))[:, None] + codes
        vectors = []
        for axis in range(3):
            there = wrapped[:, axis][neighbours]
            if images_of(plan) > 1:
                there = there + images[:, axis][place]
            vectors.append(there - wrapped[:, axis][centers][:, None])
        distance = jnp.sqrt(sum(vector * vector for vector in vectors))
        first = jnp.broadcast_to(species[centers][:, None], neighbours.shape).reshape(-1)
        second = species[neighbours].reshape(-1)
        energy, slope = jax.jvp(
            lambda r: module.pair_energy(r, first, second),
            (distance.reshape(-1),),
            (jnp.ones(distance.size, distance.dtype),),
        )
        inside = distance < module.cutoff
        energy = jnp.where(inside, 0.5 * energy.reshape(distance.shape), 0)
        pull = jnp.where(inside, slope.reshape(distance.shape) / distance, 0)
        pulls = [pull * vector for vector in vectors]
        forces = jnp.stack([jnp.sum(one, axis=1) for one in pulls], axis=1)
        virial = jnp.stack(
            [jnp.stack([jnp.sum(0.5 * a * b, axis=1) for b in vectors], axis=1) for a in pulls],
            axis=1,
        )
        return forces, jnp.sum(energy, axis=1), virial

    found = one(jax.tree.map(lambda a: a[0], listed)) if plan.blocks == 1 else None
    if found is None:
        found = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), jax.lax.map(one, listed))
    forces, energies, virials = (part[: systems.atoms] for part in found)
    return Forces(
        energies=by_system(energies, systems.system, systems),
        forces=jnp.where(systems.real[:, None], forces, 0),
        virials=by_system(virials, systems.system, systems),
    )


def by_system(values: Array, system: Array, systems: Systems) -> Array:
    """Sum over the atoms of each system; what padding has is zero."""
    if systems.count == 2:
        whole = jnp.sum(values, axis=0)
        return jnp.stack([whole, jnp.zeros_like(whole)])
    return jax.ops.segment_sum(values, system, num_segments=systems.count, indices_are_sorted=True)
