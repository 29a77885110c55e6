"""What assays share in `score`: errors with intervals, floors and baselines; time blocks; figures.

Everything here is NumPy only.
Checked: tests/assays/test_scoring.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.data.dataset import Record
from karat.results.figure import Figure, Series
from karat.results.metric import Better, Metric
from karat.results.noise import floor as noise_floor
from karat.results.statistics import bootstrap
from karat.structures.labels import LevelOfTheory

BLOCKS_PER_TRAJECTORY = 10
"""Enough for a bootstrap of one trajectory, and the longest blocks that leave that many."""
SEED = 20240229
"""Of every bootstrap and subsample in `score`, so that scoring twice gives the same bits."""
FIGURE_POINTS = 1500
"""Most points in one cloud; the report has to stay small."""


def time_blocks(records: Sequence[Record]) -> tuple[str, ...]:
    """A group for each record such that different groups may be resampled independently.

    Frames of one trajectory (`Record.group`, ordered by `Record.frame`) are cut into ten
    consecutive blocks of equal length: blocks as long as ten of them allow, hence as long
    compared with the correlation time as the data allow. Records of one group without time
    (`frame` -1: conformers of one molecule) stay together; records without group stand alone.

    Source: Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989) (blocking).
    """
    members: dict[str, list[int]] = {}
    names = [""] * len(records)
    for i, record in enumerate(records):
        if record.group and record.frame >= 0:
            members.setdefault(record.group, []).append(i)
        else:
            names[i] = f"group {record.group}" if record.group else f"record {i}"
    for group, indices in members.items():
        ordered = sorted(indices, key=lambda i: records[i].frame)
        for block, part in enumerate(np.array_split(ordered, BLOCKS_PER_TRAJECTORY)):
            for i in part:
                names[int(i)] = f"group {group} block {block}"
    return tuple(names)


@dataclass(frozen=True)
class Yardstick:
    """What an error is measured against: its noise floor and a trivial predictor's error."""

    floor: float | None = None
    floor_source: str = ""
    baseline: float | None = None
    baseline_source: str = ""

    @classmethod
    def of(
        cls,
        quantity: str,
        unit: str,
        levels: tuple[LevelOfTheory | None, LevelOfTheory | None],
        baseline: float | None = None,
        baseline_source: str = "",
    ) -> "Yardstick":
        """With the noise floor of a quantity between the levels of reference and contestant.

        Raises:
            ValueError: the floor is known in another unit than the metric's.
        """
        reference, contestant = levels
        found = None if reference is None else noise_floor(quantity, reference, contestant)
        if found is not None and found.unit != unit:
            raise ValueError(f"floor of {quantity} is in {found.unit}, the metric in {unit}")
        return cls(
            floor=None if found is None else float(found.value),
            floor_source="no noise floor is known" if found is None else found.source,
            baseline=baseline,
            baseline_source=baseline_source,
        )


NO_YARDSTICK = Yardstick(floor_source="not compared with a floor")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over what each case contributes, so that a mean over cases weighs each component.

    Cases without a number have `total` 0.

    Attributes:
        total: sum of |error| or error² of each case.
        count: how many numbers went into it; 0 where the case failed or has none.
        groups: of the cases, for resampling.
    """

    total: Float[np.ndarray, "cases"]
    count: Float[np.ndarray, "cases"]
    groups: tuple[str, ...]

    @property
    def used(self) -> Int[np.ndarray, "used"]:
        """Indices of the cases with numbers."""
        return np.flatnonzero(self.count > 0)

    def value(self, root: bool = False) -> float:
        """The mean (or its root) over all numbers of all cases; NaN where there is none."""
        if not len(self.used):
            return float("nan")
        mean = float(self.total.sum() / self.count.sum())
        return float(np.sqrt(mean)) if root else mean


@dataclass(frozen=True)
class Naming:
    """How a metric is called and shown."""

    name: str
    title: str
    unit: str
    subset: str = ""
    headline: bool = False
    better: Better = "lower"


def mean_error(
    naming: Naming, sums: Sums, yardstick: Yardstick = NO_YARDSTICK, root: bool = False
) -> Metric | None:
    """Mean (MAE) or root mean square error with its 95 % interval; `None` without any case."""
    used = sums.used
    if not len(used):
        return None
    interval = bootstrap(
        per_case(sums, root)[used],
        "rms" if root else "mean",
        seed=SEED,
        groups=tuple(sums.groups[i] for i in used),
        weights=sums.count[used],
    )
    return Metric(
        name=naming.name,
        value=interval.value,
        unit=naming.unit,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        better=naming.better,
        why_no_interval=interval.why_no_interval,
        subset=naming.subset,
        headline=naming.headline,
        title=naming.title,
        **yardstick.__dict__,
    )


def single_value(
    naming: Naming, value: float | int, n: int, why: str, yardstick: Yardstick = NO_YARDSTICK
) -> Metric:
    """A metric without interval: a maximum, a count, a deterministic single value."""
    return Metric(
        name=naming.name,
        value=float(value),
        unit=naming.unit,
        low=None,
        high=None,
        n=n,
        better=naming.better,
        why_no_interval=why,
        subset=naming.subset,
        headline=naming.headline,
        title=naming.title,
        **yardstick.__dict__,
    )


def answered(done: int, cases: int, missing: int) -> Metric:
    """Share of the cases that were attempted that succeeded; missing ones do not count."""
    attempted = cases - missing
    why = "a count, not an estimate"
    if missing:
        why += f"; {missing} of {cases} cases were not applicable and are not counted"
    naming = Naming("answered", "Share of attempted cases that succeeded", "", better="higher")
    return single_value(naming, done / attempted if attempted else 0.0, attempted, why)


def rounded(values: np.ndarray, digits: int = 6) -> tuple[float, ...]:
    """Numbers for a figure, to `digits` significant digits (figures are looked at)."""
    return tuple(float(f"{value:.{digits}g}") for value in np.asarray(values, float).ravel())


def subsample(size: int, limit: int = FIGURE_POINTS) -> Int[np.ndarray, "picks"]:
    """Up to `limit` of `size` indices, ascending, always the same."""
    if size <= limit:
        return np.arange(size)
    return np.sort(np.random.default_rng(SEED).choice(size, limit, replace=False))


def parity(
    group: str,
    title: str,
    unit: str,
    name: str,
    pair: tuple[np.ndarray, np.ndarray],
    labels: Sequence[str] = (),
    note: str = "",
) -> Figure:
    """Reference (x) against contestant (y), subsampled; pairs with a NaN are left out."""
    x, y = (np.asarray(values, float).ravel() for values in pair)
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    picks = finite[subsample(len(finite))]
    if len(picks) < len(finite):
        note = f"{note} {len(picks)} of {len(finite)} points drawn.".strip()
    series = Series(
        name=name,
        x=rounded(x[picks]),
        y=rounded(y[picks]),
        labels=tuple(labels[i] for i in picks) if labels else (),
    )
    return Figure(
        kind="parity",
        group=group,
        title=title,
        x_label=f"reference ({unit})",
        y_label=f"contestant ({unit})",
        series=(series,),
        note=note,
    )


def distribution(
    group: str, title: str, unit: str, name: str, errors: np.ndarray
) -> tuple[Figure, ...]:
    """Histogram of |error| over logarithmic bins, and its cumulative share at 100 quantiles."""
    values = np.abs(errors[np.isfinite(errors)])
    if not len(values):
        return ()
    edges = np.logspace(-6, 3, 91)  # fixed bins, so that contestants can be overlaid
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    shown = np.flatnonzero(counts)
    shown = np.arange(shown[0], shown[-1] + 1)
    centres = np.sqrt(edges[1:] * edges[:-1])
    histogram = Figure(
        kind="histogram",
        group=f"{group}:histogram",
        title=f"Distribution: {title}",
        x_label=f"|error| ({unit})",
        y_label="count",
        series=(Series(name, rounded(centres[shown]), tuple(float(c) for c in counts[shown])),),
        log_x=True,
        note=f"|error| below {edges[0]:g} or above {edges[-1]:g} {unit} is in the end bins.",
    )
    shares = np.linspace(0.01, 1.0, 100)
    cumulative = Figure(
        kind="lines",
        group=f"{group}:cumulative",
        title=f"Share of errors below a bound: {title}",
        x_label=f"|error| ({unit})",
        y_label="share",
        series=(Series(name, rounded(np.quantile(values, shares)), rounded(shares)),),
        log_x=bool(np.quantile(values, 0.01) > 0),
    )
    return histogram, cumulative


def remove_offsets(
    values: Float[np.ndarray, "cases"], family: Int[np.ndarray, "cases"]
) -> Float[np.ndarray, "cases"]:
    """Values minus the mean of their family; NaN where it has fewer than two finite ones."""
    relative = np.full(len(values), np.nan)
    for index in np.unique(family):
        members = np.flatnonzero((family == index) & np.isfinite(values))
        if len(members) > 1:
            relative[members] = values[members] - values[members].mean()
    return relative


def worst_first(
    errors: Float[np.ndarray, "cases"], names: Sequence[str], limit: int = 10
) -> tuple[str, ...]:
    """Names of the largest errors, largest first; NaN left out, ties in order of the cases."""
    order = np.argsort(-np.where(np.isfinite(errors), errors, -np.inf), kind="stable")
    return tuple(names[i] for i in order[:limit] if np.isfinite(errors[i]))


def per_case(sums: Sums, root: bool = False) -> Float[np.ndarray, "cases"]:
    """Mean (or root mean) of each case alone; NaN where it has no number."""
    mean = np.full(len(sums.total), np.nan)
    used = sums.used
    mean[used] = sums.total[used] / sums.count[used]
    return np.sqrt(mean) if root else mean


def masked_sums(
    values: Float[np.ndarray, "rows columns"],
    owner: Int[np.ndarray, "rows"],
    groups: tuple[str, ...],
    mask: Bool[np.ndarray, "rows"] | None = None,
) -> Sums:
    """Sums over each case's rows; rows with a NaN, or outside `mask`, do not count."""
    keep = np.isfinite(values).all(axis=1)
    if mask is not None:
        keep = keep & mask
    weights = np.where(keep[:, None], values, 0.0).sum(axis=1)
    total = np.bincount(owner, weights=weights, minlength=len(groups))
    count = np.bincount(owner, weights=keep * float(values.shape[1]), minlength=len(groups))
    return Sums(total=total, count=count, groups=groups)
