"""Free flight breaks a bond at a known time; velocity Verlet's error falls with dt²."""

import dataclasses

import numpy as np
import pytest

from karat.assays.dynamics.assay import NveDynamics, drift_and_fluctuation
from karat.assays.dynamics.bonds import bonds_at, longest_stretch
from karat.assays.protocol import Contestant, NotApplicable
from karat.core.components import parse
from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, BOLTZMANN
from karat.structures.structure import Structure

H = 1.008  # amu


def scored(assay, cases, potential):
    measured = assay.measure(potential, cases)
    score = assay.score(cases, measured, Contestant("c"))
    return measured, score, {(m.name, m.subset): m for m in score.metrics}


def test_slope_and_scatter_of_lines():
    times = np.arange(0, 101.0)
    wave = np.where(np.arange(101) % 2, 1e-3, -1e-3)
    runs = np.stack([3.0 + 2e-9 * times, 5.0 - 4e-9 * times, 0 * times + wave])
    slopes, scatter = drift_and_fluctuation(times, runs)
    # 2e-9 eV/atom/fs = 2e-3 meV/atom/ps; rounding of 3 eV over 100 fs: 1e-17 eV/fs = 1e-11
    assert slopes[:2] == pytest.approx([2e-3, -4e-3], abs=1e-8)
    assert scatter[:2] == pytest.approx([0, 0], abs=1e-9)
    assert scatter[2] == pytest.approx(1.0, rel=1e-3)
    runs[1, -1] = np.nan
    assert np.isnan(drift_and_fluctuation(times, runs)[0]).tolist() == [False, True, False]


def test_free_atoms_break_their_bond_when_they_have_flown_far_enough(toys):
    """Without forces the distance is |d ± v t| with ½ μ v² = ½ k T (one degree of freedom)."""
    length, factor = 1.0, 2.0
    assay = NveDynamics(runs=8, steps=60, timestep_fs=2.0, every=1, broken_stretch=factor)
    cases = assay.cases(toys.context([toys.pair(length)]))
    free = toys.Toy([[0, 1]], [length], stiffness=0.0)
    measured, _, metrics = scored(assay, cases, free)
    speed = np.sqrt(BOLTZMANN * 300.0 / (H / 2) * ACCELERATION)
    velocities = cases.arrays["velocities"].reshape(8, 2, 3)
    outward = velocities[:, 1, 0] > velocities[:, 0, 0]
    assert 0 < outward.sum() < 8  # both directions occur with this seed
    until = np.where(outward, (factor - 1) * length, (factor + 1) * length) / speed
    # found at the next kept frame
    expected = np.minimum(np.ceil(until / 2.0) * 2.0, assay.duration_fs)
    np.testing.assert_allclose(measured.arrays["intact_fs"], expected)
    assert metrics["time_lost", ""].value == pytest.approx(1 - expected.mean() / 120.0)
    assert metrics["survival", ""].value == pytest.approx(expected.mean() / 120.0)
    assert metrics["time_lost", ""].headline
    assert metrics["time_lost", ""].baseline == 1.0
    assert metrics["time_lost", ""].floor == pytest.approx(1 / 60 / 8)
    assert metrics["time_lost", ""].n == 8
    assert metrics["time_lost", ""].low <= metrics["time_lost", ""].value
    assert measured.failures == ()
    stretch = 1 + speed * 120.0 / length
    assert metrics["bond_stretch_max", ""].value == pytest.approx(stretch, rel=1e-9)


def test_a_spring_holds_and_the_error_falls_with_the_step_squared(toys):
    spring = toys.Toy([[0, 1]], [1.0], stiffness=30.0)
    found = []
    for timestep, steps in ((0.4, 100), (0.2, 200)):
        assay = NveDynamics(runs=2, steps=steps, timestep_fs=timestep, every=1)
        cases = assay.cases(toys.context([toys.pair(1.05)]))
        _, _, metrics = scored(assay, cases, spring)
        assert metrics["survival", ""].value == 1.0
        assert metrics["time_lost", ""].value == 0.0
        assert "same value" in metrics["time_lost", ""].why_no_interval
        assert metrics["energy_drift_abs", ""].unit == "meV/atom/ps"
        found.append(metrics["energy_fluctuation", ""].value)
    assert found[0] / found[1] == pytest.approx(4.0, rel=0.05)


def test_an_explosion_is_a_failure_and_lost_time(toys):
    """The potential fails once the atoms are 1.5 Å apart; every run that flies out gets there."""
    assay = NveDynamics(runs=8, steps=100, timestep_fs=0.5, every=10)
    cases = assay.cases(toys.context([toys.pair(1.0)]))
    free = toys.Toy([[0, 1]], [1.0], stiffness=0.0)
    failing = toys.Failing(free, lambda s: np.linalg.norm(s.positions[1] - s.positions[0]) > 1.5)
    measured, score, metrics = scored(assay, cases, failing)
    speed = np.sqrt(BOLTZMANN * 300.0 / (H / 2) * ACCELERATION)
    step = np.ceil(0.5 / speed / 0.5)  # the first whose end is beyond 1.5 Å, when flying out
    velocities = cases.arrays["velocities"].reshape(8, 2, 3)
    outward = velocities[:, 1, 0] > velocities[:, 0, 0]
    assert {f.case for f in measured.failures} == {
        record.name for record, out in zip(cases.records, outward) if out
    }
    np.testing.assert_allclose(measured.arrays["intact_fs"][outward], step * 0.5)
    np.testing.assert_allclose(measured.arrays["intact_fs"][~outward], 50.0)
    assert np.isnan(measured.arrays["total_energies"][outward, -1]).all()
    assert np.isnan(score.errors["energy_drift_abs"]).tolist() == outward.tolist()
    assert np.isfinite(score.errors["time_lost"]).all()
    lost = outward.mean() * (1 - step * 0.5 / 50.0)
    assert metrics["time_lost", ""].value == pytest.approx(lost)


def test_one_that_cannot_even_start_loses_all_time(toys):
    assay = NveDynamics(runs=3, steps=10, every=5)
    cases = assay.cases(toys.context([toys.pair(1.0)]))
    spring = toys.Toy([[0, 1]], [1.0])
    measured, score, metrics = scored(assay, cases, toys.Failing(spring, lambda s: True))
    assert len(measured.failures) == 3
    assert metrics["time_lost", ""].value == 1.0
    assert score.figures == ()


def test_everyone_starts_the_same_and_repeats(toys):
    assay = NveDynamics(runs=3, steps=10, every=5)
    context = toys.context([toys.pair(1.0), toys.pair(1.1)])
    first, again = assay.cases(context), assay.cases(context)
    np.testing.assert_array_equal(first.arrays["velocities"], again.arrays["velocities"])
    assert [len(r.structure) for r in first.records] == [2, 2, 2]
    assert [r.kind for r in first.records] == ["start-0", "start-1", "start-0"]
    velocities = first.arrays["velocities"].reshape(3, 2, 3)
    assert np.abs(velocities[0] - velocities[2]).max() > 0  # another seed
    other = assay.cases(dataclasses.replace(context, seed=6))
    assert np.abs(first.arrays["velocities"] - other.arrays["velocities"]).max() > 0


def test_starts_from_test_structures_where_there_are_no_others(toys):
    assay = NveDynamics(runs=2, steps=10, every=5)
    spring = toys.Toy([[0, 1]], [1.0])
    test = toys.labelled(toys.rattled(toys.pair(), 5, seed=1), spring)
    cases = assay.cases(toys.context(test=test))
    assert [r.kind for r in cases.records] == ["frame 0", "frame 4"]
    with pytest.raises(NotApplicable, match="neither"):
        assay.cases(toys.context())


def test_bonds_come_from_the_topology_or_from_radii(toys):
    peroxide = toys.peroxide()
    given = bonds_at(peroxide)
    np.testing.assert_array_equal(given.pairs, [[0, 1], [0, 2], [1, 3]])
    guessed = bonds_at(peroxide.replace(topology=None))
    np.testing.assert_array_equal(guessed.pairs, given.pairs)
    np.testing.assert_allclose(guessed.lengths, given.lengths)
    # two-atom cell of diamond: 4 bonds of √3/4 a, all but one across the cell's boundary
    cell = 5.43 / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    silicon = Structure(
        np.array([14, 14]), np.array([[0.0] * 3, [5.43 / 4] * 3]), cell, np.ones(3, bool)
    )
    bonds = bonds_at(silicon)
    np.testing.assert_allclose(bonds.lengths, np.full(4, np.sqrt(3) / 4 * 5.43))
    # one atom in a simple cubic cell: three bonds with its own images
    cubic = Structure(np.array([84]), np.zeros((1, 3)), 3.3 * np.eye(3), np.ones(3, bool))
    assert len(bonds_at(cubic).pairs) == 3
    moved = silicon.positions[None] + np.array([[[0.0] * 3, [0.1] * 3]])
    longest = longest_stretch(bonds, moved)
    expected = max(np.linalg.norm(5.43 / 4 * s + 0.1) for s in np.array([[1, 1, 1], [1, -1, -1]]))
    assert longest == pytest.approx([expected / bonds.lengths[0]])
    lone = Structure(np.array([18]), np.zeros((1, 3)))
    assert np.isnan(longest_stretch(bonds_at(lone), np.zeros((2, 1, 3)))).all()


def test_bad_settings_are_refused():
    for settings in ({"runs": 0}, {"broken_stretch": 1.0}, {"steps": 5, "every": 10}):
        with pytest.raises(BadInput):
            parse(NveDynamics, settings, "assays.dynamics")
