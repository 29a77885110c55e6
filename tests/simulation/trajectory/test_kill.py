"""Runs that are killed (SIGKILL) at random moments and resumed equal undisturbed ones.

The moments differ from call to call (wall time); the outcome must not.
"""

import random
import time

import pytest

RUN = {"atoms": 40, "frames": 400, "block": 3, "every": 7}


def undisturbed(start_run, folder, ending, storage):
    folder.mkdir()
    path = folder / f"run.{ending}"
    process = start_run(path=path, folder=folder / "c", storage=storage, **RUN)
    assert process.communicate(timeout=60)[0].endswith("done\n")
    return path.read_bytes()


def killed_after(process, word, seconds):
    """Kill the process so long after it said `word`; False if it was done before."""
    for line in process.stdout:
        if line == f"{word}\n":
            break
    time.sleep(seconds)
    process.kill()
    return "done" not in process.communicate()[0]


@pytest.mark.parametrize(
    ("ending", "storage"), [("xyz", {}), ("h5", {"compression": "gzip", "precision": "float32"})]
)
def test_killed_runs_equal_undisturbed_ones(tmp_path, start_run, ending, storage):
    expected = undisturbed(start_run, tmp_path / "whole", ending, storage)
    draw = random.Random(5)
    path, folder = tmp_path / f"run.{ending}", tmp_path / "checkpoints"
    kills = 0
    # 400 frames take about 0.2 s; the last entries fall into the making of the HDF5 file
    for word, most in (("ready", 0.05), ("ready", 0.1), ("finishing", 0.02)):
        process = start_run(path=path, folder=folder, storage=storage, **RUN)
        kills += killed_after(process, word, draw.uniform(0, most))
    process = start_run(path=path, folder=folder, storage=storage, **RUN)
    said = process.communicate(timeout=60)[0]
    assert said.endswith("done\n"), said
    assert path.read_bytes() == expected
    assert kills >= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "storage"), [("xyz", {}), ("h5", {}), ("h5", {"compression": "gzip"})]
)
def test_killed_many_times(tmp_path, start_run, ending, storage):
    expected = undisturbed(start_run, tmp_path / "whole", ending, storage)
    draw = random.Random()
    for number in range(8):
        path, folder = tmp_path / f"{number}.{ending}", tmp_path / f"checkpoints-{number}"
        for word, most in (("ready", 0.1), ("ready", 0.2), ("finishing", 0.1)):
            process = start_run(path=path, folder=folder, storage=storage, **RUN)
            killed_after(process, word, draw.uniform(0, most))
        process = start_run(path=path, folder=folder, storage=storage, **RUN)
        assert process.communicate(timeout=60)[0].endswith("done\n")
        assert path.read_bytes() == expected
