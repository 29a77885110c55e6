"""Loop integrals: zero for gradients, known exactly for fields with a constant curl."""

import dataclasses

import numpy as np
import pytest

from karat.assays.conservation import loops
from karat.assays.conservation.assay import Conservation
from karat.assays.protocol import Contestant, NotApplicable
from karat.core.components import parse
from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.protocol import AbstractPotential, Traits
from karat.structures.labels import Labels
from karat.structures.structure import Structure

SOMEONE = Contestant("c")
CURL = 0.3  # eV/Å²
STIFFNESS = 2.0  # eV/Å²
ATOMS = 5


class Whirl(AbstractPotential):
    """Springs to the origin, and a force curl · ẑ × r that turns around it; its energy knows the
    springs only, times `seen`."""

    def __init__(self, curl=CURL, seen=1.0, fails=(), jump=0.0):
        self.curl, self.seen, self.fails, self.jump = curl, seen, fails, jump
        self.calls = 0

    @property
    def traits(self):
        return Traits(
            species=(18,), periodic=False, molecules=True, quantities=("energy", "forces"),
            conservative=self.curl == 0,
        )  # fmt: skip

    def predict(self, structures, want=("energy", "forces")):
        found = []
        for structure in structures:
            x = structure.positions
            if any(np.array_equal(x, bad) for bad in self.fails):
                raise CalculationFailed("It fails here.", kind="here")
            turning = self.curl * np.stack([-x[:, 1], x[:, 0], np.zeros(len(x))], axis=1)
            energy = 0.5 * self.seen * STIFFNESS * np.sum(x**2) + self.jump * (x[0, 0] > 0)
            found.append(Labels(energy=float(energy), forces=-STIFFNESS * x + turning))
        return found


@pytest.fixture(scope="module")
def context(toys):
    random = np.random.default_rng(3)
    starts = [
        Structure(numbers=np.full(ATOMS, 18), positions=random.normal(size=(ATOMS, 3)))
        for _ in range(9)
    ]
    return toys.context(starts)


def measured(potential, context, **settings):
    assay = Conservation(**settings)
    cases = assay.cases(context)
    found = assay.measure(potential, cases)
    score = assay.score(cases, found, SOMEONE)
    return cases, found, score, {m.name: m for m in score.metrics}


def test_a_field_with_constant_curl_does_the_exact_work(context):
    """∮ c(x dy - y dx) = 2 c · area: of each atom's ellipse, seen along z."""
    radius = 0.2
    cases, _, score, metrics = measured(Whirl(), context, radius_angstrom=radius)
    planes = cases.arrays["planes"].reshape(len(cases.records), ATOMS, 2, 3)
    first, second = planes[:, :, 0], planes[:, :, 1]
    area = np.pi * radius**2 * (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])
    exact = np.abs(2 * CURL * area.sum(axis=1))
    np.testing.assert_allclose(score.errors["loop_work"], exact, rtol=1e-10)
    assert metrics["loop_work"].value == pytest.approx(np.sqrt(np.mean(exact**2)), rel=1e-10)
    assert metrics["loop_work"].n == 9  # loops around one structure are not independent
    assert 0.001 < metrics["work_not_conserved"].value < 1


def test_a_gradient_does_no_work_and_is_the_slope(context):
    _, _, score, metrics = measured(Whirl(curl=0.0), context)
    # rounding of about 10 eV/Å · 0.1 Å
    assert score.errors["loop_work"].max() < 1e-13
    assert score.errors["force_slope_gap"].max() < 1e-12
    assert metrics["work_not_conserved"].value < 1e-13
    assert metrics["answered"].value == 1.0


def test_a_wrong_energy_shows_in_the_slope_only(context):
    """With half the springs in the energy the gap is half the springs' force along the loop."""
    _, found, score, metrics = measured(Whirl(curl=0.0, seen=0.5), context, radius_angstrom=0.1)
    assert metrics["loop_work"].value < 1e-13
    expected = 0.5 * np.sqrt(np.mean(found.arrays["power"] ** 2, axis=1)) / (0.1 * ATOMS**0.5)
    np.testing.assert_allclose(score.errors["force_slope_gap"], expected, rtol=1e-10)


def test_an_energy_that_jumps_is_seen(context):
    origin = dataclasses.replace(
        context, starts=(Structure(numbers=np.array([18]), positions=np.zeros((1, 3))),) * 9
    )
    *_, smooth = measured(Whirl(curl=0.0), origin)
    *_, jumps = measured(Whirl(curl=0.0, jump=0.1), origin)
    assert smooth["force_slope_gap"].value < 1e-12
    assert jumps["force_slope_gap"].value > 0.1


def test_a_real_molecule_is_resolved_by_the_points(toys):
    """Springs of bonds are far from harmonic in Cartesian loops; the sums still converge."""
    context = toys.context([toys.peroxide(170.0)] * 8)
    *_, metrics = measured(toys.peroxide_potential(), context)
    assert metrics["loop_work"].value < 1e-7  # the toy's forces are differences: 1e-7 eV/Å
    assert metrics["loop_work"].value < metrics["loop_work_resolution"].value < 1e-3
    *_, coarse = measured(toys.peroxide_potential(), context, points=8)
    assert coarse["loop_work"].value == pytest.approx(
        metrics["loop_work_resolution"].value, rel=1e-3
    )


def test_the_planes_are_what_they_should_be():
    first, second = loops.directions(7, np.random.default_rng(0))
    for one in (first, second):
        np.testing.assert_allclose(np.sum(one**2), 7, rtol=1e-12)
        np.testing.assert_allclose(one.mean(axis=0), 0, atol=1e-14)
    assert abs(np.sum(first * second)) < 1e-12


def test_integral_and_slope_are_exact_for_harmonics_that_the_points_resolve():
    theta = loops.angles(12)
    np.testing.assert_allclose(
        loops.work_by_angle(0.4 + np.cos(3 * theta)),
        0.4 * theta + np.sin(3 * theta) / 3,
        atol=1e-14,
    )
    energies = np.stack([np.sin(2 * theta), np.cos(5 * theta)])
    slopes = np.stack([2 * np.cos(2 * theta), -5 * np.sin(5 * theta)])
    np.testing.assert_allclose(loops.slope(energies), slopes, atol=1e-13)


def test_one_failed_point_fails_its_loop_only(context):
    assay = Conservation()
    cases = assay.cases(context)
    plane = cases.arrays["planes"][:ATOMS]
    bad = loops.around(cases.records[0].structure.positions, (plane[:, 0], plane[:, 1]), 0.1, 16)
    found = assay.measure(Whirl(fails=(bad[3], bad[5])), cases)
    score = assay.score(cases, found, SOMEONE)
    assert [failure.case for failure in found.failures] == [cases.records[0].name]
    assert np.isnan(score.errors["loop_work"]).tolist() == [True] + [False] * 17
    metrics = {m.name: m.value for m in score.metrics}
    assert metrics["answered"] == pytest.approx(17 / 18)


def test_test_frames_near_in_time_are_resampled_together(toys):
    potential = toys.peroxide_potential()
    test = toys.labelled(toys.rattled(toys.peroxide(), 40, seed=7), potential)
    cases, _, score, _ = measured(potential, toys.context(test=test), structures=12)
    assert len(cases.records) == 24
    assert len(set(score.groups)) == 10  # blocks of one trajectory
    names = [record.name.rsplit(" loop ", 1)[0] for record in cases.records]
    assert len(set(zip(names, score.groups))) == 12  # loops around one frame are in one block


def test_the_same_seed_makes_the_same_loops(context):
    first, again = (Conservation().cases(context).arrays["planes"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = Conservation().cases(dataclasses.replace(context, seed=context.seed + 1))
    assert not np.array_equal(first, other.arrays["planes"])


@pytest.mark.parametrize(
    "settings",
    [{"points": 15}, {"points": 6}, {"structures": 0}, {"loops": 0}, {"radius_angstrom": 1.5}],
)
def test_senseless_settings_are_refused(settings):
    with pytest.raises(BadInput, match=f"conservation: .*{next(iter(settings))}"):
        parse(Conservation, settings, "assays.conservation")


def test_nothing_to_go_around_and_alien_elements_are_not_applicable(toys, context):
    with pytest.raises(NotApplicable, match="neither a start nor a test"):
        Conservation().cases(toys.context())
    with pytest.raises(NotApplicable):
        Conservation().measure(toys.peroxide_potential(), Conservation().cases(context))
