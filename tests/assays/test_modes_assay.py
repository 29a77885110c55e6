"""Springs: frequencies are √(k/μ), and a stiffness times 1.21 raises all of them by 1.1."""

import numpy as np
import pytest

from karat.assays.modes.assay import NormalModes, zero_point_energy
from karat.assays.modes.matching import align, matched_overlaps
from karat.assays.protocol import CaseSet, Contestant, Measurement, NotApplicable
from karat.core.units import ACCELERATION, HBAR, INVERSE_CM
from karat.data.dataset import Record
from karat.structures.structure import Structure

ASSAY = NormalModes(displacement_angstrom=0.002)
H = 1.008  # amu


def scored(assay, cases, potential):
    measured = assay.measure(potential, cases)
    score = assay.score(cases, measured, Contestant("c"))
    return measured, score, {(m.name, m.subset): m for m in score.metrics}


@pytest.fixture(scope="module")
def potential(toys):
    return toys.peroxide_potential()


@pytest.fixture(scope="module")
def cases(toys, potential):
    return ASSAY.cases(toys.context([toys.peroxide(150.0)], reference=potential))


def test_two_atoms_against_the_formula(toys):
    """ν = √(k/μ)/2πc, ZPE = hν/2, and minima that are 0.1 Å apart in bond length."""
    start = toys.pair(1.02)
    cases = ASSAY.cases(toys.context([start], reference=toys.Toy([[0, 1]], [1.0], 30.0)))
    wavenumber = np.sqrt(30.0 / (H / 2) * ACCELERATION) * HBAR / INVERSE_CM
    # quadratic along the bond: only the sideways motion of STEP in the toy adds an error
    assert cases.arrays["frequencies"] == pytest.approx([wavenumber], rel=1e-5)
    other = toys.Toy([[0, 1]], [1.1], 30.0 * 1.21)
    _, _, metrics = scored(ASSAY, cases, other)
    assert metrics["frequency_mae", ""].value == pytest.approx(0.1 * wavenumber, rel=1e-4)
    assert metrics["frequency_mae_by_motion", ""].value == pytest.approx(0.1 * wavenumber, rel=1e-4)
    zero_point = 0.05 * wavenumber * INVERSE_CM
    assert metrics["zero_point_energy_mae", ""].value == pytest.approx(zero_point, rel=1e-4)
    # each atom is 0.05 Å off, to the tolerance of the relaxations (1e-3 eV/Å over 30 eV/Å²)
    assert metrics["geometry_rmsd", ""].value == pytest.approx(0.05, abs=5e-5)
    assert metrics["mode_overlap", ""].value == pytest.approx(1.0)
    assert metrics["imaginary_modes", ""].value == 0
    assert metrics["frequency_mae", ""].headline
    assert metrics["frequency_mae", ""].unit == "cm⁻¹"


def test_itself_and_stiffer(toys, cases, potential):
    _, _, metrics = scored(ASSAY, cases, potential)
    assert metrics["frequency_mae", ""].value == 0.0
    assert metrics["geometry_rmsd", ""].value < 1e-12
    reference = cases.arrays["frequencies"]
    assert len(reference) == 6
    _, score, metrics = scored(ASSAY, cases, toys.Scaled(potential, 1.21))
    # both relax to 1e-3 eV/Å only, from where modes move by less than 1e-3
    metric = metrics["frequency_mae", ""]
    assert metric.value == pytest.approx(0.1 * reference.mean(), rel=2e-3)
    assert metric.baseline == pytest.approx(np.abs(reference - reference.mean()).mean())
    assert metric.low is None
    assert "one deterministic" in metric.why_no_interval
    assert metrics["frequency_max", ""].value == pytest.approx(0.1 * reference.max(), rel=2e-3)
    assert metrics["mode_overlap", ""].value == pytest.approx(1.0, abs=1e-3)
    (figure,) = score.figures
    np.testing.assert_allclose(figure.series[0].y, 1.1 * np.array(figure.series[0].x), rtol=5e-3)


def test_a_turned_minimum_has_the_same_modes(cases):
    """What a contestant's relaxation turned or moved as a whole is no error of its modes."""
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turn = turn * np.sign(np.linalg.det(turn))
    arrays = dict(cases.arrays)
    arrays["vectors"] = (arrays["vectors"].reshape(-1, 3) @ turn).ravel()
    arrays["minima"] = arrays["minima"] @ turn + 1.0
    turned = Measurement(arrays, {"missing": {}})
    metrics = {m.name: m.value for m in ASSAY.score(cases, turned, Contestant("c")).metrics}
    assert metrics["mode_overlap"] == pytest.approx(1.0, abs=1e-12)
    assert metrics["geometry_rmsd"] < 1e-12
    assert metrics["frequency_mae_by_motion"] == 0.0


def test_failures_and_what_cannot_be_asked(toys, cases, potential):
    measured, score, metrics = scored(ASSAY, cases, toys.Failing(potential, lambda s: True))
    assert [(f.case, f.kind) for f in measured.failures] == [("start-0", "told")]
    assert list(metrics) == [("answered", "")]
    assert np.isnan(score.errors["frequency_mae"]).all()
    record = cases.records[0]
    helium = Structure(np.full(4, 2), record.structure.positions)
    changed = CaseSet(
        records=(Record(helium, record.labels, record.name),),
        arrays=cases.arrays,
        payload=cases.payload,
    )
    with pytest.raises(NotApplicable, match="He"):
        ASSAY.measure(potential, changed)
    one = Structure(np.array([8]), np.zeros((1, 3)))
    with pytest.raises(NotApplicable, match="single atom"):
        ASSAY.cases(toys.context([one], reference=potential))


def test_several_starts_one_of_them_fails(toys, potential):
    assay = NormalModes(starts=2, displacement_angstrom=0.002)
    starts = [toys.peroxide(150.0), toys.pair(1.0)]
    both = toys.Scaled(potential)
    pair = toys.Toy([[0, 1]], [1.0])
    both.predict = lambda s, want: [
        (potential if len(one) == 4 else pair).predict([one], want)[0] for one in s
    ]
    cases = assay.cases(toys.context(starts, reference=both))
    assert cases.payload["modes"] == [6, 1]
    failing = toys.Failing(both, lambda s: len(s) == 4)
    measured, score, metrics = scored(assay, cases, failing)
    assert [f.case for f in measured.failures] == ["start-0"]
    assert metrics["frequency_mae", ""].value == 0.0  # of the pair, which is its own reference
    np.testing.assert_array_equal(np.isnan(score.errors["frequency_mae"]), [True, False])
    assert metrics["answered", ""].value == 0.5


def test_align_undoes_a_rotation_and_a_shift(toys):
    structure = toys.peroxide()
    mass = np.array([16.0, 16.0, 1.0, 1.0])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn = turn * np.sign(np.linalg.det(turn))
    moved = structure.positions @ turn + np.array([1.0, 2.0, 3.0])
    rotation, rmsd = align(structure, mass, moved, structure.positions)
    np.testing.assert_allclose(rotation, turn.T, atol=1e-12)
    assert rmsd < 1e-12
    mirrored = moved * np.array([1.0, 1.0, -1.0])
    rotation, rmsd = align(structure, mass, mirrored, structure.positions)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert rmsd > 0.05  # H2O2 is chiral: no proper rotation lays it on its mirror image


def test_align_takes_the_nearest_image_in_a_crystal():
    cell = np.array([[3.0, 0, 0], [1.0, 4.0, 0], [0, 0, 5.0]])
    positions = np.array([[0.0, 0, 0], [1.0, 1.0, 1.0]])
    crystal = Structure(np.array([14, 14]), positions, cell, np.ones(3, bool))
    moved = positions + np.array([0.3, 0, 0]) + np.array([[0.0], [1.0]]) * cell[1]
    rotation, rmsd = align(crystal, np.full(2, 28.0), moved, crystal.positions)
    np.testing.assert_array_equal(rotation, np.eye(3))
    assert rmsd < 1e-12


def test_modes_that_swap_places_are_matched_by_motion():
    vectors = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))[0].reshape(9, 3, 3)
    order = np.array([2, 0, 1, 3, 8, 5, 6, 7, 4])
    pairing, overlaps = matched_overlaps(vectors, -vectors[order])
    np.testing.assert_array_equal(order[pairing], np.arange(9))
    np.testing.assert_allclose(overlaps, 1.0)


def test_zero_point_energy_leaves_imaginary_modes_out():
    assert zero_point_energy(np.array([-500.0, 1000.0])) == pytest.approx(500.0 * INVERSE_CM)
