"""A campaign's output folder: lock, log, index.

`index.json` is a cache of what the store holds, rewritten whole and atomically; the report reads
it. `log.jsonl` says which step was started and how it ended, one line each, and only grows.

Checked: tests/campaign/test_folder.py.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from karat.campaign.plan import Step
from karat.core.errors import BadInput
from karat.core.files import write_json


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Attributes:
        status: ``done``, ``failed``, ``not-applicable`` or ``missing``.
        reason: why it is not done.
        seconds: wall time, or `None` where it did not run.
        folder: relative to the output folder, "" where nothing was stored.
    """

    status: str
    reason: str = ""
    seconds: float | None = None
    folder: str = ""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it when the process ends, however it ends.

    Raises:
        BadInput: another run holds it.
    """
    with (folder / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise BadInput(
                f"{folder}: another karat run (process {holder}) is working in this folder. "
                "Wait until it ends, or name another folder with --output."
            ) from error
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def write_index(
    folder: Path,
    campaign: Mapping[str, Any],
    steps: Sequence[Step],
    outcomes: Mapping[str, Outcome],
) -> None:
    """Write `index.json`: every step of the plan with how it ended."""
    entries = []
    for step in steps:
        outcome = outcomes.get(step.key, Outcome("missing", "not run yet"))
        entries.append(
            {
                "key": step.key,
                "folder": outcome.folder,
                "kind": step.kind,
                "name": step.name,
                "status": outcome.status,
                "reason": outcome.reason,
                "seconds": outcome.seconds,
                "contestant": step.contestant,
                "assay": step.assay,
            }
        )
    write_json(
        folder / "index.json",
        {
            "name": campaign["name"],
            "title": campaign["title"],
            "campaign": dict(campaign),
            "steps": entries,
        },
    )


def log_event(folder: Path, event: str, step: Step, **more: Any) -> None:
    """Append one line to `log.jsonl`."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "event": event, "key": step.key, "name": step.name, **more}
    with (folder / "log.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
