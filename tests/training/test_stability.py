"""Which epochs are candidates, which potentials fail and why, who is chosen."""

import dataclasses
import json
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.core.units import BOLTZMANN
from karat.data.dataset import Dataset, Record
from karat.potentials.analytic.morse import Morse
from karat.potentials.native_protocol import NativePotential
from karat.simulation.dynamics import run_batch
from karat.structures.builders import crystal
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.training.stability import (
    CANDIDATES,
    Candidate,
    Instability,
    StabilityTest,
    choose,
    closest_allowed,
    mean_temperature,
    place_of,
)


def morse(depths=(0.2, 0.3, 0.5), distance=2.5):
    """The function that the clusters were labelled with, or a changed one."""
    pairs = ("Ar", "Ar-Kr", "Kr")
    return Morse(
        depth_ev=dict(zip(pairs, depths)),
        width_per_angstrom=dict.fromkeys(pairs, 1.2),
        distance_angstrom=dict.fromkeys(pairs, distance),
        cutoff_angstrom=9.0,
        onset_angstrom=8.0,
    ).load()


@pytest.fixture(scope="module")
def trial(clusters):
    return StabilityTest.of(clusters(13, 1), 1.0, 300.0, 5)


def test_the_best_of_each_tenth_are_candidates():
    """Against all epochs at once: the best of each tenth, then the three best of these."""
    generator = np.random.default_rng(0)
    for epochs in (1, 7, 10, 95, 200):
        losses = generator.permutation(epochs) + 1.0
        losses[generator.integers(epochs)] = math.nan
        found: list[Candidate] = []
        for epoch, loss in enumerate(losses.tolist(), 1):
            place = place_of(found, epoch, loss, epochs)
            if place is not None:
                found[place:place + 1] = [Candidate(epoch, loss)]  # fmt: skip
        parts = np.arange(epochs) * min(10, epochs) // epochs
        best = [
            min((losses[i], i + 1) for i in np.flatnonzero((parts == part) & ~np.isnan(losses)))
            for part in np.unique(parts[~np.isnan(losses)])
        ]
        expected = [epoch for _, epoch in sorted(best)[:CANDIDATES]]
        assert [one.epoch for one in sorted(found, key=lambda one: one.loss)] == expected


def test_the_function_that_made_the_data_is_stable(trial):
    assert trial.run(morse()) == ()
    assert trial.names == ("cluster 0", "cluster 4", "cluster 8", "cluster 12")
    assert (trial.settings.timestep_fs, trial.settings.steps) == (1.0, 1000)


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"distance": 1.2}, "collapse"),  # a well inside the wall
        ({"depths": (1e-3, 1e-3, 1e-3)}, "bond-broken"),  # hardly bound
        ({"depths": (-60.0, -60.0, -60.0)}, "too-hot"),  # thrown apart
    ],
)
def test_holes_and_walls_are_found(trial, changed, kind):
    failures = trial.run(morse(**changed))
    assert kind in {failure.kind for failure in failures}
    assert all(failure.structure in trial.names for failure in failures)
    assert all(0 <= failure.femtoseconds <= 1000 for failure in failures)


def test_numbers_that_are_not_finite_are_found_at_once(trial):
    good = morse()
    module = eqx.tree_at(lambda m: m.depth, good.module, good.module.depth * jnp.nan)
    failures = trial.run(NativePotential(module))
    assert [(f.kind, f.femtoseconds) for f in failures] == [("not-finite", 0.0)] * 4


def test_only_structures_that_fail_are_named(clusters):
    """Krypton among itself does not hold together; argon does."""
    test = StabilityTest.of(clusters(15, 1), 1.0, 300.0, 5)
    assert test.names == ("cluster 0", "cluster 5", "cluster 9", "cluster 14")  # 0, 0, 4, 4 Kr
    failures = test.run(morse(depths=(0.2, 0.3, 1e-3)))
    assert {failure.structure for failure in failures} == {"cluster 9", "cluster 14"}


def test_heat_is_noticed(trial):
    run = run_batch(morse(), trial.structures, trial.settings)[0]
    # equipartition over 3 N degrees of freedom: σ is 18 % for five independent samples; 4 σ
    assert mean_temperature(run) == pytest.approx(300, rel=0.75)
    energies = np.full(len(run), 1.5 * 4 * BOLTZMANN * 450)
    energies[: len(run) // 2] = 99.0  # the first half does not count
    warm = dataclasses.replace(run, kinetic_energies=energies)
    assert mean_temperature(warm) == pytest.approx(450)
    assert trial._judged("a", warm) is None
    energies = np.full(len(run), 1.5 * 4 * BOLTZMANN * 650)
    failure = trial._judged("a", dataclasses.replace(run, kinetic_energies=energies))
    assert (failure.kind, failure.femtoseconds) == ("hot", 500.0)
    assert "650 K" in failure.reason


def test_distances_of_the_data_count_in_crystals_too():
    salt = crystal("NaCl", "rocksalt", a=5.64)
    limits = closest_allowed([salt])
    assert limits[11, 17] == pytest.approx(0.75 * min(2.82, 1.66 + 1.02))
    close = crystal("NaCl", "rocksalt", a=4.0)
    assert closest_allowed([salt, close])[11, 17] == pytest.approx(0.75 * 2.0)
    # never neighbours: covalent radii
    assert limits[11, 11] == pytest.approx(0.75 * 2 * 1.66)


def hydrogen(index, atoms):
    positions = np.arange(atoms)[:, None] * np.array([[0.74, 0.0, 0.0]])
    labels = Labels(energy=0.0, forces=np.zeros((atoms, 3)))
    return Record(Structure(np.ones(atoms, int), positions), labels, f"h{index}")


def test_rule_for_structures_and_time_step():
    records = [hydrogen(i, 1 + i % 2) for i in range(20)]
    test = StabilityTest.of(Dataset(tuple(records), LevelOfTheory("t")), 0.5, 500.0, 0)
    assert test.names == ("h1", "h7", "h13", "h19")
    assert (test.settings.timestep_fs, test.settings.steps, test.settings.every) == (0.5, 1000, 10)
    atoms = Dataset(tuple(records[::2]), LevelOfTheory("t"))
    with pytest.raises(BadInput, match="data are single atoms;"):
        StabilityTest.of(atoms, 0.5, 500.0, 0)
    with pytest.raises(BadInput, match="must be positive"):
        StabilityTest.of(atoms, 0.5, 0.0, 0)


CANDIDATE_LIST = [Candidate(50, 3.0), Candidate(90, 1.0), Candidate(70, 2.0)]


@pytest.mark.parametrize(
    ("bad", "chosen", "tried"),
    [((), 90, [90]), ((90,), 70, [90, 70]), ((90, 70, 50), 90, [90, 70, 50])],
)
def test_the_first_stable_one_wins_and_none_is_said(trial, monkeypatch, bad, chosen, tried):
    monkeypatch.setattr(
        StabilityTest,
        "run",
        lambda self, epoch: (Instability("a", "jump", 12.0, "it broke"),) if epoch in bad else (),
    )
    said = []
    place, found = choose(CANDIDATE_LIST, lambda i: CANDIDATE_LIST[i].epoch, trial, said.append)
    assert CANDIDATE_LIST[place].epoch == found.epoch == chosen
    assert [one.epoch for one in found.tried] == tried
    assert said == [f"testing the stability of epoch {epoch}" for epoch in tried]
    assert found.passed == (len(bad) < 3)
    assert (found.picoseconds, found.temperature_k) == (1.0, 300.0)
    values = json.loads(json.dumps(found.as_dict()))
    assert values["tried"][0]["failures"] == (
        [{"structure": "a", "kind": "jump", "femtoseconds": 12.0, "reason": "it broke"}] * bool(bad)
    )
    if not bad:
        assert found.note == ""
    elif found.passed:
        assert "epoch 90 has a lower validation loss, but is not stable" in found.note
    else:
        assert found.note.startswith("WARNING: not stable: none of 3 candidates is")
        assert "it broke" in found.note
