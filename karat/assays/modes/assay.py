"""Normal modes: each contestant relaxes the same start and takes its own Hessian.

Checked: tests/assays/test_modes_assay.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from karat.assays.evaluate import MOTION, failure, suitable
from karat.assays.modes.matching import align, matched_overlaps
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
    parity,
    per_case,
    single_value,
    worst_first,
)
from karat.core.errors import BadInput, CalculationFailed
from karat.core.units import INVERSE_CM
from karat.data.dataset import Record
from karat.potentials.protocol import AbstractPotential
from karat.results.metric import Failure, Metric
from karat.structures.labels import Labels
from karat.structures.structure import Structure

IMAGINARY_BELOW = -20.0
"""cm⁻¹; above it (below zero) a mode is soft within the noise of relaxation and differences."""
NO_INTERVAL = "one deterministic calculation: the modes of one structure are not independent"


_Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Frequencies (modes,), motions (modes, atoms, 3), positions (atoms, 3) of the minimum."""


@dataclass(frozen=True)
class NormalModes(AbstractAssay):
    """Harmonic frequencies at each contestant's own minimum, reached from the same start.

    The headline compares frequencies in ascending order, which needs no choice. Beside it they
    are matched by the motions: the pairing with the largest total squared overlap of the
    mass-weighted vectors after superposition. Crystals: fixed cell, Γ point.

    Attributes:
        starts: how many of the starts are used.
        displacement_angstrom: of the central differences.
    """

    starts: int = 1
    displacement_angstrom: float = 0.01

    family: ClassVar[str] = "modes"
    title: ClassVar[str] = "Normal modes"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[Need, ...]] = ("starts", "reference")

    def __post_init__(self) -> None:
        if self.starts < 1 or not self.displacement_angstrom > 0:
            raise BadInput(
                f"modes: starts {self.starts} must be at least 1 and displacement_angstrom "
                f"{self.displacement_angstrom} positive."
            )

    def cases(self, context: Context) -> CaseSet:
        """The starts, and the reference's minima, frequencies and motions (see `_pack`)."""
        if context.reference is None or not context.starts:
            raise NotApplicable("Normal modes need a start and a reference engine.")
        starts = context.starts[: self.starts]
        if all(len(start) == 1 for start in starts):
            raise NotApplicable("A single atom has no vibrations.")
        names = [f"start-{i}" for i in range(len(starts))]
        found, failures = self._all(context.reference, names, starts)
        done = [i for i, modes in enumerate(found) if modes is not None and len(modes[0])]
        records = tuple(Record(starts[i], Labels(), name=names[i]) for i in done)
        return CaseSet(
            records=records,
            arrays=_pack([found[i] for i in done], [_blank(starts[i], 0) for i in done]),
            payload={"modes": [len(found[i][0]) for i in done]},  # type: ignore[index]
            failures=failures,
            level=context.level,
        )

    def measure(self, potential: AbstractPotential, cases: CaseSet) -> Measurement:
        """Frequencies, motions and minima, packed like the reference's; NaN where it failed."""
        if not cases.records:
            raise NotApplicable("The reference found no vibrations; see its failures.")
        reasons = [suitable(potential, r.structure, MOTION) for r in cases.records]
        if all(reasons):
            raise NotApplicable(reasons[0])
        asked = [i for i, reason in enumerate(reasons) if not reason]
        names = [cases.records[i].name for i in asked]
        structures = [cases.records[i].structure for i in asked]
        answers, failed = self._all(potential, names, structures)
        failures = list(failed)
        found: list[_Found | None] = [None] * len(cases.records)
        for i, modes in zip(asked, answers):
            expected = cases.payload["modes"][i]
            if modes is not None and len(modes[0]) != expected:
                reason = f"it has {len(modes[0])} vibrations at its minimum, not {expected}"
                name = cases.records[i].name
                failures.append(Failure("normal modes", name, "other-shape", reason))
            else:
                found[i] = modes
        blanks = [_blank(r.structure, n) for r, n in zip(cases.records, cases.payload["modes"])]
        missing = {r.name: reason for r, reason in zip(cases.records, reasons) if reason}
        return Measurement(
            arrays=_pack(found, blanks), payload={"missing": missing}, failures=tuple(failures)
        )

    def _all(
        self, potential: AbstractPotential, names: Sequence[str], structures: Sequence[Structure]
    ) -> tuple[list[_Found | None], tuple[Failure, ...]]:
        """Modes of each structure after relaxation, or `None` with a failure."""
        from karat.simulation.modes import normal_modes

        found: list[_Found | None] = []
        failures = []
        for name, structure in zip(names, structures):
            try:
                modes = normal_modes(potential, structure, self.displacement_angstrom)
                found.append((modes.frequencies_cm, modes.vectors, modes.structure.positions))
            except CalculationFailed as error:
                failures.append(failure("normal modes", name, error))
                found.append(None)
        return found, tuple(failures)

    def score(self, cases: CaseSet, measured: Measurement, contestant: Contestant) -> Score:
        """Frequency errors by order and by motion, zero-point energy, geometry; parity."""
        names = tuple(record.name for record in cases.records)
        comparisons = _compare(cases, measured)
        levels = (cases.level, contestant.level)
        sums = _sums([None if c is None else c.by_order for c in comparisons], names)
        spread = [None if c is None else c.reference - c.reference.mean() for c in comparisons]
        yardstick = Yardstick.of(
            "frequency_mae",
            "cm⁻¹",
            levels,
            _sums(spread, names).value(),
            "every mode at the mean frequency",
        )
        naming = Naming("frequency_mae", "Frequency MAE, by order", "cm⁻¹", headline=True)
        metrics = [_over_starts(naming, sums, yardstick), *_others(comparisons, names)]
        done = sum(c is not None for c in comparisons)
        metrics.append(answered(done, len(names), len(measured.payload["missing"])))
        pair = (cases.arrays["frequencies"], measured.arrays["frequencies"])
        labels = [
            f"{n} mode {k + 1}" for n, m in zip(names, cases.payload["modes"]) for k in range(m)
        ]
        figure = parity("modes", "Frequencies, by order", "cm⁻¹", contestant.name, pair, labels)
        errors = per_case(sums)
        return Score(
            metrics=tuple(metric for metric in metrics if metric is not None),
            figures=(figure,) if done else (),
            case_names=names,
            errors={"frequency_mae": errors},
            groups=names,
            worst=worst_first(errors, names),
        )


def _blank(structure: Structure, modes: int) -> _Found:
    atoms = len(structure)
    return (
        np.full(modes, np.nan),
        np.full((modes, atoms, 3), np.nan),
        np.full((atoms, 3), np.nan),
    )


def _pack(found: list[_Found | None], blanks: list[_Found]) -> dict[str, np.ndarray]:
    """End to end: frequencies (all modes,), motions (flat,), minima (all atoms, 3)."""
    full = [blank if item is None else item for item, blank in zip(found, blanks)]
    return {
        "frequencies": np.concatenate([np.zeros(0), *(item[0] for item in full)]),
        "vectors": np.concatenate([np.zeros(0), *(item[1].ravel() for item in full)]),
        "minima": np.concatenate([np.zeros((0, 3)), *(item[2] for item in full)]),
    }


def _unpack(cases: CaseSet, arrays: Mapping[str, np.ndarray]) -> list[_Found]:
    """The inverse of `_pack`."""
    found, modes_at, vectors_at, atoms_at = [], 0, 0, 0
    for record, modes in zip(cases.records, cases.payload["modes"]):
        atoms = len(record.structure)
        size = modes * atoms * 3
        found.append(
            (
                arrays["frequencies"][modes_at : modes_at + modes],
                arrays["vectors"][vectors_at : vectors_at + size].reshape(modes, atoms, 3),
                arrays["minima"][atoms_at : atoms_at + atoms],
            )
        )
        modes_at, vectors_at, atoms_at = modes_at + modes, vectors_at + size, atoms_at + atoms
    return found


@dataclass(frozen=True, eq=False)
class _Comparison:
    """One start: frequencies and their errors in cm⁻¹, overlaps, ZPE error (eV), RMSD (Å)."""

    reference: Float[np.ndarray, "modes"]
    by_order: Float[np.ndarray, "modes"]
    by_motion: Float[np.ndarray, "modes"]
    overlaps: Float[np.ndarray, "modes"]
    zero_point: float
    rmsd: float
    imaginary: int


def _compare(cases: CaseSet, measured: Measurement) -> list[_Comparison | None]:
    """Each start, or `None` where the contestant has no modes."""
    from ase.data import atomic_masses

    found: list[_Comparison | None] = []
    theirs = _unpack(cases, measured.arrays)
    for record, ours, own in zip(cases.records, _unpack(cases, cases.arrays), theirs):
        if not np.isfinite(own[0]).all():
            found.append(None)
            continue
        structure = record.structure
        mass = np.array(atomic_masses[structure.numbers], dtype=float)
        rotation, rmsd = align(structure, mass, own[2], ours[2])
        pairing, overlaps = matched_overlaps(ours[1], own[1] @ rotation)
        found.append(
            _Comparison(
                reference=ours[0],
                by_order=own[0] - ours[0],
                by_motion=own[0][pairing] - ours[0],
                overlaps=overlaps,
                zero_point=zero_point_energy(own[0]) - zero_point_energy(ours[0]),
                rmsd=rmsd,
                imaginary=int((own[0] < IMAGINARY_BELOW).sum()),
            )
        )
    return found


def zero_point_energy(frequencies_cm: Float[np.ndarray, "modes"]) -> float:
    """½ Σ h c ν over real modes, eV."""
    return float(0.5 * INVERSE_CM * frequencies_cm[frequencies_cm > 0].sum())


def _sums(values: list[np.ndarray | None], names: tuple[str, ...]) -> Sums:
    total = np.array([0.0 if v is None else float(np.abs(v).sum()) for v in values])
    count = np.array([0.0 if v is None else float(v.size) for v in values])
    return Sums(total, count, names)


def _over_starts(naming: Naming, sums: Sums, yardstick: Yardstick | None = None) -> Metric | None:
    """Mean over all starts, resampled over starts; one start has no interval."""
    used = len(sums.used)
    given = yardstick or Yardstick(floor_source="not compared with a floor")
    if used == 1:
        return single_value(naming, sums.value(), 1, NO_INTERVAL, given)
    return mean_error(naming, sums, given)


def _others(comparisons: list[_Comparison | None], names: tuple[str, ...]) -> list[Metric | None]:
    """What stands beside the headline."""
    there = [c for c in comparisons if c is not None]
    if not there:
        return []

    def mean(naming: Naming, values: list[np.ndarray | None]) -> Metric | None:
        return _over_starts(naming, _sums(values, names))

    def each(attribute: str) -> list[np.ndarray | None]:
        return [None if c is None else np.atleast_1d(getattr(c, attribute)) for c in comparisons]

    largest = max(float(np.abs(c.by_order).max()) for c in there)
    imaginary = sum(c.imaginary for c in there)
    count = f"a count of modes below {IMAGINARY_BELOW:g} cm⁻¹"
    matched = "Frequency MAE, matched by motion"
    return [
        mean(Naming("frequency_mae_by_motion", matched, "cm⁻¹"), each("by_motion")),
        mean(
            Naming("mode_overlap", "Mean squared overlap of matched modes", "", better="higher"),
            each("overlaps"),
        ),
        single_value(
            Naming("frequency_max", "Largest frequency error, by order", "cm⁻¹"),
            largest,
            len(there),
            "a maximum",
        ),
        mean(Naming("zero_point_energy_mae", "Zero-point energy error", "eV"), each("zero_point")),
        mean(Naming("geometry_rmsd", "Distance of the minima (RMSD)", "Å"), each("rmsd")),
        single_value(
            Naming("imaginary_modes", "Imaginary modes at the minimum", ""),
            imaginary,
            len(there),
            count,
        ),
    ]
