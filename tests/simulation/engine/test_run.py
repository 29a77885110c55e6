"""The compiled loop: exact trajectories, exact distributions, neighbour lists, precision."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from ase.build import bulk

from karat.core.units import ACCELERATION, BOLTZMANN
from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.simulation.dynamics import Dynamics, run_dynamics, thermal_velocities
from karat.simulation.engine import run as engine_run
from karat.simulation.engine.state import add
from karat.simulation.velocities import masses
from karat.structures.structure import Structure


def dimer(distance, numbers=(1, 6)):
    return Structure(np.array(numbers), np.array([[0.0, 0, 0], [distance, 0, 0]]))


def crystal(seed, size=2, numbers=18):
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (size, size, size)
    atoms.rattle(0.1, seed=seed)
    return Structure.from_ase(atoms)


def test_harmonic_dimer_follows_the_discrete_solution(springs):
    # Velocity Verlet turns x'' = -ω²x into x_n = x_0 cos(nθ), cos θ = 1 - (ω Δt)²/2, exactly.
    start = dimer(0.9)
    reduced = 1 / np.sum(1 / masses(start))
    settings = Dynamics(timestep_fs=0.7, steps=400, every=1)
    run = run_dynamics(springs(5.0), start, settings, velocities=np.zeros((2, 3)))
    step = np.arccos(1 - 0.5 * 5.0 * ACCELERATION / reduced * 0.7**2)
    expected = 0.9 * np.cos(step * np.arange(401))
    found = run.positions[:, 1, 0] - run.positions[:, 0, 0]
    # 400 steps of rounding, 1e-16 each
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(run.times_fs, 0.7 * np.arange(401))
    np.testing.assert_allclose(run.potential_energies, 2.5 * expected**2, rtol=0, atol=1e-11)
    assert run.positions[0].tolist() == start.positions.tolist()


def test_energy_error_is_of_second_order(morse):
    start = dimer(1.0, (1, 1))
    errors, ends = [], []
    for halvings in range(3):
        settings = Dynamics(timestep_fs=0.4 / 2**halvings, steps=100 * 2**halvings, every=1)
        run = run_dynamics(morse.load(), start, settings, velocities=np.zeros((2, 3)))
        errors.append(np.abs(run.total_energies - run.total_energies[0]).max())
        ends.append(run.positions[-1])
    # error = c Δt² (1 + O(Δt²)): ratios 4 within the next order, ~(ωΔt)² = 3 %
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)
    assert errors[0] > 1e-4  # it is the time step's error, not rounding
    change = np.abs(ends[0] - ends[1]).max() / np.abs(ends[1] - ends[2]).max()
    assert change == pytest.approx(4, rel=0.1)


def baoab(omega_dt, keep):
    """Map and noise covariance of one BAOAB step for (x·ω, v) of an oscillator, kT/m = 1."""
    kick = np.array([[1, 0], [-0.5 * omega_dt, 1]])
    half = np.array([[1, 0.5 * omega_dt], [0, 1]])
    fade = np.diag([1, keep])
    after = kick @ half
    noise = after @ np.diag([0, 1 - keep**2]) @ after.T
    return after @ fade @ half @ kick, noise


@pytest.mark.parametrize("native", [True, False])
def test_baoab_has_the_exact_distribution_of_an_oscillator(springs, numpy_springs, native):
    """20 atoms tied pairwise are 57 equal oscillators with ω² = N k / m, and a free centre."""
    atoms, timestep, frames, every = 20, 1.0, 400 if native else 100, 20
    mass = masses(dimer(1.0, (6, 6)))[0]
    stiffness = float(
        mass / ACCELERATION / timestep**2 / atoms
    )  # ω Δt = 1: half the stability limit
    random = np.random.default_rng(5)
    start = Structure(np.full(atoms, 6), random.normal(scale=0.004, size=(atoms, 3)))
    potential = springs(stiffness) if native else numpy_springs(stiffness)
    settings = Dynamics(
        "langevin", 300.0, timestep, (frames + 4) * every, every, friction_per_ps=500.0, seed=8
    )
    run = run_dynamics(potential, start, settings)
    step, noise = baoab(1.0, np.exp(-0.5))
    memory = np.linalg.matrix_power(step, every)
    assert np.abs(memory).max() < 0.01  # frames are independent
    covariance = scipy.linalg.solve_discrete_lyapunov(step, noise)
    # Leimkuhler & Matthews (2013): positions exact at any time step, velocities 1 - (ωΔt)²/4
    np.testing.assert_allclose(np.diag(covariance), [1, 0.75], rtol=0, atol=1e-12)
    thermal = BOLTZMANN * 300.0 * ACCELERATION / mass
    positions = run.positions[5:] - run.positions[5:].mean(axis=1, keepdims=True)
    velocities = run.velocities[5:] - run.velocities[5:].mean(axis=1, keepdims=True)
    count = frames * 57
    # variance of `count` normal numbers: relative standard error √(2/count), 1 or 2 %;
    # 5 standard errors each: false alarm 1e-6 for all of it
    error = 5 * np.sqrt(2 / count)
    assert np.sum(positions**2) / count / thermal == pytest.approx(1, rel=error)
    assert np.sum(velocities**2) / count / thermal == pytest.approx(0.75, rel=error)
    cross = np.sum(positions * velocities) / count / thermal
    assert abs(cross - covariance[0, 1]) < 5 * np.sqrt(1 / count)


def test_momentum_is_conserved_and_the_energy_offset_added(argon):
    potential = argon()
    potential.reference_energies = {18: -1000.0}
    start = crystal(1)
    run = run_dynamics(potential, start, Dynamics("nve", 60.0, 4.0, 400, 20))
    momenta = np.einsum("a,fai->fi", masses(start), run.velocities)
    # sums of 32 forces cancel to rounding each step
    assert np.abs(momenta).max() < 1e-11
    assert run.potential_energies[0] == potential.predict([start])[0].energy
    assert np.ptp(run.total_energies) < 1e-3  # O(Δt²) of 1 eV of kinetic energy


@pytest.mark.parametrize("skin", [0.5, 0.02])
def test_hot_argon_does_not_depend_on_the_list(argon, foreign, monkeypatch, skin):
    """The run through ASE builds a list at every step; skin 0.02 Å is outrun by single steps."""
    seen = []
    fetch = engine_run.NativeRun.next_piece

    def watched(self):
        piece = fetch(self)
        seen.append((self.builds, self._skin))
        return piece

    monkeypatch.setattr(engine_run.NativeRun, "next_piece", watched)
    monkeypatch.setattr(engine_run, "best_skin", lambda cutoff, step, cost: skin)
    start = crystal(2)
    settings = Dynamics("nve", 1500.0, 3.0, 200, 10)
    run = run_dynamics(argon(), start, settings)
    slow = run_dynamics(foreign(argon()), start, settings)
    assert seen[-1][0] >= 25  # 20 pieces, each with its own rows, and some between them
    assert (seen[-1][1] > skin) == (skin == 0.02)
    assert np.abs(run.positions[-1] - run.positions[0]).max() > 1.0
    # rounding 1e-15, growing e-fold per ~0.2 ps over 0.8 ps
    np.testing.assert_allclose(run.positions, slow.positions, rtol=0, atol=1e-10)
    np.testing.assert_allclose(run.velocities, slow.velocities, rtol=0, atol=1e-11)
    np.testing.assert_allclose(run.total_energies, slow.total_energies, rtol=0, atol=1e-11)


def test_hot_silicon_with_angles_does_not_depend_on_the_list():
    start = Structure.from_ase(bulk("Si", cubic=True))
    potential = StillingerWeber(preset="Si").load()
    run = run_dynamics(potential, start, Dynamics("nve", 9000.0, 0.5, 1000, 40, seed=3))
    assert np.abs(run.positions - run.positions[0]).max() > 0.5
    fresh = potential.predict([run.structure(frame) for frame in range(len(run))])
    energies = np.array([label.energy for label in fresh])
    # the same numbers summed in another order
    np.testing.assert_allclose(run.potential_energies, energies, rtol=0, atol=1e-11)
    # kinetic energies swing by eV; the time step's error is (ωΔt)²/4 of it, 15 THz: 0.2 %
    assert np.ptp(run.total_energies) < 0.01
    assert np.ptp(run.kinetic_energies) > 1.0


def test_a_frame_is_the_same_however_often_frames_are_kept(argon):
    start = crystal(3)
    fine = run_dynamics(argon(), start, Dynamics("langevin", 80.0, 4.0, 120, 4, seed=6))
    coarse = run_dynamics(argon(), start, Dynamics("langevin", 80.0, 4.0, 120, 40, seed=6))
    assert len(coarse) == 4
    # rows are built at other steps, so that sums are in another order: rounding, grown for 0.5 ps
    np.testing.assert_allclose(fine.positions[::10], coarse.positions, rtol=0, atol=1e-11)


def test_float32_runs_and_conserves(argon):
    start = crystal(4)
    settings = Dynamics("nve", 60.0, 4.0, 1000, 50)
    single = run_dynamics(argon("float32"), start, settings)
    double = run_dynamics(argon(), start, settings)
    assert single.positions.dtype == np.float64
    # energies of -2.5 eV are stored to 2e-7; forces to 1e-7 of 0.1 eV/Å
    assert np.ptp(single.total_energies) < np.ptp(double.total_energies) + 5e-6
    np.testing.assert_allclose(single.positions[2], double.positions[2], rtol=0, atol=1e-5)


def test_float32_positions_add_up_without_loss(springs):
    # 5e-7 Å a step is a tenth of what float32 can tell apart at 100 Å: plain sums stand still
    start = Structure(np.array([18]), np.array([[100.0, 0.0, 0.0]]))
    velocities = np.array([[1e-6, 0.0, 0.0]])
    run = run_dynamics(
        springs(1.0, "float32"), start, Dynamics("nve", 0.0, 0.5, 10_000, 5_000), velocities
    )
    # last position rounded to float32: half a unit in the last place is 3.8e-6
    np.testing.assert_allclose(run.positions[:, 0, 0], [100, 100.0025, 100.005], atol=4e-6, rtol=0)


def test_error_free_addition():
    random = np.random.default_rng(0)
    high, change = random.normal(size=100) * 10, random.normal(size=100) * 1e-6
    total, rest = (
        np.asarray(part) for part in add(jnp.array(high), jnp.zeros(100), jnp.array(change))
    )
    for h, c, t, r in zip(high, change, total, rest):
        assert int(h * 2**100) + int(c * 2**100) == int(t * 2**100) + int(r * 2**100)


SCRIPT = """
from karat.core.threads import single_thread
single_thread()
from karat.potentials.precision import enable_float64
enable_float64()
import hashlib, numpy as np
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.simulation.dynamics import Dynamics, run_dynamics
from karat.structures.structure import Structure
start = Structure(np.full(4, 18), np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 4.0]]))
lj = LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 9.0, 8.0).load()
run = run_dynamics(lj, start, Dynamics("langevin", 40.0, 4.0, 500, 50, seed=11))
digest = hashlib.sha256(run.positions.tobytes() + run.velocities.tobytes()).hexdigest()
"""


def test_same_seed_same_bits_in_another_process():
    ask = [sys.executable, "-c", SCRIPT + "print(digest)"]
    other = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    names: dict = {}
    exec(SCRIPT, names)
    assert names["digest"] == other


def test_another_seed_gives_another_trajectory(argon):
    start = crystal(5)
    velocities = thermal_velocities(start, 50.0, 0)
    ends = [
        run_dynamics(
            argon(), start, Dynamics("langevin", 50.0, 4.0, 20, 20, seed=seed), velocities
        ).positions[-1]
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-4
