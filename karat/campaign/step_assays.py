"""Steps of assays: cases once, a measurement for each contestant, its score.

Checked: tests/campaign/test_runner.py.
"""

from typing import Any

import numpy as np

from karat.assays.protocol import CaseSet, Contestant, Context, Measurement, NotApplicable
from karat.assays.storage import (
    caseset_from_result_parts,
    caseset_to_result_parts,
    measurement_from_result_parts,
    measurement_to_result_parts,
)
from karat.campaign.bench import Bench, Product, drawing, get_part, get_starts
from karat.campaign.step_models import MODEL_FILE
from karat.potentials.protocol import AbstractPotential
from karat.results.result import Result
from karat.structures.labels import LevelOfTheory

WORST = 3
"""Structures that a score shows."""


def cases(bench: Bench) -> Product:
    """The cases of an assay, with what the reference found for them.

    Raises:
        NotApplicable: the assay cannot be asked of this campaign or system.
    """
    entry = bench.campaign.assays[bench.step.arguments["assay"]]
    assay = entry.assay.component
    test = None
    level = None if bench.campaign.reference is None else bench.campaign.reference.component.level
    if "split" in bench.step.inputs:
        split = bench.input("split")
        test, level = get_part(split, "test"), split.level
    context = Context(
        starts=get_starts(bench.input("structures")),
        test=test,
        reference=bench.reference() if "reference" in assay.needs else None,
        level=level,
        seed=bench.seed("cases", entry.assay.name),
    )
    for need in assay.needs:
        if getattr(context, need) in (None, ()):
            what = {"test": "labelled test data", "reference": "a reference engine"}
            raise NotApplicable(f"{assay.title} needs {what.get(need, need)}; there is none.")
    found = assay.cases(context)
    arrays, stored = caseset_to_result_parts(found)
    payload = {"assay": entry.name, "count": len(found.records), "cases": stored}
    return Product(bench.result(payload, arrays, failures=found.failures, level=found.level))


def _cases(bench: Bench) -> CaseSet:
    result = bench.input("cases")
    return caseset_from_result_parts(result.arrays, result.payload["cases"])


def load_contender(bench: Bench) -> AbstractPotential:
    """The potential of the contestant that a step is about."""
    contender = bench.contender
    if contender.source == "trained":
        from karat.potentials.karat_file import load

        return load(bench.input_folder("fit") / MODEL_FILE, "float64")
    loaded: AbstractPotential = contender.component.load()
    return loaded


def measure(bench: Bench) -> Product:
    """What one contestant did on the cases.

    Raises:
        NotApplicable, UnsuitableStructure, UnknownElement: it cannot be asked.
    """
    entry = bench.campaign.assays[bench.step.arguments["assay"]]
    potential = load_contender(bench)
    measured = entry.assay.component.measure(potential, _cases(bench))
    arrays, stored, timings = measurement_to_result_parts(measured)
    level = potential.traits.level
    payload = {
        "measured": stored,
        "level": None if level is None else level.as_dict(),
        "conservative": potential.traits.conservative,
    }
    # its failures are shown with the score: one list each
    return Product(bench.result(payload, arrays, timings=timings))


def score(bench: Bench) -> Product:
    """Metrics and figures of one contestant in one assay."""
    entry = bench.campaign.assays[bench.step.arguments["assay"]]
    assay = entry.assay.component
    contender = bench.contender
    found = _cases(bench)
    measurement = bench.input("measure")
    measured = measurement_from_result_parts(
        measurement.arrays, measurement.payload["measured"], measurement.timings
    )
    level = _level(measurement)
    who = Contestant(
        name=contender.name,
        level=level,
        is_reference=contender.is_reference,
        training=_training(bench, type(assay).timing),
    )
    scored = assay.score(found, measured, who)
    payload = {
        "contestant": contender.name,
        "assay": entry.name,
        "family": type(assay).family,
        "title": type(assay).title,
        "version": type(assay).version,
        "is_reference": contender.is_reference,
        "contestant_level": None if level is None else level.as_dict(),
        "conservative": bool(measurement.payload.get("conservative", True)),
        "timing": type(assay).timing,
        "case_names": list(scored.case_names),
        "groups": list(scored.groups),
        "worst": list(scored.worst),
        "worst_structures": _worst(found, measured, scored.worst),
        "attempted": len(found.records),
    }
    arrays = {f"errors/{name}": np.asarray(values) for name, values in scored.errors.items()}
    arrays |= {f"weights/{name}": np.asarray(values) for name, values in scored.weights.items()}
    return Product(
        bench.result(
            payload,
            arrays,
            failures=measured.failures,
            level=found.level,
            metrics=scored.metrics,
            figures=scored.figures,
        )
    )


def _level(measurement: Result) -> LevelOfTheory | None:
    stored = measurement.payload["level"]
    return None if stored is None else LevelOfTheory.from_dict(stored)


def _training(bench: Bench, timing: bool) -> dict[str, float]:
    """What the training cost; wall time only for assays that are about time."""
    if "fit" not in bench.step.inputs:
        return {}
    fitted = bench.input("fit")
    cost = {"labels": float(fitted.payload["labels"])}
    if timing:
        cost["seconds"] = float(fitted.timings["seconds"])
    return cost


def _worst(found: CaseSet, measured: Measurement, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The worst cases as drawings, worst first."""
    by_name = {record.name: record for record in found.records}
    reasons = {failure.case: failure.reason for failure in measured.failures}
    return [
        {"case": name, **drawing(by_name[name].structure), "note": reasons.get(name, "")}
        for name in names[:WORST]
        if name in by_name
    ]
