"""Contestants with errors known exactly: the reference itself, scaled, failing, unable."""

import dataclasses

import numpy as np
import pytest

from karat.assays.energy_forces.assay import EnergyForces
from karat.assays.protocol import Contestant, NotApplicable
from karat.core.units import GPA
from karat.data.dataset import Dataset, Record
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure

ASSAY = EnergyForces()
SOMEONE = Contestant("c")
EXACT = 1e-12  # eV/Å, eV: rounding of energies near 10 eV


@pytest.fixture(scope="module")
def potential(toys):
    return toys.peroxide_potential()


@pytest.fixture(scope="module")
def cases(toys, potential):
    structures = toys.rattled(toys.peroxide(), 60, seed=1)
    test = toys.labelled(structures, potential, kinds=("cold", "hot"))
    return ASSAY.cases(toys.context(test=test))


def scored(cases, potential, contestant=SOMEONE):
    measured = ASSAY.measure(potential, cases)
    score = ASSAY.score(cases, measured, contestant)
    return measured, score, {(m.name, m.subset): m for m in score.metrics}


def test_the_reference_itself_has_no_errors(toys, cases, potential):
    _, score, metrics = scored(cases, toys.Scaled(potential, shift=123.0))
    errors = [m for (name, _), m in metrics.items() if name.split("_")[0] in ("force", "energy")]
    assert len(errors) > 10
    # a shift of 123 eV costs digits: 123 * 2^-52
    assert max(m.value for m in errors) < 1e-13 * 123
    assert metrics["answered", ""].value == 1.0
    assert np.nanmax(score.errors["force_mae"]) == 0.0


def test_a_scaled_potential_has_errors_in_proportion(toys, cases, potential):
    _, score, metrics = scored(cases, toys.Scaled(potential, 1.1, shift=-3.0))
    forces = np.concatenate([r.labels.forces for r in cases.records])
    energies = np.array([r.labels.energy for r in cases.records]) / 4
    deviations = energies - energies.mean()
    expected = {
        "force_mae": 0.1 * np.abs(forces).mean(),
        "force_rmse": 0.1 * np.sqrt((forces**2).mean()),
        "force_max": 0.1 * np.abs(forces).max(),
        "energy_mae_per_atom": 0.1 * np.abs(deviations).mean(),
        "energy_rmse_per_atom": 0.1 * deviations.std(),
        "energy_max_per_atom": 0.1 * np.abs(deviations).max(),
        "energy_mae": 0.4 * np.abs(deviations).mean(),
    }
    for name, value in expected.items():
        assert metrics[name, ""].value == pytest.approx(value, rel=1e-10, abs=EXACT), name
    for name in ("force_mae", "force_rmse", "energy_mae_per_atom", "energy_rmse_per_atom"):
        metric = metrics[name, ""]
        assert metric.value == pytest.approx(0.1 * metric.baseline, rel=1e-9)
        assert metric.low < metric.value < metric.high
        assert metric.n == 10  # blocks of the one trajectory
    numbers = np.concatenate([r.structure.numbers for r in cases.records])
    hydrogen = 0.1 * np.abs(forces[numbers == 1]).mean()
    assert metrics["force_mae", "element:H"].value == pytest.approx(hydrogen, rel=1e-10)
    hot = np.concatenate([r.labels.forces for r in cases.records if r.kind == "hot"])
    assert metrics["force_mae", "kind:hot"].value == pytest.approx(0.1 * np.abs(hot).mean())
    each = [0.1 * np.abs(r.labels.forces).mean() for r in cases.records]
    np.testing.assert_allclose(score.errors["force_mae"], each, atol=EXACT)
    assert score.worst[0] == score.case_names[int(np.argmax(each))]


def test_headlines_and_units(toys, cases, potential):
    _, _, metrics = scored(cases, toys.Scaled(potential, 1.1))
    headlines = {key: m.unit for key, m in metrics.items() if m.headline}
    assert headlines == {("force_mae", ""): "eV/Å", ("energy_mae_per_atom", ""): "eV/atom"}


def test_absolute_energies_only_at_the_same_level(toys, cases, potential):
    shifted = toys.Scaled(potential, shift=2.0)
    key = ("energy_mae_per_atom_absolute", "")
    assert key not in scored(cases, shifted)[2]
    assert key not in scored(cases, shifted, Contestant("c", LevelOfTheory("other")))[2]
    metric = scored(cases, shifted, Contestant("c", toys.LEVEL))[2][key]
    assert metric.value == pytest.approx(0.5, abs=EXACT)
    assert not metric.headline


def test_failures_are_named_and_cost_no_other_case(toys, cases, potential):
    bad = {cases.records[i].structure.digest for i in (3, 40)}
    failing = toys.Failing(toys.Scaled(potential, 1.1), lambda s: s.digest in bad)
    measured, score, metrics = scored(cases, failing)
    assert [(f.case, f.kind) for f in measured.failures] == [
        ("frame 3", "told"),
        ("frame 40", "told"),
    ]
    assert np.flatnonzero(np.isnan(score.errors["force_mae"])).tolist() == [3, 40]
    assert metrics["answered", ""].value == pytest.approx(58 / 60)
    rest = [r.labels.forces for r in cases.records if r.structure.digest not in bad]
    expected = 0.1 * np.abs(np.concatenate(rest)).mean()
    assert metrics["force_mae", ""].value == pytest.approx(expected, rel=1e-10)
    assert metrics["force_mae", ""].baseline == pytest.approx(10 * expected, rel=1e-10)


def test_all_failed_leaves_no_error_metric(toys, cases, potential):
    measured, score, metrics = scored(cases, toys.Failing(potential, lambda s: True))
    assert len(measured.failures) == 60
    assert list(metrics) == [("answered", "")]
    assert metrics["answered", ""].value == 0.0
    assert score.figures == ()
    assert score.worst == ()


def test_what_cannot_be_asked_is_missing_and_not_failed(toys, potential):
    structures = toys.rattled(toys.peroxide(), 10, seed=2)
    test = toys.labelled(structures, potential)
    helium = Structure(np.array([2, 2, 2, 2]), structures[0].positions)
    strange = dataclasses.replace(test.records[0], structure=helium, name="helium")
    cases = ASSAY.cases(toys.context(test=Dataset((*test.records, strange), toys.LEVEL)))
    measured, _, metrics = scored(cases, potential)
    assert measured.failures == ()
    assert list(measured.payload["missing"]) == ["helium"]
    assert metrics["answered", ""].value == 1.0
    assert metrics["answered", ""].n == 10
    alone = ASSAY.cases(toys.context(test=Dataset((strange,), toys.LEVEL)))
    with pytest.raises(NotApplicable, match="He"):
        ASSAY.measure(potential, alone)


def test_offsets_are_removed_for_each_composition(toys, potential):
    """Two compositions whose zeros are wrong by different amounts: no error is left."""
    first = toys.labelled(toys.rattled(toys.peroxide(), 8, seed=3), potential).records
    water = Structure(np.array([8, 1, 1]), 0.9 * np.eye(3))
    springs = toys.Toy([[0, 1], [0, 2]], [0.97, 0.97])
    second = [
        dataclasses.replace(r, labels=dataclasses.replace(r.labels, energy=r.labels.energy + 7.0))
        for r in toys.labelled(toys.rattled(water, 8, seed=4), springs, group="water").records
    ]
    # predicts both molecules: springs for the three atoms, the full potential for the four
    both = toys.Scaled(potential)
    both.predict = lambda s, want: [
        (potential if len(one) == 4 else springs).predict([one], want)[0] for one in s
    ]
    cases = ASSAY.cases(toys.context(test=Dataset((*first, *second), toys.LEVEL)))
    _, _, metrics = scored(cases, both)
    assert metrics["energy_mae_per_atom", ""].value < 1e-12
    softer = toys.Scaled(both, 0.9)
    _, score, metrics = scored(cases, softer)
    mean = np.average(score.errors["force_mae"], weights=score.weights["force_mae"])
    assert mean == pytest.approx(metrics["force_mae", ""].value, rel=1e-12)
    assert score.errors["force_mae"].mean() != pytest.approx(mean, rel=1e-3)
    lone = ASSAY.cases(toys.context(test=Dataset((*first, second[0]), toys.LEVEL)))
    _, score, metrics = scored(lone, both)
    assert np.isnan(score.errors["energy_mae_per_atom"][-1])


def test_stress_of_a_crystal(toys):
    cell = 5.3 * np.eye(3)
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    argon = Structure(np.full(4, 18), corners @ cell, cell, np.ones(3, bool))
    potential = LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 6.0, 5.0).load()
    test = toys.labelled(
        toys.rattled(argon, 12, seed=5), potential, want=("energy", "forces", "stress")
    )
    cases = ASSAY.cases(toys.context(test=test))
    _, _, metrics = scored(cases, toys.Scaled(potential, 0.8))
    expected = 0.2 * np.mean([np.abs(r.labels.stress).mean() for r in test]) / GPA
    assert metrics["stress_mae", ""].value == pytest.approx(expected, rel=1e-10)
    assert metrics["stress_mae", ""].unit == "GPa"


def test_labels_without_energies_or_forces(toys, cases, potential):
    only = [
        dataclasses.replace(r, labels=dataclasses.replace(r.labels, forces=None))
        for r in cases.records
    ]
    found = ASSAY.cases(toys.context(test=Dataset(tuple(only), toys.LEVEL)))
    _, score, metrics = scored(found, toys.Scaled(potential, 1.1))
    assert not any(name.startswith("force") for name, _ in metrics)
    energies = score.errors["energy_mae_per_atom"]
    assert score.worst[0] == score.case_names[int(np.argmax(energies))]
    nothing = tuple(
        dataclasses.replace(r, labels=dataclasses.replace(r.labels, energy=None)) for r in only
    )
    with pytest.raises(NotApplicable, match="neither"):
        ASSAY.cases(toys.context(test=Dataset(nothing, toys.LEVEL)))


def test_names_are_made_unique(toys, potential):
    records = toys.labelled(toys.rattled(toys.peroxide(), 3, seed=6), potential).records
    same = tuple(Record(r.structure, r.labels, name) for r, name in zip(records, ("", "a", "a")))
    cases = ASSAY.cases(toys.context(test=Dataset(same, toys.LEVEL)))
    assert [r.name for r in cases.records] == ["structure-0", "a", "a#2"]


def test_figures_show_both_sides(toys, cases, potential):
    _, score, _ = scored(cases, toys.Scaled(potential, 1.1))
    figures = {figure.group: figure for figure in score.figures}
    assert set(figures) == {
        "forces",
        "forces:histogram",
        "forces:cumulative",
        "energies",
        "energies:histogram",
        "energies:cumulative",
    }
    cloud = figures["forces"].series[0]
    assert len(cloud.x) == 60 * 12
    np.testing.assert_allclose(cloud.y, 1.1 * np.array(cloud.x), rtol=1e-5)  # 6 digits shown
    assert sum(figures["forces:histogram"].series[0].y) == 60 * 12
