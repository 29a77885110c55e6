"""Calibrated deviations: exact quantiles of Gaussian committees, coverage of new draws.

Statistical tests are seeded; bounds of 4.5 standard errors give false alarms in 7 of 10⁶ seeds.
"""

import dataclasses

import numpy as np
import pytest
from scipy.stats import t

from karat.core.errors import BadInput, CalculationFailed
from karat.data.dataset import Dataset, Record
from karat.potentials.committee_calibration import (
    conformal_factor,
    coverage_of_labels,
    energy_spread,
    force_spread,
)
from karat.structures.labels import Labels, LevelOfTheory, Uncertainty
from karat.structures.structure import Structure

WIDTH = 1.6448536269514722  # of the normal distribution's central 90 %
MANY = 4.5


def draws(rng, count, members):
    """Members and truth from one Gaussian for each case, of widths over a decade: errors and raw
    deviations."""
    sigma = 10 ** rng.uniform(-1.5, -0.5, size=count)
    values = rng.normal(size=(members + 1, count)) * sigma + rng.normal(size=count)
    return values[:-1].mean(axis=0) - values[-1], energy_spread(values[:-1])


@pytest.mark.parametrize("members", [2, 4, 10])
def test_the_factor_of_gaussian_members_is_students(members):
    """error / spread = √(1 + 1/N) t with N - 1 degrees of freedom; the standard error of its 90 %
    quantile from n draws is √(0.9 · 0.1 / n) / density."""
    count, degrees = 4000, members - 1
    scale = np.sqrt(1 + 1 / members)
    quantile = t.ppf(0.95, degrees)
    standard_error = np.sqrt(0.09 / count) / (2 * t.pdf(quantile, degrees)) * scale
    errors, spread = draws(np.random.default_rng(members), count, members)
    found = conformal_factor(errors, spread) * WIDTH
    assert abs(found - scale * quantile) < MANY * standard_error


@pytest.mark.parametrize("members", [4, 8])
def test_new_draws_are_covered(members):
    """Given the validation data, coverage is Beta(k, n + 1 - k) with k = ⌈0.9 (n + 1)⌉; what is
    counted on new data adds a binomial error. Without the factor it is Student's, far lower."""
    n, new, rng = 1000, 20000, np.random.default_rng(40 + members)
    factor = conformal_factor(*draws(rng, n, members))
    errors, spread = draws(rng, new, members)
    standard_error = np.sqrt(0.09 / (n + 2) + 0.09 / new)
    covered = np.mean(np.abs(errors) <= WIDTH * factor * spread)
    assert abs(covered - 0.9) < MANY * standard_error
    bare = np.mean(np.abs(errors) <= WIDTH * spread)
    students = 1 - 2 * t.sf(WIDTH / np.sqrt(1 + 1 / members), members - 1)
    assert abs(bare - students) < MANY * np.sqrt(0.25 / new)
    assert students < 0.9 - 2 * MANY * standard_error / 3  # the test above could fail


def test_small_samples_are_covered_on_average():
    """19 validation structures: rank 18 of 20 equally likely places, 90 % exactly; a plain
    quantile would hold less. 3000 repetitions."""
    rng, hits = np.random.default_rng(3), []
    for _ in range(3000):
        errors, spread = draws(rng, 20, 4)
        hits.append(
            abs(errors[-1]) <= WIDTH * conformal_factor(errors[:-1], spread[:-1]) * spread[-1]
        )
    assert abs(np.mean(hits) - 0.9) < MANY * np.sqrt(0.09 / 3000)


def test_few_errors_take_the_largest_score():
    assert conformal_factor(np.array([1.0, -4.0, 2.0]), np.ones(3)) == pytest.approx(4 / WIDTH)


def test_members_that_agree_exactly_are_refused():
    with pytest.raises(CalculationFailed, match="agree exactly"):
        conformal_factor(np.ones(5), np.zeros(5))


def test_force_spreads_do_not_depend_on_the_orientation():
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(1)
    forces = rng.normal(size=(4, 7, 3)) * np.array([0.1, 1.0, 3.0])
    turned = forces @ Rotation.random(rng=rng).as_matrix().T
    np.testing.assert_allclose(force_spread(turned), force_spread(forces), rtol=1e-12)
    variance = np.var(forces, axis=0, ddof=1).sum(axis=1) / 3
    np.testing.assert_allclose(force_spread(forces) ** 2, variance[:, None] + np.zeros(3))


def labelled(count: int) -> Dataset:
    records = tuple(
        Record(
            Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 0.7 + 0.01 * i]])),
            Labels(energy=float(i), forces=np.zeros((2, 3))),
        )
        for i in range(count)
    )
    return Dataset(records, LevelOfTheory("exact"))


def test_coverage_counts_what_is_inside():
    """Half of the energies one deviation off, half three; forces of one atom in ten far off."""
    data = labelled(40)
    predicted = []
    for i, record in enumerate(data):
        forces = np.zeros((2, 3))
        forces[0, 0] = 1.0 if i % 5 == 0 else 0.0
        spread = Uncertainty(energy=0.2, forces=np.full((2, 3), 0.1))
        error = 0.2 if i % 2 else 0.6
        predicted.append(
            Labels(energy=record.labels.energy + error, forces=forces, uncertainty=spread)
        )
    found = coverage_of_labels(predicted, data)
    assert found.energy.value == pytest.approx(0.5)
    assert found.energy.low < 0.5 < found.energy.high
    assert found.energy.n == 40
    assert found.energy_width.value == pytest.approx(2 * WIDTH * 0.1)  # per atom
    assert found.forces.value == pytest.approx(1 - 8 / 240)
    assert found.force_width.value == pytest.approx(2 * WIDTH * 0.1)


def test_coverage_needs_deviations_and_labels():
    data = labelled(3)
    bare = [Labels(energy=0.0)] * 3
    with pytest.raises(BadInput, match="structure 0 has no deviations"):
        coverage_of_labels(bare, data)
    only = [dataclasses.replace(one, uncertainty=Uncertainty(energy=0.1)) for one in bare]
    assert coverage_of_labels(only, data).forces is None
