"""Torsion profiles: each contestant's energies on the reference's own relaxed scans.

Checked: tests/assays/test_torsions_assay.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from karat.assays.evaluate import failure, predict_cases
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
    Yardstick,
    answered,
    mean_error,
    remove_offsets,
    rounded,
    single_value,
    worst_first,
)
from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.data.dataset import Record
from karat.potentials.protocol import AbstractPotential
from karat.results.figure import Figure, Series
from karat.results.metric import Failure, Metric
from karat.structures.labels import Labels, LevelOfTheory

TIE_EV = 0.005
"""Reference minima this close (0.1 kcal/mol) count as equally low: methyl has three."""
LEAST_POINTS = 3


@dataclass(frozen=True)
class TorsionProfiles(AbstractAssay):
    """Energy profiles around every bond that can turn.

    The reference relaxes everything but the dihedral at each point; contestants are evaluated
    on these very structures, so that errors are of energies alone, not of relaxation. Profiles
    are aligned by their means. Torsions are found from the bonds of the first start.

    Attributes:
        points: of each scan, over 360°.
        both_ways: scan both directions all round and keep the lower energy (twice the cost).
        force_tolerance_ev_angstrom: of the relaxations.
        max_torsions: only the first so many.
    """

    points: int = 12
    both_ways: bool = False
    force_tolerance_ev_angstrom: float = 0.02
    max_torsions: int = 8

    family: ClassVar[str] = "torsions"
    title: ClassVar[str] = "Torsion profiles"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[Need, ...]] = ("starts", "reference")

    def __post_init__(self) -> None:
        if self.points < LEAST_POINTS or self.max_torsions < 1:
            raise BadInput(
                f"torsions: points {self.points} must be at least {LEAST_POINTS}, max_torsions "
                f"{self.max_torsions} at least 1."
            )

    def cases(self, context: Context) -> CaseSet:
        """One record for each point, labelled with the reference energy; `angles` in degrees."""
        from karat.simulation.torsions import find_torsions, torsion_scan

        if context.reference is None or not context.starts:
            raise NotApplicable("Torsion scans need a start and a reference engine.")
        start = context.starts[0]
        try:
            torsions = find_torsions(start)[: self.max_torsions]
        except UnsuitableStructure as error:
            raise NotApplicable(str(error)) from error
        if not torsions:
            raise NotApplicable(f"{start.formula} has no bond that can turn.")
        records: list[Record] = []
        angles: list[float] = []
        failures: list[Failure] = []
        for torsion in torsions:
            try:
                scan = torsion_scan(
                    context.reference,
                    start,
                    torsion,
                    points=self.points,
                    both_ways=self.both_ways,
                    force_tolerance=self.force_tolerance_ev_angstrom,
                )
            except CalculationFailed as error:
                failures.append(failure("torsion scan", torsion.name, error))
                continue
            failures += scan.failures
            if len(scan.energies) < LEAST_POINTS:
                continue
            for angle, structure, energy in zip(
                scan.angles_degree.tolist(), scan.structures, scan.energies.tolist()
            ):
                name = f"{torsion.name} {angle:.1f}°"
                labels = Labels(energy=energy)
                records.append(Record(structure, labels, name, torsion.name, torsion.name))
                angles.append(angle)
        return CaseSet(
            records=tuple(records),
            arrays={"angles": np.array(angles)},
            failures=tuple(failures),
            level=context.level,
        )

    def measure(self, potential: AbstractPotential, cases: CaseSet) -> Measurement:
        """Energies (points,) in eV on the reference's structures."""
        if not cases.records:
            raise NotApplicable("The reference could not scan any torsion; see its failures.")
        names = [record.name for record in cases.records]
        structures = [record.structure for record in cases.records]
        found = predict_cases(
            potential, names, structures, [("energy",)] * len(names), "torsion point"
        )
        energies = [np.nan if x is None or x.energy is None else x.energy for x in found.labels]
        return Measurement(
            arrays={"energies": np.array(energies)},
            payload={"missing": dict(found.missing)},
            failures=found.failures,
        )

    def score(self, cases: CaseSet, measured: Measurement, contestant: Contestant) -> Score:
        """RMSE of the profiles (the headline), barriers, places of the minima; profiles."""
        profiles = _Profiles(cases, measured.arrays["energies"])
        levels = (cases.level, contestant.level)
        names = tuple(record.name for record in cases.records)
        done = int(np.isfinite(measured.arrays["energies"]).sum())
        metrics = [
            *profiles.rmse(levels),
            *profiles.barriers(),
            answered(done, len(names), len(measured.payload["missing"])),
        ]
        errors = np.abs(profiles.errors)
        return Score(
            metrics=tuple(metric for metric in metrics if metric is not None),
            figures=profiles.figures(contestant.name, cases.arrays["angles"]),
            case_names=names,
            errors={"torsion_rmse": errors},
            groups=profiles.groups,
            worst=worst_first(errors, names),
        )


class _Profiles:
    """Reference and contestant, aligned by the means over the points that both have."""

    def __init__(self, cases: CaseSet, energies: Float[np.ndarray, "points"]) -> None:
        self.groups = tuple(record.group for record in cases.records)
        self.names = tuple(dict.fromkeys(self.groups))
        self.angles = cases.arrays["angles"]
        self.index: Int[np.ndarray, "points"] = np.array([self.names.index(g) for g in self.groups])
        labelled = [record.labels.energy for record in cases.records]
        reference = np.array([np.nan if e is None else e for e in labelled])
        self.full = remove_offsets(reference, self.index)
        common = np.where(np.isfinite(energies), reference, np.nan)
        self.errors = remove_offsets(energies - common, self.index)
        self.reference = remove_offsets(common, self.index)

    def _sums(self, values: np.ndarray, member: int | None) -> Sums:
        used = np.isfinite(values)
        if member is not None:
            used = used & (self.index == member)
        squared = np.where(used, values, 0.0) ** 2
        return Sums(squared, used.astype(float), self.groups)

    def rmse(
        self, levels: tuple[LevelOfTheory | None, LevelOfTheory | None]
    ) -> list[Metric | None]:
        """Of all torsions and of each; the trivial predictor is a flat profile."""
        found = []
        for member, name in [(None, ""), *enumerate(self.names)]:
            trivial = self._sums(self.reference, member).value(root=True)
            yardstick = Yardstick.of("torsion_rmse", "eV", levels, trivial, "a flat profile")
            subset = f"torsion:{name}" if name else ""
            naming = Naming("torsion_rmse", "Torsion profile RMSE", "eV", subset, not name)
            found.append(mean_error(naming, self._sums(self.errors, member), yardstick, root=True))
        return found

    def barriers(self) -> list[Metric | None]:
        """Error of the highest minus the lowest point, and distance of the lowest points."""
        rows: dict[str, tuple[float, float, float]] = {}
        for member, name in enumerate(self.names):
            picks = np.flatnonzero((self.index == member) & np.isfinite(self.errors))
            if len(picks) >= LEAST_POINTS:
                reference = self.reference[picks]
                own = reference + self.errors[picks]
                distance = minimum_shift(self.angles[picks], reference, own)
                height = float(np.ptp(reference))
                rows[name] = (abs(float(np.ptp(own)) - height), height, distance)
        if not rows:
            return []
        names, table = tuple(rows), np.array(list(rows.values()))
        ones = np.ones(len(names))
        yardstick = Yardstick(
            floor_source="not known for barriers",
            baseline=float(table[:, 1].mean()),
            baseline_source="a flat profile",
        )
        barrier = Naming("barrier_mae", "Barrier height MAE", "eV")
        shift = Naming("minimum_shift", "Distance of the minima", "°")
        found = [
            mean_error(barrier, Sums(table[:, 0], ones, names), yardstick),
            mean_error(shift, Sums(table[:, 2], ones, names)),
        ]
        why = "a deterministic single value"
        for name, (error, height, distance) in rows.items():
            subset = f"torsion:{name}"
            flat = Yardstick(floor_source="not known", baseline=height, baseline_source="flat")
            naming = Naming("barrier_mae", "Barrier height error", "eV", subset)
            found.append(single_value(naming, error, 1, why, flat))
            naming = Naming("minimum_shift", "Distance of the minima", "°", subset)
            found.append(single_value(naming, distance, 1, why))
        return found

    def figures(self, name: str, angles: Float[np.ndarray, "points"]) -> tuple[Figure, ...]:
        """One for each torsion, with the reference's own curve."""
        found = []
        for member, torsion in enumerate(self.names):
            picks = np.flatnonzero(self.index == member)
            lowest = np.nanmin(self.full[picks])
            reference = self.full[picks] - lowest
            common = np.isfinite(self.errors[picks])
            own = self.errors[picks] + reference
            series = [Series("reference", rounded(angles[picks]), rounded(reference))]
            if common.any():
                # aligned with the reference by the mean over the points that both have
                curve = Series(name, rounded(angles[picks][common]), rounded(own[common]))
                series.append(curve)
            found.append(
                Figure(
                    kind="lines",
                    group=f"torsion:{torsion}",
                    title=f"Torsion {torsion}",
                    x_label="dihedral angle (°)",
                    y_label="relative energy (eV)",
                    series=tuple(series),
                    note="On the reference's relaxed structures; aligned by the mean.",
                    extra={"torsion": torsion},
                )
            )
        return tuple(found)


def minimum_shift(
    angles: Float[np.ndarray, "points"],
    reference: Float[np.ndarray, "points"],
    own: Float[np.ndarray, "points"],
) -> float:
    """Degrees from the contestant's lowest point to the nearest of the reference's lowest ones.

    Reference points within `TIE_EV` of the lowest all count, since symmetric rotors have several.
    """
    lowest = angles[reference <= reference.min() + TIE_EV]
    distance = np.abs((lowest - angles[int(np.argmin(own))] + 180.0) % 360.0 - 180.0)
    return float(distance.min())
