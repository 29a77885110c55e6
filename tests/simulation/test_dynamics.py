"""The verb: settings, both loops alike, runs that end early."""

import numpy as np
import pytest

from karat.core.components import parse
from karat.core.errors import BadInput, CalculationFailed, UnknownElement
from karat.core.units import ACCELERATION
from karat.simulation.dynamics import Dynamics, run_dynamics
from karat.structures.structure import Structure


def cluster(seed=0):
    """Five argon atoms near their minimum."""
    positions = 3.8 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0], [0.5, 0.29, 0.82]])
    positions = np.vstack([positions, [1.9, 1.1, -3.1]])
    shift = np.random.default_rng(seed).normal(scale=0.05, size=positions.shape)
    return Structure(np.full(5, 18), positions + shift)


def test_both_loops_agree(argon, foreign):
    settings = Dynamics("nve", 30.0, 4.0, 300, 30, seed=2)
    seen = []
    native = run_dynamics(argon(cutoff=9.0), cluster(), settings)
    other = run_dynamics(
        foreign(argon(cutoff=9.0)), cluster(), settings, progress=lambda i, n: seen.append((i, n))
    )
    # rounding, 1e-15 a step; energies of 0.06 eV
    np.testing.assert_allclose(native.positions, other.positions, rtol=0, atol=1e-11)
    np.testing.assert_allclose(native.velocities, other.velocities, rtol=0, atol=1e-13)
    np.testing.assert_allclose(native.total_energies, other.total_energies, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(native.times_fs, np.arange(11) * 120.0)
    assert native.stopped is None
    assert other.stopped is None
    assert seen[-1] == (300, 300)


def test_both_loops_start_from_the_same_frame(argon, foreign):
    settings = Dynamics("langevin", 30.0, 4.0, 25, 10, friction_per_ps=5.0)
    runs = [run_dynamics(p, cluster(), settings) for p in (argon(), foreign(argon()))]
    assert [len(run) for run in runs] == [3, 3]
    for name in ("positions", "velocities", "kinetic_energies"):
        first, second = (getattr(run, name)[0] for run in runs)
        np.testing.assert_allclose(first, second, rtol=1e-14, atol=0)
    assert np.array_equal(runs[0].positions[0], cluster().positions)
    assert run_dynamics(argon(), cluster(), settings).positions[-1].tolist() == (
        runs[0].positions[-1].tolist()
    )
    again = run_dynamics(foreign(argon()), cluster(), settings)
    assert np.array_equal(again.positions, runs[1].positions)


@pytest.mark.parametrize("loop", ["native", "ase"])
def test_an_unstable_time_step_is_an_explosion(springs, foreign, loop):
    # ω Δt = 2.2 > 2: velocity Verlet grows without bound
    start = Structure(np.array([6, 6]), np.array([[0.0, 0, 0], [0.05, 0, 0]]))
    stiffness = float(6.0 / ACCELERATION * 2.2**2)
    potential = springs(stiffness) if loop == "native" else foreign(springs(stiffness))
    run = run_dynamics(potential, start, Dynamics("nve", 0.0, 1.0, 1000, 1), np.zeros((2, 3)))
    assert run.stopped is not None
    assert run.stopped.kind in ("too-hot", "jump")
    assert run.stopped_step == len(run)  # frames 0 … step-1 are kept
    assert f"step {run.stopped_step} " in run.stopped.reason
    assert 2 <= len(run) < 50
    assert np.isfinite(run.positions).all()
    assert np.isfinite(run.total_energies).all()


def test_both_loops_stop_at_the_same_step(springs, foreign):
    start = Structure(np.array([6, 6]), np.array([[0.0, 0, 0], [0.05, 0, 0]]))
    stiffness = float(6.0 / ACCELERATION * 2.1**2)
    settings = Dynamics("nve", 100.0, 1.0, 1000, 1)
    native = run_dynamics(springs(stiffness), start, settings)
    other = run_dynamics(foreign(springs(stiffness)), start, settings)
    assert native.stopped == other.stopped
    assert native.stopped_step == other.stopped_step


@pytest.mark.parametrize("loop", ["native", "ase"])
def test_numbers_that_are_not_finite_stop_a_run(springs, foreign, loop):
    start = Structure(np.array([6, 6]), np.array([[0.0, 0, 0], [1.0, 0, 0]]))
    potential = springs(0.01, nan_beyond=1.5)
    if loop == "ase":
        potential = foreign(potential)
    apart = np.array([[-0.01, 0, 0], [0.01, 0, 0]])
    run = run_dynamics(potential, start, Dynamics("nve", 300.0, 1.0, 200, 5), apart)
    assert run.stopped is not None
    assert run.stopped.kind == "not-finite"
    assert run.stopped_step is not None
    assert 20 <= run.stopped_step <= 35  # 0.5 Å at 0.02 Å/fs, slowed by the spring
    assert len(run) == (run.stopped_step - 1) // 5 + 1
    distance = np.linalg.norm(run.positions[:, 1] - run.positions[:, 0], axis=1)
    assert distance.max() < 1.5
    assert np.isfinite(run.potential_energies).all()


def test_a_start_that_cannot_be_computed_is_refused(springs):
    start = Structure(np.array([6, 6]), np.array([[0.0, 0, 0], [2.0, 0, 0]]))
    with pytest.raises(CalculationFailed, match="cannot start"):
        run_dynamics(springs(1.0, nan_beyond=1.5), start, Dynamics())


def test_a_potential_that_fails_ends_the_run_with_its_reason(argon, foreign):
    run = run_dynamics(foreign(argon(), fail_at=14), cluster(), Dynamics("nve", 30.0, 2.0, 100, 5))
    assert run.stopped is not None
    assert run.stopped.kind == "not-converged"
    assert "SCF did not converge" in run.stopped.reason
    assert run.stopped_step == 13  # call 1 is the start
    assert len(run) == 3


def test_a_jump_is_told_even_where_the_potential_cannot_follow(numpy_springs, foreign):
    start = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [1.0, 0, 0]]))
    fast = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    potential = foreign(numpy_springs(0.1), fail_at=2)
    run = run_dynamics(potential, start, Dynamics("nve", 300.0, 1.0, 10, 1), fast)
    assert run.stopped is not None
    assert (run.stopped.kind, run.stopped_step) == ("jump", 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"timestep_fs": 0.0}, "timestep_fs"),
        ({"steps": 0}, "steps"),
        ({"every": 2000}, "every"),
        ({"temperature_k": -1.0}, "temperature_k"),
        ({"friction_per_ps": -1.0}, "friction_per_ps"),
        ({"seed": 2**32}, "seed"),
        ({"ensemble": "npt"}, "ensemble"),
        ({"timestep": 1.0}, "timestep_fs"),
    ],
)
def test_bad_settings_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Dynamics, values, "dynamics")


def test_bad_starts_are_refused(argon):
    with pytest.raises(BadInput, match="velocities"):
        run_dynamics(argon(), cluster(), Dynamics(), velocities=np.zeros((4, 3)))
    with pytest.raises(UnknownElement, match="H"):
        run_dynamics(argon(), Structure(np.array([1]), np.zeros((1, 3))), Dynamics())
