"""Temperature, pressure, density, heat capacities, heat of vaporisation, drift of the energy.

All take series of frames; leave out the transient first (`correlated.detect_equilibration`).
Intervals are 95 % from blocks.

Checked: tests/simulation/analysis/test_thermodynamics.py, on the ideal gas and the harmonic
crystal, canonical and microcanonical.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, BOLTZMANN, GPA, KJ_PER_MOL
from karat.results.statistics import MIN_CASES, Interval, without_interval
from karat.simulation.analysis.correlated import (
    block_count,
    block_means,
    jackknife,
    quantile,
    series_mean,
    student,
)
from karat.simulation.analysis.transport import check_times
from karat.simulation.velocities import degrees_of_freedom, masses
from karat.structures.structure import Structure

G_CM3 = 1.6605390666
"""g/cm³ per amu/Å³ (CODATA 2018)."""
LEAST_RUNS = 3
_MEV_NS = 1e3 * 1e6

Conserved = Literal["nothing", "overall motion"]
"""What the dynamics conserves: a thermostat on every atom nothing, NVE the overall motion."""


@dataclass(frozen=True)
class HeatCapacity:
    """Classical heat capacity at constant volume of the whole system.

    Attributes:
        total_ev_per_k: eV/K.
        per_atom_kb: in k_B per atom (3 is Dulong and Petit's).
        j_per_mol_k: J/(mol K) of atoms.
    """

    total_ev_per_k: Interval
    per_atom_kb: Interval
    j_per_mol_k: Interval


def free_components(structure: Structure, conserved: Conserved) -> int:
    """How many velocity components share the kinetic energy.

    3·atoms under karat's Langevin dynamics, whose noise also moves the centre of mass; less the
    translations (and the rotations of a molecule) where those are conserved and were taken out.
    """
    return 3 * len(structure) if conserved == "nothing" else degrees_of_freedom(structure)


def mean_temperature_k(kinetic_energies_ev: Float[np.ndarray, "frames"], degrees: int) -> Interval:
    """Mean kinetic temperature 2 K/(f k_B) in K.

    Args:
        degrees: f, see `free_components`.

    Raises:
        BadInput: no degree of freedom, fewer than two frames, not finite.
    """
    if degrees < 1:
        raise BadInput(f"{degrees} degrees of freedom: nothing moves, so there is no temperature.")
    series = 2 * kinetic_energies_ev / (degrees * BOLTZMANN)
    return series_mean(series, discard_transient=False).mean


def density_g_per_cm3(structure: Structure) -> float:
    """Mass over volume of one periodic structure.

    Raises:
        BadInput: not periodic in three directions.
    """
    return float(masses(structure).sum() / structure.volume * G_CM3)


def mean_density_g_per_cm3(
    structure: Structure, volumes_angstrom3: Float[np.ndarray, "frames"]
) -> Interval:
    """Mean density of a run at constant pressure, from its volumes.

    Raises:
        BadInput: a volume that is not positive, fewer than two frames.
    """
    if not (volumes_angstrom3 > 0).all():
        raise BadInput("every volume must be positive.")
    series = masses(structure).sum() * G_CM3 / volumes_angstrom3
    return series_mean(series, discard_transient=False).mean


def pressure_tensor_gpa(
    structure: Structure,
    velocities: Float[np.ndarray, "frames atoms 3"],
    stresses: Float[np.ndarray, "stresses 3 3"],
    volumes_angstrom3: Float[np.ndarray, "volumes"] | None = None,
) -> Float[np.ndarray, "frames 3 3"]:
    """P = (1/V) Σ m v v - σ of each frame, in GPa; compression positive.

    Args:
        velocities: Å/fs.
        stresses: of the potential, eV/Å³, tension positive (without the kinetic part).
        volumes_angstrom3: by default that of `structure`, for all frames.

    Raises:
        BadInput: lengths that differ, not periodic in three directions.

    Source: Allen & Tildesley, Computer Simulation of Liquids (2017).
    Checked: tests/simulation/analysis/test_thermodynamics.py, ASE's stress with ideal gas part.
    """
    frames = len(velocities)
    if volumes_angstrom3 is None:
        volumes_angstrom3 = np.full(frames, structure.volume)
    if len(stresses) != frames or len(volumes_angstrom3) != frames:
        raise BadInput(
            f"{frames} frames of velocities, {len(stresses)} of stresses, "
            f"{len(volumes_angstrom3)} of volumes: the same number is needed."
        )
    weighted = velocities * masses(structure)[:, None] / ACCELERATION
    kinetic = np.swapaxes(weighted, 1, 2) @ velocities
    return np.asarray((kinetic / volumes_angstrom3[:, None, None] - stresses) / GPA)


def pressure_gpa(tensors_gpa: Float[np.ndarray, "frames 3 3"]) -> Interval:
    """Mean of a third of the trace of pressure tensors.

    Raises:
        BadInput: fewer than two frames, not finite.
    """
    series = np.trace(tensors_gpa, axis1=1, axis2=2) / 3
    return series_mean(np.asarray(series), discard_transient=False).mean


def heat_capacity_nvt(
    total_energies_ev: Float[np.ndarray, "frames"], temperature_k: float, atoms: int
) -> HeatCapacity:
    """C_V = (⟨E²⟩ - ⟨E⟩²)/(k_B T²) of a canonical run; kinetic part included.

    Raises:
        BadInput: a temperature or number of atoms that is not positive, fewer than two frames,
            a constant energy.

    Source: Allen & Tildesley, Computer Simulation of Liquids (2017).
    Checked: tests/simulation/analysis/test_thermodynamics.py, harmonic crystal, coverage.
    """
    if not temperature_k > 0:
        raise BadInput(f"a temperature of {temperature_k} K; it must be positive.")
    deviations = total_energies_ev - total_energies_ev.mean()
    scale = 1.0 / (BOLTZMANN * temperature_k**2)
    found = jackknife(
        np.stack([deviations, deviations**2]), lambda means: scale * (means[1] - means[0] ** 2)
    )
    return _capacity(found, atoms)


def heat_capacity_nve(
    kinetic_energies_ev: Float[np.ndarray, "frames"],
    degrees: int,
    atoms: int,
    formula: Literal["pearson", "lebowitz"] = "pearson",
) -> HeatCapacity:
    """C_V from the kinetic energy at constant total energy.

    ``lebowitz``: ⟨δK²⟩ = ½ f (k_B T)² (1 - f k_B/2C), right to order 1/f.
    ``pearson``: C = k_B/(1 - (1 - 2/f) ⟨K⟩⟨1/K⟩), exact in the microcanonical ensemble.

    Args:
        degrees: f; see `free_components` with ``overall motion``.

    Raises:
        BadInput: fewer than three degrees of freedom, kinetic energies that are not positive or
            all the same, fluctuations that belong to no positive heat capacity.

    Source: Lebowitz, Percus & Verlet, Phys. Rev. 153, 250 (1967); Pearson, Halicioglu & Tiller,
    Phys. Rev. A 32, 3030 (1985).
    Checked: tests/simulation/analysis/test_thermodynamics.py, microcanonical oscillators.
    """
    if degrees < 3 or not (kinetic_energies_ev > 0).all():
        raise BadInput(
            f"{degrees} degrees of freedom (3 needed) or a kinetic energy that is not positive."
        )
    half = degrees / 2
    scaled = kinetic_energies_ev / kinetic_energies_ev.mean()
    if formula == "lebowitz":
        columns = np.stack([scaled, scaled**2])

        # k_B f/(2C) = 1 - (f/2) (⟨K²⟩/⟨K⟩² - 1)
        def inverse(means: np.ndarray) -> float:
            return float(1 - half * (means[1] / means[0] ** 2 - 1)) / half
    else:
        columns = np.stack([scaled, 1 / scaled])

        def inverse(means: np.ndarray) -> float:
            return float(1 - (1 - 1 / half) * means[0] * means[1])

    return _capacity(_reciprocal(jackknife(columns, inverse)), atoms)


def heat_of_vaporisation_kj_per_mol(
    liquid_energies_ev: Float[np.ndarray, "liquid"],
    molecules: int,
    gas_energies_ev: Float[np.ndarray, "gas"],
    temperature_k: float,
) -> Interval:
    """ΔH = ⟨E_gas⟩ - ⟨E_liquid⟩/molecules + RT; ideal gas, volume of the liquid neglected.

    Energies are potential energies at the same temperature (kinetic ones are equal in classical
    mechanics); rigid or not, no correction for quantum vibrations is made.

    Args:
        gas_energies_ev: of one molecule alone.

    Raises:
        BadInput: no molecule, a temperature that is not positive, fewer than two frames.

    Source: Jorgensen, Madura & Swenson, J. Am. Chem. Soc. 106, 6638 (1984).
    Checked: tests/simulation/analysis/test_thermodynamics.py.
    """
    if molecules < 1 or not temperature_k > 0:
        raise BadInput(f"{molecules} molecules at {temperature_k} K; both must be positive.")
    liquid = series_mean(liquid_energies_ev / molecules, discard_transient=False).mean
    gas = series_mean(gas_energies_ev, discard_transient=False).mean
    value = (gas.value - liquid.value + BOLTZMANN * temperature_k) / KJ_PER_MOL
    blocks = min(liquid.n, gas.n)
    widths = []
    for name, part in (("liquid", liquid), ("gas", gas)):
        if part.low is None or part.high is None:
            return without_interval(value, blocks, f"{name}: {part.why_no_interval}")
        widths.append((part.high - part.low) / 2)
    half = float(np.linalg.norm(widths)) / KJ_PER_MOL
    return Interval(value, value - half, value + half, blocks)


def energy_drift_mev_per_atom_per_ns(
    times_fs: Float[np.ndarray, "times"],
    total_energies_ev: Float[np.ndarray, "frames"],
    atoms: int,
) -> Interval:
    """Slope of the total energy of one NVE run, by least squares through block means.

    The interval is that of a regression on blocks that are long against the memory of what is
    left beside the line. Should the energy wander (a random walk), it is too narrow: use several
    runs and `drift_of_runs`.

    Raises:
        BadInput: uneven times, lengths that differ, no atoms.

    Checked: tests/simulation/analysis/test_thermodynamics.py, coverage on lines with AR(1) noise.
    """
    check_times(times_fs)
    if len(total_energies_ev) != len(times_fs) or atoms < 1:
        raise BadInput(
            f"{len(total_energies_ev)} energies for {len(times_fs)} times, {atoms} atoms."
        )
    if not np.isfinite(total_energies_ev).all():
        raise BadInput("a total energy is not finite; cut the run before it.")
    times = times_fs - times_fs.mean()
    energies = (total_energies_ev - total_energies_ev.mean()) * (_MEV_NS / atoms)
    slope = float(times @ energies / (times @ times))
    rest = energies - slope * times
    if len(times) < 3 or float(np.ptp(rest)) <= 1e-12 * max(float(np.ptp(energies)), 1e-300):
        return without_interval(slope, 1, "the energies lie on a straight line")
    blocks = block_count(rest)
    if blocks < MIN_CASES:
        why = f"the run holds {blocks} blocks longer than its memory, at least {MIN_CASES} needed"
        return without_interval(slope, blocks, why)
    centres, means = block_means(times, blocks), block_means(rest, blocks)
    centres = centres - centres.mean()
    squares = float(centres @ centres)
    beside = float(centres @ means) / squares
    left = means - means.mean() - beside * centres
    half = quantile(blocks - 2) * float(np.sqrt(left @ left / (blocks - 2) / squares))
    return Interval(slope, slope - half, slope + half, blocks)


def drift_of_runs(slopes: Sequence[Interval]) -> Interval:
    """Mean slope of independent runs, with Student's interval from their scatter (3 or more).

    Raises:
        BadInput: no run.
    """
    return student(np.array([slope.value for slope in slopes], dtype=np.float64), LEAST_RUNS)


def _capacity(total: Interval, atoms: int) -> HeatCapacity:
    if atoms < 1:
        raise BadInput(f"{atoms} atoms; at least one is needed.")
    per_atom = 1 / (BOLTZMANN * atoms)
    return HeatCapacity(total, _scaled(total, per_atom), _scaled(total, 1e3 / (KJ_PER_MOL * atoms)))


def _scaled(interval: Interval, factor: float) -> Interval:
    if interval.low is None or interval.high is None:
        return without_interval(interval.value * factor, interval.n, interval.why_no_interval)
    return Interval(
        interval.value * factor, interval.low * factor, interval.high * factor, interval.n
    )


def _reciprocal(inverse: Interval) -> Interval:
    """k_B over an interval of k_B/C; C is positive."""
    if not inverse.value > 0:
        raise BadInput(
            "the kinetic energy fluctuates more than at any positive heat capacity: too few "
            "frames, a wrong number of degrees of freedom, or not a run at constant energy."
        )
    value = BOLTZMANN / inverse.value
    if inverse.low is None or inverse.high is None:
        return without_interval(value, inverse.n, inverse.why_no_interval)
    if not inverse.low > 0:
        return without_interval(value, inverse.n, "the upper end of the interval is infinite")
    return Interval(value, BOLTZMANN / inverse.high, BOLTZMANN / inverse.low, inverse.n)
