"""H2O2 with springs at rest and V(1 + cos φ): the relaxed profile is that cosine, exactly."""

import numpy as np
import pytest

from karat.assays.protocol import Contestant, NotApplicable
from karat.assays.torsions.assay import TorsionProfiles, minimum_shift
from karat.structures.structure import Structure

ASSAY = TorsionProfiles(points=12, force_tolerance_ev_angstrom=1e-3)
NAME = "H3-O1-O2-H4"
V = 0.2  # eV; the profile is V·(1 + cos φ), its height 2V


@pytest.fixture(scope="module")
def potential(toys):
    return toys.peroxide_potential(barrier=V)


@pytest.fixture(scope="module")
def cases(toys, potential):
    return ASSAY.cases(toys.context([toys.peroxide(170.0)], reference=potential))


def scored(cases, potential):
    measured = ASSAY.measure(potential, cases)
    score = ASSAY.score(cases, measured, Contestant("c"))
    return measured, score, {(m.name, m.subset): m for m in score.metrics}


def test_the_reference_profile_is_the_cosine(cases):
    assert {r.kind for r in cases.records} == {NAME}
    assert len(cases.records) == 12
    assert cases.failures == ()
    angles = np.radians(cases.arrays["angles"])
    energies = [r.labels.energy for r in cases.records]
    # springs off rest by force/stiffness 1e-3/30 Å: below 1e-7 eV; the free minimum is at
    # 180° to force/curvature, below 1e-2 rad, hence energies to V·1e-4
    np.testing.assert_allclose(energies, V * (1 + np.cos(angles)), atol=1e-5)


def test_itself_and_scaled(toys, cases, potential):
    _, _, metrics = scored(cases, toys.Scaled(potential, shift=-40.0))
    assert metrics["torsion_rmse", ""].value < 1e-13
    assert metrics["barrier_mae", ""].value < 1e-13
    assert metrics["minimum_shift", ""].value == 0.0
    _, score, metrics = scored(cases, toys.Scaled(potential, 1.1, shift=-40.0))
    energies = np.array([r.labels.energy for r in cases.records])
    for subset in ("", f"torsion:{NAME}"):
        metric = metrics["torsion_rmse", subset]
        assert metric.value == pytest.approx(0.1 * energies.std(), rel=1e-9)
        assert metric.baseline == pytest.approx(energies.std(), rel=1e-9)
        assert metric.unit == "eV"
        assert metric.headline == (subset == "")
        assert metric.low is None
        assert "8" in metric.why_no_interval
    assert metrics["barrier_mae", ""].value == pytest.approx(0.1 * np.ptp(energies), rel=1e-9)
    assert metrics["barrier_mae", ""].baseline == pytest.approx(np.ptp(energies), rel=1e-9)
    # the rms of the errors of the cases is the metric: paired comparisons see the same number
    rms = np.sqrt((score.errors["torsion_rmse"] ** 2).mean())
    assert rms == pytest.approx(metrics["torsion_rmse", ""].value, rel=1e-9)
    assert set(score.groups) == {NAME}


def test_a_shifted_profile_has_its_minimum_elsewhere(toys, cases):
    shifted = toys.peroxide_potential(barrier=V, phase_degree=60.0)
    _, _, metrics = scored(cases, shifted)
    assert metrics["minimum_shift", ""].value == pytest.approx(60.0)
    # cos φ - cos(φ - 60°) = 2 sin(30°) sin(φ - 30°)·(-1): amplitude V, rms V/√2
    assert metrics["torsion_rmse", ""].value == pytest.approx(V / np.sqrt(2), rel=1e-3)


def test_one_failed_point(toys, cases, potential):
    bad = cases.records[4]
    failing = toys.Failing(toys.Scaled(potential, 1.1), lambda s: s.digest == bad.structure.digest)
    measured, score, metrics = scored(cases, failing)
    assert [f.case for f in measured.failures] == [bad.name]
    assert np.flatnonzero(np.isnan(score.errors["torsion_rmse"])).tolist() == [4]
    rest = np.array([r.labels.energy for i, r in enumerate(cases.records) if i != 4])
    assert metrics["torsion_rmse", ""].value == pytest.approx(0.1 * rest.std(), rel=1e-9)
    assert metrics["answered", ""].value == pytest.approx(11 / 12)


def test_the_figure_shows_the_reference_beside(toys, cases, potential):
    _, score, _ = scored(cases, toys.Scaled(potential, 1.1))
    (figure,) = score.figures
    assert figure.group == f"torsion:{NAME}"
    reference, own = figure.series
    assert (reference.name, own.name) == ("reference", "c")
    assert min(reference.y) == 0.0
    assert np.mean(own.y) == pytest.approx(np.mean(reference.y), abs=1e-6)


def test_where_there_is_nothing_to_turn(toys, potential):
    bare = toys.peroxide().replace(topology=None)
    with pytest.raises(NotApplicable, match="bonds"):
        ASSAY.cases(toys.context([bare], reference=potential))
    with pytest.raises(NotApplicable, match="no bond that can turn"):
        ASSAY.cases(toys.context([toys.pair()], reference=potential))
    with pytest.raises(NotApplicable, match="reference"):
        ASSAY.cases(toys.context([toys.peroxide()]))
    crystal = Structure(np.array([8]), np.zeros((1, 3)), np.eye(3) * 3, np.ones(3, bool))
    with pytest.raises(NotApplicable, match="periodic"):
        ASSAY.cases(toys.context([crystal], reference=potential))


def test_a_reference_that_fails(toys, potential):
    failing = toys.Failing(potential, lambda s: True)
    cases = ASSAY.cases(toys.context([toys.peroxide()], reference=failing))
    assert cases.records == ()
    assert [f.case for f in cases.failures] == [NAME]
    with pytest.raises(NotApplicable, match="reference"):
        ASSAY.measure(potential, cases)


def test_minimum_shift_takes_equal_minima_and_the_circle():
    angles = np.arange(-180.0, 180.0, 30.0)
    threefold = 0.1 * (1 + np.cos(3 * np.radians(angles)))  # minima at ±60° and 180°
    assert minimum_shift(angles, threefold, -np.cos(np.radians(angles - 60))) == 0.0
    single = np.cos(np.radians(angles))  # minimum at -180°
    assert minimum_shift(angles, single, np.cos(np.radians(angles + 30))) == pytest.approx(30.0)
