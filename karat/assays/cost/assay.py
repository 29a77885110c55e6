"""What a contestant costs: time per call against atoms, throughput, memory, training.

Checked: tests/assays/test_cost.py, with contestants that take a known time.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.assays.cost import memory
from karat.assays.cost.growth import grow
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
from karat.assays.scoring import SEED, Naming, rounded, single_value
from karat.core.errors import BadInput, KaratError
from karat.data.dataset import Record
from karat.potentials.protocol import AbstractPotential
from karat.results.figure import Figure, Series
from karat.results.metric import Failure, Metric
from karat.results.statistics import bootstrap
from karat.structures.labels import Labels
from karat.structures.structure import Structure

SHAKE_ANGSTROM = 1e-3
"""Every timed call sees atoms moved by this much, so that no program answers from memory."""
LEAST_CALLS = 3


@dataclass(frozen=True)
class Cost(AbstractAssay):
    """Wall time of energy and forces, the neighbour list and all transfers included.

    Sizes double from the system itself: supercells of crystals, far-apart copies of molecules
    (`growth.grow`). Each size: `warm_up` calls that are not counted (compilation), then up to
    `calls` calls or `seconds` of them, at least three. One thread or as many as the process
    may use: provenance names the hardware.

    Attributes:
        largest_atoms: no system larger than this (the system itself is always timed).
        slow_call_seconds: no larger system after one with slower calls.
        calls: timed calls of each size.
        warm_up: calls before them.
        seconds: stop timing a size after this long.
        batch: structures in one call for the throughput.
    """

    largest_atoms: int = 250
    slow_call_seconds: float = 1.0
    calls: int = 15
    warm_up: int = 2
    seconds: float = 2.0
    batch: int = 32

    family: ClassVar[str] = "cost"
    title: ClassVar[str] = "Cost"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[Need, ...]] = ()
    timing: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.calls < LEAST_CALLS or self.warm_up < 1 or self.batch < 1:
            raise BadInput(
                f"cost: calls {self.calls} must be at least {LEAST_CALLS}, warm_up "
                f"{self.warm_up} and batch {self.batch} at least 1."
            )

    def cases(self, context: Context) -> CaseSet:
        """The system and its larger copies, smallest first."""
        if context.starts:
            structure = context.starts[0]
        elif context.test is not None:
            structure = context.test.records[0].structure
        else:
            raise NotApplicable("There is neither a start nor a test structure to time.")
        records, copies = [], 1
        while copies == 1 or copies * len(structure) <= self.largest_atoms:
            grown = grow(structure, copies)
            records.append(Record(grown, Labels(), name=f"{len(grown)} atoms", kind="size"))
            copies *= 2
        return CaseSet(records=tuple(records))

    def measure(self, potential: AbstractPotential, cases: CaseSet) -> Measurement:
        """Seconds of each call by size and of batches, memory; all of it under `timings`."""
        first = cases.records[0].structure
        reason = suitable(potential, first, MOTION)
        if reason:
            raise NotApplicable(reason)
        random = np.random.default_rng(SEED)
        before = memory.start()
        failures: list[Failure] = []
        missing: dict[str, str] = {}
        seconds: dict[str, list[float]] = {}
        for record in cases.records:
            reason = suitable(potential, record.structure, MOTION)
            if reason:
                missing[record.name] = reason
                continue
            try:
                spent = self._time(potential, [record.structure], random)
            except KaratError as error:
                failures.append(failure("timing", record.name, error))
                break
            seconds[record.name] = spent
            if float(np.median(spent)) > self.slow_call_seconds:
                break
        batch: list[float] = []
        try:
            batch = self._time(potential, [first] * self.batch, random)
        except KaratError as error:
            failures.append(failure("timing", f"batch of {self.batch}", error))
        used = memory.stop(before)
        return Measurement(
            failures=tuple(failures),
            payload={"missing": missing},
            timings={
                "seconds": seconds,
                "batch_seconds": batch,
                "memory_mib": None if used is None else dict(used.__dict__),
            },
        )

    def _time(
        self,
        potential: AbstractPotential,
        structures: Sequence[Structure],
        random: np.random.Generator,
    ) -> list[float]:
        """Wall seconds of each call after the warm-up."""
        spent: list[float] = []
        for call in range(self.warm_up + self.calls):
            shaken = [
                s.replace(positions=s.positions + random.normal(0, SHAKE_ANGSTROM, (len(s), 3)))
                for s in structures
            ]
            began = time.perf_counter()
            potential.predict(shaken, MOTION)
            took = time.perf_counter() - began
            if call >= self.warm_up:
                spent.append(took)
            if len(spent) >= LEAST_CALLS and sum(spent) > self.seconds:
                break
        return spent

    def score(self, cases: CaseSet, measured: Measurement, contestant: Contestant) -> Score:
        """Times with intervals over calls, memory, training; no karats: cost is an axis."""
        seconds: Mapping[str, list[float]] = measured.timings["seconds"]
        sizes = {record.name: len(record.structure) for record in cases.records}
        metrics: list[Metric] = []
        own = cases.records[0].name
        timed = [name for name in sizes if name in seconds]
        calls = {
            name: _median(
                Naming("time_per_call", "Energy and forces", "ms", subset=f"size:{name}"),
                seconds[name],
                1e3,
            )
            for name in timed
        }
        if own in timed:
            title = "Energy and forces of the system"
            metrics.append(dataclasses.replace(calls[own], subset="", title=title))
            naming = Naming("time_per_atom", "Energy and forces per atom", "µs/atom")
            metrics.append(_median(naming, seconds[own], 1e6 / sizes[own]))
        metrics += calls.values()
        if len(timed) > 2:
            metrics.append(_exponent([sizes[n] for n in timed], [seconds[n] for n in timed]))
        batch = measured.timings["batch_seconds"]
        if batch:
            naming = Naming(
                "batch_time_per_atom", f"The same, {self.batch} structures a call", "µs/atom"
            )
            metrics.append(_median(naming, batch, 1e6 / self.batch / sizes[own]))
        metrics += _memory_metrics(measured.timings["memory_mib"])
        metrics += _training_metrics(contestant.training)
        return Score(
            metrics=tuple(metrics),
            figures=_figures(contestant.name, [sizes[n] for n in timed], list(calls.values())),
        )


def _median(naming: Naming, seconds: Sequence[float], factor: float) -> Metric:
    """Median over calls with its interval."""
    values = np.array(seconds, dtype=float) * factor
    interval = bootstrap(values, "median", seed=SEED)
    return Metric(
        name=naming.name,
        value=float(np.median(values)),
        unit=naming.unit,
        low=interval.low,
        high=interval.high,
        n=len(values),
        better="lower",
        why_no_interval=interval.why_no_interval,
        subset=naming.subset,
        title=naming.title,
    )


def _exponent(sizes: Sequence[int], seconds: Sequence[Sequence[float]]) -> Metric:
    """Slope of log time against log atoms over the larger half of the sizes."""
    half = max(2, (len(sizes) + 1) // 2)
    x = np.log(np.array(sizes[-half:], dtype=float))
    y = np.log(np.array([np.median(s) for s in seconds[-half:]]))
    slope = float(np.polyfit(x, y, 1)[0])
    naming = Naming("scaling_exponent", "Growth of time with atoms (exponent)", "")
    return single_value(naming, slope, half, f"one line through {half} sizes")


def _memory_metrics(memory_mib: Mapping[str, float] | None) -> list[Metric]:
    if memory_mib is None:
        return []
    why = "one measurement of one process (memory of accelerators not included)"
    peak = Naming("peak_memory", "Peak resident memory, Python and libraries included", "MiB")
    growth = Naming("memory_growth", "Growth of resident memory over all calls", "MiB")
    grown = max(memory_mib["peak"] - memory_mib["before"], 0.0)
    return [
        single_value(peak, memory_mib["peak"], 1, why),
        single_value(growth, grown, 1, why),
    ]


def _training_metrics(training: Mapping[str, Any]) -> list[Metric]:
    rows = (
        ("seconds", Naming("training_time", "Training, wall time", "s"), "one training"),
        ("labels", Naming("training_labels", "Labels used for training", ""), "a count"),
    )
    return [
        single_value(naming, float(training[key]), 1, why)
        for key, naming, why in rows
        if key in training
    ]


def _figures(name: str, atoms: Sequence[int], calls: Sequence[Metric]) -> tuple[Figure, ...]:
    """Time per call against atoms, with intervals where every size has one."""
    if not calls:
        return ()
    bounds = [(m.low, m.high) for m in calls if m.low is not None and m.high is not None]
    complete = len(bounds) == len(calls)
    series = Series(
        name=name,
        x=tuple(float(count) for count in atoms),
        y=rounded(np.array([m.value for m in calls])),
        low=rounded(np.array([low for low, _ in bounds])) if complete else (),
        high=rounded(np.array([high for _, high in bounds])) if complete else (),
    )
    figure = Figure(
        kind="lines",
        group="cost:size",
        title="Time of energy and forces",
        x_label="atoms",
        y_label="time per call (ms)",
        series=(series,),
        log_x=True,
        log_y=True,
        note="Median of repeated calls; one process.",
    )
    return (figure,)
