"""Oscillators of known frequency and energy; coloured noise with a known spectrum."""

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, BOLTZMANN
from karat.simulation.analysis.vibrations import CM_PER_INVERSE_FS, vibrational_density

MASSES = np.array([1.008, 12.011, 15.999, 28.085])
LINES_CM = np.array([3600.0, 1650.0, 800.0, 120.0])


def oscillators(frames, step_fs, temperature, seed=0):
    """Three components each of four oscillators with exactly k_B T of energy."""
    rng = np.random.default_rng(seed)
    omega = 2 * np.pi * LINES_CM / CM_PER_INVERSE_FS
    times = step_fs * np.arange(frames)
    phases = rng.uniform(0, 2 * np.pi, size=(4, 3))
    amplitude = np.sqrt(2 * BOLTZMANN * temperature / MASSES * ACCELERATION)[:, None]
    velocities = amplitude * np.cos(omega[:, None] * times[:, None, None] + phases)
    return times, velocities


def test_the_speed_of_light():
    assert pytest.approx(1e15 / 2.99792458e10, rel=1e-9) == CM_PER_INVERSE_FS


def test_lines_stand_where_they_must_with_one_degree_of_freedom_each():
    times, velocities = oscillators(20_000, 1.0, 300.0)
    found = vibrational_density(times, velocities, MASSES, 300.0, resolution_cm=10.0)
    assert found.segments == 5
    assert found.low is None
    assert 9.9 < found.resolution_cm <= 10.0
    # a Hann window's side lobes fall off with the cube of the distance: 36 periods of the slowest
    # line in a segment leave far less than 1e-6
    assert found.integral == pytest.approx(12.0, rel=1e-6)
    for line in LINES_CM:
        near = np.abs(found.wavenumbers_cm - line) < 40
        weights = found.density_per_cm[near]
        assert weights.sum() * found.resolution_cm == pytest.approx(3.0, rel=1e-4)
        centre = weights @ found.wavenumbers_cm[near] / weights.sum()
        # the line is symmetric about its frequency
        assert centre == pytest.approx(line, abs=1e-3)


def test_coloured_noise_has_its_exact_spectrum():
    # Ornstein–Uhlenbeck velocities: ⟨v(0)v(t)⟩ = (k_B T/m) e^{-γt}; g(ν) is a Lorentzian,
    # g = Σ 4γ/(γ² + ω²) per 1/fs, twelve components
    rng = np.random.default_rng(5)
    gamma, step, frames = 0.03, 1.0, 60_000
    decay = np.exp(-gamma * step)
    spread = np.sqrt(BOLTZMANN * 250.0 / MASSES * ACCELERATION)[:, None]
    noise = rng.normal(size=(frames, 4, 3))
    from scipy.signal import lfilter

    noise[1:] *= np.sqrt(1 - decay**2)
    velocities = spread * lfilter([1.0], [1.0, -decay], noise, axis=0)
    found = vibrational_density(step * np.arange(frames), velocities, MASSES, 250.0, 20.0)
    assert found.integral == pytest.approx(12.0, rel=0.05)  # 12 · 60,000 fs · γ: 1 σ 1 %
    omega = 2 * np.pi * found.wavenumbers_cm / CM_PER_INVERSE_FS
    # of the sampled process, aliases included: (1 - a²)/(1 - 2a cos ω + a²), one-sided
    exact = 12 * 2 * step * (1 - decay**2) / (1 - 2 * decay * np.cos(omega * step) + decay**2)
    exact /= CM_PER_INVERSE_FS
    assert found.density_per_cm[0] == pytest.approx(exact[0], rel=0.25)  # 36 × 12 squares: 1 σ 7 %
    inside = (found.low < exact) & (exact < found.high)
    # 95 % of the points expected, 90 % at the least: neighbours are correlated, 835 points
    assert inside.mean() > 0.90


def test_the_normalisation_is_equipartition():
    times, velocities = oscillators(8000, 1.0, 300.0)
    hot = vibrational_density(times, velocities, MASSES, 600.0, 20.0)
    cold = vibrational_density(times, velocities, MASSES, 300.0, 20.0)
    np.testing.assert_allclose(2 * hot.density_per_cm, cold.density_per_cm, rtol=1e-12)


def test_bad_input_is_named():
    times, velocities = oscillators(1000, 1.0, 300.0)
    with pytest.raises(BadInput, match="needs segments of 3336 fs; the run has 1000 fs"):
        vibrational_density(times, velocities, MASSES, 300.0)
    with pytest.raises(BadInput, match="3 masses"):
        vibrational_density(times, velocities, MASSES[:3], 300.0)
    with pytest.raises(BadInput, match="0.0 K"):
        vibrational_density(times, velocities, MASSES, 0.0)
