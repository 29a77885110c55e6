"""A worker: a process with one compute thread that does one step after another.

Started by `pool.py` as `python -m karat.campaign.worker`. It reads one JSON object a line on
standard input and answers likewise on what was standard output; whatever libraries print goes to
its log. It leads its own process group: when the campaign's process ends, however it ends,
standard input closes, and the worker ends its whole group at once.

Checked: tests/campaign/test_pool.py, tests/campaign/test_kill.py.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, TextIO

from karat.core.threads import single_thread

Report = Callable[[int, int, str], None]
"""Progress within a step: how many are done, of how many, and a word."""


def main() -> None:
    """Serve until standard input closes."""
    single_thread()
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    tasks: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    hello = tasks.get()
    sys.path.extend(path for path in hello.get("sys_path", ()) if path not in sys.path)
    module, _, name = hello["serve"].partition(":")
    serve = getattr(import_module(module), name)(hello)
    for task in iter(tasks.get, None):
        _say(channel, _answer(serve, task, channel))


def _listen(tasks: "queue.Queue[dict[str, Any]]") -> None:
    for line in _lines():
        tasks.put(json.loads(line))
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _lines() -> Iterator[str]:
    # not sys.stdin's iterator: its lock would hold up the interpreter's end
    with os.fdopen(os.dup(0), "r") as stream:
        while line := stream.readline():
            yield line


def _answer(serve: Any, task: dict[str, Any], channel: TextIO) -> dict[str, Any]:
    def progress(done: int, total: int, text: str = "") -> None:
        _say(channel, {"event": "progress", "done": done, "total": total, "text": text})

    try:
        return {"event": "done"} | serve(task, progress)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        return {"event": "failed", "status": "failed", "reason": reason}


def _say(channel: TextIO, message: dict[str, Any]) -> None:
    try:
        channel.write(json.dumps(message) + "\n")
        channel.flush()
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    main()
