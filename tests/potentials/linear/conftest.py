"""A small linear potential of pair and three-body Gaussians, and structures to fit it to."""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from karat.data.dataset import Dataset, Record
from karat.potentials.analytic.zbl import ZblModule
from karat.potentials.batch import Batch
from karat.potentials.linear.model import AbstractLinearModel, ZblTerm
from karat.potentials.linear.posterior import Posterior
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.linear.regression import Regression
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure


class GaussiansModule(AbstractLinearModule):
    """For each element: a constant; Gaussians of the distance by neighbour element; and |Σ f r̂|²
    of each of them (a three-body function)."""

    coefficients: Float[Array, "features"]
    repulsion: ZblModule | None
    posterior: Posterior
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    radials: int = eqx.field(static=True)
    continuity: int = eqx.field(static=True, default=1)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def shapes(self, vector: Float[Array, "3"]) -> tuple[Array, Array]:
        """f(r) and f(r) r̂ of a pair."""
        r = jnp.sqrt(jnp.sum(vector * vector))
        x = jnp.minimum(r / self.cutoff, 1.0)
        centres = jnp.linspace(1.5, self.cutoff, self.radials, dtype=r.dtype)
        values = jnp.exp(-((r - centres) ** 2)) * (1 - x * x) ** 3
        return values, values[:, None] * (vector / r)[None, :]

    def features(self, batch: Batch) -> Float[Array, "atoms features"]:
        values, arms = self.by_element(batch, jax.vmap(self.shapes)(batch.vectors))
        sums, arms = batch.sum_pairs(values), batch.sum_pairs(arms)
        own = jnp.concatenate([jnp.ones_like(sums[:, :1]), sums, jnp.sum(arms**2, axis=2)], axis=1)
        return self.placed(own, batch.numbers)

    def slopes(self, batch: Batch) -> Float[Array, "pairs features 3"]:
        moved = jax.vmap(jax.jacfwd(self.shapes))(batch.vectors)
        sums, arms = self.by_element(batch, moved)
        _, whole = self.by_element(batch, jax.vmap(self.shapes)(batch.vectors))
        whole = batch.spread(batch.sum_pairs(whole))
        bodies = 2 * jnp.sum(whole[..., None] * arms, axis=2)
        own = jnp.concatenate([jnp.zeros_like(sums[:, :1]), sums, bodies], axis=1)
        return self.placed(own, batch.spread(batch.numbers))

    def by_element(self, batch: Batch, parts: tuple[Array, ...]) -> tuple[Array, ...]:
        """Radial functions of each neighbour element side by side; zero on padding."""
        kinds = batch.neighbour_numbers[:, None] == jnp.asarray(self.species, jnp.int32)[None]
        kinds = kinds & batch.pair_mask[:, None]

        def spread(part):
            mask = kinds.reshape(*kinds.shape, *(1,) * (part.ndim - 1))
            blocks = jnp.where(mask, part[:, None], 0)
            return blocks.reshape(len(part), -1, *part.shape[2:])

        return tuple(spread(part) for part in parts)

    def placed(self, own: Array, numbers: Array) -> Array:
        """Central elements side by side."""
        mine = numbers[:, None] == jnp.asarray(self.species, jnp.int32)[None]
        mask = mine.reshape(*mine.shape, *(1,) * (own.ndim - 1))
        return jnp.where(mask, own[:, None], 0).reshape(len(own), -1, *own.shape[2:])

    def roughness(self) -> Float[np.ndarray, "features"]:
        pairs = np.tile(np.arange(1.0, self.radials + 1), len(self.species))
        return np.tile(np.concatenate([[0.0], pairs, 2 * pairs]), len(self.species))


@dataclass(frozen=True)
class Gaussians(AbstractLinearModel):
    """Settings of that basis."""

    radials: int = 4
    cutoff_angstrom: float = 4.5
    zbl: ZblTerm | None = None
    regression: Regression = field(default_factory=Regression)

    def basis(self, species: tuple[int, ...], dtype: str) -> GaussiansModule:
        size = len(species) * (1 + 2 * self.radials * len(species))
        return GaussiansModule(
            coefficients=jnp.zeros(size, dtype),
            repulsion=None if self.zbl is None else self.zbl.module(species, dtype),
            posterior=Posterior.none(dtype),
            species=species,
            cutoff=self.cutoff_angstrom,
            radials=self.radials,
        )


def crystal(rng, numbers=(29,), repeats=2, lattice=3.6, rattle=0.15, strain=0.03):
    """A rattled, strained fcc crystal with random elements."""
    fractional = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    shifts = np.array(list(np.ndindex(repeats, repeats, repeats)))
    cell = lattice * repeats * (np.eye(3) + rng.normal(0, strain, (3, 3)))
    places = ((shifts[:, None] + fractional[None]) / repeats).reshape(-1, 3)
    positions = places @ cell + rng.normal(0, rattle, (len(places), 3))
    kinds = rng.choice(np.array(numbers), len(places))
    return Structure(kinds, positions, cell, np.ones(3, bool))


LEVEL = LevelOfTheory("PBE")


def labelled(rng, structures, potential, noise=(0.0, 0.0, 0.0), kinds=("a",)):
    """Labels by a potential, with Gaussian noise on energies per atom, forces and stresses."""
    records = []
    periodic = all(structure.periodic.all() for structure in structures)
    want = ("energy", "forces", "stress") if periodic else ("energy", "forces")
    predicted = potential.predict(structures, want)
    for index, (structure, exact) in enumerate(zip(structures, predicted)):
        stress = None
        if periodic:
            shift = rng.normal(0, 1, (3, 3)) * noise[2]
            stress = exact.stress + (shift + shift.T) / 2
        labels = Labels(
            energy=exact.energy + noise[0] * len(structure) * rng.normal(),
            forces=exact.forces + noise[1] * rng.normal(size=exact.forces.shape),
            stress=stress,
        )
        records.append(Record(structure, labels, f"s{index}", kinds[index % len(kinds)]))
    return Dataset(tuple(records), LEVEL)


@pytest.fixture(scope="session")
def make_crystal():
    return crystal


@pytest.fixture(scope="session")
def label():
    return labelled


@pytest.fixture(scope="session")
def gaussians():
    return Gaussians
