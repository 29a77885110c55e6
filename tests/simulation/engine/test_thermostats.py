"""Thermostats against exact results: free atoms, and three oscillators of different frequency.

Statistical tests are seeded; all of this file together raises a false alarm in less than 1 of
1,000 choices of the seeds.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.stats import kstest, ncx2, norm

from karat.core.units import ACCELERATION, BOLTZMANN
from karat.simulation.dynamics import Dynamics
from karat.simulation.engine.forces import Forces
from karat.simulation.engine.state import make_physics
from karat.simulation.engine.systems import pack_systems
from karat.simulation.engine.thermostats import at_rest
from karat.simulation.velocities import masses, without_drift
from karat.structures.structure import Structure

MASS = float(masses(Structure(np.array([18]), np.zeros((1, 3))))[0])
RATES = np.array([0.2, 0.31, 0.47])
"""Angular frequencies in 1/fs of the three oscillators that one atom is."""
TEMPERATURE = 300.0
THERMAL = BOLTZMANN * TEMPERATURE
SPREAD = np.sqrt(THERMAL * ACCELERATION / MASS)


COUNT = 512
ATOMS = [Structure(np.array([18]), np.full((1, 3), 0.01))] * COUNT
KEPT = 40
"""Frames of every run: the same shapes, so that one compilation serves several tests."""


class Tied(eqx.Module):
    """Every atom on springs to the origin, ½ k x² along each direction; free where k is 0."""

    stiffness: np.ndarray

    def __call__(self, systems, positions, cells):
        energies = 0.5 * jnp.sum(self.stiffness * positions**2, axis=1).at[-1].set(0)
        forces = (-self.stiffness * positions).at[-1].set(0)
        return Forces(energies, forces, jnp.zeros((systems.count, 3, 3)))


FREE = Tied(np.zeros((1, 3)))
OSCILLATORS = Tied((MASS * RATES**2 / ACCELERATION)[None])


def spring(systems, positions, cells):
    """½ k x² between the two atoms of each system, ω² = 0.09/fs²."""
    apart = positions[1:-1:2] - positions[:-1:2]
    force = 0.5 * MASS * 0.09 / ACCELERATION * apart
    forces = jnp.stack([force, -force], axis=1).reshape(-1, 3)
    energies = jnp.append(0.5 * jnp.sum(force * apart, axis=1), 0.0)
    padding = jnp.zeros((1, 3))
    return Forces(energies, jnp.concatenate([forces, padding]), jnp.zeros((systems.count, 3, 3)))


def start_at(kinetic_energy):
    """All atoms with that kinetic energy, along one direction, Å/fs."""
    speed = np.sqrt(2 * kinetic_energy * ACCELERATION / MASS)
    return [np.array([[speed, 0.0, 0.0]])] * COUNT


def test_velocity_rescaling_of_free_atoms_follows_its_exact_law(integrate):
    """K obeys dK = (K̄ - K) dt/τ + 2 √(K K̄/(N_f τ)) dW (Bussi et al. 2007, eq. 7): at any time
    2 K/(k_B T (1 - c)) is non-central χ² with N_f degrees of freedom and non-centrality
    2 K₀ c/(k_B T (1 - c)), c = exp(-t/τ); at last Gamma(N_f/2)."""
    first = 6 * THERMAL
    settings = Dynamics("velocity-rescaling", TEMPERATURE, 1.0, 640, 16, thermostat_ps=0.08, seed=1)
    run = integrate(ATOMS, settings, FREE, start_at(first))
    for frame in (1, 5, 40):
        keep = np.exp(-frame * 16 / 80)
        law = ncx2(3, 2 * first * keep / THERMAL / (1 - keep), scale=0.5 * THERMAL * (1 - keep))
        # false alarm 1e-5 each
        assert kstest(run.kinetic[frame], law.cdf).pvalue > 1e-5
        mean = 1.5 * THERMAL + (first - 1.5 * THERMAL) * keep
        assert law.mean() == pytest.approx(mean, rel=1e-12)  # relaxation by exp(-t/τ)
        assert abs(run.kinetic[frame].mean() - mean) < 5 * law.std() / np.sqrt(COUNT)
    # all that changed the energy is the bath; 640 sums of 0.2 eV
    np.testing.assert_allclose(run.kinetic + run.bath, first, rtol=0, atol=1e-14)
    # along the line on which it began
    assert np.abs(run.velocities[..., 1:]).max() == 0
    # the sign can change (Bussi & Parrinello 2008): an atom at rest stands in between, rare
    assert 0 < np.mean(run.velocities[-1, :, 0, 0] < 0) < 0.5


def test_langevin_dynamics_of_free_atoms_follows_its_exact_law(integrate):
    first = 6 * THERMAL
    settings = Dynamics("langevin", TEMPERATURE, 1.0, 640, 16, friction_per_ps=12.5, seed=2)
    run = integrate(ATOMS, settings, FREE, start_at(first))
    for frame in (1, 5, 40):
        keep = np.exp(-frame * 16 / 80)
        spread = SPREAD * np.sqrt(1 - keep**2)
        found = run.velocities[frame, :, 0]
        begun = run.velocities[0, 0, 0]
        for k in range(3):  # false alarm 1e-5 each
            assert kstest(found[:, k], norm(begun[k] * keep, spread).cdf).pvalue > 1e-5
    np.testing.assert_allclose(run.kinetic + run.bath, first, rtol=0, atol=1e-14)


def test_a_ramp_heats_in_equal_steps(integrate):
    """Friction so strong that velocities are drawn anew in each step."""
    steps = 640
    settings = Dynamics(
        "langevin", 100.0, 1.0, steps, 16, friction_per_ps=1e5, seed=3, end_temperature_k=500.0
    )
    run = integrate(ATOMS, settings, FREE, start_at(0.0))
    set_k = [100 + 400 * (16 * frame - 1) / steps for frame in range(1, 41)]
    found = run.kinetic[1:] / (1.5 * BOLTZMANN)
    ratio = found.mean(axis=1) / set_k
    # 40 means of 512 kinetic energies, relative spread √(2/3) each: chance 40 · 6e-7
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / 3 / COUNT)
    assert abs(ratio.mean() - 1) < 5 * np.sqrt(2 / 3 / COUNT / 40)
    # the bath is asked before a step: it ends at the last temperature, and begins at the first
    for step, kelvin in ((0, 100.0), (steps // 2, 300.0), (steps, 500.0)):
        thermal, _ = run.physics.bath(jnp.asarray(step))
        assert float(thermal) == pytest.approx(BOLTZMANN * kelvin, rel=1e-12)


def test_rescaling_one_degree_of_freedom_is_langevin_dynamics(integrate):
    """Two atoms without rotation move along a line, N_f = 1: the rescaled velocity, sign
    included, is that of an Ornstein–Uhlenbeck process, and one step that of BAOAB."""
    steps, every = 1600, 40
    pair = Structure(np.array([18, 18]), np.array([[0.0, 0, 0], [0.02, 0, 0]]))
    settings = Dynamics(
        "velocity-rescaling", TEMPERATURE, 2.0, steps, every, thermostat_ps=0.004, seed=4
    )
    run = integrate([pair] * COUNT, settings, spring)
    angle, keep = 0.3 * 2.0, np.exp(-2.0 / 0.004 / 2000)
    kick = np.array([[1, 0], [-0.5 * angle, 1]])
    half = np.array([[1, 0.5 * angle], [0, 1]])
    step = kick @ half @ np.diag([1, keep]) @ half @ kick
    noise = kick @ half @ np.diag([0, 1 - keep**2]) @ (kick @ half).T
    assert np.abs(np.linalg.matrix_power(step, every)).max() < 0.01  # frames are independent
    expected = scipy.linalg.solve_discrete_lyapunov(step, noise)
    reduced = THERMAL * ACCELERATION / (0.5 * MASS)
    x = 0.3 * (run.positions[2:, :, 1, 0] - run.positions[2:, :, 0, 0]) / np.sqrt(reduced)
    v = (run.velocities[2:, :, 1, 0] - run.velocities[2:, :, 0, 0]) / np.sqrt(reduced)
    for value, variance in ((x, expected[0, 0]), (v, expected[1, 1])):
        assert kstest(value.ravel(), norm(0, np.sqrt(variance)).cdf).pvalue > 1e-5
        # false alarm 6e-7
        assert np.mean(value**2) == pytest.approx(variance, rel=5 * np.sqrt(2 / value.size))
    # no overall motion grows out of rounding: it did, to 0.01 Å/fs, when it was scaled, too
    assert np.abs(run.velocities.sum(axis=2)).max() < 1e-15
    assert np.abs(run.velocities[..., 1:]).max() < 1e-15


def test_overall_motion_is_taken_out():
    random = np.random.default_rng(0)
    bent = Structure(np.array([8, 1, 1]), np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    line = Structure(np.array([6, 8, 8]), np.array([[0.0, 0, 0], [0, 1.16, 0], [0, -1.16, 0]]))
    crystal = Structure(
        np.full(3, 18), random.normal(size=(3, 3)), cell=9 * np.eye(3), periodic=np.ones(3, bool)
    )
    still = eqx.filter_jit(at_rest)
    for structures in ([bent, line, crystal, ATOMS[0]], [bent]):
        velocities = [random.normal(size=(len(s), 3)) for s in structures]
        float64 = np.dtype("float64")
        physics = make_physics(
            pack_systems(structures, float64), structures, Dynamics("langevin"), velocities,
            [0] * len(structures), float64,
        )  # fmt: skip
        positions, flat = (
            jnp.asarray(np.concatenate([*parts, np.zeros((1, 3))]))
            for parts in ([s.positions + 5.0 for s in structures], velocities)
        )
        found = np.asarray(still(physics, positions, flat))[:-1]
        expected = [without_drift(s, own) for s, own in zip(structures, velocities)]
        # the millionth of the trace that is added to moments of inertia
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=1e-4)
        again = np.asarray(still(physics, positions, still(physics, positions, flat)))[:-1]
        np.testing.assert_allclose(again, np.concatenate(expected), rtol=0, atol=1e-9)


def chain(timestep, steps):
    """A relaxation time that makes the energy change its place quickly."""
    return Dynamics("nose-hoover", TEMPERATURE, timestep, steps, steps // KEPT,
                    thermostat_ps=0.0015, seed=5)  # fmt: skip


def test_nose_hoover_chains_conserve_their_energy_to_second_order(integrate):
    errors = []
    for halvings in range(3):
        run = integrate(ATOMS, chain(0.125 / 2**halvings, KEPT * 2**halvings), OSCILLATORS)
        total = run.potential + run.kinetic + run.bath
        errors.append(np.sqrt(np.mean((total - total[0]) ** 2, axis=0)))
    assert np.all(errors[0] > 1e-7)  # the time step's error, not rounding
    # c Δt² (1 + O(Δt²/τ² = 0.7 %)) for each of the 512, c small for some
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.2)
    np.testing.assert_allclose(errors[1] / errors[2], 4, rtol=0.05)
    assert np.ptp(run.bath, axis=0).min() > 0.1 * THERMAL  # of energies that really flow


def test_nose_hoover_chains_sample_the_canonical_distribution(integrate):
    """All begin at one point with one kinetic energy; then every moment of every oscillator must
    be canonical. Replicas are independent; frames of one need not be."""
    run = integrate(ATOMS, chain(0.25, 12_000), OSCILLATORS)
    scaled = np.stack([run.positions[5:, :, 0] * RATES / SPREAD, run.velocities[5:, :, 0] / SPREAD])
    # the time step's own error: velocity Verlet keeps p² + (1 - (ωΔt)²/4) ω²x², up to 0.35 %
    step = (RATES * 0.25) ** 2 / 4
    for power, expected, resolved in ((1, 0, 0.012), (2, 1, 0.012), (4, 3, 0.09)):
        means = np.mean(scaled**power, axis=1)  # of each replica: what × replicas × direction
        error = means.std(axis=1) / np.sqrt(COUNT)
        assert error.max() < resolved
        # Student's t with 511 degrees of freedom, 5 standard errors: 18 tests at 8e-7
        assert np.all(np.abs(means.mean(axis=1) - expected) < 5 * error + power * step * expected)
    # one frame of each replica: kinetic and potential energies are Gamma(3/2) and independent
    for value in (run.kinetic[-1], run.potential[-1]):
        assert kstest(value, "gamma", (1.5, 0, THERMAL)).pvalue > 1e-5
    cross = np.corrcoef(run.kinetic[-1], run.potential[-1])[0, 1]
    assert abs(cross) < 5 / np.sqrt(COUNT)


def test_nose_hoover_chains_are_reversible_in_time(integrate):
    settings = chain(0.25, 10 * KEPT)
    there = integrate(ATOMS, settings, OSCILLATORS)
    turned = eqx.tree_at(
        lambda s: (s.velocities, s.chain, s.step),
        there.state,
        (
            -there.state.velocities,
            there.state.chain * jnp.array([1.0, -1.0])[:, None, None],
            jnp.zeros_like(there.state.step),
        ),
    )
    back = integrate(ATOMS, settings, OSCILLATORS, state=turned)
    assert np.abs(there.positions[-1] - there.positions[0]).max() > 0.01
    # rounding of 400 steps, grown by chaos, beside 0.1 Å and 0.03 Å/fs
    np.testing.assert_allclose(back.positions[-1], there.positions[0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(back.velocities[-1], -there.velocities[0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(back.state.chain[:, :-1], 0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("ensemble", ["langevin", "velocity-rescaling"])
def test_what_the_bath_gives_is_counted(integrate, ensemble):
    """Total and bath energy change by the error of velocity Verlet only, which is O(Δt²)."""
    errors = []
    for halvings in range(2):
        settings = Dynamics(
            ensemble, TEMPERATURE, 0.5 / 2**halvings, 160 * 2**halvings, 4 * 2**halvings,
            thermostat_ps=0.02, friction_per_ps=50.0, seed=6,
        )  # fmt: skip
        run = integrate(ATOMS, settings, OSCILLATORS)
        total = run.potential + run.kinetic + run.bath
        errors.append(np.sqrt(np.mean((total - total[0]) ** 2)))
    # a harmonic energy swings by (ωΔt)²/4 < 1.4 % of ~k_B T; some such swings add up at random
    assert errors[0] < 0.05 * THERMAL
    # another noise at half the step: 512 replicas tell each error to 1/√1024, the ratio to 5 %
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)
    assert np.ptp(run.bath, axis=0).min() > 0.3 * THERMAL
