"""Real spherical harmonics of pair vectors, smooth at any length that is not zero.

Checked: tests/potentials/blocks/test_convolution.py; the harmonics themselves against scipy's in
tests/potentials/linear/test_radial.py.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from karat.potentials.linear.density import harmonics


def pair_harmonics(
    vectors: Float[Array, "pairs 3"], distances: Float[Array, "pairs"], highest: int
) -> Float[Array, "components pairs"]:
    """Harmonics of the directions at l² + l + m, l = 0 … highest; mean square over the sphere 1
    (e3nn's "component" normalisation)."""
    inverse = 1 / distances
    x, y, z = (vectors[:, axis] * inverse for axis in range(3))
    return jnp.stack(harmonics(x, y, z, highest))
