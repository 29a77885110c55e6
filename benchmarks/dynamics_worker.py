"""Processes that are timed in turn, block by block; the numbers that come out. Standard library.

A worker compiles and warms up, prints what it is (one line of JSON), and then makes one block of
work for each line that it reads, printing its figures. All workers of a comparison live at the
same time and idle while another one works, so that a block and the peer's block that it is
compared with lie seconds apart.
"""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARK = "JSON "
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"), "1"
) | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


def say(figures: Mapping[str, Any]) -> None:
    """One line of JSON, for the process that started this one."""
    print(MARK + json.dumps(figures), flush=True)


def serve(facts: Mapping[str, Any], block: Callable[[], Mapping[str, Any]]) -> None:
    """Say what this worker is, then do a block for each line of input."""
    say(facts)
    for _ in sys.stdin:
        say(block())


def timed(work: Callable[[], Any], steps: int) -> dict[str, float]:
    """Wall and processor seconds of each of the `steps` steps that `work` makes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "wall": (time.perf_counter() - wall) / steps,
        "cpu": (time.process_time() - cpu) / steps,
    }


class Worker:
    """A process with one of the scripts beside this file; `facts` is what it said first."""

    def __init__(self, python: str, script: str, words: Sequence[object]) -> None:
        self._name = " ".join([script, *map(str, words)])
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(HERE / script), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
        )
        self.facts = self._read()

    def block(self) -> dict[str, Any]:
        """The figures of one more block."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        sys.exit(f"{self._name}: ended with status {self._process.wait()}, see above.")


def alternate(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Blocks of each worker, in turn."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            found[name].append(worker.block())
    return found


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Median (smallest – largest)."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}g} ({low:.{digits}g} – {high:.{digits}g})"


def ratios(
    mine: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], clock: str
) -> list[float]:
    """First over second, round by round; `clock` is "wall" or "cpu"."""
    return [a[clock] / b[clock] for a, b in zip(mine, theirs, strict=True)]


def verdict(value: float, bar: float, most: bool) -> str:
    """Whether a median holds the bar; `most`: the bar is the largest allowed value."""
    holds = value <= bar if most else value >= bar
    return f"bar: {'at most' if most else 'at least'} {bar:g}: {'holds' if holds else 'MISSED'}"


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Exponent of the power law y ∝ xᵇ by least squares of the logarithms, its standard error
    (nan with two points)."""
    across, up = [math.log(v) for v in x], [math.log(v) for v in y]
    centre, height = statistics.mean(across), statistics.mean(up)
    width = sum((v - centre) ** 2 for v in across)
    found = sum((a - centre) * (b - height) for a, b in zip(across, up)) / width
    left = sum((b - height - found * (a - centre)) ** 2 for a, b in zip(across, up))
    freedom = len(across) - 2
    return found, math.sqrt(left / freedom / width) if freedom else math.nan


def pin(core: int | None) -> None:
    """Keep this process and those that it starts on one core; `None` leaves them alone."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def machine() -> str:
    """Processor, cores that may be used, load, Python: a line for the head of a table."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cores = sorted(os.sched_getaffinity(0))
    return (
        f"{names[0] if names else platform.machine()}, core(s) {cores}, one thread, "
        f"load {os.getloadavg()[0]:.2f}, Python {platform.python_version()}"
    )
