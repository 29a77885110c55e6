"""Tests against other programs, each in an environment of its own: `make test-peers`.

`peer("torchani")` gives a function that runs a script of this folder with the interpreter of that
environment, arrays in, arrays out (`.npz`, without pickle).
"""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
Run = Callable[[str, Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@pytest.fixture
def peer(tmp_path: Path) -> Callable[[str], Run]:
    """Name of an environment (`requirements/NAME.txt`) → `run(script, arrays)`; skips where the
    environment has not been made."""

    def choose(name: str) -> Run:
        assert (HERE / "requirements" / f"{name}.txt").exists(), name
        folder = os.environ.get("KARAT_PEERS")
        python = Path(folder or ".") / name / "bin" / "python"
        if folder is None or not python.exists():
            pytest.skip(f"no environment of {name}: `make test-peers` makes it and runs this test")

        def run(script: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            given, got = tmp_path / "given.npz", tmp_path / "got.npz"
            np.savez(given, **arrays)
            one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            done = subprocess.run(
                [str(python), str(HERE / "scripts" / script), str(given), str(got)],
                capture_output=True,
                text=True,
                env=os.environ | one_thread,
                timeout=500,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            with np.load(got, allow_pickle=False) as found:
                return dict(found)

        return run

    return choose
