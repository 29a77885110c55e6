"""Clean sets with exact labels, cheap enough to make in a test: a molecule in motion, a crystal
rattled and strained."""

import dataclasses
from functools import cache

import numpy as np

from karat.data.entry import Entry
from karat.structures.builders import from_smiles
from karat.structures.labels import LevelOfTheory

LEVEL = LevelOfTheory("PBE", "def2-SVP")
ATOMS = {1: -13.6, 6: -1027.0, 8: -2037.0, 29: 0.0}
FS = 0.0982269478847
"""√(amu Å²/eV) per fs: the unit of time in which mass·Å/t² is eV/Å."""


@cache
def _springs():
    """Stiff bonds, softer angles, soft rest, for ethanol: lengths at rest and force constants."""
    start = from_smiles("CCO", seed=1)[0]
    first, second = np.triu_indices(9, 1)
    rest = np.linalg.norm(start.positions[first] - start.positions[second], axis=1)
    stiff = np.select([rest < 1.6, rest < 2.65], [35.0, 6.0], 0.4)
    return start, first, second, rest, stiff


def molecule_labels(positions):
    """Energy (eV, an all-electron total) and forces of the springs, each a little anharmonic."""
    _, first, second, rest, stiff = _springs()
    vector = positions[second] - positions[first]
    length = np.linalg.norm(vector, axis=1)
    off = length - rest
    energy = (stiff * (off**2 / 2 - 0.5 * off**3)).sum() - 4213.0
    pull = (stiff * (off - 1.5 * off**2) / length)[:, None] * vector
    forces = np.zeros_like(positions)
    np.add.at(forces, first, pull)
    np.add.at(forces, second, -pull)
    return energy, forces


@cache
def _motion(seed, frames, every):
    """Positions of Langevin dynamics at 300 K, steps of 0.5 fs."""
    start = _springs()[0]
    masses = np.array([1.008 if z == 1 else 12.011 if z == 6 else 15.999 for z in start.numbers])
    generator = np.random.default_rng(seed)
    positions, step = start.positions.copy(), 0.5 * FS
    width = np.sqrt(0.02585 / masses)[:, None]
    velocity = width * generator.normal(size=(9, 3))
    _, forces = molecule_labels(positions)
    kept = []
    for count in range(-400, frames * every):
        velocity += step / 2 * forces / masses[:, None]
        positions = positions + step * velocity
        _, forces = molecule_labels(positions)
        velocity += step / 2 * forces / masses[:, None]
        velocity = 0.98 * velocity + np.sqrt(1 - 0.98**2) * width * generator.normal(size=(9, 3))
        if count >= 0 and count % every == 0:
            kept.append(positions - positions.mean(axis=0))
    return kept


def molecules(frames=80, seed=0, every=25, name="run"):
    """Frames of one trajectory of ethanol, one every 12.5 fs unless said otherwise."""
    numbers = np.array(_springs()[0].numbers)
    found = []
    for index, positions in enumerate(_motion(seed, frames, every)):
        energy, forces = molecule_labels(positions)
        found.append(
            Entry(
                numbers=numbers,
                positions=positions,
                cell=np.zeros((3, 3)),
                periodic=np.zeros(3, bool),
                place=f"{name}.xyz, frame {index}",
                energy=float(energy),
                forces=forces,
                name=f"{name}:{index}",
                group=name,
                frame=index,
                level=LEVEL,
            )
        )
    return found


def crystal_labels(positions, cell):
    """Energy, forces and stress of a Morse potential with a smooth end at 5 Å, by pairs."""
    import vesin

    cutoff, depth, width, rest = 5.0, 0.34, 1.36, 2.87
    i, _, vector, length = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
        points=positions, box=cell, periodic=True, quantities="ijDd"
    )
    x = np.exp(-width * (length - rest))
    bare, slope = depth * (x**2 - 2 * x), -2 * depth * width * (x**2 - x)
    end = (1 - (length / cutoff) ** 2) ** 3
    end_slope = -6 * length / cutoff**2 * (1 - (length / cutoff) ** 2) ** 2
    energy = 0.5 * (bare * end).sum() - 0.2 * len(positions)
    pull = ((slope * end + bare * end_slope) / length)[:, None] * vector
    forces = np.zeros_like(positions)
    np.add.at(forces, np.asarray(i, int), pull)
    stress = 0.5 * np.einsum("px,py->xy", pull, vector) / abs(np.linalg.det(cell))
    return energy, forces, (stress + stress.T) / 2


@cache
def _crystals(count, seed):
    generator = np.random.default_rng(seed)
    side = np.arange(2)
    corners = np.stack(np.meshgrid(side, side, side), -1).reshape(-1, 3)
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    places = ((corners[:, None] + base) / 2).reshape(-1, 3)
    found = []
    for index in range(count):
        strain = generator.normal(0, 0.012, (3, 3)) if index % 2 else np.zeros((3, 3))
        cell = 7.2 * (np.eye(3) + (strain + strain.T) / 2)
        # as warm as 50 to 700 K
        positions = places @ cell + generator.uniform(0.015, 0.06) * generator.normal(size=(32, 3))
        energy, forces, stress = crystal_labels(positions, cell)
        found.append(
            Entry(
                numbers=np.full(32, 29),
                positions=positions,
                cell=cell,
                periodic=np.ones(3, bool),
                place=f"copper.xyz, frame {index}",
                energy=float(energy),
                forces=forces,
                stress=stress,
                name=f"copper:{index}",
                group="copper",
                frame=-1,
                level=LEVEL,
            )
        )
    return found


def crystals(count=40, seed=0):
    """Copper-like crystals of 32 atoms, rattled, every second one strained."""
    return list(_crystals(count, seed))


def atoms(numbers=(1, 6, 8)):
    """Isolated atoms at energies that suit `molecules`."""
    return [
        Entry(
            numbers=np.array([z]),
            positions=np.zeros((1, 3)),
            cell=np.zeros((3, 3)),
            periodic=np.zeros(3, bool),
            place=f"atom {z}",
            energy=ATOMS[z],
            name=f"atom {z}",
            level=LEVEL,
        )
        for z in numbers
    ]


def change(entries, rows, make):
    """Entries whose rows are replaced by what `make(entry)` says to change."""
    rows = set(rows)
    return [
        dataclasses.replace(entry, **make(entry)) if row in rows else entry
        for row, entry in enumerate(entries)
    ]


def every(entries, make):
    """All entries changed by `make(entry)`."""
    return change(entries, range(len(entries)), make)
