"""Does one step: calls its function, stores what came out, says how it ended.

Checked: tests/campaign/test_runner.py.
"""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from karat.campaign.bench import Bench, Product, Report
from karat.campaign.jax_setup import prepare_jax
from karat.campaign.plan import Step
from karat.campaign.schema import parse_campaign
from karat.campaign.sections import Campaign
from karat.core.errors import KaratError, UnknownElement, UnsuitableStructure
from karat.results.result import Result
from karat.results.store import Store

KEEP_WORK = frozenset({"labels"})
"""Kinds of steps whose work folder is kept: labels are used again when a campaign grows."""


def make_server(
    hello: Mapping[str, Any],
) -> Callable[[Mapping[str, Any], Report], dict[str, Any]]:
    """What a worker does with each task; `hello` brings campaign and folder."""
    folder = Path(hello["folder"])
    prepare_jax(folder / "cache" / "jax")
    campaign = parse_campaign(hello["campaign"], Path("/"))
    store = Store(folder)

    def serve(task: Mapping[str, Any], report: Report) -> dict[str, Any]:
        step = Step.from_dict(task["step"])
        return do_step(campaign, step, store, task["workers"], report)

    return serve


def work_folder(folder: Path, campaign: Campaign, step: Step) -> Path:
    """Where a step keeps what survives an interruption; labels of one engine share theirs."""
    if step.kind in KEEP_WORK:
        from karat.campaign.inputs import component_digest

        assert campaign.reference is not None
        return folder / "work" / f"labels-{component_digest(campaign.reference.component)[:16]}"
    return folder / "work" / step.key[:16]


def do_step(
    campaign: Campaign, step: Step, store: Store, workers: int, report: Report
) -> dict[str, Any]:
    """Do and commit a step; status, reason and wall time."""
    from karat.assays.protocol import NotApplicable

    begun = time.monotonic()
    work = work_folder(store.root, campaign, step)
    work.mkdir(parents=True, exist_ok=True)
    status, reason = "done", ""
    try:
        product = _function(step.kind)(Bench(campaign, step, store, work, workers, report))
        spent = dataclasses.replace(product.result.provenance, seconds=time.monotonic() - begun)
        commit(store, step, dataclasses.replace(product.result, provenance=spent), product.files)
    except (NotApplicable, UnknownElement, UnsuitableStructure) as error:
        status, reason = "not-applicable", str(error)
        if step.kind not in ("cases", "measure", "score"):
            status = "failed"
    except KaratError as error:
        status, reason = "failed", str(error)
    if step.kind not in KEEP_WORK and status == "done":
        shutil.rmtree(work, ignore_errors=True)
    return {"status": status, "reason": reason, "seconds": time.monotonic() - begun}


def commit(
    store: Store, step: Step, result: Result, files: Mapping[str, Callable[[Path], None]]
) -> None:
    """Store a result and its files."""

    def write(folder: Path) -> None:
        for name, writer in files.items():
            writer(folder / name)
        result.save(folder)

    store.commit(step.key, step.name, write)


def _function(kind: str) -> Callable[[Bench], Product]:
    if kind in ("fit", "train"):
        from karat.campaign import step_models

        return step_models.fit if kind == "fit" else step_models.train_record
    if kind in ("cases", "measure", "score"):
        from karat.campaign import step_assays

        return {
            "cases": step_assays.cases,
            "measure": step_assays.measure,
            "score": step_assays.score,
        }[kind]
    from karat.campaign import step_data

    return {
        "structures": step_data.structures,
        "sample": step_data.sample,
        "labels": step_data.labels,
        "split": step_data.split,
        "check": step_data.check,
    }[kind]


def default_workers() -> int:
    """As many as the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
