"""Killed at random moments, a campaign ends with the very results of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAST = """
name: fast
seed: 5
system: {smiles: "O"}
reference: {engine: gfn2_xtb}
data:
  sample: [{sampler: rattle, options: {copies: 40}}]
  split: {by: random, valid: 0.1, test: 0.3}
contestants:
  - {name: MMFF94s, potential: mmff94}
  - {name: UFF, potential: uff}
assays:
  - assay: energy_forces
"""
SLOW = """
name: slow
seed: 5
system: {smiles: "CO"}
reference: {engine: gfn2_xtb}
data:
  sample:
    - {sampler: rattle, options: {copies: 40}}
    - {sampler: dynamics, options: {steps: 400, every: 10, equilibration_steps: 50}}
  split: {by: random, valid: 0.1, test: 0.3}
train:
  - {name: a, model: bpnn, size: 20, options: {hidden: [8]}, settings: {epochs: 30}}
  - {name: b, model: bpnn, size: 40, options: {hidden: [8]}, settings: {epochs: 30}}
contestants:
  - {name: MMFF94s, potential: mmff94}
  - {name: GFN1-xTB, potential: gfn1_xtb}
assays:
  - assay: energy_forces
  - {assay: dynamics, options: {steps: 200, runs: 2}}
  - {assay: modes, options: {}}
  - {assay: torsions, options: {}}
  - {assay: cost, options: {seconds: 0.1, calls: 3, largest_atoms: 24}}
"""


def start(folder, campaign="c.yaml", output="out"):
    """`karat run` as a user starts it, in a folder of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "karat.cli.main", "run", campaign]
        + ["--output", output, "--workers", "2"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, status=0):
    said, _ = process.communicate(timeout=900)
    assert process.returncode == status, said
    return said


def survivors(folder):
    """Processes that still work in that folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == str(folder) and (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def committed(folder):
    """First 16 characters of the keys of what is stored."""
    steps = folder / "steps"
    names = [path.name for path in steps.iterdir()] if steps.is_dir() else []
    return {name.rpartition("-")[2] for name in names if not name.startswith(".")}


def kill_and_resume(tmp_path, tools, text, kills, seed, longest_delay):
    """Kill as soon as random numbers of steps are committed, each time a little later."""
    (tmp_path / "c.yaml").write_text(text)
    finish(start(tmp_path, output="undisturbed"))
    total = len(committed(tmp_path / "undisturbed"))
    random_ = random.Random(seed)
    moments = sorted(random_.randrange(0, int(0.7 * total)) for _ in range(kills))
    out = tmp_path / "out"
    done_before: set[str] = set()
    seen = landed = 0
    for moment in moments:
        process = start(tmp_path)
        while process.poll() is None and not (
            (out / "log.jsonl").exists() and len(committed(out)) >= moment
        ):
            time.sleep(0.01)
        time.sleep(random_.uniform(0, longest_delay))
        landed += process.poll() is None
        process.kill()
        process.communicate()
        assert wait_for_none(tmp_path) == []
        seen = nothing_twice(tools, out, seen, done_before)
        done_before = committed(out)
    said = finish(start(tmp_path))
    nothing_twice(tools, out, seen, done_before)
    assert tools.digests(out) == tools.digests(tmp_path / "undisturbed")
    assert said.strip().splitlines()[-1].endswith("report.html")
    return landed


def wait_for_none(folder, seconds=20):
    """Processes that still work in a folder after the others had time to end."""
    deadline = time.monotonic() + seconds
    while survivors(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return survivors(folder)


def nothing_twice(tools, out, seen, done_before):
    """No step that was committed before was started in the events since `seen`."""
    events = tools.log(out) if (out / "log.jsonl").exists() else []
    started = {event["key"][:16] for event in events[seen:] if event["event"] == "started"}
    assert not started & done_before
    return len(events)


def test_three_kills(tmp_path, tools):
    assert kill_and_resume(tmp_path, tools, FAST, kills=3, seed=1, longest_delay=0.2) == 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills(tmp_path, tools):
    landed = kill_and_resume(tmp_path, tools, SLOW, kills=20, seed=2, longest_delay=1.5)
    assert landed == 20


def test_an_interrupt_says_how_to_resume(tmp_path, tools):
    (tmp_path / "c.yaml").write_text(FAST)
    process = start(tmp_path)
    log = tmp_path / "out" / "log.jsonl"
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = finish(process, status=3)
    assert "interrupted" in said
    assert "not done twice" in said
    assert "Traceback" not in said
    assert wait_for_none(tmp_path) == []


def test_of_two_runs_at_once_one_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text(FAST)
    first = start(tmp_path)
    while not (tmp_path / "out" / "log.jsonl").exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = start(tmp_path)
    said = finish(second, status=2)
    assert f"another karat run (process {first.pid})" in said
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
