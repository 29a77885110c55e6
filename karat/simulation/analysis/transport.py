"""Diffusion from displacements and from velocities, and its correction for small boxes.

Times are evenly spaced. Functions take arrays, so that a selection of atoms, or centres of mass
of molecules, are passed the same way: `run.positions[:, oxygen]`.

Checked: tests/simulation/analysis/test_transport.py, against Langevin's exact results for free
particles, random walks and Ewald's constant of the cubic lattice.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.units import BOLTZMANN, GPA
from karat.results.statistics import Interval
from karat.simulation.analysis.correlated import lag_products, student

CM2_PER_S = 0.1
"""cm²/s per Å²/fs."""
CUBIC = 2.837297
"""Ewald's constant of the simple cubic lattice (Yeh & Hummer's ξ)."""
_EV_FS_PER_MPA_S = 1e3 * GPA
_EVEN = 1e-6


@dataclass(frozen=True, eq=False)
class MeanSquareDisplacement:
    """⟨|r(t) - r(0)|²⟩ over atoms and all time origins.

    Attributes:
        lags_fs: t.
        msd_angstrom2: Å²; large lags have few origins and are noisy.
    """

    lags_fs: Float[np.ndarray, "lags"]
    msd_angstrom2: Float[np.ndarray, "lags"]


@dataclass(frozen=True, eq=False)
class VelocityAutocorrelation:
    """⟨v(t)·v(0)⟩ over atoms and all time origins.

    Attributes:
        lags_fs: t.
        vacf_angstrom2_per_fs2: Å²/fs²; 3 k_B T/m at t = 0 for equal masses.
    """

    lags_fs: Float[np.ndarray, "lags"]
    vacf_angstrom2_per_fs2: Float[np.ndarray, "lags"]

    @property
    def running_diffusion_cm2_per_s(self) -> Float[np.ndarray, "lags"]:
        """⅓ ∫₀ᵗ of the function (trapezoids): look where it becomes flat."""
        values, times = self.vacf_angstrom2_per_fs2, self.lags_fs
        areas = 0.5 * (values[1:] + values[:-1]) * np.diff(times)
        return np.asarray(np.concatenate([[0.0], np.cumsum(areas)]) / 3 * CM2_PER_S)


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A self-diffusion coefficient in a box, before any correction for its size.

    Attributes:
        diffusion_cm2_per_s: mean over blocks of the run, 95 % interval by Student.
        per_block_cm2_per_s: of each block.
        window_fs: lags of the fit (or of the integral).
        block_fs: length of a block.
    """

    diffusion_cm2_per_s: Interval
    per_block_cm2_per_s: Float[np.ndarray, "blocks"]
    window_fs: tuple[float, float]
    block_fs: float


def mean_square_displacement(
    times_fs: Float[np.ndarray, "times"],
    positions: Float[np.ndarray, "frames atoms 3"],
    remove_drift: bool = False,
) -> MeanSquareDisplacement:
    """Mean square displacement at every lag, all time origins, in O(frames log frames).

    Args:
        times_fs: evenly spaced.
        positions: Å, not wrapped into the cell.
        remove_drift: take out the motion of the mean of the given positions, and with it 1/atoms
            of the diffusion. karat's NVE runs have no drift.

    Raises:
        BadInput: fewer than two frames, uneven times, not finite, wrong lengths; the drift of
            one atom.

    Source: Calandrini et al., Collection SFN 12, 201 (2011) (FFT with all origins).
    Checked: tests/simulation/analysis/test_transport.py, the double loop over origins.
    """
    step = _check(times_fs, positions)
    if remove_drift:
        positions = _without_drift(positions)
    frames, atoms = positions.shape[:2]
    columns = (positions - positions.mean(axis=0)).reshape(frames, -1)
    squares = np.sum(columns**2, axis=1)
    # Σ over origins of |r(n)|² + |r(n+t)|²: all twice, less the ends that have no partner
    ends = np.concatenate([[0.0], np.cumsum(squares[:-1] + squares[:0:-1])])
    both = 2 * squares.sum() - ends
    origins = np.arange(frames, 0, -1)
    msd = (both - 2 * lag_products(columns)) / (origins * atoms)
    msd[0] = 0.0
    return MeanSquareDisplacement(step * np.arange(frames), np.maximum(msd, 0.0))


def velocity_autocorrelation(
    times_fs: Float[np.ndarray, "times"],
    velocities: Float[np.ndarray, "frames atoms 3"],
) -> VelocityAutocorrelation:
    """Velocity autocorrelation function at every lag, all time origins.

    Args:
        times_fs: evenly spaced.
        velocities: Å/fs.

    Raises:
        BadInput: fewer than two frames, uneven times, not finite, wrong lengths.

    Source: Allen & Tildesley, Computer Simulation of Liquids (2017).
    Checked: tests/simulation/analysis/test_transport.py, Ornstein–Uhlenbeck processes.
    """
    step = _check(times_fs, velocities)
    frames, atoms = velocities.shape[:2]
    sums = lag_products(velocities.reshape(frames, -1))
    return VelocityAutocorrelation(
        step * np.arange(frames), sums / (np.arange(frames, 0, -1) * atoms)
    )


def diffusion_from_displacements(
    times_fs: Float[np.ndarray, "times"],
    positions: Float[np.ndarray, "frames atoms 3"],
    fit_from_fs: float,
    fit_to_fs: float,
    blocks: int = 10,
    remove_drift: bool = False,
) -> Diffusion:
    """D = slope/6 of the mean square displacement between two lags (Einstein).

    The run is cut into blocks; each gives a slope by plain least squares over the window.
    The window should begin beyond the ballistic and caged motion; look at the curve.

    Args:
        fit_from_fs, fit_to_fs: the window of lags; a block is at least as long as `fit_to_fs`.
        blocks: at least 8 for an interval.
        positions, remove_drift: see `mean_square_displacement`.

    Raises:
        BadInput: a window that is empty, has fewer than three lags or is longer than a block;
            and as in `mean_square_displacement`.

    Source: Allen & Tildesley, Computer Simulation of Liquids (2017).
    Checked: tests/simulation/analysis/test_transport.py, random walks and Langevin particles.
    """
    step = _check(times_fs, positions)
    if remove_drift:
        positions = _without_drift(positions)
    length = _block_length(len(times_fs), blocks)
    low, high = _window(fit_from_fs, fit_to_fs, step, length)
    found = np.empty(blocks)
    for index, part in enumerate(_blocks(len(times_fs), blocks, length)):
        result = mean_square_displacement(times_fs[part], positions[part], remove_drift=False)
        lags, msd = result.lags_fs[low : high + 1], result.msd_angstrom2[low : high + 1]
        centred = lags - lags.mean()
        found[index] = centred @ msd / (centred @ centred) / 6 * CM2_PER_S
    return Diffusion(student(found), found, (low * step, high * step), length * step)


def diffusion_from_velocities(
    times_fs: Float[np.ndarray, "times"],
    velocities: Float[np.ndarray, "frames atoms 3"],
    integrate_to_fs: float,
    blocks: int = 10,
) -> Diffusion:
    """D = ⅓ ∫₀ of the velocity autocorrelation function up to a lag (Green–Kubo), by trapezoids.

    Frames must be much closer than the shortest period. The integral is cut where the function
    has decayed, before its noise adds up.

    Raises:
        BadInput: a bound beyond the length of a block, or below three lags; and as in
            `velocity_autocorrelation`.

    Source: Allen & Tildesley, Computer Simulation of Liquids (2017).
    Checked: tests/simulation/analysis/test_transport.py, Ornstein–Uhlenbeck processes.
    """
    step = _check(times_fs, velocities)
    length = _block_length(len(times_fs), blocks)
    _, high = _window(0.0, integrate_to_fs, step, length)
    found = np.empty(blocks)
    for index, part in enumerate(_blocks(len(times_fs), blocks, length)):
        result = velocity_autocorrelation(times_fs[part], velocities[part])
        found[index] = result.running_diffusion_cm2_per_s[high]
    return Diffusion(student(found), found, (0.0, high * step), length * step)


def finite_size_correction_cm2_per_s(
    temperature_k: float, viscosity_mpa_s: float, box_angstrom: float
) -> float:
    """k_B T ξ/(6 π η L): what is added to D in a cubic box of width L to get that of no box.

    Raises:
        BadInput: a value that is not positive.

    Source: Yeh & Hummer, J. Phys. Chem. B 108, 15873 (2004) (ξ = 2.837297).
    Checked: tests/simulation/analysis/test_transport.py: ξ by Ewald's sum, units by hand.
    """
    for name, value in (
        ("temperature_k", temperature_k),
        ("viscosity_mpa_s", viscosity_mpa_s),
        ("box_angstrom", box_angstrom),
    ):
        if not value > 0:
            raise BadInput(f"{name} is {value}; it must be positive.")
    friction = 6 * np.pi * viscosity_mpa_s * _EV_FS_PER_MPA_S * box_angstrom
    return float(BOLTZMANN * temperature_k * CUBIC / friction * CM2_PER_S)


def check_times(times_fs: Float[np.ndarray, "times"]) -> float:
    """The even spacing of the times in fs.

    Raises:
        BadInput: fewer than two, not finite, not increasing, or uneven.
    """
    if len(times_fs) < 2 or not np.isfinite(times_fs).all():
        raise BadInput(f"{len(times_fs)} times; at least 2 are needed, all finite.")
    step = float(times_fs[-1] - times_fs[0]) / (len(times_fs) - 1)
    if not step > 0 or np.abs(np.diff(times_fs) - step).max() > _EVEN * step + 1e-9:
        raise BadInput("times_fs must grow in even steps; resample the run first.")
    return step


def _check(times_fs: np.ndarray, vectors: np.ndarray) -> float:
    step = check_times(times_fs)
    if len(vectors) != len(times_fs):
        raise BadInput(f"{len(vectors)} frames for {len(times_fs)} times.")
    if vectors.shape[1] == 0 or not np.isfinite(vectors).all():
        raise BadInput("positions or velocities hold no atom, NaN or infinity.")
    return step


def _without_drift(positions: np.ndarray) -> np.ndarray:
    if positions.shape[1] < 2:
        raise BadInput("one atom is its own mean: without its drift nothing would be left.")
    return np.asarray(positions - positions.mean(axis=1, keepdims=True))


def _block_length(frames: int, blocks: int) -> int:
    if blocks < 1 or frames // blocks < 2:
        raise BadInput(f"{frames} frames cannot be cut into {blocks} blocks of at least 2.")
    return frames // blocks


def _blocks(frames: int, blocks: int, length: int) -> list[slice]:
    first = frames - blocks * length
    return [slice(first + k * length, first + (k + 1) * length) for k in range(blocks)]


def _window(low_fs: float, high_fs: float, step: float, length: int) -> tuple[int, int]:
    """First and last lag of a window, in frames."""
    low, high = int(np.ceil(low_fs / step - 1e-9)), int(np.floor(high_fs / step + 1e-9))
    if low < 0 or high - low < 2:
        raise BadInput(
            f"the window {low_fs:g} to {high_fs:g} fs holds fewer than three lags of {step:g} fs."
        )
    if high > length - 1:
        raise BadInput(
            f"the window ends at {high_fs:g} fs, but a block lasts {(length - 1) * step:g} fs: "
            "take fewer blocks, a shorter window or a longer run."
        )
    return low, high
