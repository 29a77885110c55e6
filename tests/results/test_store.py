"""The store: finished or not there at all, many writers, killed at any moment."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from karat.core.errors import BadInput
from karat.core.hashing import digest_json
from karat.results.store import STALE_SECONDS, Store, slug

KEY = digest_json("one")
OTHER = digest_json("other")


def writer(text):
    def write(folder):
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text(text)

    return write


def content(folder):
    return (folder / "sub" / "a.txt").read_text()


def test_commit_and_find(tmp_path):
    store = Store(tmp_path)
    assert not store.has(KEY)
    assert store.find(KEY) is None
    expected = store.folder(KEY, "Assay Torsions: bpnn/200")
    folder = store.commit(KEY, "Assay Torsions: bpnn/200", writer("x"))
    assert folder == expected
    assert folder == tmp_path / "steps" / f"assay-torsions-bpnn-200-{KEY[:16]}"
    assert content(folder) == "x"
    assert json.loads((folder / "step.json").read_text())["key"] == KEY
    assert store.has(KEY)
    assert not store.has(OTHER)
    assert Store(tmp_path).finished() == {KEY[:16]: folder}


def test_a_finished_step_is_never_written_again(tmp_path):
    store = Store(tmp_path)
    first = store.commit(KEY, "name", writer("x"))

    def never(_):
        raise AssertionError("written again")

    assert store.commit(KEY, "other name", never) == first
    assert store.folder(KEY, "other name") == first


def test_nothing_stays_of_a_step_that_failed(tmp_path):
    store = Store(tmp_path)

    def broken(folder):
        writer("x")(folder)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        store.commit(KEY, "name", broken)
    assert list((tmp_path / "steps").iterdir()) == []
    assert not store.has(KEY)


def test_who_comes_second_discards_its_copy(tmp_path):
    store, rival = Store(tmp_path), Store(tmp_path)

    def slow(folder):
        writer("second")(folder)
        rival.commit(KEY, "name", writer("first"))

    folder = store.commit(KEY, "name", slow)
    assert content(folder) == "first"
    assert [path.name for path in (tmp_path / "steps").iterdir()] == [folder.name]


def test_keys_and_folders_that_cannot_be(tmp_path):
    with pytest.raises(BadInput, match="not a digest"):
        Store(tmp_path).has("../../x")
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot write"):
        Store(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Fit bpnn 200", "fit-bpnn-200"), ("../é*?", "step"), ("", "step"), ("a" * 90, "a" * 60)],
)
def test_slugs(name, expected):
    assert slug(name) == expected


def dead_pid():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_only_abandoned_temporaries_are_cleaned(tmp_path):
    import socket

    store = Store(tmp_path)
    folder = store.commit(KEY, "name", writer("x"))
    host = socket.gethostname()
    names = {
        "dead": f".part-{OTHER[:16]}-{host}-{dead_pid()}-{'0' * 16}",
        "alive": f".part-{OTHER[:16]}-{host}-{os.getpid()}-{'1' * 16}",
        "elsewhere": f".part-{OTHER[:16]}-other-host-{dead_pid()}-{'2' * 16}",
        "old": f".part-{OTHER[:16]}-other-host-1-{'3' * 16}",
    }
    for name in names.values():
        (store.steps / name).mkdir()
        (store.steps / name / "half.txt").write_text("half")
    past = time.time() - STALE_SECONDS - 60
    for path in (store.steps / names["old"] / "half.txt", store.steps / names["old"]):
        os.utime(path, (past, past))
    assert not store.has(OTHER)
    assert len(store.finished()) == 1
    removed = {path.name for path in store.clean()}
    assert removed == {names["dead"], names["old"]}
    assert folder.exists()
    assert (store.steps / names["alive"]).exists()


MANY = """
import sys
from pathlib import Path
from karat.core.hashing import digest_json
from karat.results.store import Store
store = Store(Path(sys.argv[1]))
done = []
for number in range(int(sys.argv[2])):
    def write(folder):
        for part in range(20):
            (folder / f"{part}.txt").write_text(f"{number}" * 1000)
        done.append(number)
    store.commit(digest_json(number), f"step {number}", write)
"""


def complete(store):
    """Every finished step has all its files, whole."""
    for folder in store.finished().values():
        number = folder.name.split("-")[1]
        for part in range(20):
            assert (folder / f"{part}.txt").read_text() == number * 1000
    return len(store.finished())


def test_many_writers(tmp_path):
    command = [sys.executable, "-c", MANY, str(tmp_path), "15"]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    store = Store(tmp_path)
    assert complete(store) == 15
    assert not list(store.steps.glob(".part-*"))


def test_readers_never_see_half_a_step(tmp_path):
    """A second process looks without pause: what it sees is whole."""
    process = subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path), "40"])
    looks, seen, store = 0, 0, Store(tmp_path)
    while process.poll() is None:
        for folder in store.finished().values():
            assert len(list(folder.glob("*.txt"))) == 20
            looks += 1
        seen = max(seen, len(store.finished()))
    assert process.returncode == 0
    assert seen > 5
    assert looks > 20
    assert complete(store) == 40


def kill_at_random(tmp_path, times, seed):
    draw = random.Random(seed)
    command = [sys.executable, "-c", MANY, str(tmp_path), "100000"]
    counts = []
    for _ in range(times):
        process = subprocess.Popen(command)
        try:
            deadline = time.time() + 60
            before = counts[-1] if counts else 0
            while time.time() < deadline:
                steps = tmp_path / "steps"
                # started and writing, then any moment
                if steps.exists() and len(list(steps.glob("step-*"))) > before:
                    break
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.05))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        counts.append(complete(Store(tmp_path)))
    store = Store(tmp_path)
    store.clean()
    assert not list(store.steps.glob(".part-*"))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_killed_at_random_moments(tmp_path):
    kill_at_random(tmp_path, 3, seed=1)


@pytest.mark.slow
def test_killed_at_many_random_moments(tmp_path):
    kill_at_random(tmp_path, 20, seed=2)


def test_the_store_can_be_moved(tmp_path):
    folder = Store(tmp_path / "a").commit(KEY, "name", writer("x"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = Store(tmp_path / "b").find(KEY)
    assert moved is not None
    assert moved.name == folder.name
    assert content(Path(moved)) == "x"
