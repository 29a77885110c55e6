"""Toy potentials whose every answer is known, shared by the tests of the assays."""

import dataclasses
import types

import numpy as np
import pytest

from karat.assays.protocol import Context
from karat.core.errors import CalculationFailed
from karat.data.dataset import Dataset, Record
from karat.potentials.protocol import AbstractPotential, Traits, check_suitable
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.structures.topology import Topology

LEVEL = LevelOfTheory("toy")
OO, OH, OOH = 1.45, 0.97, 1.95  # Å: bonds and the distance over an angle of H2O2
STEP = 1e-4  # Å, of central differences: error ~ STEP² · third derivative ~ 1e-7 eV/Å


def dihedral(x):
    """Radians, of atoms 2-0-1-3 of H2O2; x is (..., 4, 3)."""
    first, axis, last = (
        x[..., 0, :] - x[..., 2, :],
        x[..., 1, :] - x[..., 0, :],
        x[..., 3, :] - x[..., 1, :],
    )
    left, right = np.cross(first, axis), np.cross(axis, last)
    length = np.linalg.norm(axis, axis=-1)
    return np.arctan2(length * np.sum(first * right, axis=-1), np.sum(left * right, axis=-1))


class Toy(AbstractPotential):
    """Springs between pairs of atoms, and V·(1 + cos(φ - φ₀)) for the dihedral of H2O2."""

    def __init__(self, pairs, lengths, stiffness=30.0, barrier=0.0, phase_degree=0.0):
        self.pairs, self.lengths = np.array(pairs), np.array(lengths)
        self.stiffness, self.barrier = stiffness, barrier
        self.phase = np.radians(phase_degree)

    @property
    def traits(self):
        return Traits(
            species=(1, 8), periodic=False, molecules=True, quantities=("energy", "forces")
        )

    def energy(self, x):
        """eV; x is (..., atoms, 3)."""
        gap = np.linalg.norm(x[..., self.pairs[:, 0], :] - x[..., self.pairs[:, 1], :], axis=-1)
        total = 0.5 * self.stiffness * ((gap - self.lengths) ** 2).sum(axis=-1)
        if self.barrier:
            total = total + self.barrier * (1 + np.cos(dihedral(x) - self.phase))
        return total

    def predict(self, structures, want=("energy", "forces")):
        found = []
        for structure in structures:
            check_suitable(self, structure, want)
            x = structure.positions
            steps = STEP * np.eye(x.size).reshape(-1, *x.shape)
            slope = (self.energy(x + steps) - self.energy(x - steps)) / (2 * STEP)
            found.append(Labels(energy=float(self.energy(x)), forces=-slope.reshape(x.shape)))
        return found


class Scaled(AbstractPotential):
    """Another potential's labels times `factor`, energies moved by `shift` (eV)."""

    def __init__(self, inner, factor=1.0, shift=0.0):
        self.inner, self.factor, self.shift = inner, factor, shift

    @property
    def traits(self):
        return dataclasses.replace(self.inner.traits, native=False)

    def predict(self, structures, want=("energy", "forces")):
        def times(value):
            return None if value is None else self.factor * value

        return [
            Labels(times(x.energy) + self.shift, times(x.forces), times(x.stress))
            for x in self.inner.predict(structures, want)
        ]


class Failing(AbstractPotential):
    """Another potential that fails on the structures for which `when` says so."""

    def __init__(self, inner, when):
        self.inner, self.when = inner, when

    @property
    def traits(self):
        return dataclasses.replace(self.inner.traits, native=False)

    def predict(self, structures, want=("energy", "forces")):
        for structure in structures:
            if self.when(structure):
                raise CalculationFailed("As told.", kind="told")
        return self.inner.predict(structures, want)


def topology(bonds, atoms):
    return Topology(np.array(bonds), np.ones(len(bonds)), np.zeros(atoms, int))


def peroxide(angle_degree=100.0):
    """H2O2 with all springs of `peroxide_potential` at rest; atoms O, O, H, H."""
    along = (OO**2 + OH**2 - OOH**2) / (2 * OO)  # of H from its O towards the other O
    away = np.sqrt(OH**2 - along**2)
    turn = np.radians(angle_degree)
    positions = [
        [0, 0, 0],
        [OO, 0, 0],
        [along, away, 0],
        [OO - along, away * np.cos(turn), away * np.sin(turn)],
    ]
    bonds = topology([[0, 1], [0, 2], [1, 3]], 4)
    return Structure(np.array([8, 8, 1, 1]), np.array(positions, float), topology=bonds)


def peroxide_potential(**settings):
    return Toy(
        [[0, 1], [0, 2], [1, 3], [0, 3], [1, 2]],
        [OO, OH, OH, OOH, OOH],
        **{"barrier": 0.2, **settings},
    )


def pair(length=1.0, number=1):
    """Two bonded atoms."""
    positions = np.array([[0.0, 0, 0], [length, 0, 0]])
    return Structure(np.array([number, number]), positions, topology=topology([[0, 1]], 2))


def rattled(structure, count, seed, size=0.05):
    random = np.random.default_rng(seed)
    return [
        structure.replace(
            positions=structure.positions + random.normal(0, size, (len(structure), 3))
        )
        for _ in range(count)
    ]


def labelled(structures, potential, kinds=("",), group="run", want=("energy", "forces")):
    """A dataset in the order of one trajectory; kinds in turn."""
    records = [
        Record(s, x, f"frame {i}", kinds[i % len(kinds)], group, i)
        for i, (s, x) in enumerate(zip(structures, potential.predict(structures, want)))
    ]
    return Dataset(tuple(records), LEVEL)


def context(starts=(), test=None, reference=None):
    return Context(tuple(starts), test, reference, LEVEL, seed=5)


@pytest.fixture(scope="session")
def toys():
    """Everything above under one name."""
    return types.SimpleNamespace(
        **{name: value for name, value in globals().items() if not name.startswith("_")}
    )
