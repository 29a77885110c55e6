"""Bootstrap intervals over cases or groups of cases, paired differences, ties.

Checked: tests/results/test_statistics.py (coverage on simulated data, with and without blocks).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput

MIN_CASES = 8
"""Fewer cases (or groups) give no interval."""

RESAMPLES = 2000

_CHUNK = 1_000_000
"""Numbers drawn at a time: bounds memory to tens of MB."""

Statistic = Literal["mean", "rms", "median"] | Callable[[np.ndarray], float]
"""What is estimated from the values of cases; a callable sees a 1-d array (and no weights)."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, or the reason why there is none.

    Attributes:
        value: on all cases.
        low, high: both or neither.
        n: independent cases: groups where cases come in groups.
        why_no_interval: reason where `low` is `None`.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    why_no_interval: str = ""

    @property
    def contains_zero(self) -> bool:
        """Whether zero cannot be excluded; also where there is no interval."""
        return self.low is None or self.high is None or self.low <= 0.0 <= self.high


def without_interval(value: float, n: int, why: str) -> Interval:
    """A deterministic or single value: no interval is made up."""
    return Interval(float(value), None, None, n, why)


def maximum(values: Float[np.ndarray, "cases"]) -> Interval:
    """Largest value; a maximum has no bootstrap interval (it never exceeds the sample's).

    Raises:
        BadInput: no finite value.
    """
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        raise BadInput("no finite value: every case failed; store a Failure instead.")
    return without_interval(float(finite.max()), len(finite), "a maximum has no interval")


def bootstrap(
    values: Float[np.ndarray, "cases"],
    statistic: Statistic,
    seed: int,
    groups: Sequence[str] | None = None,
    weights: Float[np.ndarray, "cases"] | None = None,
    resamples: int = RESAMPLES,
) -> Interval:
    """95 % interval of a statistic over independent cases, or over groups of correlated ones.

    Percentile bootstrap, widened for small samples: the quantiles are those at which a normal
    distribution with the standard error σ̂/√n would give Student's t interval (plain percentiles
    are too narrow by √((n-1)/n) and by z instead of t). Measured over 3000 trials it covers the
    mean of 8, 20, 100 normal cases in 93.9, 94.2, 95.1 %, of exponential ones in 90, 92, 93 %;
    the rms of 8 normal cases in 86, of 40 in 92 %; 12 blocks of correlated cases in 94 % (56 %
    if they are taken for independent). It respects monotone transforms: the interval of an RMSE
    is the root of that of the mean square. Whole groups are drawn where `groups` are given
    (blocks of trajectories).

    Args:
        values: one per case; those that are not finite (failed) are left out.
        statistic: `mean` (Σwv/Σw), `rms` (√(Σwv²/Σw)), `median`, or a function.
        groups: name of each case's group.
        weights: e.g. the number of force components behind each structure's RMSE.

    Raises:
        BadInput: no finite value, or lengths that differ.

    Source: Hesterberg, The American Statistician 69, 371 (2015), section 5.3 (expanded
    percentile interval).
    """
    sample = _Sample.of([values], groups, weights)
    return _interval(sample, statistic, seed, resamples)


def paired_difference(
    a: Float[np.ndarray, "cases"],
    b: Float[np.ndarray, "cases"],
    statistic: Statistic,
    seed: int,
    groups: Sequence[str] | None = None,
    weights: Float[np.ndarray, "cases"] | None = None,
    resamples: int = RESAMPLES,
) -> Interval:
    """`statistic(a) - statistic(b)` on cases that both did (both finite), drawn together.

    Raises:
        BadInput: no common case, or lengths that differ.
    """
    sample = _Sample.of([a, b], groups, weights)
    return _interval(sample, statistic, seed, resamples)


def paired_p_value(
    a: Float[np.ndarray, "cases"],
    b: Float[np.ndarray, "cases"],
    statistic: Statistic,
    seed: int,
    groups: Sequence[str] | None = None,
    weights: Float[np.ndarray, "cases"] | None = None,
    resamples: int = RESAMPLES,
) -> float | None:
    """Two-sided p-value of no difference between `statistic(a)` and `statistic(b)` on the cases
    that both did; `None` where there are too few for an interval.

    Student's t of the difference over its bootstrap standard error, which is first widened by
    √(n/(n−1)) for n independent units as the intervals are; smooth where shares of resamples would
    end at 1/`resamples`, as many comparisons at once need it. 1 where the difference is zero.

    Raises:
        BadInput: no common case, or lengths that differ.
    """
    from scipy.special import stdtr

    sample = _Sample.of([a, b], groups, weights)
    n = sample.units
    if n < MIN_CASES:
        return None
    value = sample.value(statistic)
    if value == 0.0:
        return 1.0
    error = float(np.std(sample.resample(statistic, seed, resamples))) * np.sqrt(n / (n - 1))
    return 0.0 if error == 0.0 else float(2.0 * stdtr(n - 1, -abs(value) / error))


def holm(p_values: Sequence[float], level: float = 0.05) -> tuple[bool, ...]:
    """Which hypotheses are rejected so that a true one is among them with probability `level` at
    most, however the tests depend on each other.

    Source: Holm, Scand. J. Statist. 6, 65 (1979).
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, i in enumerate(order):
        if not p_values[i] <= level / (len(order) - rank):
            break
        rejected[i] = True
    return tuple(rejected)


def tied_groups(
    errors: Mapping[str, Float[np.ndarray, "cases"]],
    statistic: Statistic,
    seed: int,
    groups: Sequence[str] | None = None,
    weights: Float[np.ndarray, "cases"] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Contestants by rank, best (lowest) first; those tied with a group's best share its group.

    Two are tied where the 95 % interval of their paired difference contains zero, or where too
    few common cases give no interval. The level holds for each pair with the group's best, not
    for all pairs at once: among 20 equal contestants, one is expected to look worse by chance.
    The order is that of won pairs (then of the own value, then of names), each pair on its
    common cases; contestants without any finite case come last, together.
    """
    done = [name for name in errors if np.isfinite(errors[name]).any()]
    values = {
        name: bootstrap(errors[name], statistic, seed, groups, weights, resamples=1).value
        for name in done
    }
    wins = dict.fromkeys(done, 0.0)
    for name in done:
        for other in done:
            both = np.isfinite(errors[name]) & np.isfinite(errors[other])
            if name != other and both.any():
                sample = _Sample.of([errors[name], errors[other]], groups, weights)
                wins[name] += sample.value(statistic) < 0
    waiting = sorted(done, key=lambda name: (-wins[name], values[name], name))
    ranked: list[tuple[str, ...]] = []
    while waiting:
        best = waiting[0]
        tied = [best]
        for name in waiting[1:]:
            both = np.isfinite(errors[name]) & np.isfinite(errors[best])
            if (
                not both.any()
                or paired_difference(
                    errors[name], errors[best], statistic, seed, groups, weights
                ).contains_zero
            ):
                tied.append(name)
        ranked.append(tuple(tied))
        waiting = [name for name in waiting if name not in tied]
    nothing = tuple(sorted(set(errors) - set(done)))
    return (*ranked, nothing) if nothing else tuple(ranked)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Cases that count: one or two columns of values, weights, and each case's unit."""

    columns: np.ndarray  # (columns, cases)
    weights: np.ndarray  # (cases,)
    unit: np.ndarray  # (cases,) index of the unit that is drawn as a whole
    units: int
    grouped: bool
    weighted: bool

    @classmethod
    def of(
        cls,
        columns: Sequence[np.ndarray],
        groups: Sequence[str] | None,
        weights: np.ndarray | None,
    ) -> "_Sample":
        cases = len(columns[0])
        for name, other in (("values", columns[-1]), ("groups", groups), ("weights", weights)):
            if other is not None and len(other) != cases:
                raise BadInput(f"{len(other)} {name} for {cases} cases.")
        stacked = np.array(columns, dtype=np.float64).reshape(len(columns), cases)
        keep: np.ndarray = np.all(np.isfinite(stacked), axis=0)
        if not keep.any():
            raise BadInput("no finite value: every case failed; store a Failure instead.")
        if groups is None:
            unit = np.arange(int(keep.sum()))
        else:
            names = [name for name, good in zip(groups, keep) if good]
            places = {name: index for index, name in enumerate(dict.fromkeys(names))}
            unit = np.array([places[name] for name in names])
        return cls(
            columns=stacked[:, keep],
            weights=np.ones(len(unit)) if weights is None else np.asarray(weights)[keep],
            unit=unit,
            units=int(unit.max()) + 1,
            grouped=groups is not None,
            weighted=weights is not None,
        )

    def value(self, statistic: Statistic) -> float:
        """The statistic of all cases; the difference where there are two columns."""
        results = [_evaluate(column, self.weights, statistic) for column in self.columns]
        return results[0] if len(results) == 1 else results[0] - results[1]

    def resample(self, statistic: Statistic, seed: int, resamples: int) -> np.ndarray:
        """The statistic of resamples with units drawn with replacement; (resamples,)."""
        generator = np.random.default_rng(seed)
        rows = max(1, _CHUNK // max(self.units, len(self.unit)))
        found = []
        for start in range(0, resamples, rows):
            draws = generator.integers(self.units, size=(min(rows, resamples - start), self.units))
            found.append(self._evaluate_draws(draws, statistic))
        return np.concatenate(found)

    def _evaluate_draws(self, draws: np.ndarray, statistic: Statistic) -> np.ndarray:
        if statistic in ("mean", "rms"):
            total = np.bincount(self.unit, self.weights, self.units)[draws].sum(axis=1)
            parts = []
            for column in self.columns:
                terms = self.weights * (column if statistic == "mean" else column**2)
                mean = np.bincount(self.unit, terms, self.units)[draws].sum(axis=1) / total
                parts.append(mean if statistic == "mean" else np.sqrt(mean))
            return parts[0] if len(parts) == 1 else parts[0] - parts[1]
        if statistic == "median" and not self.grouped:
            medians = [np.median(column[draws], axis=1) for column in self.columns]
            return medians[0] if len(medians) == 1 else medians[0] - medians[1]
        members = [np.flatnonzero(self.unit == index) for index in range(self.units)]
        values = np.empty(len(draws))
        for row, draw in enumerate(draws):
            cases = np.concatenate([members[index] for index in draw])
            parts = [
                _evaluate(column[cases], self.weights[cases], statistic) for column in self.columns
            ]
            values[row] = parts[0] if len(parts) == 1 else parts[0] - parts[1]
        return values


def _evaluate(values: np.ndarray, weights: np.ndarray, statistic: Statistic) -> float:
    if callable(statistic):
        return float(statistic(values))
    if statistic == "mean":
        return float((weights * values).sum() / weights.sum())
    if statistic == "rms":
        return float(np.sqrt((weights * values**2).sum() / weights.sum()))
    if statistic == "median":
        return float(np.median(values))
    raise BadInput(f"unknown statistic '{statistic}'; allowed: mean, rms, median, or a function.")


def _interval(sample: _Sample, statistic: Statistic, seed: int, resamples: int) -> Interval:
    value = sample.value(statistic)
    if sample.units < MIN_CASES:
        what = "independent groups" if sample.grouped else "cases"
        why = f"{sample.units} {what}, at least {MIN_CASES} needed"
        return without_interval(value, sample.units, why)
    values = sample.resample(statistic, seed, resamples)
    tail = _expanded_tail(sample.units)
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high), sample.units)


def _expanded_tail(n: int) -> float:
    """Φ(−√(n/(n−1)) t₀.₉₇₅,ₙ₋₁): the tail probability of a 95 % interval (2.5 % for n → ∞)."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975)))
