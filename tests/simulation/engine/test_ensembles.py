"""Lennard-Jones argon in the compiled loop, judged by physical_validation.

Merz & Shirts, PLoS ONE 13, e0202764 (2018). Frames come from independent replicas and are thinned
until they are independent. Accepted are p values above 1e-5 and deviations of less than 4.5
standard errors: for the 7 numbers of the fast tests, a false alarm in 1 of 10,000 choices of
the seeds, and in 1 of 1,000 for the 83 of the slow ones.
"""

import numpy as np
import pytest
from ase.build import bulk

from karat.core.units import BOLTZMANN, GPA
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.simulation.dynamics import Dynamics, run_batch
from karat.structures.structure import Structure

validation = pytest.importorskip("physical_validation")

ATOMS = 32
QUANTILES, CHANCE = 4.5, 1e-5


def crystals(replicas):
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    return [Structure.from_ase(atoms)] * replicas


def run(ensemble, kelvin, frames, replicas, pressure_gpa=0.0, barostat="none", every=40):
    """Trajectories, the first fifth left out and thinned: frames × replicas, eV and Å³."""
    potential = LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 5.2, 4.6).load()
    settings = Dynamics(
        ensemble, kelvin, 4.0, frames * every, every, friction_per_ps=4.0, thermostat_ps=0.1,
        barostat=barostat, pressure_gpa=pressure_gpa, barostat_ps=0.2,
        compressibility_per_gpa=0.5, seed=int(1000 * pressure_gpa + kelvin) * 1000,
    )  # fmt: skip
    runs = run_batch(potential, crystals(replicas), settings)
    assert all(one.stopped is None for one in runs)
    columns = [
        np.array([getattr(one, name)[frames // 5 :] for one in runs]).T
        for name in ("kinetic_energies", "potential_energies", "volumes")
    ]
    stride = int(np.ceil(max(inefficiency(column) for column in columns)))
    return [column[::stride] for column in columns]


def inefficiency(values):
    """1 + 2 Σ of the autocorrelation (frames × replicas) up to where it is noise; Chodera et al.,
    JCTC 3, 26 (2007)."""
    if np.ptp(values) < 1e-9 * abs(values.mean()):
        return 1.0
    centred = values - values.mean()
    total = 1.0
    for k in range(1, len(values) // 3):
        memory = np.mean(centred[k:] * centred[:-k]) / np.mean(centred**2)
        if memory < 2 / np.sqrt(values.size):
            break
        total += 2 * memory
    return total


def data(columns, kelvin, freedom, pressure_gpa=None):
    """For physical_validation: eV, Å, fs, eV/Å³."""
    units = validation.data.UnitData(
        kb=BOLTZMANN, energy_conversion=96.48533212331, length_conversion=0.1,
        volume_conversion=1e-3, temperature_conversion=1.0,
        pressure_conversion=1602176.634, time_conversion=1e-3, energy_str="eV",
        length_str="A", volume_str="A^3", temperature_str="K", pressure_str="eV/A^3",
        time_str="fs",
    )  # fmt: skip
    kinetic, potential, volume = (column.ravel() for column in columns)
    ensemble = (
        validation.data.EnsembleData("NVT", natoms=ATOMS, volume=volume[0], temperature=kelvin)
        if pressure_gpa is None
        else validation.data.EnsembleData(
            "NPT", natoms=ATOMS, pressure=pressure_gpa * GPA, temperature=kelvin
        )
    )
    system = validation.data.SystemData(
        natoms=ATOMS, nconstraints=0, ndof_reduction_tra=3 * ATOMS - freedom, ndof_reduction_rot=0
    )
    observables = validation.data.ObservableData(
        kinetic_energy=kinetic, potential_energy=potential, total_energy=kinetic + potential,
        volume=volume,
    )  # fmt: skip
    return validation.data.SimulationData(
        units=units, dt=4.0, system=system, ensemble=ensemble, observables=observables
    )


def check_kinetic(one):
    chance = validation.kinetic_energy.distribution(
        one, strict=True, verbosity=0, data_is_uncorrelated=True
    )
    assert chance > CHANCE
    mean, width = validation.kinetic_energy.distribution(
        one, strict=False, verbosity=0, data_is_uncorrelated=True, bootstrap_seed=1
    )
    assert abs(mean) < QUANTILES
    assert abs(width) < QUANTILES


def check_pair(one, other, total=False):
    found = validation.ensemble.check(
        one, other, total_energy=total, verbosity=0, data_is_uncorrelated=True
    )
    assert np.all(np.abs(found) < QUANTILES), found
    return found


FREEDOM = {"langevin": 3 * ATOMS, "nose-hoover": 3 * ATOMS - 3, "velocity-rescaling": 3 * ATOMS - 3}


def constant_volume(ensemble, frames, replicas):
    """Two temperatures that overlap: 2 k_B T²/σ_U apart (Shirts, JCTC 9, 909, 2013)."""
    pair = [
        data(run(ensemble, kelvin, frames, replicas), kelvin, FREEDOM[ensemble])
        for kelvin in (40.0, 49.0)
    ]
    for one in pair:
        check_kinetic(one)
    check_pair(*pair)
    check_pair(*pair, total=True)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nose-hoover", "langevin", "velocity-rescaling"])
def test_constant_volume(ensemble):
    constant_volume(ensemble, 60, 10)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nose-hoover", "langevin", "velocity-rescaling"])
def test_constant_volume_with_many_frames(ensemble):
    constant_volume(ensemble, 300, 16)


def constant_pressure(ensemble, barostat, frames, replicas):
    """Two pressures that overlap: 2 k_B T/σ_V apart."""
    pair = [
        data(
            run(ensemble, 40.0, frames, replicas, pressure, barostat, every=60),
            40.0, FREEDOM[ensemble], pressure,
        )
        for pressure in (0.02, 0.08)
    ]  # fmt: skip
    for one in pair:
        check_kinetic(one)
    check_pair(*pair)


def test_constant_pressure():
    constant_pressure("nose-hoover", "isotropic", 50, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ensemble", "barostat"),
    [
        ("langevin", "isotropic"),
        ("velocity-rescaling", "isotropic"),
        ("nose-hoover", "isotropic"),
        ("langevin", "full"),
        ("velocity-rescaling", "full"),
    ],
)
def test_constant_pressure_with_many_frames(ensemble, barostat):
    constant_pressure(ensemble, barostat, 240, 16)


def test_a_wrong_temperature_is_noticed():
    """That the judge can say no: kinetic energies of 40 K called 44 K."""
    random = np.random.default_rng(3)
    kinetic = random.gamma(1.5 * ATOMS, 40.0 * BOLTZMANN, size=270)
    one = data([kinetic, kinetic, np.full(270, 1260.0)], 44.0, 3 * ATOMS)
    chance = validation.kinetic_energy.distribution(
        one, strict=True, verbosity=0, data_is_uncorrelated=True
    )
    assert chance < CHANCE


@pytest.mark.slow
def test_fluctuations_at_constant_energy_shrink_with_the_square_of_the_time_step():
    potential = LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 5.2, 4.6).load()
    series = []
    for halvings in range(3):
        settings = Dynamics("nve", 60.0, 8.0 / 2**halvings, 250 * 2**halvings, 2**halvings, seed=1)
        one = run_batch(potential, crystals(1), settings)[0]
        series.append(
            validation.data.SimulationData(
                dt=settings.timestep_fs,
                observables=validation.data.ObservableData(constant_of_motion=one.total_energies),
            )
        )
    # 2 ps: trajectories of another time step part by (ωΔt)² of what they swing, 1 to 4 %
    assert validation.integrator.convergence(series, verbose=False) < 0.06
