"""`run_campaign`: the steps of a plan by worker processes, each committed step once and for all.

Steps run as soon as what they need is there, as many at a time as there are workers; those that
measure time run alone. A step that fails costs what depends on it and nothing else. Killed at any
moment, the next run of the same campaign into the same folder does what is missing.

Checked: tests/campaign/test_runner.py, tests/campaign/test_kill.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from karat.campaign.execute import default_workers
from karat.campaign.folder import Outcome, locked, log_event, write_index
from karat.campaign.plan import Step, plan
from karat.campaign.pool import Event, Pool
from karat.campaign.progress import Progress, Silent
from karat.campaign.sections import Campaign
from karat.core.files import writable_folder
from karat.results.result import Result
from karat.results.store import KEY_LENGTH, Store

ORDER = ("structures", "sample", "labels", "split", "fit", "cases", "measure", "score")
"""Of two steps that could begin, the kind that stands here first does; others last."""

WAIT_SECONDS = 0.5
"""How often the display may be refreshed while nothing happens."""


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        folder: the output folder.
        report: the page.
        outcomes: name of each step → how it ended.
        reused: how many steps were committed before.
        failed: how many steps failed.
        failed_labels: how many structures could not be labelled.
    """

    folder: Path
    report: Path
    outcomes: Mapping[str, Outcome]
    reused: int
    failed: int
    failed_labels: int

    @property
    def exit_status(self) -> int:
        """0 done, 1 done with failures counted."""
        return 1 if self.failed or self.failed_labels else 0


def run_campaign(
    campaign: Campaign,
    output: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run what is not committed yet, then write the report.

    Args:
        output: folder, made if missing; a run that was interrupted here goes on.
        workers: processes; by default the campaign's `resources.workers`, else one per core.

    Raises:
        BadInput: the campaign cannot be run, or another run works in the folder; before any work.
        KeyboardInterrupt: interrupted; what was committed is kept.
    """
    from karat.campaign.validation import validate
    from karat.report.write import write_report

    validate(campaign)
    count = workers or campaign.resources.workers or default_workers()
    writable_folder(output)
    with locked(output):
        run = _Run(campaign, output.resolve(), count, progress or Silent())
        run.go()
        report = write_report(output)
        return run.summary(report)


class _Run:
    def __init__(self, campaign: Campaign, folder: Path, workers: int, progress: Progress) -> None:
        self.campaign = campaign
        self.resolved = campaign.as_dict()
        self.folder = folder
        self.workers = workers
        self.progress = progress
        self.store = Store(folder)
        self.steps = plan(campaign)
        self.by_key = {step.key: step for step in self.steps}
        self.outcomes: dict[str, Outcome] = {}
        for step in self.steps:
            found = self.store.find(step.key)
            if found is not None:
                self.outcomes[step.key] = self._done(found)
        self.reused = len(self.outcomes)
        self.slots: dict[str, int] = {}
        rank = {kind: place for place, kind in enumerate(ORDER)}
        self.pending = sorted(
            (step for step in self.steps if step.key not in self.outcomes),
            key=lambda step: (rank.get(step.kind, len(rank)), -self._size(step)),
        )

    def _size(self, step: Step) -> float:
        """Larger fits first: they take longest."""
        if step.kind != "fit":
            return 0.0
        size = self.campaign.train[step.arguments["train"]].size
        return float("inf") if size is None else float(size)

    def _done(self, found: Path) -> Outcome:
        seconds = json.loads((found / "result.json").read_text())["provenance"]["seconds"]
        return Outcome("done", seconds=seconds, folder=str(found.relative_to(self.folder)))

    def go(self) -> None:
        self.store.clean()
        self.progress.begin(self.steps, tuple(self.outcomes), self.workers)
        self._write_index()
        hello = {
            "serve": "karat.campaign.execute:make_server",
            "campaign": self.resolved,
            "folder": str(self.folder),
        }
        pool = Pool(self.workers, hello, self.folder / "logs")
        try:
            while self.pending or pool.running:
                self._give_up_hopeless()
                self._start(pool)
                for event in pool.wait(WAIT_SECONDS) if pool.running else ():
                    self._hear(event)
        finally:
            pool.close()
            self._write_index()
            self.progress.end()

    def _give_up_hopeless(self) -> None:
        """Mark what needs something that will not come; in order, so that it spreads."""
        for step in [s for s in self.steps if s in self.pending]:
            for needed in step.inputs.values():
                outcome = self.outcomes.get(needed)
                if outcome is None or outcome.status == "done":
                    continue
                if outcome.status == "not-applicable":
                    self._finish(step, Outcome("not-applicable", outcome.reason))
                else:
                    lost = self.by_key[needed]
                    self._finish(
                        step,
                        Outcome("missing", f"needs '{lost.name}', which {_ended(outcome.status)}"),
                    )
                break

    def _start(self, pool: Pool) -> None:
        """Give idle workers what is ready; what measures time only when nothing else runs."""
        ready = [
            step
            for step in self.pending
            if all(
                needed in self.outcomes and self.outcomes[needed].status == "done"
                for needed in step.inputs.values()
            )
        ]
        if any(self.by_key[key].exclusive for key in pool.running):
            return
        for step in [step for step in ready if not step.exclusive]:
            free = self.workers - sum(self.slots[key] for key in pool.running)
            if free < 1:
                return
            # labelling has worker processes of its own: it takes what is free
            self._submit(pool, step, free if step.kind == "labels" else 1)
        alone = [step for step in ready if step.exclusive]
        if alone and not pool.running:
            self._submit(pool, alone[0], 1)

    def _submit(self, pool: Pool, step: Step, slots: int) -> None:
        self.pending.remove(step)
        self.slots[step.key] = slots
        log_event(self.folder, "started", step)
        self.progress.started(step)
        pool.submit(step.key, {"step": step.as_dict(), "workers": slots})

    def _hear(self, event: Event) -> None:
        step = self.by_key[event.ticket]
        message = event.message
        if event.kind == "progress":
            self.progress.inside(step, message["done"], message["total"], message["text"])
            return
        status = message.get("status", "failed")
        outcome = Outcome(status, message.get("reason", ""), message.get("seconds"))
        found = self.store.find(step.key)
        if found is not None:
            # also where the worker died after it had committed
            outcome = Outcome("done", "", outcome.seconds, str(found.relative_to(self.folder)))
        self._finish(step, outcome)

    def _finish(self, step: Step, outcome: Outcome) -> None:
        if step in self.pending:
            self.pending.remove(step)
        self.outcomes[step.key] = outcome
        log_event(self.folder, outcome.status, step, reason=outcome.reason, seconds=outcome.seconds)
        self._write_index()
        self.progress.finished(step, outcome.status, outcome.reason, outcome.seconds or 0.0)

    def _write_index(self) -> None:
        write_index(self.folder, self.resolved, self.steps, self.outcomes)

    def summary(self, report: Path) -> Summary:
        """What the run did."""
        failed_labels = 0
        for step in self.steps:
            outcome = self.outcomes[step.key]
            if step.kind == "labels" and outcome.status == "done":
                failed_labels += len(Result.load(self.folder / outcome.folder).failures)
        return Summary(
            folder=self.folder,
            report=report,
            outcomes={step.name: self.outcomes[step.key] for step in self.steps},
            reused=self.reused,
            failed=sum(outcome.status == "failed" for outcome in self.outcomes.values()),
            failed_labels=failed_labels,
        )


def _ended(status: str) -> str:
    return {"failed": "failed", "missing": "could not be done"}.get(status, status)


def steps_done(campaign: Campaign, folder: Path) -> dict[str, bool]:
    """Key of each step → whether it is committed in that folder; nothing is written."""
    steps = folder / "steps"
    names = [path.name for path in steps.iterdir()] if steps.is_dir() else []
    existing = {name.rpartition("-")[2] for name in names if not name.startswith(".")}
    return {step.key: step.key[:KEY_LENGTH] in existing for step in plan(campaign)}
