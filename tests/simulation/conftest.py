"""Small potentials whose dynamics can be worked out on paper."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import CalculationFailed
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.analytic.morse import Morse
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, Outputs
from karat.potentials.protocol import AbstractPotential, Traits
from karat.structures.labels import Labels


class SpringModule(AbstractNativePotential):
    """½ k |r_ij|² between all pairs (zero length at rest): exactly linear motion."""

    stiffness: float = eqx.field(static=True)
    nan_beyond: float = eqx.field(static=True, default=1e9)
    species: tuple[int, ...] = eqx.field(static=True, default=(1, 6, 18))
    cutoff: float = eqx.field(static=True, default=20.0)
    continuity: int = eqx.field(static=True, default=0)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def evaluate(self, batch):
        squared = jnp.sum(batch.vectors * batch.vectors, axis=1)
        value = jnp.where(batch.pair_mask, 0.25 * self.stiffness * squared, 0)
        value = jnp.where(batch.pair_mask & (squared > self.nan_beyond**2), jnp.nan, value)
        return Outputs(jax.ops.segment_sum(value, batch.centers, num_segments=batch.atoms))


class Foreign(AbstractPotential):
    """Any potential, its compiled loop hidden; fails at call number `fail_at`."""

    def __init__(self, inner, fail_at=None):
        self.inner, self.fail_at, self.calls = inner, fail_at, 0

    @property
    def traits(self):
        return dataclasses.replace(self.inner.traits, native=False)

    def predict(self, structures, want=("energy", "forces")):
        self.calls += 1
        if self.fail_at is not None and self.calls >= self.fail_at:
            raise CalculationFailed("SCF did not converge", kind="not-converged")
        return self.inner.predict(structures, want)


class NumpySprings(AbstractPotential):
    """The springs of `SpringModule` in NumPy: fast enough for long runs through ASE."""

    traits = Traits(species=None, periodic=False, molecules=True, quantities=("energy", "forces"))

    def __init__(self, stiffness):
        self.stiffness = stiffness

    def predict(self, structures, want=("energy", "forces")):
        labels = []
        for structure in structures:
            centred = structure.positions - structure.positions.mean(axis=0)
            stiff = self.stiffness * len(structure)
            labels.append(Labels(0.5 * stiff * np.sum(centred**2), -stiff * centred))
        return labels


@pytest.fixture
def springs():
    """Maker of native spring potentials."""

    def make(stiffness, dtype="float64", nan_beyond=1e9):
        return NativePotential(SpringModule(stiffness, nan_beyond), dtype=dtype)

    return make


@pytest.fixture
def numpy_springs():
    return NumpySprings


@pytest.fixture
def foreign():
    return Foreign


@pytest.fixture
def argon():
    """Maker of Lennard-Jones argon."""

    def make(dtype="float64", cutoff=6.0):
        return LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, cutoff, 0.9 * cutoff, dtype=dtype).load()

    return make


@pytest.fixture
def morse():
    """Morse's hydrogen, cut off so far away that the cut-off does not matter."""
    return Morse({"H": 4.5}, {"H": 1.9}, {"H": 0.74}, 40.0, 39.0)


@pytest.fixture
def make_bpnn():
    """Maker of untrained networks for silicon, with reference energies."""

    def make(angular="g5"):
        import jax
        from ase.build import bulk

        from karat.data.dataset import Dataset, Record
        from karat.potentials.native.bpnn import AngularGrid, Bpnn, RadialGrid
        from karat.structures.labels import LevelOfTheory
        from karat.structures.structure import Structure

        atoms = bulk("Si", cubic=True)
        structures = []
        for seed in range(3):
            atoms.rattle(0.1, seed=seed)
            structures.append(Structure.from_ase(atoms))
        random = np.random.default_rng(5)
        records = tuple(
            Record(s, Labels(energy=-1.0, forces=random.normal(size=(len(s), 3))))
            for s in structures
        )
        architecture = Bpnn(
            radial=RadialGrid(count=4),
            angular=AngularGrid(kind=angular, count=2),
            hidden=(6, 5),
            cutoff_angstrom=3.5,
        )
        dataset = Dataset(records, LevelOfTheory("test"))
        module = architecture.initialise(dataset, jax.random.key(1), "float64")
        return NativePotential(module, {14: -100.0})

    return make
