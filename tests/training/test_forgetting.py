"""Errors before and after, by hand; shifts where levels differ; intervals that belong together."""

import dataclasses

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.protocol import AbstractPotential, Traits
from karat.structures.labels import Labels, LevelOfTheory
from karat.training.forgetting import errors_by_structure, measure

OTHER = LevelOfTheory("other")


class Wrong(AbstractPotential):
    """Labels of the data with errors that are given: energies by element and structure, forces."""

    def __init__(self, data, level, elements=(0.0, 0.0), energies=0.0, forces=0.0):
        self.known = {record.structure.digest: i for i, record in enumerate(data)}
        self.data, self.level, self.elements = data, level, elements
        self.energies = np.broadcast_to(energies, len(data))
        self.forces = np.broadcast_to(forces, len(data))

    @property
    def traits(self):
        return Traits((18, 36), False, True, ("energy", "forces"), level=self.level)

    def predict(self, structures, want=("energy", "forces")):
        found = []
        for structure in structures:
            i = self.known[structure.digest]
            true = self.data.records[i].labels
            heavy = int(np.sum(structure.numbers == 36))
            light = len(structure) - heavy
            error = self.elements[0] * light + self.elements[1] * heavy + self.energies[i]
            found.append(
                Labels(energy=(true.energy or 0.0) + error, forces=true.forces + self.forces[i])
            )
        return found


@pytest.fixture(scope="module")
def data(clusters):
    return clusters(30, 4)


def test_errors_are_those_made_by_hand(data):
    noise = np.random.default_rng(1).normal(size=30)
    base = Wrong(data, data.level, energies=0.04, forces=0.1)
    tuned = Wrong(data, data.level, energies=0.04 * noise, forces=0.2 + 0.05 * noise)
    found = measure("old", data, base, tuned)
    energy, force = found.errors
    assert (found.shifted, found.trained_on, found.structures) == ("", 0, 30)
    # all have four atoms: 0.04 eV are 10 meV/atom
    assert energy.base.value == pytest.approx(10.0, rel=1e-6)
    assert energy.tuned.value == pytest.approx(10 * np.sqrt(np.mean(noise**2)), rel=1e-6)
    assert force.base.value == pytest.approx(100.0, rel=1e-9)
    expected = 1e3 * np.sqrt(np.mean((0.2 + 0.05 * noise) ** 2))
    assert force.tuned.value == pytest.approx(expected, rel=1e-9)
    assert force.difference.value == pytest.approx(expected - 100.0, rel=1e-9)
    assert force.tuned.low < expected < force.tuned.high
    # the base's error does not vary: the difference is as uncertain as the other
    assert force.difference.low == pytest.approx(force.tuned.low - 100.0, abs=1e-6)
    assert not force.difference.contains_zero
    values = found.as_dict()
    assert values["level"]["method"] == "Morse"
    assert values["errors"][1]["difference"]["n"] == 30


def test_where_levels_differ_both_are_shifted_by_element(data):
    noise = np.random.default_rng(2).normal(scale=0.01, size=30)
    base = Wrong(data, data.level, energies=noise)
    tuned = Wrong(data, OTHER, elements=(5.0, -3.0), energies=noise)
    found = measure("old", data, base, tuned)
    energy = found.errors[0]
    assert "Morse, the fine-tuned potential is other" in found.shifted
    assert energy.tuned.value == pytest.approx(energy.base.value, rel=1e-6)
    assert energy.base.value < 1e3 * np.sqrt(np.mean(noise**2)) / 4
    plain, _ = errors_by_structure(tuned, data, shift=False)
    assert np.abs(plain).min() > 900
    counts = np.array([[np.sum(s.numbers == z) for z in (18, 36)] for s in data.structures], float)
    left = noise - counts @ np.linalg.lstsq(counts, noise, rcond=None)[0]
    shifted, _ = errors_by_structure(tuned, data, shift=True)
    np.testing.assert_allclose(shifted, 1e3 * left / 4, rtol=0, atol=1e-6)
    unknown = measure("old", data, Wrong(data, None), Wrong(data, OTHER))
    assert "the base is unknown" in unknown.shifted


def test_labels_that_are_missing_are_left_out_and_known_structures_counted(data):
    def without(record, **labels):
        return dataclasses.replace(record, labels=dataclasses.replace(record.labels, **labels))

    potential = Wrong(data, data.level, forces=0.1)
    records = [without(r, energy=None) for r in data]
    found = measure(
        "old", Dataset(tuple(records), data.level), potential, potential, [data.subset([3])]
    )
    assert [error.name for error in found.errors] == ["force_rmse"]
    assert found.trained_on == 1
    few = measure("old", data.subset(range(4)), potential, potential)
    assert few.errors[1].base.low is None
    assert few.errors[1].base.why_no_interval
    nothing = Dataset(tuple(without(r, energy=None, forces=None) for r in data), data.level)
    with pytest.raises(BadInput, match="neither|no structure has"):
        measure("old", nothing, potential, potential)
