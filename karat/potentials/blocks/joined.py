"""Layers on features of both atoms of a pair and of the pair, joined to one row.

Checked: tests/potentials/native/test_m3gnet.py and test_dimenetpp.py, by hand.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.batch import Batch
from karat.potentials.blocks.layers import Dense


def joined(
    batch: Batch,
    layer: Dense,
    atoms: Float[Array, "atoms features"],
    edges: Float[Array, "pairs _"],
) -> Float[Array, "pairs outputs"]:
    """The layer on centre ⊕ neighbour ⊕ edge; what depends on one atom only is computed for atoms
    and then copied to pairs."""
    features = atoms.shape[1]
    weight = layer.weight * layer.weight.shape[0] ** -0.5
    mine, near, own = weight[:features], weight[features : 2 * features], weight[2 * features :]
    here = jnp.matmul(atoms, mine, precision="highest")
    return (
        batch.spread(here + jnp.broadcast_to(layer.bias, here.shape))
        + jnp.matmul(atoms, near, precision="highest")[batch.neighbours]
        + jnp.matmul(edges, own, precision="highest")
    )
