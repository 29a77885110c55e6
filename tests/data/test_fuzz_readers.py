"""Spoilt files of every format: entries or one `BadInput`, nothing else; see `fuzz_readers.py`.

Each run is a process of its own with bounded memory, so that a crash, too, is seen.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "fuzz_readers.py"
FAST = {
    **{"xyz": 250, "xyz_gz": 120, "npz": 250, "hdf5": 60, "deepmd": 120, "db": 120, "json": 120},
    **{"sdf": 60, "pdb": 60, "cif": 20, "vasp": 20, "traj": 20},
}
SLOW = {
    **{"xyz": 27000, "xyz_gz": 14000, "npz": 20000, "hdf5": 4000, "deepmd": 10000, "db": 9000},
    **{"json": 12000, "sdf": 2500, "pdb": 2000, "cif": 300, "vasp": 300, "traj": 300},
}
MEMORY_MB = 300
"""The seeds are smaller than 20 kB; the largest allowed frame or text has a few hundred MB."""


def run(folder, counts, seed, seconds):
    """All formats in one process, one after another."""
    command = [sys.executable, str(SCRIPT), json.dumps(counts), str(seed), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, (
        f"died ({done.returncode}) after {done.stdout}: {done.stderr[-3000:]}"
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [item["format"] for item in found] == list(counts)
    return found


def judge(found, counts):
    for item in found:
        assert item["wrong"] == [], item
        assert not item["marker"], f"{item['format']}: something of a file was executed"
        assert item["memory_mb"] < MEMORY_MB, item
        assert item["entries"] + item["refused"] == counts[item["format"]]
        # a fuzzer whose inputs all fail at the first byte would test nothing
        assert item["entries"] > 0, item
        assert item["refused"] > 0, item


def test_spoilt_files(tmp_path):
    judge(run(tmp_path, FAST, 1, 60), FAST)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_spoilt_files(tmp_path):
    assert sum(SLOW.values()) >= 100_000
    found = run(tmp_path, SLOW, 2, 880)
    print(json.dumps(found))
    judge(found, SLOW)
