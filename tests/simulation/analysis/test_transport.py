"""Random walks, Langevin's free particles (exact D and autocorrelation), Ewald's constant."""

import numpy as np
import pytest
from scipy.special import erfc

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, BOLTZMANN
from karat.simulation.analysis.transport import (
    CUBIC,
    diffusion_from_displacements,
    diffusion_from_velocities,
    finite_size_correction_cm2_per_s,
    mean_square_displacement,
    velocity_autocorrelation,
)


def free_particles(frames, atoms, step_fs, friction_per_fs, spread, seed):
    """Exact sampling of free Langevin particles: positions (Å) and velocities (Å/fs).

    Gillespie, Phys. Rev. E 54, 2084 (1996): joint normal steps of x and v at any time step.
    """
    generator = np.random.default_rng(seed)
    decay = np.exp(-friction_per_fs * step_fs)
    reach = (1 - decay) / friction_per_fs
    var_v = spread**2 * (1 - decay**2)
    var_x = (spread / friction_per_fs) ** 2 * (
        2 * friction_per_fs * step_fs - 3 + 4 * decay - decay**2
    )
    cov = spread**2 / friction_per_fs * (1 - decay) ** 2
    root = np.linalg.cholesky([[var_v, cov], [cov, var_x]])
    positions = np.zeros((frames, atoms, 3))
    velocities = np.empty_like(positions)
    velocities[0] = spread * generator.normal(size=(atoms, 3))
    noise = generator.normal(size=(frames, atoms, 3, 2)) @ root.T
    for k in range(1, frames):
        positions[k] = positions[k - 1] + reach * velocities[k - 1] + noise[k, ..., 1]
        velocities[k] = decay * velocities[k - 1] + noise[k, ..., 0]
    return step_fs * np.arange(frames), positions, velocities


def test_all_origins_equal_the_double_loop():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(60, 5, 3))
    positions = 1000.0 + np.cumsum(steps, axis=0)
    times = 2.0 * np.arange(60)
    plain = [np.mean(np.sum((positions[t:] - positions[: 60 - t]) ** 2, axis=2)) for t in range(60)]
    found = mean_square_displacement(times, positions)
    np.testing.assert_allclose(found.msd_angstrom2, plain, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.lags_fs, times)
    products = [np.mean(np.sum(steps[t:] * steps[: 60 - t], axis=2)) for t in range(60)]
    vacf = velocity_autocorrelation(times, steps)
    np.testing.assert_allclose(vacf.vacf_angstrom2_per_fs2, products, rtol=0, atol=1e-12)


def test_drift_is_removed():
    rng = np.random.default_rng(1)
    positions = np.cumsum(rng.normal(size=(200, 4, 3)), axis=0)
    times = np.arange(200.0)
    drifting = positions + 0.5 * times[:, None, None]
    still = mean_square_displacement(times, positions, remove_drift=True).msd_angstrom2
    moved = mean_square_displacement(times, drifting, remove_drift=True).msd_angstrom2
    np.testing.assert_allclose(moved, still, rtol=1e-9, atol=1e-9)
    kept = mean_square_displacement(times, drifting).msd_angstrom2
    with pytest.raises(BadInput, match="one atom is its own mean"):
        mean_square_displacement(times, drifting[:, :1], remove_drift=True)
    assert kept[100] > still[100] + 0.9 * 3 * 50**2


def test_random_walks_diffuse_as_they_must():
    # steps of variance s² per component every 10 fs: D = s²/(2·10 fs). The 95 % interval misses
    # 1 in 20; of 40 runs more than 7 misses have a chance of 1e-3
    misses, values = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        positions = np.cumsum(0.3 * rng.normal(size=(1000, 10, 3)), axis=0)
        found = diffusion_from_displacements(
            10.0 * np.arange(1000), positions, 10.0, 100.0
        ).diffusion_cm2_per_s
        exact = 0.3**2 / 20 * 0.1
        values.append(found.value)
        misses += not found.low < exact < found.high
    assert misses <= 7
    # standard error of 40 runs measured from their own scatter
    assert abs(np.mean(values) - exact) < 4 * np.std(values) / np.sqrt(40)


def test_langevin_particles_have_their_exact_autocorrelation_and_diffusion():
    mass, temperature, friction = 39.95, 300.0, 0.02
    spread = np.sqrt(BOLTZMANN * temperature / mass * ACCELERATION)
    times, positions, velocities = free_particles(8000, 60, 5.0, friction, spread, seed=3)
    # D = k_B T/(m γ); 60 particles × 40,000 fs × γ/2 = 24,000 independent pieces a component
    exact = spread**2 / friction * 0.1
    vacf = velocity_autocorrelation(times, velocities)
    lags = vacf.lags_fs[:40]
    np.testing.assert_allclose(
        vacf.vacf_angstrom2_per_fs2[:40],
        3 * spread**2 * np.exp(-friction * lags),
        # √(2 · 50 fs / (180 · 40,000 fs)) = 0.4 % of the value at 0, times 5 σ
        atol=0.02 * 3 * spread**2,
        rtol=0,
    )
    # ⟨Δr²⟩ = 6 D (t - (1 - e^{-γt})/γ): the whole crossover
    msd = mean_square_displacement(times, positions)
    lags = msd.lags_fs[:100]
    curve = 6 * exact / 0.1 * (lags - (1 - np.exp(-friction * lags)) / friction)
    np.testing.assert_allclose(msd.msd_angstrom2[1:100], curve[1:], rtol=0.06)
    # slopes over t ≫ 1/γ = 50 fs are those of 6 D
    einstein = diffusion_from_displacements(times, positions, 300.0, 1000.0).diffusion_cm2_per_s
    # cut at 600 fs: e^-12 is left; trapezoids: (γΔt)²/12 = 8e-4 too large
    green_kubo = diffusion_from_velocities(times, velocities, 600.0).diffusion_cm2_per_s
    for found in (einstein, green_kubo):
        # 3 half-widths: about 6 σ
        assert abs(found.value - exact) < 1.5 * (found.high - found.low)
        assert (found.high - found.low) / 2 < 0.15 * exact


def test_running_integral_is_exact_for_an_exponential():
    from karat.simulation.analysis.transport import VelocityAutocorrelation

    lags = np.arange(0, 500.0, 0.5)
    running = VelocityAutocorrelation(lags, 3e-4 * np.exp(-lags / 20)).running_diffusion_cm2_per_s
    exact = 1e-4 * 20 * (1 - np.exp(-lags / 20)) * 0.1
    np.testing.assert_allclose(running, exact, rtol=1e-4, atol=1e-12)


def test_the_constant_of_the_cubic_lattice():
    # Ewald's sum for a unit charge in a neutralising background, width 1 (any splitting a)
    for a in (2.0, 3.0):
        grid = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3), axis=-1).reshape(-1, 3)
        n2 = np.sum(grid**2, axis=1)
        n2 = n2[n2 > 0].astype(float)
        real = np.sum(erfc(a * np.sqrt(n2)) / np.sqrt(n2))
        wave = np.sum(np.exp(-(np.pi**2) * n2 / a**2) / (np.pi * n2))
        xi = -(real + wave - np.pi / a**2 - 2 * a / np.sqrt(np.pi))
        assert pytest.approx(xi, abs=1e-6) == CUBIC


def test_finite_size_correction_in_si_units():
    # water, 298 K, 0.896 mPa s, 18.64 Å (216 molecules)
    si = 1.380649e-23 * 298 * 2.837297 / (6 * np.pi * 0.896e-3 * 18.64e-10) * 1e4
    found = finite_size_correction_cm2_per_s(298.0, 0.896, 18.64)
    assert found == pytest.approx(si, rel=1e-8)
    with pytest.raises(BadInput, match="viscosity_mpa_s is 0"):
        finite_size_correction_cm2_per_s(298.0, 0.0, 18.64)


def test_bad_input_is_named():
    times, positions = np.arange(100.0), np.zeros((100, 2, 3))
    with pytest.raises(BadInput, match="even steps"):
        mean_square_displacement(times**1.5, positions)
    with pytest.raises(BadInput, match="99 frames for 100 times"):
        mean_square_displacement(times, positions[1:])
    with pytest.raises(BadInput, match="a block lasts 9 fs"):
        diffusion_from_displacements(times, positions, 2.0, 10.0)
    with pytest.raises(BadInput, match="fewer than three lags"):
        diffusion_from_displacements(times, positions, 5.0, 6.0)
    with pytest.raises(BadInput, match="100 frames cannot be cut into 51 blocks"):
        diffusion_from_velocities(times, positions, 3.0, blocks=51)
    few = diffusion_from_velocities(times, positions, 3.0, blocks=3)
    assert few.diffusion_cm2_per_s.low is None
