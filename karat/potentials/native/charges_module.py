"""The pure function of learned charges: transfers between neighbours, screened Coulomb energy.

Checked: tests/potentials/native/test_charges.py.
"""

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.units import COULOMB
from karat.potentials.analytic.pairwise import distances, pair_species
from karat.potentials.batch import Batch
from karat.potentials.blocks.radial import cutoff_function, gaussians
from karat.potentials.native.bpnn import BpnnModule
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

TRANSFER_UNIT = 0.03
"""e; with parameters of about 1, charges of about 0.2 e come out."""


@dataclass(frozen=True)
class ScreenedCoulomb:
    """Coulomb energy of Gaussian charges as a sum over pairs within a cut-off, by damping and
    shifted force; hashable, a static part of a module.

    E = ½ Σ_{i≠j} q_i q_j v(r_ij) + Σ_i q_i² c with v(r) = φ(r) − φ(R) − φ'(R) (r − R) and
    φ(r) = k (erf(r/(√2 σ)) − erf(α r))/r. v and its slope vanish at R. c is what a charge has with
    the charges on the sphere of radius R that the shift stands for, and with its own part of the
    damping that is left out; without it and for charges that add up to zero, the shift φ(R) would
    not cancel where all pairs are within R. The energy of a Gaussian with itself is not counted.

    Sources: Fennell, Gezelter, J. Chem. Phys. 124, 234104 (2006), for points (σ → 0); c: Wolf,
    Keblinski, Phillpot, Eggebrecht, J. Chem. Phys. 110, 8254 (1999); Gaussians: Cheng, npj Comput.
    Mater. 11, 80 (2025).

    Attributes:
        cutoff: R, Å.
        damping: α, 1/Å; below 1/(√2 σ).
        smearing: σ, Å.
    """

    cutoff: float
    damping: float
    smearing: float

    @property
    def _inverse_width(self) -> float:
        return 1 / (math.sqrt(2.0) * self.smearing)

    def _end(self) -> tuple[float, float]:
        """φ and φ' at the cut-off, eV/e² and eV/(e² Å)."""
        r = self.cutoff
        value = COULOMB * (math.erf(self._inverse_width * r) - math.erf(self.damping * r)) / r
        narrow, wide = (
            2 * k / math.sqrt(math.pi) * math.exp(-((k * r) ** 2))
            for k in (self._inverse_width, self.damping)
        )
        return value, COULOMB * (narrow - wide) / r - value / r

    def pair(self, distance: Float[Array, "pairs"]) -> Float[Array, "pairs"]:
        """v, eV/e²; zero beyond the cut-off."""
        value, slope = self._end()
        screened = jax.lax.erf(self._inverse_width * distance) - jax.lax.erf(
            self.damping * distance
        )
        shifted = COULOMB * screened / distance - value - slope * (distance - self.cutoff)
        return jnp.where(distance < self.cutoff, shifted, 0.0)

    def own(self) -> float:
        """c, eV/e²."""
        value, slope = self._end()
        return -COULOMB * self.damping / math.sqrt(math.pi) - 0.5 * (value - slope * self.cutoff)


class ChargesModule(AbstractNativePotential):
    """Screened Coulomb energy of charges q_i = Σ_j w(r_ij) (x_i − x_j).

    Attributes:
        environment: symmetry functions and networks that give x of each atom.
        transfer: c of w(r) = f_c(r) Σ_n c_n exp(−(r − r_n)²/(2 Δ²)), for each unordered pair of
            elements; positions r_n are evenly spaced by Δ up to `reach`.
        coulomb: the sum over pairs.
        reach: Å, where transfers end.
    """

    environment: BpnnModule
    transfer: Float[Array, "elementpairs functions"]
    coulomb: ScreenedCoulomb = eqx.field(static=True)
    reach: float = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        """Atom energies, and the charges, e, which add up to zero for each system."""
        distance = distances(batch.vectors)
        charges = self._charges(batch, distance)
        seen = jnp.where(batch.pair_mask, self.coulomb.pair(distance), 0.0)
        potential = batch.sum_pairs(seen * charges[batch.neighbours])
        energies = charges * (0.5 * potential + self.coulomb.own() * charges)
        return Outputs(atom_energies=energies, charges=charges)

    def _charges(self, batch: Batch, distance: Float[Array, "pairs"]) -> Float[Array, "atoms"]:
        """Charges, e; zero on padding: its pairs are long."""
        tendency = self.environment.evaluate(batch).atom_energies
        weight = self._weights(batch, distance)
        apart = batch.spread(tendency) - tendency[batch.neighbours]
        return TRANSFER_UNIT * batch.sum_pairs(jnp.where(batch.pair_mask, weight * apart, 0.0))

    def _weights(self, batch: Batch, distance: Float[Array, "pairs"]) -> Float[Array, "pairs"]:
        """w of each pair, the same in both directions."""
        count = self.transfer.shape[1]
        spacing = self.reach / count
        centres = spacing * (1 + jnp.arange(count, dtype=distance.dtype))
        basis = gaussians(distance, centres, 0.5 / spacing**2)
        first, second = pair_species(batch, self.species)
        table = jnp.asarray(_pair_indices(len(self.species)))
        values = jnp.sum(basis * self.transfer[table[first, second]], axis=1)
        return values * cutoff_function(distance, self.reach, "polynomial")


def _pair_indices(elements: int) -> np.ndarray:
    """Number of the unordered pair of two elements, by both."""
    table = np.zeros((elements, elements), np.int32)
    for number, (i, j) in enumerate(combinations_with_replacement(range(elements), 2)):
        table[i, j] = table[j, i] = number
    return table
