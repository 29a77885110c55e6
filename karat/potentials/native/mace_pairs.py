"""What newer MACE models do with pairs of elements: a transformed distance before the radial
functions, and the repulsion of nuclei underneath.

Source: Witt et al., J. Chem. Phys. 159, 164101 (2023), the Agnesi transform, with the constants and
covalent radii of MACE's code; Ziegler, Biersack & Littmark (1985), with MACE's rounding of
constants and its envelope, which ends at the sum of the covalent radii.
Checked: tests/potentials/external/mace_torch/, against mace-torch's own numbers.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import pair_species
from karat.potentials.batch import Batch

AGNESI = {"a": 1.0805, "q": 0.9183, "p": 4.5791}
ZBL_WEIGHTS = (0.1818, 0.5099, 0.2802, 0.02817)
ZBL_DECAYS = (3.2, 0.9423, 0.4028, 0.2016)
ZBL_LENGTH, ZBL_POWER = 0.4543 * 0.529, 0.3
ZBL_COULOMB = 14.3996


def touching_distances(batch: Batch, species: tuple[int, ...]) -> Float[Array, "pairs"]:
    """Sum of the covalent radii of each pair (of ASE's table), Å."""
    from ase.data import covalent_radii

    first, second = pair_species(batch, species)
    radii = jnp.asarray(covalent_radii[list(species)], batch.vectors.dtype)
    return radii[first] + radii[second]


def agnesi(
    distances: Float[Array, "pairs"], touching: Float[Array, "pairs"]
) -> Float[Array, "pairs"]:
    """1 / (1 + a xᵠ / (1 + x^(q − p))), x = 2 r / (sum of covalent radii)."""
    a, q, p = AGNESI["a"], AGNESI["q"], AGNESI["p"]
    x = 2 * distances / touching
    return 1 / (1 + a * x**q / (1 + x ** (q - p)))


def repulsion(
    batch: Batch,
    distances: Float[Array, "pairs"],
    touching: Float[Array, "pairs"],
    species: tuple[int, ...],
    power: int,
) -> Float[Array, "atoms"]:
    """Half of the screened repulsion with each neighbour, eV; zero beyond touching distance."""
    first, second = pair_species(batch, species)
    charges = jnp.asarray(np.array(species, float), distances.dtype)
    screening = charges**ZBL_POWER
    ratio = distances * (screening[first] + screening[second]) / ZBL_LENGTH
    shape = sum(w * jnp.exp(-d * ratio) for w, d in zip(ZBL_WEIGHTS, ZBL_DECAYS))
    x = jnp.minimum(distances / touching, 1.0)
    inner = 0.5 * (power + 1) * (power + 2) - power * (power + 2) * x
    inner = inner + 0.5 * power * (power + 1) * x * x
    envelope = jnp.where(distances < touching, 1 - x**power * inner, 0.0)
    bare = ZBL_COULOMB * charges[first] * charges[second] / distances
    return batch.sum_pairs(0.5 * bare * shape * envelope)
