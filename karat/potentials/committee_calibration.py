"""Deviations from the spread of a committee's members, calibrated, and how often they hold.

The raw deviation of an energy is the standard deviation of the members' energies (N - 1 in the
denominator); that of a force component is pooled over the three components of the atom, so that it
does not depend on the orientation. Each is multiplied by one factor such that nominal 90 %
intervals (±1.645 deviations) hold 90 % of the errors of the mean on validation data: split
conformal prediction with the score |error| / raw deviation and the quantile of rank ⌈0.9 (n + 1)⌉.
For energies of structures like those of the validation data the share is then at least 90 % on
average; forces of one structure are not exchangeable with each other, so for them that is only
approximate. Validation data also chose the best epochs: on new data somewhat less may hold.

Few members: with N members the raw deviation has N - 1 degrees of freedom (of forces, pooled,
about 3 (N - 1)), so that an error divided by it has at best a t-distribution, scaled by
√(1 + 1/N): for N = 4 its 90 % interval is 2.35 · √1.25 = 2.6 raw deviations wide instead of 1.645.
The quantile contains that, so the 90 % intervals are right for any N; others are not, since the
tails are heavier than a Gaussian's (at 99 %, N = 4, t gives 5.84 where 90 % scaled as a Gaussian
gives 3.68). The deviation of a single energy is uncertain by about 1/√(2 (N - 1)), 40 % for N = 4,
whatever the factor: with two members it says next to nothing.

A factor alone, without a constant, is taken on purpose: a constant would make intervals on
validation data a little narrower, but would hide how fast the spread grows away from them.

Source: Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), §2.2 and §5.2, for the quantile and the
score; Imbalzano et al., J. Chem. Phys. 154, 074102 (2021), for one factor on a committee's spread.
Checked: tests/potentials/test_committee_calibration.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import BadInput, CalculationFailed
from karat.data.dataset import Dataset
from karat.potentials.linear.calibration import LEVEL, WIDTH, Errors, coverage
from karat.potentials.protocol import AbstractPotential
from karat.results.statistics import Interval
from karat.structures.labels import Labels


def energy_spread(
    energies: Float[np.ndarray, "members structures"],
) -> Float[np.ndarray, "structures"]:
    """Standard deviation over members."""
    spread: np.ndarray = np.std(energies, axis=0, ddof=1)
    return spread


def force_spread(forces: Float[np.ndarray, "members atoms 3"]) -> Float[np.ndarray, "atoms 3"]:
    """Standard deviation over members of a component in any direction: the root of the mean
    variance of an atom's three components, the same for each of them."""
    variance = np.mean(np.var(forces, axis=0, ddof=1), axis=-1, keepdims=True)
    return np.broadcast_to(np.sqrt(variance), forces.shape[1:]).copy()


def conformal_factor(
    errors: Float[np.ndarray, "values"], deviations: Float[np.ndarray, "values"]
) -> float:
    """What deviations are to be multiplied by for ±1.645 of them to hold 90 % of the errors.

    With fewer than 9 errors the rank does not exist and the largest score is taken.

    Raises:
        CalculationFailed: kind ``no-spread``: where most members agree exactly.
    """
    if np.median(deviations) <= 0:
        raise CalculationFailed(
            "The members of the committee agree exactly: nothing can be calibrated. Train longer, "
            "or with member_data bootstrap.",
            kind="no-spread",
        )
    scores = np.abs(errors) / np.maximum(deviations, 1e-300)
    rank = min(math.ceil(LEVEL * (len(scores) + 1)), len(scores))
    return float(np.sort(scores)[rank - 1]) / WIDTH


@dataclass(frozen=True)
class Coverage:
    """How many of a dataset's errors lie within nominal 90 % intervals.

    Attributes:
        energy, forces: share, with its 95 % interval (bootstrap over structures); `None` where
            there are no labels or no deviations.
        energy_width: mean length of the intervals, from end to end, eV/atom.
        force_width: the same of forces, eV/Å.
    """

    energy: Interval | None
    energy_width: Interval | None
    forces: Interval | None
    force_width: Interval | None


def coverage_of(potential: AbstractPotential, dataset: Dataset) -> Coverage:
    """Coverage by a potential that gives uncertainties, on any labelled dataset.

    Raises:
        BadInput: the potential gives no deviations.
    """
    return coverage_of_labels(potential.predict(dataset.structures), dataset)


def coverage_of_labels(predicted: Sequence[Labels], dataset: Dataset) -> Coverage:
    """Coverage by predictions with uncertainties, in the order of the dataset.

    Raises:
        BadInput: predictions without deviations.
    """
    energy, forces = [], []
    for owner, (found, record) in enumerate(zip(predicted, dataset, strict=True)):
        label, spread = record.labels, found.uncertainty
        if spread is None or (spread.energy is None and spread.forces is None):
            raise BadInput(
                f"The prediction for structure {owner} has no deviations. Ask a contestant with "
                "uncertainty: true."
            )
        if found.energy is not None and label.energy is not None and spread.energy is not None:
            atoms = float(len(record.structure))
            error = np.array([found.energy - label.energy]) / atoms
            energy.append(_errors(error, np.array([spread.energy]) / atoms, owner))
        if found.forces is not None and label.forces is not None and spread.forces is not None:
            error = (found.forces - label.forces).ravel()
            forces.append(_errors(error, spread.forces.ravel(), owner))
    one = np.ones(1)
    none = (None, None)
    of_energy = coverage(Errors.join(energy), one) if energy else none
    return Coverage(*of_energy, *(coverage(Errors.join(forces), one) if forces else none))


def _errors(
    errors: Float[np.ndarray, "values"], deviations: Float[np.ndarray, "values"], owner: int
) -> Errors:
    owners: Int[np.ndarray, "values"] = np.full(len(errors), owner)
    return Errors(errors, deviations[:, None] ** 2, owners)
