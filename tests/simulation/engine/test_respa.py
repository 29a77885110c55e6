"""Multiple time steps (r-RESPA): the exact discrete map of an oscillator with two springs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from ase.build import bulk
from scipy.stats import kstest, norm

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, BOLTZMANN
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, Outputs
from karat.simulation.dynamics import Dynamics, make_run, run_batch, run_dynamics
from karat.simulation.velocities import masses, thermal_velocities
from karat.structures.structure import Structure

PAIR = Structure(np.array([6, 18]), np.array([[0.0, 0, 0], [0.05, 0, 0]]))
REDUCED = 1 / np.sum(1 / masses(PAIR))
HARD, SOFT = 0.5, 0.12
"""Angular frequencies (1/fs) of the inner spring and of what the outer one adds."""


class Spring(AbstractNativePotential):
    """½ k r² between every two atoms."""

    stiffness: jax.Array
    species: tuple[int, ...] = eqx.field(static=True, default=(6, 18))
    cutoff: float = eqx.field(static=True, default=20.0)
    continuity: int = eqx.field(static=True, default=0)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def evaluate(self, batch):
        squared = jnp.sum(batch.vectors * batch.vectors, axis=1)
        value = jnp.where(batch.pair_mask, 0.25 * self.stiffness * squared, 0)
        return Outputs(jax.ops.segment_sum(value, batch.centers, num_segments=batch.atoms))


def spring(squared_rate, dtype="float64"):
    stiffness = squared_rate * REDUCED / ACCELERATION
    return NativePotential(Spring(jnp.asarray(stiffness, dtype)), dtype=dtype)


def inner_map(rate, duration):
    """Velocity Verlet of x'' = -rate² x."""
    kick = np.array([[1, 0], [-0.5 * duration * rate**2, 1]])
    return kick @ np.array([[1, duration], [0, 1]]) @ kick


def outer_map(timestep, inner_steps):
    kick = np.array([[1, 0], [-0.5 * timestep * SOFT**2, 1]])
    inner = np.linalg.matrix_power(inner_map(HARD, timestep / inner_steps), inner_steps)
    return kick @ inner @ kick


def relative(run):
    """Distance and its rate along x: frames × 2."""
    x = run.positions[:, 1, 0] - run.positions[:, 0, 0]
    v = run.velocities[:, 1, 0] - run.velocities[:, 0, 0]
    return np.stack([x, v], axis=1)


def move(timestep, total, inner, dtype="float64"):
    settings = Dynamics("nve", 0.0, timestep, 400, 1, inner_steps=4)
    velocities = np.array([[0.002, 0, 0], [-0.002, 0, 0]])
    whole, fast = spring(total, dtype), spring(inner, dtype)
    run = run_dynamics(whole, PAIR, settings, velocities, inner=fast)
    assert run.stopped is None
    return run


def powers(step, start):
    states = [start]
    for _ in range(400):
        states.append(step @ states[-1])
    return np.array(states)


def test_two_springs_follow_the_exact_map():
    run = move(2.0, HARD**2 + SOFT**2, HARD**2)
    expected = powers(outer_map(2.0, 4), relative(run)[0])
    # 1600 steps of rounding
    np.testing.assert_allclose(relative(run), expected, rtol=0, atol=1e-11)
    energy = 0.5 * REDUCED / ACCELERATION * (HARD**2 + SOFT**2) * expected[:, 0] ** 2
    np.testing.assert_allclose(run.potential_energies, energy, rtol=0, atol=1e-10)
    momenta = np.einsum("a,fai->fi", masses(PAIR), run.velocities)
    np.testing.assert_allclose(momenta, momenta[:1] + np.zeros((401, 3)), rtol=0, atol=1e-13)


def test_an_inner_potential_that_is_the_whole_gives_velocity_verlet_of_its_steps():
    run = move(2.0, HARD**2, HARD**2)
    step = np.linalg.matrix_power(inner_map(HARD, 0.5), 4)
    np.testing.assert_allclose(relative(run), powers(step, relative(run)[0]), rtol=0, atol=1e-11)


def test_energy_error_is_of_second_order_and_smaller_than_without():
    errors = []
    for timestep in (2.0, 1.0, 0.5):
        run = move(timestep, HARD**2 + SOFT**2, HARD**2)
        errors.append(np.ptp(run.total_energies[: int(80 / timestep)]))
    # next order: (ωΔt)² of the outer step, 26 and 6 % of some coefficient
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.06)
    # velocity Verlet with the outer step: (ωΔt)²/4 = 26 % of the energy
    total = 0.5 * REDUCED / ACCELERATION * (HARD**2 + SOFT**2) * 0.05**2
    assert errors[0] < 0.1 * total


@pytest.mark.slow
def test_float32():
    single = relative(move(2.0, HARD**2 + SOFT**2, HARD**2, "float32"))
    double = relative(move(2.0, HARD**2 + SOFT**2, HARD**2))
    # 1600 steps, each rounded to 6e-8 of 0.05 Å, a random walk in phase and amplitude
    np.testing.assert_allclose(single[:, 0], double[:, 0], rtol=0, atol=2e-6)


@pytest.mark.slow
def test_langevin_noise_within_inner_steps():
    """The thermostat acts in each inner step: the linear map has an exact distribution."""
    timestep, steps, replicas = 2.0, 1200, 256
    settings = Dynamics("langevin", 300.0, timestep, steps, 40, friction_per_ps=100.0,
                        inner_steps=4, seed=2)  # fmt: skip
    runs = run_batch(spring(HARD**2 + SOFT**2), [PAIR] * replicas, settings, inner=spring(HARD**2))
    assert all(run.stopped is None for run in runs)
    keep, part = np.exp(-0.1 * timestep / 4), timestep / 4
    fast = np.array([[1, 0], [-0.5 * part * HARD**2, 1]])
    half = np.array([[1, 0.5 * part], [0, 1]])
    slow = np.array([[1, 0], [-0.5 * timestep * SOFT**2, 1]])
    step, noise = slow, np.zeros((2, 2))
    for _ in range(4):
        step = half @ fast @ step
        step = np.diag([1, keep]) @ step
        step = fast @ half @ step
        after = fast @ half @ np.diag([1, keep]) @ half @ fast
        noise = after @ noise @ after.T
        noise = noise + fast @ half @ np.diag([0, 1 - keep**2]) @ (fast @ half).T
    step, noise = slow @ step, slow @ noise @ slow.T
    assert np.abs(np.linalg.matrix_power(step, 40)).max() < 0.02  # frames are independent
    expected = scipy.linalg.solve_discrete_lyapunov(step, noise)
    thermal = BOLTZMANN * 300.0 * ACCELERATION / REDUCED
    found = np.array([run.positions[2:, 1] - run.positions[2:, 0] for run in runs]).reshape(-1)
    moving = np.array([run.velocities[2:, 1] - run.velocities[2:, 0] for run in runs]).reshape(-1)
    for value, variance in ((found, expected[0, 0]), (moving, expected[1, 1])):
        scaled = value / np.sqrt(thermal)
        # 22,000 numbers; false alarms 6e-7 and 1e-5 each
        relative_error = 5 * np.sqrt(2 / scaled.size)
        assert np.mean(scaled**2) == pytest.approx(variance, rel=relative_error)
        assert kstest(scaled, norm(0, np.sqrt(variance)).cdf).pvalue > 1e-5


def test_lists_are_made_anew_while_hot_argon_moves(argon):
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    start = Structure.from_ase(atoms)
    near = LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 4.6, 3.9).load()
    settings = Dynamics("nve", 1500.0, 4.0, 200, 20, inner_steps=4)
    run = make_run(argon(), [start], settings, [thermal_velocities(start, 1500.0, 0)], [0], near)
    pieces = []
    while not run.finished:
        pieces.append(run.next_piece())
    positions = np.concatenate([piece.positions for piece in pieces])
    energies = np.concatenate([piece.energies[:, 0] for piece in pieces])
    velocities = np.concatenate([piece.velocities for piece in pieces])
    assert run.builds > len(pieces) + 5  # rows were outrun within pieces
    assert np.abs(positions[-1] - positions[0]).max() > 1.5
    fresh = argon().predict([start.replace(positions=frame) for frame in positions])
    # the same numbers summed in another order
    expected = [label.energy for label in fresh]
    np.testing.assert_allclose(energies, expected, rtol=0, atol=1e-11)
    mass = masses(start)[0]
    kinetic = 0.5 * mass / ACCELERATION * np.sum(velocities**2, axis=(1, 2))
    # 6 eV of kinetic energy; (ωΔt)²/4 of what flows, ω of hard collisions 0.03/fs
    assert np.ptp(kinetic) > 0.5
    assert np.ptp(energies + kinetic) < 0.02
    assert np.abs(velocities.sum(axis=1)).max() < 1e-12


def test_what_does_not_fit_is_refused(argon, foreign):
    start = Structure(np.array([18, 18]), np.array([[0.0, 0, 0], [3.8, 0, 0]]))
    with pytest.raises(BadInput, match="inner"):
        run_dynamics(argon(), start, Dynamics(inner_steps=4))
    with pytest.raises(BadInput, match="inner"):
        run_dynamics(argon(), start, Dynamics(), inner=argon())
    with pytest.raises(BadInput, match="native"):
        run_dynamics(foreign(argon()), start, Dynamics(inner_steps=2), inner=argon())
    with pytest.raises(BadInput, match="inner_steps"):
        Dynamics("langevin", inner_steps=2, barostat="full")
