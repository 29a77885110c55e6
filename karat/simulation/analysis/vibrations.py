"""The vibrational density of states: power spectrum of mass-weighted velocities.

Checked: tests/simulation/analysis/test_vibrations.py, on oscillators of known frequency.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION, BOLTZMANN, HBAR, INVERSE_CM
from karat.results.statistics import MIN_CASES
from karat.simulation.analysis.correlated import quantile
from karat.simulation.analysis.transport import check_times

CM_PER_INVERSE_FS = 2 * np.pi * HBAR / INVERSE_CM
"""cm⁻¹ per fs⁻¹ (1/c)."""
_COLUMNS = 300
_LEAST_FRAMES = 8


@dataclass(frozen=True, eq=False)
class VibrationalDensity:
    """Degrees of freedom per cm⁻¹.

    Attributes:
        wavenumbers_cm: cm⁻¹, from 0 to half the sampling rate.
        density_per_cm: 1/cm⁻¹; its integral is twice the kinetic energy over k_B T: the number
            of degrees of freedom where each has k_B T/2. At 0 cm⁻¹ it is 12 c Σm D/k_B T.
        low, high: 95 % interval from segments, point by point; `None` with a reason.
        resolution_cm: spacing of the wavenumbers; a line is about twice as wide.
        segments: how many spectra were averaged.
        why_no_interval: reason where the intervals are `None`.
    """

    wavenumbers_cm: Float[np.ndarray, "points"]
    density_per_cm: Float[np.ndarray, "points"]
    low: Float[np.ndarray, "points"] | None
    high: Float[np.ndarray, "points"] | None
    resolution_cm: float
    segments: int
    why_no_interval: str = ""

    @property
    def integral(self) -> float:
        """Degrees of freedom: the integral of the density, by trapezoids (exact: Parseval)."""
        return float(np.trapezoid(self.density_per_cm, dx=self.resolution_cm))


def vibrational_density(
    times_fs: Float[np.ndarray, "times"],
    velocities: Float[np.ndarray, "frames atoms 3"],
    masses_amu: Float[np.ndarray, "masses"],
    temperature_k: float,
    resolution_cm: float = 10.0,
) -> VibrationalDensity:
    """g(ν̃) = Σ m_i s_i(ν̃)/k_B T, s the one-sided power spectrum of each velocity component.

    The run is cut into segments of 1/(c · resolution), each with a Hann window (not
    overlapping); their spectra are averaged. Rigid motion shows at 0 cm⁻¹. Frequencies are those
    of the run: velocity Verlet with step Δt shifts ω to (2/Δt) asin(ωΔt/2).

    Args:
        times_fs: evenly spaced; frequencies above half the sampling rate are folded.
        velocities: Å/fs.
        masses_amu: of the atoms.
        temperature_k: for the normalisation; the kinetic temperature makes the integral the
            number of degrees of freedom exactly (up to the window's weights).
        resolution_cm: spacing asked for; the nearest finer one is taken.

    Raises:
        BadInput: a run too short for the resolution, uneven times, not finite, wrong lengths,
            values that are not positive.

    Source: Lin, Blanco & Goddard, J. Chem. Phys. 119, 11792 (2003), (normalisation);
    Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967).
    Checked: tests/simulation/analysis/test_vibrations.py.
    """
    step = check_times(times_fs)
    frames, atoms = velocities.shape[:2]
    if frames != len(times_fs) or len(masses_amu) != atoms:
        raise BadInput(
            f"velocities of {frames} frames and {atoms} atoms for {len(times_fs)} times and "
            f"{len(masses_amu)} masses."
        )
    if not np.isfinite(velocities).all() or not (masses_amu > 0).all():
        raise BadInput("velocities must be finite and masses positive.")
    if not temperature_k > 0 or not resolution_cm > 0:
        raise BadInput(f"{temperature_k} K and {resolution_cm} cm⁻¹ must both be positive.")
    length = int(np.ceil(CM_PER_INVERSE_FS / (resolution_cm * step) - 1e-9))
    length += length % 2
    if length > frames or length < _LEAST_FRAMES:
        raise BadInput(
            f"a resolution of {resolution_cm:g} cm⁻¹ needs segments of {length * step:g} fs; the "
            f"run has {frames * step:g} fs in frames of {step:g} fs (at least {_LEAST_FRAMES} "
            "frames a segment). Change the resolution or the run."
        )
    segments = frames // length
    first = frames - segments * length
    weighted = (velocities * np.sqrt(masses_amu)[:, None]).reshape(frames, -1)[first:]
    wavenumbers, spectra = _spectra(weighted.reshape(segments, length, -1), step)
    density = spectra / (BOLTZMANN * temperature_k * ACCELERATION)
    mean = density.mean(axis=0)
    low = high = None
    why = f"{segments} segments, at least {MIN_CASES} needed"
    if segments >= MIN_CASES:
        half = quantile(segments - 1) * density.std(axis=0, ddof=1) / np.sqrt(segments)
        low, high, why = mean - half, mean + half, ""
    return VibrationalDensity(wavenumbers, mean, low, high, float(wavenumbers[1]), segments, why)


def _spectra(
    columns: Float[np.ndarray, "segments length columns"], step: float
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "segments points"]]:
    """One-sided power spectra per cm⁻¹, summed over columns; the trapezoidal integral is ⟨x²⟩."""
    from scipy.signal import periodogram

    total, wavenumbers = 0.0, np.empty(0)
    for first in range(0, columns.shape[2], _COLUMNS):
        frequencies, power = periodogram(
            columns[:, :, first : first + _COLUMNS],
            fs=1 / step,
            window="hann",
            detrend=False,
            scaling="density",
            axis=1,
        )
        wavenumbers = frequencies * CM_PER_INVERSE_FS
        total = total + power.sum(axis=2)
    spectra = np.asarray(total) / CM_PER_INVERSE_FS
    spectra[:, [0, -1]] *= 2  # SciPy gives these two as half bins
    return wavenumbers, spectra
