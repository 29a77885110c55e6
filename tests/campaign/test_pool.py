"""Workers: progress, failures, crashes, and no survivors."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from karat.campaign.pool import Pool

SERVER = """
import os, signal, subprocess, sys, time

def make(hello):
    def serve(task, report):
        do = task["do"]
        if do == "square":
            report(1, 2, "half")
            print("noise that must not reach the channel")
            os.system("echo noise of a child")
            return {"value": task["x"] ** 2, "threads": os.environ["OMP_NUM_THREADS"]}
        if do == "raise":
            raise ValueError("no such luck")
        if do == "segfault":
            print("last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if do == "exit":
            os._exit(4)
        if do == "sleep":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            report(child.pid, os.getpid(), "")
            time.sleep(600)
    return serve
"""


@pytest.fixture
def pool(tmp_path, monkeypatch):
    (tmp_path / "karat_pool_server.py").write_text(SERVER)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Pool(2, {"serve": "karat_pool_server:make"}, tmp_path / "logs")
    yield made
    made.close()


def until(pool, wanted, seconds=60):
    """Events until every ticket of `wanted` has ended."""
    found, end = [], time.monotonic() + seconds
    while wanted - {e.ticket for e in found if e.kind != "progress"}:
        assert time.monotonic() < end, found
        found += pool.wait(0.2)
    return found


def gone(pid):
    """Whether a process ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_gone(pids, seconds=20):
    end = time.monotonic() + seconds
    while not all(gone(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return all(gone(pid) for pid in pids)


def test_tasks_run_beside_each_other_and_workers_are_used_again(pool):
    for x in (2, 3):
        pool.submit(f"t{x}", {"do": "square", "x": x})
    assert set(pool.running) == {"t2", "t3"}
    events = until(pool, {"t2", "t3"})
    done = {e.ticket: e.message for e in events if e.kind == "done"}
    assert {ticket: m["value"] for ticket, m in done.items()} == {"t2": 4, "t3": 9}
    assert all(message["threads"] == "1" for message in done.values())
    assert [e.message["text"] for e in events if e.kind == "progress"] == ["half", "half"]
    pool.submit("again", {"do": "square", "x": 5})
    assert until(pool, {"again"})[-1].message["value"] == 25
    assert len(list((pool._logs).iterdir())) == 2  # no third worker was started


def test_an_error_and_a_crash_cost_their_own_task_only(pool):
    pool.submit("bad", {"do": "raise"})
    pool.submit("crash", {"do": "segfault"})
    events = {e.ticket: e for e in until(pool, {"bad", "crash"})}
    assert events["bad"].kind == "failed"
    assert events["bad"].message["reason"] == "ValueError: no such luck"
    assert events["crash"].kind == "died"
    assert "SIGSEGV" in events["crash"].message["reason"]
    assert "last words" in events["crash"].message["reason"]
    pool.submit("exit", {"do": "exit"})
    pool.submit("good", {"do": "square", "x": 4})
    events = {e.ticket: e for e in until(pool, {"exit", "good"})}
    assert "exit status 4" in events["exit"].message["reason"]
    assert events["good"].message["value"] == 16


def test_closing_ends_workers_and_their_children(pool):
    pool.submit("long", {"do": "sleep"})
    while not (events := pool.wait(1.0)):
        pass
    pids = (events[0].message["done"], events[0].message["total"])
    assert not any(gone(pid) for pid in pids)
    pool.close()
    assert wait_gone(pids)


def test_workers_end_when_their_parent_is_killed(pool, tmp_path):
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from pathlib import Path
        from karat.campaign.pool import Pool
        pool = Pool(1, {{"serve": "karat_pool_server:make"}}, Path({str(tmp_path / "l")!r}))
        pool.submit("long", {{"do": "sleep"}})
        while not (events := pool.wait(1.0)):
            pass
        print(events[0].message["done"], events[0].message["total"], flush=True)
        pool.wait(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert not any(gone(pid) for pid in pids)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_gone(pids)
