"""Ideal gas and harmonic crystal: canonical and microcanonical distributions are exact."""

import ase.build
import ase.units
import numpy as np
import pytest
from ase.calculators.emt import EMT
from scipy.signal import lfilter

from karat.core.errors import BadInput
from karat.core.units import BOLTZMANN, KJ_PER_MOL
from karat.results.statistics import Interval
from karat.simulation.analysis import thermodynamics as thermo
from karat.simulation.dynamics import Dynamics, run_dynamics
from karat.simulation.velocities import kinetic_energy, masses, thermal_velocities
from karat.structures.structure import Structure

KT = BOLTZMANN * 300.0
CUBE = Structure(
    np.full(4, 18), 4.0 * np.array([[0.0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]]), 8 * np.eye(3),
    np.ones(3, bool),
)  # fmt: skip


def covers(interval, exact):
    return interval.low < exact < interval.high


def test_kinetic_temperature_has_its_own_degrees_of_freedom():
    velocities = np.stack([thermal_velocities(CUBE, 250.0, seed) for seed in range(3)])
    energies = kinetic_energy(masses(CUBE), velocities)
    degrees = thermo.free_components(CUBE, "overall motion")
    assert degrees == 9
    assert thermo.mean_temperature_k(energies, degrees).value == pytest.approx(250.0, rel=1e-12)
    assert thermo.free_components(CUBE, "nothing") == 12
    water = Structure.from_ase(ase.build.molecule("H2O"))
    assert thermo.free_components(water, "overall motion") == 3
    # canonical: K is Gamma(f/2) times k_B T; 200 runs, 95 %: below 89 % has a chance of 1e-3
    rng = np.random.default_rng(0)
    runs = rng.gamma(6.0, KT, size=(200, 800))
    hits = [covers(thermo.mean_temperature_k(run, 12), 300.0) for run in runs]
    assert np.mean(hits) > 0.89
    with pytest.raises(BadInput, match="0 degrees"):
        thermo.mean_temperature_k(energies, 0)


@pytest.mark.slow
def test_karats_langevin_dynamics_moves_the_centre_of_mass(argon):
    # what "nothing" is for; that NVE keeps it is tested beside the loop
    run = run_dynamics(argon(cutoff=3.9), CUBE, Dynamics("langevin", 300.0, 1.0, 200, 100))
    momentum = np.einsum("a,fai->fi", masses(CUBE), run.velocities)
    assert np.abs(momentum[0]).max() < 1e-12
    # the centre's thermal momentum is √(M k_B T) ~ 0.3 amu Å/fs; 200 fs of 10/ps bring it near
    assert np.abs(momentum[-1]).max() > 0.01


def test_density_of_silicon():
    # a = 5.431 Å: 2.329 g/cm³ (CRC Handbook)
    silicon = Structure.from_ase(ase.build.bulk("Si", "diamond", a=5.431))
    density = thermo.density_g_per_cm3(silicon)
    assert density == pytest.approx(2.329, abs=5e-4)
    assert pytest.approx(ase.units._amu * 1e3 / 1e-24, rel=1e-7) == thermo.G_CM3
    volumes = silicon.volume * (1 + 0.01 * np.random.default_rng(1).normal(size=500))
    # ⟨1/V⟩ = (1 + 1e-4)/⟨V⟩; 500 volumes: 1 σ 4.5e-4
    mean = thermo.mean_density_g_per_cm3(silicon, volumes)
    assert mean.value == pytest.approx(density, rel=2e-3)
    assert mean.low < mean.value < mean.high


def test_pressure_of_the_ideal_gas():
    velocities = np.stack([thermal_velocities(CUBE, 300.0, seed) for seed in range(20)])
    tensors = thermo.pressure_tensor_gpa(CUBE, velocities, np.zeros((20, 3, 3)))
    # 9 of 12 components move: P V = (9/3) k_B T; 1 eV/Å³ = 160.2176634 GPa
    expected = 3 * KT / CUBE.volume * 160.2176634
    np.testing.assert_allclose(np.trace(tensors, axis1=1, axis2=2) / 3, expected, rtol=1e-9)
    assert thermo.pressure_gpa(tensors).value == pytest.approx(expected, rel=1e-9)
    doubled = np.full(20, 2 * CUBE.volume)
    halved = thermo.pressure_tensor_gpa(CUBE, velocities, np.zeros((20, 3, 3)), doubled)
    np.testing.assert_allclose(2 * halved, tensors, rtol=1e-12)


def test_pressure_tensor_equals_ases():
    atoms = ase.build.bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.1, seed=2)
    atoms.calc = EMT()
    structure = Structure.from_ase(atoms)
    velocities = thermal_velocities(structure, 900.0, 3)
    atoms.set_velocities(velocities / ase.units.fs)
    tensor = thermo.pressure_tensor_gpa(
        structure, velocities[None], atoms.get_stress(voigt=False)[None]
    )[0]
    other = atoms.get_stress(voigt=False, include_ideal_gas=True)
    np.testing.assert_allclose(tensor, -other / ase.units.GPa, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("shape", "exact"), [(30.0, 30.0), (15.0, 15.0)])
def test_canonical_heat_capacity(shape, exact):
    # ten atoms: 30 oscillators, E is Gamma(30) k_B T, C = 30 k_B; as a gas Gamma(15), 15 k_B
    rng = np.random.default_rng(4)
    found = [
        thermo.heat_capacity_nvt(-50.0 + rng.gamma(shape, KT, size=2000), 300.0, atoms=10)
        for _ in range(120)
    ]
    values = np.array([c.per_atom_kb.value for c in found])
    assert np.mean(values) == pytest.approx(exact / 10, rel=0.01)  # 120 runs of 3 %: 0.3 %
    # 95 % nominal; below 88 % of 120 has a chance of 2e-3
    assert np.mean([covers(c.per_atom_kb, exact / 10) for c in found]) > 0.88
    one = found[0]
    assert one.total_ev_per_k.value == pytest.approx(10 * BOLTZMANN * one.per_atom_kb.value)
    assert one.j_per_mol_k.low == pytest.approx(8.31446262 * one.per_atom_kb.low)


@pytest.mark.parametrize("formula", ["pearson", "lebowitz"])
def test_microcanonical_heat_capacity(formula):
    # f oscillators at energy E: K/E is Beta(f/2, f/2). C is f k_B; Lebowitz's first order gives
    # f (f + 1)/(f + 2) k_B, worked out from the variance E²/(4 (f + 1))
    f, atoms = 12, 4
    rng = np.random.default_rng(5)
    exact = 3.0 if formula == "pearson" else 3.0 * 13 / 14
    found = [
        thermo.heat_capacity_nve(2.0 * rng.beta(f / 2, f / 2, size=4000), f, atoms, formula)
        for _ in range(120)
    ]
    values = np.array([c.per_atom_kb.value for c in found])
    # 4000 values: about 3 % each; the reciprocal is biased by its square, 1e-3
    assert np.mean(values) == pytest.approx(exact, rel=0.01)
    assert np.mean([covers(c.per_atom_kb, exact) for c in found]) > 0.88


def test_microcanonical_gas_has_no_finite_answer_hidden():
    # free particles: K does not fluctuate; C → 3/2 N k_B, the smallest possible
    rng = np.random.default_rng(6)
    still = 2.0 + 1e-6 * rng.normal(size=1000)
    found = thermo.heat_capacity_nve(still, 300, 100, "lebowitz")
    assert found.per_atom_kb.value == pytest.approx(1.5, rel=1e-6)
    with pytest.raises(BadInput, match="any positive heat capacity"):
        thermo.heat_capacity_nve(rng.gamma(3.0, 1.0, size=1000), 60, 20)


def test_heat_of_vaporisation():
    rng = np.random.default_rng(7)
    liquid = 64 * (-10.0) + rng.normal(scale=0.3, size=2000)
    gas = -9.55 + rng.normal(scale=0.05, size=2000)
    found = thermo.heat_of_vaporisation_kj_per_mol(liquid, 64, gas, 298.15)
    expected = 0.45 / KJ_PER_MOL + 8.31446262 * 298.15 / 1000
    assert expected == pytest.approx(45.90, abs=0.01)  # 43.42 + 2.48
    # the gas dominates: 0.05 eV/√2000 = 0.108 kJ/mol (1 σ)
    assert found.value == pytest.approx(expected, abs=4 * 0.11)
    assert (found.high - found.low) / 2 == pytest.approx(2.04 * 0.108, rel=0.4)
    short = thermo.heat_of_vaporisation_kj_per_mol(liquid, 64, gas[:5], 298.15)
    assert short.why_no_interval.startswith("gas:")


def noisy_line(slope_mev_atom_ns, seed, atoms=20, frames=4000, step=50.0):
    """A drift with AR(1) noise of 2 meV and a memory of 10 frames."""
    rng = np.random.default_rng(seed)
    times = step * np.arange(frames)
    noise = lfilter([1.0], [1.0, -0.9], rng.normal(size=frames)) * np.sqrt(1 - 0.81) * 2e-3
    return times, -500.0 + slope_mev_atom_ns * 1e-9 * atoms * times + noise, atoms


def test_drift_has_its_unit_and_its_interval():
    # 1e-3 eV/atom over 1e6 fs
    exact = thermo.energy_drift_mev_per_atom_per_ns(
        np.arange(11) * 1e5, np.arange(11) * 1e-4 * 8, atoms=8
    )
    assert exact.value == pytest.approx(1.0, rel=1e-9)
    assert exact.why_no_interval == "the energies lie on a straight line"
    # 200 runs, 95 % nominal, blocks of 5 g: below 88 % has a chance of 1e-4
    found = [thermo.energy_drift_mev_per_atom_per_ns(*noisy_line(0.3, seed)) for seed in range(200)]
    assert np.mean([covers(drift, 0.3) for drift in found]) > 0.88
    values = [drift.value for drift in found]
    assert abs(np.mean(values) - 0.3) < 4 * np.std(values) / np.sqrt(200)


def test_drift_of_several_runs():
    hits = []
    for seed in range(100):
        runs = [noisy_line(0.3, 1000 + 5 * seed + k, frames=800) for k in range(5)]
        slopes = [thermo.energy_drift_mev_per_atom_per_ns(*run) for run in runs]
        hits.append(covers(thermo.drift_of_runs(slopes), 0.3))
    assert np.mean(hits) > 0.86  # 95 %; a chance of 4e-4
    two = thermo.drift_of_runs([Interval(1.0, None, None, 1), Interval(2.0, None, None, 1)])
    assert (two.value, two.low) == (1.5, None)


def test_bad_input_is_named():
    with pytest.raises(BadInput, match="2 frames of velocities, 3 of stresses"):
        thermo.pressure_tensor_gpa(CUBE, np.zeros((2, 4, 3)), np.zeros((3, 3, 3)))
    with pytest.raises(BadInput, match="0 molecules"):
        thermo.heat_of_vaporisation_kj_per_mol(np.zeros(9), 0, np.zeros(9), 300.0)
    with pytest.raises(BadInput, match="must be positive"):
        thermo.heat_capacity_nvt(np.arange(9.0), 0.0, 4)
    with pytest.raises(BadInput, match="not finite"):
        thermo.energy_drift_mev_per_atom_per_ns(
            np.arange(3.0), np.array([1.0, np.nan, 2.0]), atoms=1
        )
