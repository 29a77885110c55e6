"""Are the forces the gradient of the energy? Work around closed loops, and force against slope.

Checked: tests/assays/test_conservation.py, with fields whose loop integrals are known exactly.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from karat.assays.conservation import loops
from karat.assays.evaluate import MOTION, predict_cases
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
    Naming,
    Sums,
    answered,
    mean_error,
    rounded,
    single_value,
    time_blocks,
    worst_first,
)
from karat.core.errors import BadInput
from karat.data.dataset import Record
from karat.potentials.protocol import AbstractPotential
from karat.results.figure import Figure, Series
from karat.results.metric import Metric
from karat.structures.labels import Labels

LEAST_POINTS = 8


@dataclass(frozen=True)
class Conservation(AbstractAssay):
    """Work of the forces around small closed loops, and forces against the slope of the energy.

    A conservative potential does no work around a loop; heads that predict forces directly,
    energies that jump, and self-consistent fields that are not converged do. Zero forces do none
    either: this is no measure of accuracy, and no headline.

    Attributes:
        structures: around which loops are made: starts, else test structures at equal distances.
        loops: around each, in planes of their own.
        radius_angstrom: root mean square distance of an atom from the middle.
        points: on each loop. For a smooth surface the sums converge exponentially; what half of
            the points would give stands beside it (`loop_work_resolution`).
    """

    structures: int = 10
    loops: int = 2
    radius_angstrom: float = 0.1
    points: int = 16

    family: ClassVar[str] = "conservation"
    title: ClassVar[str] = "Conservation of energy by the forces"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[Need, ...]] = ()

    def __post_init__(self) -> None:
        if self.structures < 1 or self.loops < 1 or not 0 < self.radius_angstrom <= 1:
            raise BadInput(
                f"conservation: structures {self.structures} and loops {self.loops} must be at "
                f"least 1, radius_angstrom {self.radius_angstrom} in 0…1 Å."
            )
        if self.points < LEAST_POINTS or self.points % 2:
            raise BadInput(
                f"conservation: points {self.points} must be even and at least {LEAST_POINTS}."
            )

    def cases(self, context: Context) -> CaseSet:
        """One record for each loop, its middle; `planes` (all atoms, 2, 3): two unit directions."""
        random = np.random.default_rng(context.seed)
        records, planes = [], []
        for base in _middles(context, self.structures):
            for loop in range(self.loops):
                records.append(dataclasses.replace(base, name=f"{base.name} loop {loop}"))
                planes.append(np.stack(loops.directions(len(base.structure), random), axis=1))
        return CaseSet(records=tuple(records), arrays={"planes": np.concatenate(planes)})

    def measure(self, potential: AbstractPotential, cases: CaseSet) -> Measurement:
        """F·dx/dθ and E (loops, points), in eV per radian and eV."""
        structures, names, along = [], [], []
        for record, plane in zip(cases.records, _planes(cases)):
            middle = record.structure.positions
            positions = loops.around(middle, plane, self.radius_angstrom, self.points)
            along.append(loops.tangents(plane, self.radius_angstrom, self.points))
            structures += [record.structure.replace(positions=x) for x in positions]
            names += [record.name] * self.points
        found = predict_cases(potential, names, structures, [MOTION] * len(names), "loop")
        shape = (len(cases.records), self.points)
        power, energies = np.full(shape, np.nan), np.full(shape, np.nan)
        for i, labels in enumerate(found.labels):
            if labels is None:
                continue
            loop, point = divmod(i, self.points)
            assert labels.forces is not None
            assert labels.energy is not None
            power[loop, point] = np.sum(labels.forces * along[loop][point])
            energies[loop, point] = labels.energy
        failed = {failure.case: failure for failure in reversed(found.failures)}
        for loop, record in enumerate(cases.records):
            if record.name in failed:
                power[loop] = energies[loop] = np.nan
        return Measurement(
            arrays={"power": power, "energies": energies},
            payload={"missing": dict(found.missing)},
            failures=tuple(failed[r.name] for r in cases.records if r.name in failed),
        )

    def score(self, cases: CaseSet, measured: Measurement, contestant: Contestant) -> Score:
        """Loop work, its share of the work that is done, force against slope; a curve."""
        power = measured.arrays["power"]
        names = tuple(record.name for record in cases.records)
        groups = _groups(cases)
        sizes = np.array([len(record.structure) for record in cases.records])
        lost = np.abs(loops.work(power))
        done = loops.work(np.abs(power))
        coarse = np.abs(loops.work(power) - loops.work(power[:, ::2]))
        length = self.radius_angstrom * np.sqrt(sizes)  # |dx/dθ|, the same at all points
        gaps = (power + loops.slope(measured.arrays["energies"])) / length[:, None]
        per_loop = np.sqrt(np.mean(gaps**2, axis=1))
        whole = np.isfinite(lost)
        metrics: list[Metric | None] = [
            _rms(Naming("loop_work", "Work of the forces around a loop", "eV"), lost, groups),
            _share(lost, done, groups),
            _rms(
                Naming("force_slope_gap", "Force minus slope of energy", "eV/Å"), per_loop, groups
            ),
            _resolution(coarse),
            answered(int(whole.sum()), len(names), len(measured.payload["missing"])),
        ]
        return Score(
            metrics=tuple(metric for metric in metrics if metric is not None),
            figures=_figures(contestant.name, names, measured, lost),
            case_names=names,
            errors={"loop_work": lost, "force_slope_gap": per_loop},
            groups=groups,
            worst=worst_first(lost, names),
        )


def _middles(context: Context, count: int) -> list[Record]:
    """Records with unique names: starts, else test structures at equal distances."""
    if context.starts:
        chosen = context.starts[:count]
        return [Record(s, Labels(), name=f"start-{i}") for i, s in enumerate(chosen)]
    if context.test is None:
        raise NotApplicable("There is neither a start nor a test structure to go around.")
    picks = np.unique(np.linspace(0, len(context.test) - 1, count).round().astype(int))
    return [
        dataclasses.replace(context.test.records[i], labels=Labels(), name=f"test-{i}")
        for i in picks
    ]


def _planes(
    cases: CaseSet,
) -> list[tuple[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "atoms 3"]]]:
    ends = np.cumsum([len(record.structure) for record in cases.records])
    return [(part[:, 0], part[:, 1]) for part in np.split(cases.arrays["planes"], ends[:-1])]


def _groups(cases: CaseSet) -> tuple[str, ...]:
    """Loops around one structure, and around frames near in time, are resampled together."""
    middles = {_middle_name(record): record for record in cases.records}
    group_of = dict(zip(middles, time_blocks(list(middles.values()))))
    return tuple(group_of[_middle_name(record)] for record in cases.records)


def _middle_name(record: Record) -> str:
    return record.name.rsplit(" loop ", 1)[0]


def _sums(values: Float[np.ndarray, "loops"], groups: tuple[str, ...]) -> Sums:
    finite = np.isfinite(values)
    return Sums(np.where(finite, values, 0.0), finite.astype(float), groups)


def _rms(
    naming: Naming, values: Float[np.ndarray, "loops"], groups: tuple[str, ...]
) -> Metric | None:
    return mean_error(naming, _sums(values**2, groups), root=True)


def _share(
    lost: Float[np.ndarray, "loops"],
    done: Float[np.ndarray, "loops"],
    groups: tuple[str, ...],
) -> Metric | None:
    """Σ|∮F·dx| / Σ∮|F·dx|: 0 for a gradient, 1 where all work is around and around."""
    naming = Naming("work_not_conserved", "Share of the work that does not come back", "")
    whole = np.isfinite(done) & (done > 0)
    total, count = np.where(whole, lost, 0.0), np.where(whole, done, 0.0)
    return mean_error(naming, Sums(total, count, groups))


def _resolution(coarse: Float[np.ndarray, "loops"]) -> Metric | None:
    finite = np.isfinite(coarse)
    if not finite.any():
        return None
    naming = Naming(
        "loop_work_resolution", "What half of the points change in it", "eV", better="neither"
    )
    value = float(np.sqrt(np.mean(coarse[finite] ** 2)))
    return single_value(naming, value, int(finite.sum()), "an error of quadrature")


def _figures(
    name: str, cases: tuple[str, ...], measured: Measurement, lost: Float[np.ndarray, "loops"]
) -> tuple[Figure, ...]:
    """Work plus change of energy along the worst loop: flat for a gradient."""
    if not np.isfinite(lost).any():
        return ()
    worst = int(np.nanargmax(lost))
    power, energies = measured.arrays["power"][worst], measured.arrays["energies"][worst]
    gap = loops.work_by_angle(power) + energies - energies[0]
    gap = np.append(gap, loops.work(power[None])[0])
    degrees = np.degrees(np.append(loops.angles(len(power)), 2 * np.pi))
    return (
        Figure(
            kind="lines",
            group="conservation",
            title="Work of the forces plus change of energy along the worst loop",
            x_label="angle (degrees)",
            y_label="W + E - E(0) (meV)",
            series=(Series(name, rounded(degrees), rounded(gap * 1e3)),),
            note=f"{name}: {cases[worst]}. A gradient stays at zero.",
        ),
    )
