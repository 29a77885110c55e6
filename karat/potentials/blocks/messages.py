"""Sums of messages over neighbours, of whole rows of channels.

Checked: tests/potentials/blocks/test_messages.py.
"""

import jax
from jaxtyping import Array, Float

from karat.potentials.batch import Batch


def sum_messages(
    batch: Batch, messages: Float[Array, "pairs channels"]
) -> Float[Array, "atoms channels"]:
    """Each atom's sum over its pairs; the same as `Batch.sum_pairs`, which is faster for few
    channels."""
    if batch.width is not None:
        return batch.sum_pairs(messages)
    # unsorted on purpose: XLA adds whole rows fast, and sorted segments slowly
    return jax.ops.segment_sum(messages, batch.centers, num_segments=batch.atoms)
