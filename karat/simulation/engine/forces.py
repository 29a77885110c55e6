"""Energies, forces and virials from neighbour rows; strictly local potentials block by block.

Checked: tests/simulation/engine/test_forces.py, against `predict`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from karat.potentials.analytic.pairwise import AbstractPairPotential
from karat.potentials.batch import Batch
from karat.potentials.locality import strictly_local
from karat.potentials.native_protocol import AbstractNativePotential, atom_virials
from karat.simulation.engine.pair_forces import Forces, by_system, pair_forces
from karat.simulation.engine.plan import Plan
from karat.simulation.engine.rows import Rows, image_vectors, images_of, wrap
from karat.simulation.engine.systems import Systems


def evaluate_rows(
    module: AbstractNativePotential,
    plan: Plan,
    systems: Systems,
    rows: Rows,
    positions: Float[Array, "atoms 3"],
    cells: Float[Array, "systems 3 3"],
) -> Forces:
    """Forces at `positions`, which may not have moved so far that `rows` miss a pair."""
    wrapped = wrap(positions, rows.wraps, systems, cells)
    images = image_vectors(plan, cells)
    if isinstance(module, AbstractPairPotential):
        return pair_forces(module, plan, systems, rows, wrapped, images)
    if plan.blocks == 1 or not strictly_local(module):
        atoms = jnp.arange(systems.atoms, dtype=jnp.int32)
        listed = (rows.neighbours[: systems.atoms], rows.images[: systems.atoms])
        return _whole(module, plan, systems, (atoms, *listed), wrapped, images)
    return _in_blocks(module, plan, systems, rows, wrapped, images)


def _whole(
    module: AbstractNativePotential,
    plan: Plan,
    systems: Systems,
    block: tuple[Array, Array, Array],
    wrapped: Array,
    images: Array,
) -> Forces:
    vectors, inside = _vectors(module, plan, systems, block, wrapped, images)
    neighbours = block[1].reshape(-1)
    batch = _batch(module, plan, systems, block[0], vectors, inside, neighbours, None)
    atom_energies, gradient, direct = _gradient(module, batch)
    virials = by_system(atom_virials(batch, gradient), systems.system, systems)
    if direct is None:
        forces = batch.sum_pairs(gradient) - jax.ops.segment_sum(
            gradient, neighbours, num_segments=systems.atoms
        )
    else:
        forces, virials = direct, jnp.full_like(virials, jnp.nan)
    return Forces(
        energies=by_system(atom_energies, systems.system, systems),
        forces=jnp.where(systems.real[:, None], forces, 0),
        virials=virials,
    )


def _in_blocks(
    module: AbstractNativePotential,
    plan: Plan,
    systems: Systems,
    rows: Rows,
    wrapped: Array,
    images: Array,
) -> Forces:
    """Only a block's pairs are in memory, whatever the size of the system."""
    last = systems.atoms - 1
    shape = (plan.blocks, plan.block)
    atoms = jnp.minimum(jnp.arange(plan.blocks * plan.block, dtype=jnp.int32), last)
    listed = (
        atoms.reshape(shape),
        rows.neighbours.reshape(*shape, plan.width),
        rows.images.reshape(*shape, plan.width),
    )

    def one(pushed: Array, block: tuple[Array, Array, Array]) -> tuple[Array, tuple]:
        centers, neighbours = block[0], block[1].reshape(-1)
        vectors, inside = _vectors(module, plan, systems, block, wrapped, images)
        elements = systems.numbers[neighbours]
        batch = _batch(module, plan, systems, centers, vectors, inside, neighbours * 0, elements)
        atom_energies, gradient, direct = _gradient(module, batch)
        assert direct is None  # no strictly local potential has such forces
        pushed = pushed.at[neighbours].add(-gradient)
        system = systems.system[centers]
        return pushed, (
            batch.sum_pairs(gradient),
            by_system(atom_energies, system, systems),
            by_system(atom_virials(batch, gradient), system, systems),
        )

    start = jnp.zeros_like(wrapped)
    pushed, (pulled, energies, virials) = jax.lax.scan(one, start, listed)
    forces = pushed + pulled.reshape(-1, 3)[: systems.atoms]
    return Forces(
        energies=jnp.sum(energies, axis=0),
        forces=jnp.where(systems.real[:, None], forces, 0),
        virials=jnp.sum(virials, axis=0),
    )


def _vectors(
    module: AbstractNativePotential,
    plan: Plan,
    systems: Systems,
    block: tuple[Array, Array, Array],
    wrapped: Array,
    images: Array,
) -> tuple[Float[Array, "pairs 3"], Bool[Array, "pairs"]]:
    """Vectors of a block's pairs, and which are closer than the cut-off (no padding is)."""
    atoms, neighbours, codes = block
    base = systems.system[atoms] * images_of(plan)
    vectors = wrapped[neighbours] - wrapped[atoms][:, None]
    if images_of(plan) > 1:
        vectors = vectors + images[base[:, None] + codes]
    inside = jnp.sum(vectors * vectors, axis=2) < module.cutoff**2
    return vectors.reshape(-1, 3), inside.reshape(-1)


def _batch(
    module: AbstractNativePotential,
    plan: Plan,
    systems: Systems,
    atoms: Int[Array, "block"],
    vectors: Float[Array, "pairs 3"],
    inside: Bool[Array, "pairs"],
    neighbours: Int[Array, "pairs"],
    elements: Int[Array, "pairs"] | None,
) -> Batch:
    size = atoms.shape[0]
    triplets = mask = None
    if module.needs_triplets:
        pairs = np.stack(np.triu_indices(plan.width, 1), axis=1)
        start = jnp.arange(size, dtype=jnp.int32)[:, None, None] * plan.width
        triplets = (start + jnp.asarray(pairs, jnp.int32)[None]).reshape(-1, 2)
        mask = inside[triplets[:, 0]] & inside[triplets[:, 1]]
    return Batch(
        numbers=systems.numbers[atoms],
        system=systems.system[atoms],
        centers=jnp.repeat(jnp.arange(size, dtype=jnp.int32), plan.width),
        neighbours=neighbours,
        vectors=vectors,
        pair_mask=inside,
        triplets=triplets,
        triplet_mask=mask,
        volume=jnp.ones(systems.count, vectors.dtype),
        width=plan.width,
        elements=elements,
    )


def _gradient(
    module: AbstractNativePotential, batch: Batch
) -> tuple[Array, Array, Float[Array, "atoms 3"] | None]:
    """Atom energies and ∂E/∂v of each pair, zero on padding; the potential's own forces, where
    they are not the gradient."""

    def total(vectors: Float[Array, "pairs 3"]) -> tuple[Array, tuple[Array, Array | None]]:
        outputs = module.evaluate(eqx.tree_at(lambda b: b.vectors, batch, vectors))
        # atoms of the padding: the last block repeats the last atom
        energies = jnp.where(batch.atom_mask, outputs.atom_energies, 0)
        return jnp.sum(energies), (energies, outputs.forces)

    gradient, (energies, direct) = jax.grad(total, has_aux=True)(batch.vectors)
    return energies, jnp.where(batch.pair_mask[:, None], gradient, 0), direct
