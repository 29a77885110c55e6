"""Molecular dynamics: trajectories in files, series and means.

Checked: tests/campaign/test_compute_motion.py.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from karat.campaign.compute.protocol import (
    AbstractProperty,
    Case,
    Desk,
    Found,
    Source,
    Value,
    one_per_structure,
)
from karat.campaign.inputs import component_digest
from karat.core.errors import BadInput, KaratError
from karat.core.units import BOLTZMANN
from karat.potentials.protocol import (
    AbstractPotential,
    AbstractPotentialComponent,
    check_suitable,
)
from karat.results.figure import Figure, Series
from karat.results.metric import Failure
from karat.results.statistics import Interval
from karat.simulation.analysis.correlated import series_mean, student
from karat.simulation.analysis.thermodynamics import (
    LEAST_RUNS,
    density_g_per_cm3,
    energy_drift_mev_per_atom_per_ns,
    pressure_tensor_gpa,
)
from karat.simulation.export.bundle import component_of
from karat.simulation.loop import Dynamics, Ensemble
from karat.simulation.start_checks import check_overlap
from karat.simulation.trajectory.frames import FrameBlock
from karat.simulation.trajectory.rate import progress_line
from karat.simulation.velocities import degrees_of_freedom
from karat.structures.labels import Quantity
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from karat.simulation.stream import Streamed

SHOWN_POINTS = 1000
"""Of a curve on the page."""
MOST_REPLICAS = 500
"""Their files are open together (`stream.py`)."""
_D = Dynamics()


@dataclass(frozen=True)
class MolecularDynamics(AbstractProperty):
    """Molecular dynamics at constant energy, temperature or pressure; the trajectory is kept.

    Attributes:
        ensemble: nve, langevin, nose-hoover or velocity-rescaling.
        temperature_k: of the start and of the thermostat.
        timestep_fs: time step.
        steps: how many.
        every: steps from one kept frame to the next.
        friction_per_ps: of langevin.
        seed: of velocities and noise; replicas count on from it.
        thermostat_ps: relaxation time of nose-hoover and velocity-rescaling.
        chain_length: thermostats in a Nosé–Hoover chain.
        barostat: none, isotropic or full (stochastic cell rescaling).
        pressure_gpa: of the barostat.
        barostat_ps: its relaxation time.
        compressibility_per_gpa: a guess; only the barostat's speed depends on it.
        end_temperature_k: reached at the last step (a ramp).
        end_pressure_gpa: reached at the last step (a ramp).
        inner_steps: r-RESPA: steps of the inner potential in each step.
        inner_potential: a .karat file or a name; needed where inner_steps is above 1.
        inner_settings: of the inner potential, e.g. {preset: Si}.
        replicas: copies of each structure that run side by side, with seeds of their own.
        format: of the trajectory, xyz or h5.
    """

    ensemble: Ensemble = _D.ensemble
    temperature_k: float = _D.temperature_k
    timestep_fs: float = _D.timestep_fs
    steps: int = _D.steps
    every: int = _D.every
    friction_per_ps: float = _D.friction_per_ps
    seed: int = _D.seed
    thermostat_ps: float = _D.thermostat_ps
    chain_length: int = _D.chain_length
    barostat: Literal["none", "isotropic", "full"] = _D.barostat
    pressure_gpa: float = _D.pressure_gpa
    barostat_ps: float = _D.barostat_ps
    compressibility_per_gpa: float = _D.compressibility_per_gpa
    end_temperature_k: float | None = None
    end_pressure_gpa: float | None = None
    inner_steps: int = _D.inner_steps
    inner_potential: str = ""
    inner_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    replicas: int = 1
    format: Literal["xyz", "h5"] = "xyz"

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        *("temperature", "potential_energy_per_atom", "pressure", "density", "drift"),
        "frames",
    )

    def __post_init__(self) -> None:
        self._settings(False)
        if not 1 <= self.replicas <= MOST_REPLICAS:
            raise BadInput(f"md.replicas is {self.replicas}; 1 to {MOST_REPLICAS}.")
        if bool(self.inner_potential) != (self.inner_steps > 1):
            raise BadInput(
                f"md.inner_steps is {self.inner_steps} and inner_potential "
                f"'{self.inner_potential}': multiple time steps need both, single ones neither."
            )
        if self.inner_settings and not self.inner_potential:
            raise BadInput("md.inner_settings are given, but no inner_potential.")

    def _settings(self, stress: bool) -> Dynamics:
        names = {field.name for field in dataclasses.fields(Dynamics)} - {"stress"}
        return Dynamics(**{name: getattr(self, name) for name in names}, stress=stress)

    def _inner(self) -> AbstractPotentialComponent | None:
        if not self.inner_potential:
            return None
        found: AbstractPotentialComponent
        _, found = component_of(self.inner_potential, self.inner_settings)
        return found

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        cases, inner = one_per_structure(sources), self._inner()
        if inner is None:
            return cases
        variant = f"inner {component_digest(inner)}"  # the contents of its file count
        return tuple(dataclasses.replace(case, variant=variant) for case in cases)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        want: tuple[Quantity, ...] = ("energy", "forces")
        if self.barostat != "none":
            want += ("stress",)
        check_suitable(potential, case.structure, want)
        check_overlap(case.structure)
        inner = self._inner()
        if inner is None:
            return
        loaded = inner.load()
        if not (potential.traits.native and loaded.traits.native):
            raise BadInput(
                "md.inner_potential: multiple time steps need two native potentials, and "
                f"{'the inner' if potential.traits.native else 'the outer'} one is none."
            )
        check_suitable(loaded, case.structure, ("energy", "forces"))

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        outcomes: list[Found | KaratError] = []
        for case in cases:
            try:
                outcomes.append(self._one(potential, case, desk))
            except KaratError as error:
                outcomes.append(error)
        return outcomes

    def _one(self, potential: AbstractPotential, case: Case, desk: Desk) -> Found:
        from karat.simulation.stream import stream_dynamics

        structure, folder = case.structure, desk.folder(case)
        stress = structure.periodic.all() and "stress" in potential.traits.quantities
        settings = self._settings(bool(stress))
        inner = self._inner()

        def progress(done: int, total: int, seconds: float, before: int) -> None:
            line = progress_line(
                done, total, seconds, self.timestep_fs, before, replicas=self.replicas
            )
            desk.say(f"{case.name}: {line}")

        numbers = [f"-{k}" if self.replicas > 1 else "" for k in range(self.replicas)]
        streamed = stream_dynamics(
            potential,
            [structure] * self.replicas,
            settings,
            [folder / f"trajectory{number}.{self.format}" for number in numbers],
            folder / "checkpoints",
            inner=None if inner is None else inner.load(),
            identity={"key": desk.key(case)},
            progress=progress,
        )
        return _found(structure, settings, streamed)


def _found(structure: Structure, settings: Dynamics, streamed: "Sequence[Streamed]") -> Found:
    """Means are those of the replicas that reached the end, where any did."""
    runs = [_series(structure, settings, one.path) for one in streamed]
    whole = [k for k, one in enumerate(streamed) if one.stopped is None] or list(range(len(runs)))
    values: list[Value] = []
    notes: dict[str, str] = {}
    figures: list[Figure] = []
    for k, (times, _) in enumerate(runs):
        values.append(Value(_numbered("times", k, runs), times, "fs", ("frames",)))
    for name, (unit, _) in runs[0][1].items():
        for k, (_, found) in enumerate(runs):
            series = found[name][1]
            values.append(Value(_numbered(f"{name}_series", k, runs), series, unit, ("frames",)))
        figures.append(_figure(name, unit, runs))
        _add_mean(values, notes, name, unit, [_mean(runs[k][1][name][1]) for k in whole])
    if settings.ensemble == "nve":
        slopes = [_drift(*runs[k], len(structure)) for k in whole if len(runs[k][0]) > 1]
        if slopes:
            _add_mean(values, notes, "drift", "meV/atom/ns", slopes)
        else:
            notes["drift"] = "none: there is one frame only"
    values.append(Value("frames", np.array(sum(one.frames for one in streamed))))
    if len(whole) < len(runs):
        notes["means"] = f"of replicas {', '.join(map(str, whole))}; the others stopped early"
    for warning in dict.fromkeys(words for one in streamed for words in one.warnings):
        notes["checkpoint"] = f"{notes.get('checkpoint', '')} {warning}".strip()
    files = {one.path.name: one.path for one in streamed}
    return Found(tuple(values), {}, _failures(streamed), tuple(figures), notes, files)


def _failures(streamed: "Sequence[Streamed]") -> tuple[Failure, ...]:
    return tuple(
        dataclasses.replace(one.stopped, case=f"replica {k}") if len(streamed) > 1 else one.stopped
        for k, one in enumerate(streamed)
        if one.stopped is not None
    )


def _numbered(name: str, k: int, runs: Sequence) -> str:
    return f"{name}_{k}" if len(runs) > 1 else name


def _add_mean(
    values: list[Value], notes: dict[str, str], name: str, unit: str, means: Sequence[Interval]
) -> None:
    """The mean over time, or over replicas of their means, and its 95 % interval."""
    runs = len(means)
    mean = means[0]
    if runs > 1:
        mean = student(np.array([one.value for one in means]), LEAST_RUNS)
    values.append(Value(name, np.array(mean.value), unit, title="mean"))
    if mean.low is None or mean.high is None:
        few = f"{runs} replicas, at least {LEAST_RUNS} needed"
        notes[name] = f"no interval: {few if runs > 1 else mean.why_no_interval}"
        return
    bounds = np.array([mean.low, mean.high])
    values.append(Value(f"{name}_interval", bounds, unit, ("bounds",), "95 %"))


def _figure(name: str, unit: str, runs: "Sequence[_Series]") -> Figure:
    curves = []
    for k, (times, found) in enumerate(runs):
        shown = slice(None, None, max(1, len(times) // SHOWN_POINTS))
        x, y = (times[shown] / 1000).tolist(), found[name][1][shown].tolist()
        curves.append(Series(f"replica {k}" if len(runs) > 1 else name, tuple(x), tuple(y)))
    words = name.replace("_", " ")
    return Figure("lines", f"md {name}", words.capitalize(), "time, ps", f"{words}, {unit}",
                  tuple(curves))  # fmt: skip


_Series = tuple[np.ndarray, dict[str, tuple[str, np.ndarray]]]


def _series(structure: Structure, settings: Dynamics, path: Path) -> _Series:
    """Times and, by name, unit and value of each frame; the file is read in pieces."""
    blocks = list(_reduced(structure, settings, path))
    if not blocks:
        raise BadInput(f"{path.name}: holds no frame.")
    times = np.concatenate([block[0] for block in blocks])
    names = blocks[0][1]
    columns = {name: np.concatenate([b[1][name][1] for b in blocks]) for name in names}
    return times, {name: (names[name][0], column) for name, column in columns.items()}


def _reduced(structure: Structure, settings: Dynamics, path: Path) -> Iterator[_Series]:
    from karat.simulation.trajectory.writer import read_trajectory

    atoms = len(structure)
    whole = settings.ensemble == "langevin"  # its noise moves and turns the whole system
    freedom = 3 * atoms if whole else max(degrees_of_freedom(structure), 1)
    for block in read_trajectory(path).blocks():
        columns = {
            "temperature": ("K", 2 * block.kinetic_energies / (freedom * BOLTZMANN)),
            "potential_energy_per_atom": ("eV", block.potential_energies / atoms),
        }
        if block.conserved is not None:
            columns["conserved_energy_per_atom"] = ("eV", block.conserved / atoms)
        if block.stress is not None:
            columns["pressure"] = ("GPa", _pressures(structure, block))
        if settings.barostat != "none":
            volumes = np.abs(np.linalg.det(block.cells))
            columns["volume_per_atom"] = ("Å³", volumes / atoms)
            mass = density_g_per_cm3(structure) * structure.volume
            columns["density"] = ("g/cm³", mass / volumes)
        yield block.times_fs, columns


def _pressures(structure: Structure, block: FrameBlock) -> np.ndarray:
    volumes = np.abs(np.linalg.det(block.cells))
    assert block.stress is not None
    tensors = pressure_tensor_gpa(structure, block.velocities, block.stress, volumes)
    return np.trace(tensors, axis1=1, axis2=2) / 3


def _mean(series: np.ndarray) -> Interval:
    """Over the part after the transient."""
    if len(series) < 2:
        return Interval(float(series[0]), None, None, 1, "one frame only")
    return series_mean(series).mean


def _drift(times: np.ndarray, found: dict[str, tuple[str, np.ndarray]], atoms: int) -> Interval:
    total = found["conserved_energy_per_atom"][1] * atoms
    return energy_drift_mev_per_atom_per_ns(times, total, atoms)
