"""Attention of atoms to what they are linked with, in heads of channels.

Checked: tests/potentials/blocks/test_attention.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.batch import Batch

Scores = Float[Array, "_ heads"]


def sum_in_heads(values: Float[Array, "links channels"], heads: int) -> Float[Array, "links heads"]:
    """Sums over the channels of each head; heads divide channels."""
    return jnp.matmul(values, _members(heads, values.shape[1], values.dtype).T, precision="highest")


def spread_heads(
    values: Float[Array, "links heads"], channels: int, count: int
) -> Float[Array, "links count"]:
    """The number of the head of each of the first `count` of so many channels."""
    own = _members(values.shape[1], channels, values.dtype)[:, :count]
    return jnp.matmul(values, own, precision="highest")


def softmax_within_cutoff(
    batch: Batch, pairs: Scores, own: Scores, envelope: Float[Array, "pairs 1"]
) -> tuple[Scores, Scores]:
    """f_c(r) exp(a) over the sum of it over an atom's pairs and its link with itself, where f_c is
    1: weights of pairs and of atoms with themselves, those of pairs zero at the cut-off."""
    within = envelope > 0
    seen = jax.lax.stop_gradient(jnp.where(within, pairs, -jnp.inf))
    most = jax.ops.segment_max(seen, batch.centers, num_segments=batch.atoms)
    most = jnp.maximum(most, jax.lax.stop_gradient(own))
    raised = envelope * jnp.exp(jnp.where(within, pairs - batch.spread(most), 0.0))
    alone = jnp.exp(own - most)
    inverse = 1 / (batch.sum_pairs(raised) + alone)
    return raised * batch.spread(inverse), alone * inverse


def _members(heads: int, channels: int, dtype: jnp.dtype) -> Float[Array, "heads channels"]:
    """1 where a channel belongs to a head; consecutive channels do."""
    return jnp.asarray(np.kron(np.eye(heads), np.ones((1, channels // heads))), dtype)
