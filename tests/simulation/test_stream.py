"""Trajectories on disk: what was killed and taken up again equals what was never disturbed."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase.build import bulk

from karat.core.errors import BadInput
from karat.simulation.dynamics import Dynamics, run_batch
from karat.simulation.stream import stream_dynamics
from karat.simulation.trajectory.writer import read_trajectory
from karat.structures.structure import Structure


def crystal(seed, size=2):
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (size, size, size)
    atoms.rattle(0.1, seed=seed)
    return Structure.from_ase(atoms)


class Killed(Exception):
    """As Ctrl-C, at a moment of the test's choice."""


def stream(folder, potential, settings, structures, stop_after=None, ending=".xyz", **more):
    """Run in `folder`; with `stop_after`, interrupted after so many pieces."""
    pieces = []

    def progress(done, total, seconds, before):
        pieces.append(done)
        if stop_after is not None and len(pieces) == stop_after:
            raise Killed

    paths = [folder / f"{i}{ending}" for i in range(len(structures))]
    folder.mkdir(exist_ok=True)
    try:
        found = stream_dynamics(
            potential, structures, settings, paths, folder / "checkpoints",
            piece_frames=3, progress=progress, **more,
        )  # fmt: skip
    except Killed:
        return None, paths
    return found, paths


SETTINGS = {
    "langevin": {"ensemble": "langevin", "temperature_k": 300.0},
    "npt": {"ensemble": "velocity-rescaling", "barostat": "full", "compressibility_per_gpa": 1.0},
    "nose-hoover": {"ensemble": "nose-hoover", "temperature_k": 600.0, "stress": True},
}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", SETTINGS)
def test_killed_and_taken_up_again_is_the_same_bit_for_bit(name, native, tmp_path, argon, foreign):
    steps = 400 if native else 40
    settings = Dynamics(timestep_fs=4.0, steps=steps, every=5, seed=4, **SETTINGS[name])
    potential = argon() if native else foreign(argon())
    structures = [crystal(1), crystal(2)]
    stream(tmp_path / "calm", potential, settings, structures)
    for stop_after in (2, 1):
        stream(tmp_path / "killed", potential, settings, structures, stop_after)
    found, paths = stream(tmp_path / "killed", potential, settings, structures)
    assert [one.frames for one in found] == [steps // 5 + 1] * 2
    for i, path in enumerate(paths):
        assert path.read_bytes() == (tmp_path / "calm" / f"{i}.xyz").read_bytes()


def test_the_file_holds_what_the_batch_gives(tmp_path, argon):
    settings = Dynamics("nve", 60.0, 4.0, 60, 10, stress=True)
    structures = [crystal(1), crystal(2)]
    _, paths = stream(tmp_path, argon(), settings, structures, ending=".h5")
    runs = run_batch(argon(), structures, settings)
    for path, run in zip(paths, runs):
        (block,) = read_trajectory(path).blocks()
        # rows are built at other steps: rounding
        np.testing.assert_allclose(block.positions, run.positions, rtol=0, atol=1e-11)
        np.testing.assert_allclose(block.stress, run.stress, rtol=0, atol=1e-13)
        np.testing.assert_allclose(block.conserved, run.total_energies, rtol=0, atol=1e-11)
        np.testing.assert_array_equal(block.times_fs, run.times_fs)


def test_a_finished_run_can_be_made_longer(tmp_path, argon):
    for steps in (40, 100):
        settings = Dynamics("nve", 60.0, 4.0, steps, 10)
        found, paths = stream(tmp_path, argon(), settings, [crystal(1)])
    assert found[0].frames == 11
    (block,) = read_trajectory(paths[0]).blocks()
    total = block.conserved
    assert np.ptp(total) < 1e-3
    again, _ = stream(tmp_path, argon(), settings, [crystal(1)])
    assert (again[0].frames, again[0].ns_per_day) == (11, 0.0)


def test_another_run_is_not_taken_up(tmp_path, argon):
    settings = Dynamics("nve", 60.0, 4.0, 40, 10)
    stream(tmp_path, argon(), settings, [crystal(1)])
    with pytest.raises(BadInput, match="timestep_fs \\(was 4.0\\)"):
        stream(tmp_path, argon(), Dynamics("nve", 60.0, 2.0, 40, 10), [crystal(1)])
    with pytest.raises(BadInput, match="another structures"):
        stream(tmp_path, argon(), settings, [crystal(3)])


def test_one_system_explodes_and_the_other_goes_on(tmp_path, springs):
    settings = Dynamics("nve", 300.0, 1.0, 200, 5, seed=1)
    still = Structure(np.array([6, 6]), np.array([[0.0, 0, 0], [1.0, 0, 0]]))
    apart = Structure(np.array([6, 6]), np.array([[0.0, 0, 0], [1.45, 0, 0]]))
    rest, flight = np.zeros((2, 3)), np.array([[-0.002, 0, 0], [0.002, 0, 0]])
    potential = springs(0.01, nan_beyond=1.5)
    found, paths = stream(tmp_path, potential, settings, [still, apart], velocities=[rest, flight])
    assert found[0].stopped is None
    assert found[0].frames == 41
    assert found[1].stopped.kind == "not-finite"
    assert 1 <= found[1].frames < 41
    assert len(read_trajectory(paths[1])) == found[1].frames


SCRIPT = """
import sys
from pathlib import Path
from karat.core.threads import single_thread
single_thread()
from karat.potentials.precision import enable_float64
enable_float64()
from ase.build import bulk
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.simulation.dynamics import Dynamics
from karat.simulation.stream import stream_dynamics
from karat.structures.structure import Structure
atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
atoms.rattle(0.1, seed=1)
lj = LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 6.0, 5.4).load()
settings = Dynamics("langevin", 80.0, 4.0, 20000, 10, seed=3)
folder = Path(sys.argv[1])
stream_dynamics(lj, [Structure.from_ase(atoms)], settings, [folder / "run.h5"], folder / "c")
"""


@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path):
    def start(folder):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)])

    assert start(tmp_path / "calm").wait() == 0
    random = np.random.default_rng()  # any moment must do
    kills = 0
    while True:
        process = start(tmp_path / "killed")
        try:
            process.wait(timeout=10 + 3 * random.random())
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.1)
        assert kills < 60
    assert process.returncode == 0
    files = [(tmp_path / name / "run.h5").read_bytes() for name in ("calm", "killed")]
    assert files[0] == files[1]
