"""Stochastic cell rescaling against exact volumes and shapes: free atoms in a free or elastic cell.

What is sampled, exactly: with scaled coordinates s = r h⁻¹ and momenta p_s = p hᵀ, that a change of
the cell h leaves alone, the weight e^(-(H + P V)/k_B T) ds dp_s dV; for whole cells times the
uniform (Haar) measure of shapes, together V⁻² d⁹h. N atoms without forces then give V^N
e^(-P V/k_B T): Gamma(N+1). Where the centre of mass is held at rest one power is missing: Gamma(N).
(By the Fokker–Planck equation of ε with drift b and diffusion D(V) of each of the orthonormal
directions of symmetric strains, b = D X ln ρ + X D, X the derivative along ε and D ∝ 1/V.)

Statistical tests are seeded and take their errors from independent replicas; all of this file
together raises a false alarm in less than 1 of 1,000 choices of the seeds.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest

from karat.core.errors import BadInput, UnsuitableStructure
from karat.core.units import ACCELERATION, BOLTZMANN, GPA
from karat.simulation.dynamics import Dynamics, run_dynamics
from karat.simulation.engine.barostat import exponential
from karat.simulation.engine.forces import Forces
from karat.simulation.velocities import masses
from karat.structures.structure import Structure

ATOMS, REPLICAS, KEPT = 4, 128, 40
THERMAL = BOLTZMANN * 100.0
PRESSURE = 0.02 * THERMAL
"""eV/Å³; the gas then has 4 or 5 times 50 Å³."""
BONDS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 0], [1, 0, -1], [0, 1, -1]])
"""Lattice vectors of a face-centred cubic cell on springs."""
REST = 6.0
"""Å, their length at rest."""
STIFF = 150 * THERMAL / REST**2
SOFT = 150.0
"""Å³/eV, about the compressibility of that cell."""


class ElasticCell(eqx.Module):
    """½ k (|v| - v₀)² for some lattice vectors v; atoms feel nothing."""

    stiffness: np.ndarray

    def __call__(self, systems, positions, cells):
        energies, virials = energy_of(cells, self.stiffness, jnp)
        return Forces(energies, jnp.zeros_like(positions), virials)


def energy_of(cells, stiffness, numpy=np):
    """Energies and virials of cells."""
    vectors = numpy.einsum("bi,six->sbx", numpy.asarray(BONDS, dtype=float), cells)
    length = numpy.sqrt(numpy.sum(vectors**2, axis=2))
    energies = 0.5 * stiffness * numpy.sum((length - REST) ** 2, axis=1)
    pull = stiffness * (length - REST) / length
    return energies, numpy.einsum("sb,sbx,sby->sxy", pull, vectors, vectors)


GAS = ElasticCell(np.array(0.0))
ELASTIC = ElasticCell(np.array(STIFF))
FCC = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]) * REST / np.sqrt(2)


def systems(volume):
    random = np.random.default_rng(1)
    cell = FCC * (volume / abs(np.linalg.det(FCC))) ** (1 / 3)
    return [
        Structure(
            np.full(ATOMS, 18), random.uniform(size=(ATOMS, 3)) @ cell, cell=cell,
            periodic=np.ones(3, bool),
        )
        for _ in range(REPLICAS)
    ]  # fmt: skip


def settings(ensemble, barostat, compressibility, every, seed):
    """Å³/eV; relaxation of 100 steps."""
    return Dynamics(
        ensemble, 100.0, 1.0, KEPT * every, every, friction_per_ps=50.0, thermostat_ps=0.02,
        barostat=barostat, pressure_gpa=PRESSURE / GPA, barostat_ps=0.1,
        compressibility_per_gpa=compressibility * GPA, seed=seed,
    )  # fmt: skip


def volumes(run):
    return np.abs(np.linalg.det(run.cells))


def check_means(values, expected, bias=0.0):
    """`values` (frames × replicas): 5 standard errors, false alarm 2e-6 (Student, 127)."""
    means = values.mean(axis=0)
    error = means.std() / np.sqrt(len(means) - 1)
    assert abs(means.mean() - expected) < 5 * error + bias, (means.mean(), expected, error)


SHAPE = {"langevin": ATOMS + 1, "velocity-rescaling": ATOMS, "nose-hoover": ATOMS}
"""Of the gas' Gamma distribution."""


@pytest.mark.parametrize(
    "ensemble",
    [
        pytest.param("langevin", marks=pytest.mark.slow),
        "velocity-rescaling",
        pytest.param("nose-hoover", marks=pytest.mark.slow),
    ],
)
def test_volumes_of_an_ideal_gas_and_of_an_elastic_cell_are_exact(integrate, ensemble):
    shape, unit = SHAPE[ensemble], THERMAL / PRESSURE
    gas = settings(ensemble, "isotropic", 1 / PRESSURE, 50, 1)
    found = volumes(integrate(systems(shape * unit), gas, GAS))[8:] / unit
    # k_B T V/P is Gamma(shape); steps of 1/100 of the relaxation: variance to 1/200
    check_means(found, shape)
    check_means((found - shape) ** 2, shape, bias=0.01 * shape)
    assert kstest(found[-1], "gamma", (shape,)).pvalue > 1e-5

    elastic = settings(ensemble, "isotropic", SOFT, 50, 2)
    found = volumes(integrate(systems(140.0), elastic, ELASTIC))[8:]
    mean, variance = exact_volumes(shape - 1)
    check_means(found, mean, bias=0.002 * np.sqrt(variance))
    check_means((found - mean) ** 2, variance, bias=0.01 * variance)


def exact_volumes(power):
    """Mean and variance of V^power e^(-(U + P V)/k_B T)."""

    def density(volume, order):
        cell = FCC * (volume / abs(np.linalg.det(FCC))) ** (1 / 3)
        energy = energy_of(cell[None], STIFF)[0][0] + PRESSURE * volume
        return (volume / 140) ** (power + order) * np.exp(-energy / THERMAL)

    moments = [quad(density, 40, 350, (order,), epsabs=0, epsrel=1e-10)[0] for order in range(3)]
    mean, square = moments[1] / moments[0], moments[2] / moments[0]
    return 140 * mean, 140**2 * (square - mean**2)


def exact_shapes(power, count=200_000, seed=0):
    """Cells FCC · e^E and their weights V^(power+1) e^(-(U + P V)/k_B T) Π sinh(Δλ)/Δλ, with the
    eigenvalues λ of E (Haar measure of symmetric strains), by importance sampling from a Gaussian
    that is fitted to the weighted sample a few times."""
    random = np.random.default_rng(seed)
    basis = np.array([np.outer(np.eye(3)[i], np.eye(3)[j]) for i, j in
                      ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])  # fmt: skip
    basis = (basis + np.swapaxes(basis, 1, 2)) / 2
    mean, spread = np.zeros(6), 0.05 * np.eye(6)
    for _ in range(5):
        normal = random.normal(size=(count, 6))
        strains = np.einsum("ka,aij->kij", mean + normal @ spread.T, basis)
        values, vectors = np.linalg.eigh(strains)
        grow = np.einsum("kij,kj,klj->kil", vectors, np.exp(values), vectors)
        cells = FCC @ grow
        volume = np.linalg.det(cells)
        apart = values[:, [1, 2, 2]] - values[:, [0, 0, 1]]
        log = (power + 1) * np.log(np.abs(volume)) + np.log(np.sinh(apart) / apart).sum(axis=1)
        log = log - (energy_of(cells, STIFF)[0] + PRESSURE * np.abs(volume)) / THERMAL
        log = log + 0.5 * np.sum(normal**2, axis=1)
        weights = np.exp(log - log.max())
        weights = weights / weights.sum()
        coordinates = mean + normal @ spread.T
        mean = weights @ coordinates
        centred = coordinates - mean
        spread = 1.15 * np.linalg.cholesky(np.einsum("k,ka,kb->ab", weights, centred, centred))
    assert 1 / np.sum(weights**2) > 0.3 * count  # effective samples
    return cells, weights


def invariants(cells):
    """What does not depend on a cell's orientation: volume, lengths and angles."""
    metric = np.einsum("...ix,...jx->...ij", cells, cells)
    angle = metric[..., 0, 1] / np.sqrt(metric[..., 0, 0] * metric[..., 1, 1])
    ratio = 0.5 * np.log(metric[..., 0, 0] / metric[..., 2, 2])
    return np.abs(np.linalg.det(cells)), angle, ratio


@pytest.mark.parametrize(
    "ensemble", ["langevin", pytest.param("velocity-rescaling", marks=pytest.mark.slow)]
)
def test_volumes_and_shapes_of_whole_cells_are_exact(integrate, ensemble):
    """Volumes of the gas as with the isotropic barostat (its shape drifts away, slowly); volume
    and shape of an elastic cell."""
    shape, unit = SHAPE[ensemble], THERMAL / PRESSURE
    gas = settings(ensemble, "full", 1 / PRESSURE, 15, 3)
    found = volumes(integrate(systems(shape * unit), gas, GAS))[30:] / unit
    check_means(found, shape)
    check_means((found - shape) ** 2, shape, bias=0.02 * shape)

    elastic = settings(ensemble, "full", SOFT, 50, 4)
    run = integrate(systems(140.0), elastic, ELASTIC)
    cells, weights = exact_shapes(shape - 1)
    for value, exact in zip(invariants(run.cells[8:]), invariants(cells)):
        mean = weights @ exact
        variance = weights @ (exact - mean) ** 2
        check_means(value, mean, bias=0.01 * np.sqrt(variance))
        check_means((value - mean) ** 2, variance, bias=0.01 * variance)
    # exact of every potential: ⟨P⟩ = P₀ 1 and ⟨V (P - P₀)⟩ = -k_B T 1, for each component
    inside = pressures(run)[8:] - PRESSURE * np.eye(3)
    volume = volumes(run)[8:, :, None, None]
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        check_means(inside[..., i, j] / PRESSURE, 0.0, bias=0.01)
        check_means((volume * inside)[..., i, j] / THERMAL, -float(i == j), bias=0.05)


def pressures(run):
    mass = masses(Structure(np.array([18]), np.zeros((1, 3))))[0]
    moving = mass / ACCELERATION * np.einsum("fsai,fsaj->fsij", run.velocities, run.velocities)
    return (moving - run.virials) / volumes(run)[..., None, None]


def test_compressing_scales_positions_and_velocities_with_the_cell(integrate):
    """s = r h⁻¹ and p hᵀ stay, but for the drift of free atoms in the half steps."""
    start = systems(200.0)
    slow = Dynamics(
        "langevin", 100.0, 1e-6, KEPT, 1, friction_per_ps=1e-9, barostat="full", barostat_ps=1e-7,
        pressure_gpa=PRESSURE / GPA, compressibility_per_gpa=0.01 / PRESSURE * GPA,
    )  # fmt: skip
    run = integrate(start, slow, GAS)
    scaled = np.einsum("fsax,fsxy->fsay", run.positions, np.linalg.inv(run.cells))
    momenta = np.einsum("fsax,fsyx->fsay", run.velocities, run.cells)
    assert np.abs(run.cells[-1] - run.cells[0]).max() > 0.3
    # 40 steps of 1e-6 fs at 0.003 Å/fs; e^ε to rounding
    np.testing.assert_allclose(scaled[-1], scaled[0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(momenta[-1], momenta[0], rtol=0, atol=1e-9)
    # symmetric strains: no step turns the cell
    change = np.linalg.solve(run.cells[:-1], run.cells[1:])
    np.testing.assert_allclose(change, np.swapaxes(change, 2, 3), rtol=0, atol=1e-12)


def test_exponential_series():
    from scipy.linalg import expm

    random = np.random.default_rng(0)
    strains = random.normal(scale=0.1, size=(20, 3, 3))
    expected = np.array([expm(strain) for strain in strains])
    np.testing.assert_allclose(exponential(jnp.asarray(strains)), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("periodic", [(False, False, False), (True, True, False)])
def test_a_barostat_needs_three_periodic_directions(argon, periodic):
    start = Structure(
        np.full(2, 18), np.array([[0.0, 0, 0], [3.8, 0, 0]]), cell=20 * np.eye(3),
        periodic=np.array(periodic),
    )  # fmt: skip
    npt = Dynamics("langevin", 50.0, 1.0, barostat="isotropic")
    with pytest.raises(UnsuitableStructure, match="three periodic directions"):
        run_dynamics(argon(), start, npt)


def test_a_barostat_needs_a_thermostat():
    with pytest.raises(BadInput, match="thermostat"):
        Dynamics("nve", barostat="full")
