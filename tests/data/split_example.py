"""Datasets whose clusters are known."""

import numpy as np

from karat.data.dataset import Dataset, Record
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure


def shapes(counts=(30, 30, 30, 30), seed=0):
    """Rattled molecules of four atoms about as many different shapes as there are counts; the
    shape is the record's kind. Groups are named by shape and parity."""
    generator = np.random.default_rng(seed)
    records = []
    for shape, count in enumerate(counts):
        base = np.cumsum(generator.normal(size=(4, 3)), axis=0) * 0.8
        for index in range(count):
            positions = base + generator.normal(0.0, 0.02, (4, 3))
            structure = Structure(np.array([6, 8, 1, 1]), positions)
            labels = Labels(energy=float(shape), forces=generator.normal(size=(4, 3)))
            records.append(
                Record(structure, labels, f"s{shape}-{index}", f"k{shape}", f"g{shape}-{index % 2}")
            )
    return Dataset(tuple(records), LevelOfTheory("PBE", "def2-SVP"))
