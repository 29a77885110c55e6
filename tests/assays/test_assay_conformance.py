"""All of karat's assays conform; wrong ones are caught; karats behave; scoring needs no JAX."""

import dataclasses
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest

from karat.assays import scoring
from karat.assays.catalogue import CATALOGUE
from karat.assays.conformance import check_assay, digest_score
from karat.assays.evaluate import MOTION
from karat.assays.protocol import AbstractAssay, CaseSet, Contestant, Measurement, Score
from karat.core.components import parse
from karat.core.errors import CalculationFailed, KaratError
from karat.data.dataset import Dataset, Record
from karat.potentials.protocol import Traits
from karat.results.comparison import compare
from karat.results.metric import Failure, Metric
from karat.results.noise import Floor
from karat.results.provenance import Provenance
from karat.results.result import Result
from karat.results.score import karats
from karat.structures.labels import Labels

SETTINGS = {
    "energy_forces": {},
    "dynamics": {"runs": 2, "steps": 10, "every": 5},
    "conservation": {"structures": 2, "points": 8},
    "torsions": {"points": 4},
    "modes": {},
    "cost": {"largest_atoms": 8, "calls": 3, "batch": 2},
}


@pytest.fixture(scope="module")
def potential(toys):
    return toys.peroxide_potential()


@pytest.fixture(scope="module")
def context(toys, potential):
    test = toys.labelled(toys.rattled(toys.peroxide(), 40, seed=7), potential)
    return toys.context([toys.peroxide(170.0)], test, potential)


def test_the_catalogue_is_what_is_tested_here():
    assert set(CATALOGUE.members) == set(SETTINGS)


@pytest.mark.parametrize("family", SETTINGS)
def test_every_assay_conforms(family, toys, context, potential):
    cls = CATALOGUE.resolve(family)
    assert cls.family == family
    assay = parse(cls, SETTINGS[family], f"assays.{family}")
    check_assay(assay, context, toys.Scaled(potential, 1.1))


@dataclasses.dataclass(frozen=True)
class Broken(AbstractAssay):
    """Conforms but for one named fault."""

    fault: str = ""

    family: ClassVar[str] = "broken"
    title: ClassVar[str] = "Broken"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple] = ("starts",)
    calls: ClassVar[list] = [0]

    def cases(self, context):
        self.calls[0] += 1
        arrays = {"x": np.array([float(self.calls[0] if self.fault == "cases" else 0)])}
        names = ("a", "a") if self.fault == "names" else ("a", "b")
        records = tuple(Record(context.starts[0], Labels(), name) for name in names)
        return CaseSet(records, arrays)

    def measure(self, potential, cases):
        self.calls[0] += 1
        if self.fault == "changes cases":
            cases.arrays["x"][0] += 1
        failures = []
        try:
            energy = potential.predict([cases.records[0].structure], ("energy",))[0].energy
        except KaratError as error:
            if self.fault == "raises":
                raise CalculationFailed("It always fails.") from error
            energy = np.nan
            failures = [Failure("x", "a", "kind", str(error))]
        if self.fault == "silent":
            failures = []
        if self.fault == "measure":
            energy = float(self.calls[0])
        return Measurement({"energy": np.array([energy, energy])}, {}, tuple(failures))

    def score(self, cases, measured, contestant):
        self.calls[0] += 1
        value = float(self.calls[0]) if self.fault == "score" else 1.0
        if self.fault == "changes measurement":
            measured.arrays["energy"][0] += 1.0
        metric = Metric(
            "error", value, "eV", None, None, 1, "lower", "why", headline=True,
            floor_source="" if self.fault == "no floor" else "unknown", baseline_source="none",
        )  # fmt: skip
        errors = np.zeros(3 if self.fault == "errors" else 2)
        return Score(
            metrics=(metric, metric) if self.fault == "twice" else (metric,),
            case_names=("a", "b"),
            errors={"error": errors},
            worst=("z",) if self.fault == "worst" else (),
        )


def test_the_assay_without_a_fault_conforms(context, potential):
    check_assay(Broken(), context, potential)


FAULTS = {
    "cases": "made again",
    "names": "given twice",
    "changes cases": "changed the cases",
    "measure": "other numbers outside",
    "raises": "instead of recording",
    "silent": "left no failure",
    "score": "scoring again",
    "changes measurement": "score changed",
    "no floor": "no floor",
    "twice": "given twice",
    "errors": "do not fit",
    "worst": "do not exist",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught(fault, context, potential):
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_assay(Broken(fault), context, potential)


def headline(assay, cases, potential, name="c"):
    score = assay.score(cases, assay.measure(potential, cases), Contestant(name))
    return score, next(m for m in score.metrics if m.headline)


@pytest.mark.parametrize("family", ["energy_forces", "torsions", "modes"])
def test_lower_errors_never_lower_karats_and_units_do_not_matter(family, toys, context, potential):
    """Errors grow with |factor - 1|; the floor is put below the baseline by hand."""
    assay = parse(CATALOGUE.resolve(family), SETTINGS[family], family)
    cases = assay.cases(context)
    found = []
    for factor in (1.0, 1.0001, 1.01, 1.1, 1.5, 1.9, 3.0):
        _, metric = headline(assay, cases, toys.Scaled(potential, factor))
        floor = metric.baseline / 1000
        value = karats(metric.value, floor, metric.baseline).value
        for unit in (1e-3, 27.2114, 8065.5):
            other = karats(metric.value * unit, floor * unit, metric.baseline * unit).value
            assert other == pytest.approx(value, abs=1e-10)
        found.append((metric.value, value))
    errors, scores = zip(*found)
    assert list(errors) == sorted(errors)
    assert list(scores) == sorted(scores, reverse=True)
    assert scores[0] == 24.0
    assert scores[-1] < scores[2] < 24.0


@pytest.mark.parametrize("family", ["energy_forces", "dynamics", "torsions", "modes"])
def test_another_contestant_changes_nothing(family, toys, context, potential):
    assay = parse(CATALOGUE.resolve(family), SETTINGS[family], family)
    cases = assay.cases(context)
    before, _ = headline(assay, cases, toys.Scaled(potential, 1.1))
    headline(assay, cases, toys.Scaled(potential, 1.7), name="another")
    after, _ = headline(assay, cases, toys.Scaled(potential, 1.1))
    assert digest_score(before) == digest_score(after)


def as_result(assay, measured, score, name):
    """A score as the campaign stores it."""
    return Result(
        kind="score",
        name=name,
        provenance=Provenance(),
        metrics=score.metrics,
        failures=measured.failures,
        payload={
            "contestant": name,
            "assay": assay.family,
            "case_names": list(score.case_names),
            "groups": list(score.groups),
        },
        arrays={f"errors/{key}": value for key, value in score.errors.items()}
        | {f"weights/{key}": value for key, value in score.weights.items()},
        level=None,
    )


def test_failed_cases_count_zero_and_missing_ones_do_not_count(toys, monkeypatch):
    """Water (known to everyone) and a molecule with fluorine; errors of 10 % in all cases."""
    sources = {"force_mae": (1e-3, "eV/Å"), "force_rmse": (1e-3, "eV/Å")}

    def floor(quantity, reference, contestant):
        value, unit = sources.get(quantity, (1e-6, "eV/atom"))
        return Floor(value, unit, "a test")

    monkeypatch.setattr(scoring, "noise_floor", floor)
    toy = toys.Toy([[0, 1]], [1.0])
    known = toys.labelled(toys.rattled(toys.pair(), 20, seed=8), toy)
    other = [
        dataclasses.replace(
            r, structure=r.structure.replace(numbers=np.array([9, 9])), name=f"{r.name} F"
        )
        for r in known
    ]
    assay = parse(CATALOGUE.resolve("energy_forces"), {}, "x")
    whole = assay.cases(toys.context(test=Dataset((*known.records, *other), toys.LEVEL)))
    wide = toys.Scaled(toy, 1.1)
    narrow = toys.Scaled(toy, 1.1)
    wide_toy = type("Wide", (toys.Toy,), {"traits": Traits((1, 8, 9), False, True, MOTION)})
    wide.inner = wide_toy([[0, 1]], [1.0])
    contestants = {
        "whole": wide,
        "half missing": narrow,
        "half failed": toys.Failing(wide, lambda s: s.numbers[0] == 9),
        "all failed": toys.Failing(wide, lambda s: True),
    }
    results = []
    for name, potential in contestants.items():
        measured = assay.measure(potential, whole)
        score = assay.score(whole, measured, Contestant(name))
        results.append(as_result(assay, measured, score, name))
    found = {s.contestant: s.karats for s in compare(results).standings}
    assert 0 < found["whole"] < 24
    assert found["half missing"] == pytest.approx(found["whole"], rel=1e-9)
    assert found["half failed"] == pytest.approx(found["whole"] / 2, rel=1e-9)
    assert found["all failed"] == 0.0
    alone = {s.contestant: s.karats for s in compare(results[:1]).standings}
    assert alone["whole"] == found["whole"]


def test_scoring_and_storage_import_without_jax():
    modules = [path.partition(":")[0] for path in CATALOGUE.members.values()]
    modules += ["karat.assays.storage", "karat.assays.scoring", "karat.assays.conformance"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert not {'jax', 'equinox', 'scipy.optimize', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
