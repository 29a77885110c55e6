"""A small collection and its manifest."""

import types

import numpy as np
import pytest

from karat.data.collections.collection import Collection, Energy
from karat.data.collections.manifest import Manifest, Noise
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure


def diatomic(first, second, distance, charge=0):
    return Structure(
        numbers=np.array([first, second]),
        positions=np.array([[0.0, 0, 0], [distance, 0, 0]]),
        charge=charge,
        multiplicity=1 + (first + second - charge) % 2,
    )


def manifest(**changes):
    given = {
        "name": "small", "version": "1", "title": "Small", "task": "reactions",
        "level": LevelOfTheory("CCSD(T)", "CBS", settings={"core": "frozen"}),
        "citation": "Nobody (2026)", "source": "a test", "licence": "CC0",
        "noise": Noise(0.002, "a guess"), "notes": "β",
    }  # fmt: skip
    return Manifest(**(given | changes))


def collection():
    structures = {
        "H2": diatomic(1, 1, 0.74),
        "far H2": diatomic(1, 1, 1 / 3),
        "F2": diatomic(9, 9, 1.41),
        "HF": diatomic(1, 9, 0.92),
        "not used": diatomic(8, 8, 1.2),
    }
    energies = (
        Energy("H2 + F2", -5.5, {"HF": 2.0, "H2": -1.0, "F2": -1.0}, "exchange"),
        Energy("stretch", 0.1 + 0.2, {"far H2": 1.0, "H2": -1.0}, group="H2", coordinate=1 / 3),
    )
    return Collection(structures, energies)


@pytest.fixture
def small():
    return types.SimpleNamespace(manifest=manifest, collection=collection, diatomic=diatomic)
