"""Steps that make data: structures, samples, labels, the split, its check.

Checked: tests/campaign/test_runner.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from karat.campaign.bench import (
    Bench,
    Product,
    StepFailed,
    drawing,
    get_part,
    get_records,
    get_starts,
    put_records,
)
from karat.campaign.sections import GivenData, MadeData, SplitSettings, System
from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.results.metric import Failure
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

PARTS = ("train", "valid", "test")
MOST_STARTS = 3
"""Structures under study where a campaign brings data only: the lowest of as many compositions."""
VALID_FRACTION = 0.1
"""Part of given training data that is set aside where no validation file is named."""


def structures(bench: Bench) -> Product:
    """The structures under study: conformers, those of a file, or picked from the data."""
    system = bench.campaign.system
    if system is None:
        test = get_part(bench.input("split"), "test")
        assert test is not None
        found = starts_from_parts({"test": test})
    else:
        found = build_system(system, bench.campaign.seed)
    records = tuple(
        Record(structure, Labels(), name=f"start {index}") for index, structure in enumerate(found)
    )
    arrays, stored = put_records(records, "records/")
    formulas = list(dict.fromkeys(structure.formula for structure in found))
    payload = {
        "smiles": system.smiles if system is not None and system.smiles else "",
        "formula": ", ".join(formulas),
        "atoms": len(found[0]),
        "conformers": len(found),
        "structures": [drawing(structure) for structure in found],
        "records": stored,
    }
    return Product(bench.result(payload, arrays))


def build_system(system: System, seed: int) -> tuple[Structure, ...]:
    """The structures that a campaign's `system` says.

    Raises:
        BadInput: SMILES, file, charge or multiplicity that cannot be used.
    """
    from karat.structures.builders import from_file, from_smiles

    if system.smiles is not None:
        return from_smiles(
            system.smiles,
            conformers=system.conformers,
            seed=seed,
            charge=system.charge,
            multiplicity=system.multiplicity,
        )
    assert system.file is not None
    found = from_file(Path(system.file))[: system.conformers]
    changes = {
        name: value
        for name in ("charge", "multiplicity")
        if (value := getattr(system, name)) is not None
    }
    try:
        return with_topology([structure.replace(**changes) for structure in found])
    except BadInput as error:
        raise BadInput(f"system ({system.file}): {error}") from error


def with_topology(found: Sequence[Structure]) -> tuple[Structure, ...]:
    """Structures of molecules with bonds: their own, else guessed once from the first of a kind.

    Where no bonds fit, there are none: contestants that need them say so.
    """
    from karat.structures.builders import perceive_topology

    guessed: dict[tuple, Structure | None] = {}
    result = []
    for structure in found:
        if structure.topology is not None or structure.periodic.any():
            result.append(structure)
            continue
        kind = (structure.numbers.tobytes(), structure.charge)
        if kind not in guessed:
            try:
                guessed[kind] = perceive_topology(structure)
            except BadInput:
                guessed[kind] = None
        like = guessed[kind]
        result.append(structure if like is None else structure.replace(topology=like.topology))
    return tuple(result)


def starts_from_parts(parts: Mapping[str, Dataset]) -> tuple[Structure, ...]:
    """The lowest-energy test structure of each composition, at most `MOST_STARTS`."""
    lowest: dict[str, Record] = {}
    for record in parts["test"]:
        best = lowest.get(record.structure.formula)
        energy, least = record.labels.energy, None if best is None else best.labels.energy
        if best is None or (energy is not None and least is not None and energy < least):
            lowest[record.structure.formula] = record
    return tuple(record.structure for record in list(lowest.values())[:MOST_STARTS])


def sample(bench: Bench) -> Product:
    """Structures worth labelling, made by one sampler with the reference engine."""
    data = bench.campaign.data
    assert isinstance(data, MadeData)
    chosen = data.sample[bench.step.arguments["sample"]]
    starts = get_starts(bench.input("structures"))
    seed = bench.seed("sample", bench.step.arguments["repeat"], chosen.name)
    selection = chosen.component.select(starts, bench.reference(), seed)
    if not selection.candidates:
        reasons = "; ".join(failure.reason for failure in selection.failures) or "no reason given"
        raise StepFailed(f"the sampler {chosen.name} found no structure: {reasons}")
    records = tuple(
        Record(c.structure, Labels(), name=c.name, kind=c.kind, group=c.group, frame=c.frame)
        for c in selection.candidates
    )
    arrays, stored = put_records(records, "records/")
    payload = {"sampler": chosen.name, "count": len(records), "records": stored}
    return Product(bench.result(payload, arrays, failures=selection.failures))


def labels(bench: Bench) -> Product:
    """Labels of every sampled structure by the reference engine, failures beside them."""
    from karat.reference.labelling import Limits, label_structures

    assert bench.campaign.reference is not None
    engine = bench.campaign.reference.component
    found = _sampled(bench)
    wanted: list[Quantity] = ["energy", "forces"]
    if "stress" in engine.quantities and all(r.structure.periodic.all() for r in found):
        wanted.append("stress")
    resources = bench.campaign.resources
    limits = Limits(bench.workers, resources.timeout_s, resources.attempts)
    outcomes = label_structures(
        engine,
        [record.structure for record in found],
        [record.name for record in found],
        wanted,
        bench.work,
        limits,
        lambda done, failed, total: bench.report(done, total, _words(failed)),
        retry_failed=True,
    )
    failures = tuple(outcome for outcome in outcomes if isinstance(outcome, Failure))
    kept = tuple(
        dataclasses.replace(record, labels=outcome)
        for record, outcome in zip(found, outcomes)
        if isinstance(outcome, Labels)
    )
    if not kept:
        first = failures[0].reason if failures else "no structure"
        raise StepFailed(f"no structure could be labelled; the first reason: {first}")
    arrays, stored = put_records(kept, "records/")
    payload = {
        "engine": bench.campaign.reference.name,
        "done": len(kept),
        "failed": len(failures),
        "records": stored,
    }
    return Product(bench.result(payload, arrays, failures=failures, level=engine.level))


def _words(failed: int) -> str:
    return f"structures, {failed} failed" if failed else "structures"


def _sampled(bench: Bench) -> list[Record]:
    """All samples in order, names and groups made unique."""
    found: list[Record] = []
    taken: set[str] = set()
    roles = sorted(bench.step.inputs, key=lambda role: int(role.rpartition(".")[2]))
    for number, role in enumerate(roles):
        result = bench.input(role)
        records = get_records(result, "records/", result.payload["records"])
        names = {record.group for record in records} | {record.name for record in records}
        mark = f" ({number})" if names & taken else ""
        taken |= names
        found += [
            dataclasses.replace(record, name=f"{record.name}{mark}", group=f"{record.group}{mark}")
            for record in records
        ]
    return found


def split(bench: Bench) -> Product:
    """Train, valid and test: parted, or as the files give them."""
    data = bench.campaign.data
    if isinstance(data, GivenData):
        parts, how = read_given(data, bench.campaign.seed)
    else:
        assert isinstance(data, MadeData)
        result = bench.input("labels")
        records = get_records(result, "records/", result.payload["records"])
        assert result.level is not None
        parts, how = _part(Dataset(records, result.level), data.split, bench.campaign.seed)
    arrays: dict[str, np.ndarray] = {}
    stored = {}
    for name, part in parts.items():
        some, stored[name] = put_records(part.records, f"{name}/")
        arrays |= some
    payload = {
        "how": how,
        "sizes": {name: len(part) for name, part in parts.items()},
        "digests": {name: part.digest for name, part in parts.items()},
        "parts": stored,
    }
    return Product(bench.result(payload, arrays, level=parts["test"].level))


def _part(dataset: Dataset, settings: SplitSettings, seed: int) -> tuple[dict[str, Dataset], str]:
    from karat.data.split_schemes import SimilaritySplit
    from karat.data.splits import split_by_group, split_random, split_time_blocks

    if settings.by == "time_block":
        found = split_time_blocks(
            dataset, settings.valid, settings.test, blocks=settings.blocks, gap=settings.gap
        )
    elif settings.by == "group":
        found = split_by_group(dataset, settings.valid, settings.test, seed)
    elif settings.by == "similarity":
        found = SimilaritySplit(settings.valid, settings.test).split(dataset, seed)
    else:
        found = split_random(dataset, settings.valid, settings.test, seed)
    parts = {name: dataset.subset(getattr(found, name)) for name in PARTS if getattr(found, name)}
    return parts, found.how


def read_given(data: GivenData, seed: int) -> tuple[dict[str, Dataset], str]:
    """The parts that files give; molecules get bonds, guessed once.

    Without a validation file, a tenth of the training data is set aside: by time block where
    there is time, else at random.

    Raises:
        BadInput: a file that cannot be used.
    """
    from karat.data.files import read_dataset
    from karat.data.splits import split_random, split_time_blocks

    parts = {}
    for name in PARTS:
        file = getattr(data, name)
        if file is not None:
            parts[name] = _with_bonds(read_dataset(Path(file), data.level))
    how = "given files"
    if "train" in parts and "valid" not in parts and len(parts["train"]) > 1:
        train = parts["train"]
        if all(record.frame >= 0 for record in train) and len(train) > 3 / VALID_FRACTION:
            found = split_time_blocks(train, VALID_FRACTION, 0.0)
        else:
            found = split_random(train, max(VALID_FRACTION, 1 / len(train)), 0.0, seed)
        parts["train"], parts["valid"] = train.subset(found.train), train.subset(found.valid)
        how += f"; valid set aside from train: {found.how}"
    return {name: parts[name] for name in PARTS if name in parts}, how


def _with_bonds(dataset: Dataset) -> Dataset:
    found = with_topology(dataset.structures)
    return Dataset(
        tuple(
            dataclasses.replace(record, structure=structure)
            for structure, record in zip(found, dataset.records)
        ),
        dataset.level,
    )


def check(bench: Bench) -> Product:
    """What the data doctor says about the data."""
    from karat.data.doctor import check as examine

    result = bench.input("split")
    test = get_part(result, "test")
    known = tuple(
        record
        for name in ("train", "valid")
        if (part := get_part(result, name)) is not None
        for record in part
    )
    assert test is not None
    findings = examine(Dataset(known, test.level), test) if known else examine(test)
    payload = {"findings": [finding.as_dict() for finding in findings]}
    return Product(bench.result(payload, level=result.level))
