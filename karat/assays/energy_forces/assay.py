"""Energies and forces (and stress) against the labels of kept-apart structures.

Checked: tests/assays/test_energy_forces.py, with contestants whose errors are known exactly.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from karat.assays.evaluate import predict_cases
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
    answered,
    distribution,
    masked_sums,
    mean_error,
    parity,
    per_case,
    remove_offsets,
    single_value,
    time_blocks,
    worst_first,
)
from karat.core.units import GPA
from karat.data.dataset import Record
from karat.potentials.protocol import AbstractPotential
from karat.results.figure import Figure
from karat.results.metric import Metric
from karat.structures.labels import LevelOfTheory, Quantity
from karat.structures.structure import Structure

ZERO = "Contestants have different zeros: the mean offset of each composition is removed."
Levels = tuple[LevelOfTheory | None, LevelOfTheory | None]


@dataclass(frozen=True)
class EnergyForces(AbstractAssay):
    """Errors of energies, forces and stress on kept-apart structures.

    Energies are relative: the mean difference over the cases of one composition and charge is
    removed, since contestants have different zeros; a composition with one structure only says
    nothing about relative energies and is left out of them. A contestant trained to the
    reference's own level is shown with absolute energy errors, too. Intervals come from
    resampling time blocks (`scoring.time_blocks`), with the offset held fixed.

    Attributes:
        per_element: whether force errors are also given for each element.
    """

    per_element: bool = True

    family: ClassVar[str] = "energy_forces"
    title: ClassVar[str] = "Energies and forces on kept-apart structures"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[Need, ...]] = ("test",)

    def cases(self, context: Context) -> CaseSet:
        """The test records, each with a unique name."""
        if context.test is None:
            raise NotApplicable("There are no kept-apart labelled structures.")
        if not any(_wanted(record) for record in context.test):
            raise NotApplicable("The test structures have neither energies nor forces.")
        records = _with_unique_names(context.test.records)
        return CaseSet(records=records, level=context.test.level)

    def measure(self, potential: AbstractPotential, cases: CaseSet) -> Measurement:
        """Energies (cases,), forces (all atoms, 3) and stress (cases, 3, 3), NaN where missing."""
        able = potential.traits.quantities
        wants = [tuple(q for q in _wanted(r) if q in able) for r in cases.records]
        if not any(wants):
            raise NotApplicable(f"It predicts {', '.join(able)}; the labels have none of these.")
        names = [record.name for record in cases.records]
        structures = [record.structure for record in cases.records]
        found = predict_cases(potential, names, structures, wants, "prediction")
        energies = np.full(len(names), np.nan)
        forces = [np.full((len(s), 3), np.nan) for s in structures]
        stress = np.full((len(names), 3, 3), np.nan)
        for i, (labels, want) in enumerate(zip(found.labels, wants)):
            if labels is None:
                continue
            if "energy" in want and labels.energy is not None:
                energies[i] = labels.energy
            if "forces" in want and labels.forces is not None:
                forces[i] = labels.forces
            if "stress" in want and labels.stress is not None:
                stress[i] = labels.stress
        return Measurement(
            arrays={"energies": energies, "forces": np.concatenate(forces), "stress": stress},
            payload={"missing": dict(found.missing)},
            failures=found.failures,
        )

    def score(self, cases: CaseSet, measured: Measurement, contestant: Contestant) -> Score:
        """MAE, RMSE and maximum, over all and by kind and element; figures; errors of each case."""
        table = _Table(cases.records)
        levels = (cases.level, contestant.level)
        forces = _Forces(table, measured.arrays["forces"] - table.forces)
        energies = _Energies(table, measured.arrays["energies"] - table.energies)
        metrics: list[Metric | None] = [
            *forces.metrics(levels, self.per_element),
            *energies.metrics(levels),
            _stress_metric(table, measured.arrays["stress"]),
        ]
        failed = {failure.case for failure in measured.failures}
        missing = set(measured.payload["missing"])
        count = len(table.names)
        done = sum(name not in failed and name not in missing for name in table.names)
        metrics.append(answered(done, count, len(missing)))
        by_force, by_energy = forces.per_structure, np.abs(energies.relative)
        ranked = by_force if np.isfinite(by_force).any() else by_energy
        return Score(
            metrics=tuple(metric for metric in metrics if metric is not None),
            figures=_figures(table, measured, contestant.name, energies.relative),
            case_names=table.names,
            errors={"force_mae": by_force, "energy_mae_per_atom": by_energy},
            groups=table.groups,
            worst=worst_first(ranked, table.names),
            weights={"force_mae": 3.0 * table.sizes},
        )


def _wanted(record: Record) -> tuple[Quantity, ...]:
    """What of a record's labels this assay compares."""
    wanted: tuple[Quantity, ...] = ("energy", "forces", "stress")
    return tuple(q for q in wanted if q in record.labels.quantities)


def _with_unique_names(records: Sequence[Record]) -> tuple[Record, ...]:
    """Records with names that are not empty and not given twice."""
    seen: set[str] = set()
    named = []
    for i, record in enumerate(records):
        name = record.name or f"structure-{i}"
        name = f"{name}#{i}" if name in seen else name
        seen.add(name)
        named.append(dataclasses.replace(record, name=name))
    return tuple(named)


class _Table:
    """The reference side as arrays; NaN where a record has no such label."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.names = tuple(record.name for record in records)
        self.groups = time_blocks(records)
        self.sizes = np.array([len(record.structure) for record in records])
        self.owner: Int[np.ndarray, "atoms"] = np.repeat(np.arange(len(records)), self.sizes)
        self.numbers = np.concatenate([record.structure.numbers for record in records])
        self.kinds = tuple(sorted({record.kind for record in records} - {""}))
        self.energies = np.array(
            [np.nan if r.labels.energy is None else r.labels.energy for r in records]
        )
        self.forces: Float[np.ndarray, "atoms 3"] = np.concatenate(
            [_or_nan(r.labels.forces, (len(r.structure), 3)) for r in records]
        )
        self.stress: Float[np.ndarray, "cases 3 3"] = np.array(
            [
                np.full((3, 3), np.nan) if r.labels.stress is None else r.labels.stress
                for r in records
            ]
        )

    @cached_property
    def composition(self) -> Int[np.ndarray, "cases"]:
        """Index of each record's composition and charge."""
        keys = [_composition(record.structure) for record in self.records]
        index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        return np.array([index[key] for key in keys])

    def of_kind(self, kind: str) -> np.ndarray:
        """Which cases are of that kind."""
        return np.array([record.kind == kind for record in self.records])


def _or_nan(values: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan) if values is None else values


def _composition(structure: Structure) -> tuple[tuple[int, ...], int]:
    return tuple(sorted(structure.numbers.tolist())), structure.charge


class _Forces:
    """Force errors, component-wise."""

    def __init__(self, table: _Table, errors: Float[np.ndarray, "atoms 3"]) -> None:
        self.table, self.errors = table, errors
        self.zero = np.where(np.isfinite(errors), table.forces, np.nan)

    @property
    def per_structure(self) -> Float[np.ndarray, "cases"]:
        """MAE of each structure."""
        return per_case(masked_sums(np.abs(self.errors), self.table.owner, self.table.groups))

    def metrics(self, levels: Levels, per_element: bool) -> list[Metric | None]:
        """All of them, of everything, of each kind, of each element."""
        from ase.data import chemical_symbols

        found = self._pair(levels, "", None)
        if len(self.table.kinds) > 1:
            for kind in self.table.kinds:
                mask = self.table.of_kind(kind)[self.table.owner]
                found += self._pair(levels, f"kind:{kind}", mask)
        if per_element:
            for z in np.unique(self.table.numbers):
                mask = self.table.numbers == z
                found += self._pair(levels, f"element:{chemical_symbols[z]}", mask)
        sizes = np.abs(self.errors[np.isfinite(self.errors)])
        if len(sizes):
            naming = Naming("force_max", "Largest force error", "eV/Å")
            cases = int(np.isfinite(self.per_structure).sum())
            found.append(single_value(naming, sizes.max(), cases, "a maximum"))
        return found

    def _pair(self, levels: Levels, subset: str, mask: np.ndarray | None) -> list[Metric | None]:
        """MAE and RMSE, with zero forces as the trivial predictor."""
        owner, groups = self.table.owner, self.table.groups
        found = []
        for name, title, power in (("force_mae", "Force MAE", 1), ("force_rmse", "Force RMSE", 2)):
            root = power == 2
            sums = masked_sums(np.abs(self.errors) ** power, owner, groups, mask)
            trivial = masked_sums(np.abs(self.zero) ** power, owner, groups, mask)
            yardstick = Yardstick.of(name, "eV/Å", levels, trivial.value(root), "zero forces")
            headline = name == "force_mae" and not subset
            naming = Naming(name, title, "eV/Å", subset, headline)
            found.append(mean_error(naming, sums, yardstick, root))
        return found


class _Energies:
    """Energy errors, relative within each composition."""

    def __init__(self, table: _Table, errors: Float[np.ndarray, "cases"]) -> None:
        self.table = table
        self.absolute = errors / table.sizes
        self.relative = remove_offsets(self.absolute, table.composition)
        reference = np.where(np.isfinite(errors), table.energies, np.nan) / table.sizes
        self.trivial = remove_offsets(reference, table.composition)

    def metrics(self, levels: Levels) -> list[Metric | None]:
        """Relative errors of all and by kind; absolute ones where the levels are the same."""
        name, unit = "energy_mae_per_atom", "eV/atom"
        found = [self._relative(name, "Energy MAE", levels, "", None, 1)]
        if len(self.table.kinds) > 1:
            for kind in self.table.kinds:
                mask = self.table.of_kind(kind)
                found.append(self._relative(name, "Energy MAE", levels, f"kind:{kind}", mask, 1))
        found.append(self._relative("energy_rmse_per_atom", "Energy RMSE", levels, "", None, 2))
        sizes = np.abs(self.relative[np.isfinite(self.relative)])
        if len(sizes):
            naming = Naming("energy_max_per_atom", "Largest energy error", unit)
            found.append(single_value(naming, sizes.max(), len(sizes), "a maximum"))
        total = self._sums(self.relative * self.table.sizes, None, 1)
        found.append(
            mean_error(Naming("energy_mae", "Energy MAE of the whole structure", "eV"), total)
        )
        reference, contestant = levels
        if reference is not None and contestant is not None and reference.same_as(contestant):
            naming = Naming("energy_mae_per_atom_absolute", "Energy MAE, offset not removed", unit)
            found.append(mean_error(naming, self._sums(self.absolute, None, 1)))
        return found

    def _sums(self, values: np.ndarray, mask: np.ndarray | None, power: int) -> Sums:
        rows = np.abs(values[:, None]) ** power
        return masked_sums(rows, np.arange(len(values)), self.table.groups, mask)

    def _relative(
        self,
        name: str,
        title: str,
        levels: Levels,
        subset: str,
        mask: np.ndarray | None,
        power: int,
    ) -> Metric | None:
        root = power == 2
        trivial = self._sums(self.trivial, mask, power).value(root)
        yardstick = Yardstick.of(
            name, "eV/atom", levels, trivial, "the mean energy of each composition"
        )
        headline = name == "energy_mae_per_atom" and not subset
        naming = Naming(name, title, "eV/atom", subset, headline)
        return mean_error(naming, self._sums(self.relative, mask, power), yardstick, root)


def _stress_metric(table: _Table, stress: Float[np.ndarray, "cases 3 3"]) -> Metric | None:
    """MAE over the nine components, GPa."""
    rows = np.abs(stress - table.stress).reshape(len(stress), 9) / GPA
    sums = masked_sums(rows, np.arange(len(rows)), table.groups)
    return mean_error(Naming("stress_mae", "Stress MAE", "GPa"), sums, NO_YARDSTICK)


def _figures(
    table: _Table, measured: Measurement, name: str, relative: np.ndarray
) -> tuple[Figure, ...]:
    """Parity of forces and relative energies, error distributions."""
    found: list[Figure] = []
    forces = measured.arrays["forces"]
    if np.isfinite(forces - table.forces).any():
        pair = (table.forces, forces)
        found.append(parity("forces", "Force components", "eV/Å", name, pair))
        errors = (forces - table.forces).ravel()
        found += distribution("forces", "force components", "eV/Å", name, errors)
    if np.isfinite(relative).any():
        both = np.isfinite(relative)
        reference = np.where(both, table.energies / table.sizes, np.nan)
        reference = remove_offsets(reference, table.composition)
        pair = (reference, reference + relative)
        title, unit = "Relative energies", "eV/atom"
        found.append(parity("energies", title, unit, name, pair, table.names, note=ZERO))
        found += distribution("energies", "relative energies", unit, name, relative)
    return tuple(found)
