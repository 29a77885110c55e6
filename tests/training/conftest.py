"""A known function to learn: Morse clusters of two elements, with exact labels."""

import numpy as np
import pytest

from karat.data.dataset import Dataset, Record
from karat.potentials.native.bpnn import Bpnn, RadialGrid
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

ATOM_ENERGIES = {18: -1000.25, 36: -2000.5}
DEPTH = {36: 0.2, 54: 0.3, 72: 0.5}  # eV, by the sum of atomic numbers


def morse(numbers: np.ndarray, positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Σ D (1 - exp(-a (r - r0)))² - D with a = 1.2/Å, r0 = 2.5 Å; energy and forces."""
    energy, forces = 0.0, np.zeros((len(numbers), 3))
    for i in range(len(numbers)):
        for j in range(i):
            vector = positions[i] - positions[j]
            r = np.linalg.norm(vector)
            depth, decay = DEPTH[int(numbers[i] + numbers[j])], np.exp(-1.2 * (r - 2.5))
            energy += depth * ((1 - decay) ** 2 - 1)
            slope = 2 * depth * (1 - decay) * 1.2 * decay
            forces[i] -= slope * vector / r
            forces[j] += slope * vector / r
    return energy, forces


def morse_clusters(count: int, seed: int) -> Dataset:
    """Tetrahedra with 0 to 4 atoms of the heavier element, shaken."""
    generator = np.random.default_rng(seed)
    corners = 2.6 / np.sqrt(8) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    records = []
    for index in range(count):
        numbers = np.where(np.arange(4) < index % 5, 36, 18)
        positions = corners + generator.uniform(-0.2, 0.2, size=(4, 3))
        energy, forces = morse(numbers, positions)
        energy += sum(ATOM_ENERGIES[int(z)] for z in numbers)
        labels = Labels(energy=energy, forces=forces)
        records.append(Record(Structure(numbers, positions), labels, name=f"cluster {index}"))
    return Dataset(tuple(records), LevelOfTheory("Morse"))


@pytest.fixture(scope="session")
def clusters():
    """Makes clusters: (count, seed) → dataset."""
    return morse_clusters


@pytest.fixture(scope="session")
def small():
    """An architecture that compiles fast."""
    return Bpnn(
        cutoff_angstrom=6.0,
        radial=RadialGrid(count=10, start_angstrom=1.5),
        angular=(),
        hidden=(16,),
    )
