"""Dynamics at constant energy from fixed starts: drift, fluctuation, bonds, survival.

Checked: tests/assays/test_dynamics_assay.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jaxtyping import Float

from karat.assays.dynamics.bonds import bonds_at, longest_stretch
from karat.assays.evaluate import MOTION, failure, suitable
from karat.assays.protocol import (
    AbstractAssay,
    CaseSet,
    Contestant,
    Context,
    Measurement,
    Need,
    NotApplicable,
    Score,
)
from karat.assays.scoring import (
    NO_YARDSTICK,
    Naming,
    Sums,
    Yardstick,
    mean_error,
    rounded,
    single_value,
)
from karat.core.errors import BadInput, CalculationFailed
from karat.data.dataset import Record
from karat.potentials.protocol import AbstractPotential
from karat.results.figure import Figure, Series
from karat.results.metric import Failure, Metric
from karat.structures.labels import Labels
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from karat.simulation.dynamics import Dynamics

MEV_PER_PS = 1e6
"""meV/ps per eV/fs."""
CURVE_POINTS = 200


@dataclass(frozen=True)
class NveDynamics(AbstractAssay):
    """Runs at constant energy (velocity Verlet), the same starts and velocities for everyone.

    A run is intact until the first kept frame in which a bond of the start is longer than
    `broken_stretch` times its length there, or until it explodes or the potential fails (see
    `karat.simulation.dynamics.run_dynamics`). Bonds come from the topology, else from covalent
    radii. Twice the length is beyond thermal vibration and beyond a hydrogen that moves along
    a hydrogen bond.

    The start is the same for everyone and nobody's minimum but its maker's, so that the runs of
    a contestant may be hotter or colder than `temperature_k`, which is that of the velocities.

    Attributes:
        temperature_k: of the initial velocities.
        steps, timestep_fs: of each run.
        every: steps from one kept frame to the next.
        runs: how many; starts are taken in turn, each run has its own velocities.
        broken_stretch: see above.
    """

    temperature_k: float = 300.0
    steps: int = 1000
    timestep_fs: float = 0.5
    every: int = 5
    runs: int = 8
    broken_stretch: float = 2.0

    family: ClassVar[str] = "dynamics"
    title: ClassVar[str] = "Dynamics at constant energy"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[Need, ...]] = ()

    def __post_init__(self) -> None:
        self.settings()
        if self.runs < 1 or not self.broken_stretch > 1:
            raise BadInput(
                f"dynamics: runs {self.runs} must be at least 1 and broken_stretch "
                f"{self.broken_stretch} above 1."
            )

    def settings(self) -> "Dynamics":
        """How each run moves.

        Raises:
            BadInput: steps, time step or temperature out of range.
        """
        from karat.simulation.dynamics import Dynamics

        return Dynamics(
            temperature_k=self.temperature_k,
            timestep_fs=self.timestep_fs,
            steps=self.steps,
            every=self.every,
        )

    @property
    def duration_fs(self) -> float:
        """Time of one whole run, up to its last kept frame."""
        return self.steps // self.every * self.every * self.timestep_fs

    def cases(self, context: Context) -> CaseSet:
        """One record for each run; `velocities` (all atoms, 3) in Å/fs."""
        from karat.simulation.dynamics import thermal_velocities

        starts = _starts(context, self.runs)
        records, velocities = [], []
        for run in range(self.runs):
            name, structure = starts[run % len(starts)]
            label = f"run-{run} from {name}"
            records.append(Record(structure, Labels(), name=label, kind=name, group=label))
            velocities.append(thermal_velocities(structure, self.temperature_k, context.seed + run))
        return CaseSet(records=tuple(records), arrays={"velocities": np.concatenate(velocities)})

    def measure(self, potential: AbstractPotential, cases: CaseSet) -> Measurement:
        """Total energies and longest stretches (runs, frames), intact times (runs,) in fs."""
        from karat.simulation.dynamics import run_dynamics

        settings = self.settings()
        reasons = [suitable(potential, r.structure, MOTION) for r in cases.records]
        if all(reasons):
            raise NotApplicable(reasons[0])
        shape = (len(cases.records), settings.intervals + 1)
        energies, stretches = np.full(shape, np.nan), np.full(shape, np.nan)
        intact = np.full(len(cases.records), np.nan)
        failures: list[Failure] = []
        seconds: list[float] = []
        ends = np.cumsum([len(r.structure) for r in cases.records])
        for run, (record, end) in enumerate(zip(cases.records, ends)):
            if reasons[run]:
                continue
            velocities = cases.arrays["velocities"][end - len(record.structure) : end]
            try:
                found = run_dynamics(potential, record.structure, settings, velocities)
            except CalculationFailed as error:
                failures.append(failure("nve run", record.name, error))
                intact[run] = 0.0
                continue
            kept = len(found)
            energies[run, :kept] = found.total_energies
            stretches[run, :kept] = longest_stretch(bonds_at(record.structure), found.positions)
            broken = np.flatnonzero(stretches[run, :kept] > self.broken_stretch)
            until = float(found.times_fs[broken[0]]) if len(broken) else self.duration_fs
            if found.stopped is not None:
                stop = found.stopped
                failures.append(Failure("nve run", record.name, stop.kind, stop.reason))
                stopped_step = found.stopped_step or 0
                until = min(until, stopped_step * self.timestep_fs)
            intact[run] = min(until, self.duration_fs)
            seconds.append(found.seconds)
        missing = {r.name: reason for r, reason in zip(cases.records, reasons) if reason}
        return Measurement(
            arrays={"total_energies": energies, "stretches": stretches, "intact_fs": intact},
            payload={"missing": missing},
            failures=tuple(failures),
            timings={"loop_seconds": seconds},
        )

    def score(self, cases: CaseSet, measured: Measurement, contestant: Contestant) -> Score:
        """Lost time (the headline), drift, fluctuation, stretch; curves."""
        names = tuple(record.name for record in cases.records)
        sizes = np.array([len(record.structure) for record in cases.records])
        per_atom = measured.arrays["total_energies"] / sizes[:, None]
        times = np.arange(per_atom.shape[1]) * self.every * self.timestep_fs
        slopes, residuals = drift_and_fluctuation(times, per_atom)
        lost = 1.0 - measured.arrays["intact_fs"] / self.duration_fs
        stretches = measured.arrays["stretches"]
        found = [
            *self._survival(lost, names),
            *_energy_metrics(slopes, residuals, names),
            _stretch_metric(stretches),
        ]
        order = np.lexsort((-np.nan_to_num(np.abs(slopes)), -np.nan_to_num(lost, nan=-1.0)))
        return Score(
            metrics=tuple(metric for metric in found if metric is not None),
            figures=_figures(contestant.name, times, per_atom, slopes, lost * self.duration_fs)
            if np.isfinite(per_atom).any()
            else (),
            case_names=names,
            errors={"time_lost": lost, "energy_drift_abs": np.abs(slopes)},
            groups=names,
            worst=tuple(names[i] for i in order if np.isfinite(lost[i])),
        )

    def _survival(
        self, lost: Float[np.ndarray, "runs"], names: tuple[str, ...]
    ) -> list[Metric | None]:
        """The share of time after the first broken bond or explosion, and its complement."""
        runs = int(np.isfinite(lost).sum())
        frame = self.every / (self.steps // self.every * self.every) / max(runs, 1)
        yardstick = Yardstick(
            floor=frame,
            floor_source="one kept frame of one run",
            baseline=1.0,
            baseline_source="broken at the first step",
        )
        naming = Naming("time_lost", "Time lost", "", headline=True)
        return [
            _mean_over_runs(naming, lost, names, yardstick),
            _mean_over_runs(
                Naming("survival", "Share of time intact", "", better="higher"), 1 - lost, names
            ),
        ]


def _starts(context: Context, runs: int) -> list[tuple[str, Structure]]:
    """Named starts: those of the context, else test structures at equal distances."""
    if context.starts:
        return [(f"start-{i}", structure) for i, structure in enumerate(context.starts)]
    if context.test is None:
        raise NotApplicable("There is neither a start nor a test structure to begin with.")
    picks = np.unique(np.linspace(0, len(context.test) - 1, runs).round().astype(int))
    records = [context.test.records[i] for i in picks]
    return [(r.name or f"test-{i}", r.structure) for i, r in zip(picks, records)]


def drift_and_fluctuation(
    times: Float[np.ndarray, "frames"], energies: Float[np.ndarray, "runs frames"]
) -> tuple[Float[np.ndarray, "runs"], Float[np.ndarray, "runs"]]:
    """Slope of a straight line through each run, and the standard deviation around it.

    Args:
        times: fs.
        energies: eV/atom; a run with a NaN gives NaN.

    Returns:
        meV/atom/ps and meV/atom.
    """
    centred = times - times.mean()
    mean = energies.mean(axis=1, keepdims=True)
    slopes = (energies - mean) @ centred / (centred @ centred)
    lines = mean + slopes[:, None] * centred
    return slopes * MEV_PER_PS, (energies - lines).std(axis=1) * 1e3


def _mean_over_runs(
    naming: Naming,
    values: Float[np.ndarray, "runs"],
    names: tuple[str, ...],
    yardstick: Yardstick = NO_YARDSTICK,
) -> Metric | None:
    """Mean over the runs; no interval where all runs agree to the last bit."""
    finite = np.isfinite(values)
    if not finite.any():
        return None
    sums = Sums(np.where(finite, values, 0.0), finite.astype(float), names)
    if np.ptp(values[finite]) == 0:
        why = "all runs gave the same value: resampling them says nothing of rarer events"
        return single_value(naming, sums.value(), int(finite.sum()), why, yardstick)
    return mean_error(naming, sums, yardstick)


def _energy_metrics(
    slopes: np.ndarray, residuals: np.ndarray, names: tuple[str, ...]
) -> list[Metric | None]:
    unit = "meV/atom/ps"
    signed = Naming("energy_drift", "Drift of the total energy", unit, better="neither")
    size = Naming("energy_drift_abs", "Drift of the total energy, size", unit)
    around = Naming("energy_fluctuation", "Fluctuation of the total energy", "meV/atom")
    return [
        _mean_over_runs(signed, slopes, names),
        _mean_over_runs(size, np.abs(slopes), names),
        _mean_over_runs(around, residuals, names),
    ]


def _stretch_metric(stretches: Float[np.ndarray, "runs frames"]) -> Metric | None:
    if not np.isfinite(stretches).any():
        return None
    naming = Naming("bond_stretch_max", "Longest bond relative to the start", "", better="neither")
    runs = int(np.isfinite(stretches).any(axis=1).sum())
    return single_value(naming, float(np.nanmax(stretches)), runs, "a maximum")


def _figures(
    name: str, times: np.ndarray, per_atom: np.ndarray, slopes: np.ndarray, lost_fs: np.ndarray
) -> tuple[Figure, ...]:
    """Total energy of the run that drifts most, and the share of runs intact, against time."""
    finite = np.isfinite(slopes)
    complete = np.flatnonzero(finite)
    run = (
        int(complete[np.argmax(np.abs(slopes[complete]))])
        if len(complete)
        else int(np.argmax(np.isfinite(per_atom).sum(axis=1)))
    )
    keep = np.flatnonzero(np.isfinite(per_atom[run]))
    keep = keep[:: max(1, -(-len(keep) // CURVE_POINTS))]
    curve = (per_atom[run, keep] - per_atom[run, 0]) * 1e3
    drift = Figure(
        kind="lines",
        group="dynamics:drift",
        title="Total energy of the run that drifts most",
        x_label="time (ps)",
        y_label="E(t) - E(0) (meV/atom)",
        series=(Series(name, rounded(times[keep] / 1e3), rounded(curve)),),
        note=f"{name}: run {run} of {len(slopes)}; {int((~finite).sum())} did not end.",
    )
    until = times[-1] - lost_fs[np.isfinite(lost_fs)]
    ticks = times[:: max(1, -(-len(times) // CURVE_POINTS))]
    shares = (until[None, :] >= ticks[:, None]).mean(axis=1)
    survival = Figure(
        kind="lines",
        group="dynamics:survival",
        title="Runs with all bonds intact",
        x_label="time (ps)",
        y_label="share of runs",
        series=(Series(name, rounded(ticks / 1e3), rounded(shares)),),
    )
    return drift, survival
