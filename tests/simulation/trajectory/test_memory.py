"""Memory does not grow with the number of frames: peak resident size of a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import dataclasses, importlib.util, json, pathlib, re, sys
spec = importlib.util.spec_from_file_location("made_run", sys.argv[1])
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
from karat.simulation.trajectory.writer import open_writer, read_trajectory
path, frames, size = sys.argv[2], int(sys.argv[3]), 50
start = made.made_structure(100)
block = made.made_block(start, 0, size, ("forces",))
storage = made.Storage(precision="float32")
peaks = []

def peak():
    # not ru_maxrss: that begins with the size of the process that started this one
    text = pathlib.Path("/proc/self/status").read_text()
    peaks.append(int(re.search(r"VmHWM:\\s+(\\d+) kB", text).group(1)) / 1024)

def write(path, count):
    with open_writer(path, start, {}, storage) as writer:
        for first in range(0, count, size):
            writer.append(dataclasses.replace(block, first=first))
            if first % 1000 == 0:
                writer.mark()
        writer.finish()

def read(path):
    return sum(len(part) for part in read_trajectory(path).blocks())

write("small-" + path, frames // 5)
assert read("small-" + path) == frames // 5
peak()
write(path, frames)
peak()
assert read(path) == frames
peak()
print(json.dumps(peaks))
"""


def peaks(folder, frames, ending, program):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(program), f"run.{ending}", str(frames)],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


ALLOWED_MIB = 8
"""What five times the frames may add (measured: below 1)."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux' /proc"
)


@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_memory_is_bounded(tmp_path, made, ending):
    frames = {"xyz": 2500, "h5": 20_000}[ending]
    small, written, read = peaks(tmp_path, frames, ending, made.__file__)
    assert written < small + ALLOWED_MIB
    assert read < small + ALLOWED_MIB


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_memory_of_100000_frames(tmp_path, made, ending):
    small, written, read = peaks(tmp_path, 100_000, ending, made.__file__)
    assert written < small + ALLOWED_MIB
    assert read < small + ALLOWED_MIB
