"""A labelling worker: a process that computes one structure at a time for `labelling.py`.

It reads one JSON document per line from standard input and writes one per line to standard
output: first the engine arrives (import path and values) and ``{"ready": true}`` goes back, then
structures arrive and labels or errors go back. Whatever libraries print goes to standard error.
When standard input closes, because the parent is done or was killed, the worker ends at once,
together with every program that it started.

Checked: tests/reference/test_labelling.py.
"""

import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from typing import IO, Any

from karat.core.threads import single_thread

single_thread()

from karat.core.components import parse  # noqa: E402
from karat.core.errors import BadInput, CalculationFailed  # noqa: E402
from karat.reference.exchange import (  # noqa: E402
    labels_to_json,
    ordered,
    structure_from_json,
)
from karat.reference.protocol import AbstractEngine  # noqa: E402


def _end_group() -> None:
    """End this process and everything it started (it leads its own process group)."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _read(messages: "queue.Queue[dict[str, Any]]") -> None:
    folder = ""
    for line in sys.stdin.buffer:
        message = json.loads(line)
        folder = message.get("folder", folder)
        messages.put(message)
    if folder:  # made by the parent, which may be gone
        shutil.rmtree(folder, ignore_errors=True)
    _end_group()


def _engine(message: dict[str, Any]) -> AbstractEngine:
    import importlib

    module, _, name = message["class"].partition(":")
    return parse(getattr(importlib.import_module(module), name), message["values"], "engine")


def answer(engine: AbstractEngine, message: dict[str, Any]) -> dict[str, Any]:
    """Labels of one structure, or kind and reason why there are none."""
    started = time.perf_counter()
    try:
        structure = structure_from_json(message["structure"])
        labels = engine.compute(structure, ordered(message["want"]))
        outcome: dict[str, Any] = {"labels": labels_to_json(labels)}
    except CalculationFailed as error:
        outcome = {"kind": error.kind, "reason": str(error)}
    except BadInput as error:
        outcome = {"kind": "refused", "reason": str(error)}
    except Exception as error:  # an engine's mistake costs one structure, not the run
        outcome = {"kind": "error", "reason": f"{type(error).__name__}: {error}"}
    return outcome | {"seconds": time.perf_counter() - started}


def _say(channel: IO[bytes], message: dict[str, Any]) -> None:
    channel.write(json.dumps(message, allow_nan=False).encode() + b"\n")
    channel.flush()


def main() -> None:
    """Serve until standard input closes."""
    if os.getpgrp() != os.getpid():
        os.setsid()
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    messages: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    try:
        engine = _engine(messages.get())
    except Exception as error:
        _say(channel, {"unusable": f"{type(error).__name__}: {error}"})
        return
    _say(channel, {"ready": True})
    while True:
        _say(channel, answer(engine, messages.get()))


if __name__ == "__main__":
    main()
