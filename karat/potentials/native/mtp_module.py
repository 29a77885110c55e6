"""The pure function of moment tensor potentials.

Moments and their products are rows with atoms along the minor axis; tables say which rows are
multiplied (`mtp_basis.py`), so that a program of thousands of products is a few operations.

Checked: tests/potentials/native/test_mtp.py, and against motep's own numbers in
tests/peers/test_motep.py.
"""

from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.native.mtp_basis import Products, monomials, program
from karat.potentials.native_protocol import AbstractNativePotential, Outputs


class MtpModule(AbstractNativePotential):
    """E_i = scale · (e_z + Σ_α ξ_α B_α), ξ = mixing · linear, B_α the contractions of moments

    M_{μν} = Σ_j f_μ(r) r̂ ⊗ … ⊗ r̂ (ν times), f_μ = Σ_β c_β T_β(x) ((r_c − r) / (r_c − r_n))².

    As in MLIP-2, directions are unit vectors, and x goes from −1 to 1 between the nearest distance
    r_n and the cut-off r_c.

    Attributes:
        radial: c by element of the centre, of the neighbour, μ and β.
        linear: what ξ is made of.
        elements: e of each element.
        mixing: fixed; with it training by gradients begins with a quadratic loss in `linear` whose
            second derivatives are alike in all directions.
        scale: eV.
        level: highest level of a contraction.
        nearest: Å.
    """

    radial: Float[Array, "species species functions size"]
    linear: Float[Array, "contractions"]
    elements: Float[Array, "species"]
    mixing: Float[Array, "contractions contractions"]
    scale: Float[Array, ""]
    level: int = eqx.field(static=True)
    nearest: float = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        rows = self.rows(batch)
        steps = program(self.level)
        weights = jnp.matmul(self.mixing, self.linear, precision="highest")
        last = steps.last
        factors = weights[last.target] * jnp.asarray(last.factor, rows.dtype)
        pairs = rows[last.left] * rows[last.right]
        found, scalars = steps.ready
        mine = species_index(batch.numbers, self.species)
        energies = (
            jnp.matmul(factors, pairs, precision="highest")
            + jnp.matmul(weights[scalars], rows[found], precision="highest")
            + self.elements[mine]
        )
        return Outputs(atom_energies=jnp.where(batch.atom_mask, self.scale * energies, 0.0))

    def rows(self, batch: Batch) -> Float[Array, "rows atoms"]:
        """Components of moments, and of all that is made of them and needed for more."""
        rows = self.moments(batch)
        for products, count in program(self.level).stages:
            rows = jnp.concatenate([rows, _summed(rows, products, count)])
        return rows

    def moments(self, batch: Batch) -> Float[Array, "components atoms"]:
        """Components of the moments of each atom."""
        vectors = batch.vectors.T
        distances = jnp.sqrt(jnp.sum(vectors * vectors, axis=0))
        powers = direction_powers(vectors / distances[None], _highest(self.level))
        steps, radial = program(self.level), self.radial_functions(batch, distances)
        values = radial[steps.mus] * powers[_places(self.level)]
        if batch.width is not None:
            ones = jnp.ones(batch.width, values.dtype)
            rows = values.reshape(-1, batch.width)
            return jnp.matmul(rows, ones, precision="highest").reshape(-1, batch.atoms)
        # unsorted on purpose: XLA adds whole rows fast, and sorted segments slowly
        return jax.ops.segment_sum(values.T, batch.centers, num_segments=batch.atoms).T

    def radial_functions(
        self, batch: Batch, distances: Float[Array, "pairs"]
    ) -> Float[Array, "functions pairs"]:
        """f_μ of each pair, zero from the cut-off on."""
        species, _, functions, size = self.radial.shape
        near = jnp.minimum(distances, self.cutoff)
        basis = chebyshev(near, self.nearest, self.cutoff, size)
        basis = basis * (((self.cutoff - near) / (self.cutoff - self.nearest)) ** 2)[None]
        if species == 1:
            return jnp.matmul(self.radial[0, 0], basis, precision="highest")
        centre = species_index(batch.numbers, self.species)
        kind = species * batch.spread(centre)
        kind = kind + species_index(batch.neighbour_numbers, self.species)
        own = self.radial.reshape(species * species, -1)[kind].T
        return jnp.sum(own.reshape(functions, size, -1) * basis[None], axis=1)


def chebyshev(
    distances: Float[Array, "pairs"], nearest: float, cutoff: float, size: int
) -> Float[Array, "size pairs"]:
    """T_β(x), x from −1 at `nearest` to 1 at the cut-off."""
    x = (2 * distances - (nearest + cutoff)) / (cutoff - nearest)
    values = [jnp.ones_like(x), x]
    for _ in range(size - 2):
        values.append(2 * x * values[-1] - values[-2])
    return jnp.stack(values[:size])


def direction_powers(
    unit: Float[Array, "3 pairs"], highest: int
) -> Float[Array, "monomials pairs"]:
    """x^a y^b z^c of all degrees up to `highest`, each from one of a degree lower."""
    values = [jnp.ones_like(unit[:1])]
    for degree in range(1, highest + 1):
        before = {m: i for i, m in enumerate(monomials(degree - 1))}
        axes = [next(i for i in range(3) if m[i]) for m in monomials(degree)]
        parents = [
            before[m[0] - (axis == 0), m[1] - (axis == 1), m[2] - (axis == 2)]
            for m, axis in zip(monomials(degree), axes)
        ]
        values.append(values[-1][np.array(parents)] * unit[np.array(axes)])
    return jnp.concatenate(values)


def _summed(
    rows: Float[Array, "rows atoms"], products: Products, count: int
) -> Float[Array, "new atoms"]:
    factor = jnp.asarray(products.factor, rows.dtype)[:, None]
    values = rows[products.left] * rows[products.right] * factor
    return jax.ops.segment_sum(values, jnp.asarray(products.target), num_segments=count)


@lru_cache(maxsize=16)
def _highest(level: int) -> int:
    """Highest rank of a moment."""
    return int(program(level).exponents.sum(axis=1).max())


@lru_cache(maxsize=16)
def _places(level: int) -> np.ndarray:
    """Row of each component's monomial."""
    every = [m for degree in range(_highest(level) + 1) for m in monomials(degree)]
    place = {m: i for i, m in enumerate(every)}
    return np.array([place[a, b, c] for a, b, c in program(level).exponents.tolist()])
