"""Energy against volume: the equation of state and what is fitted to it.

Checked: tests/simulation/test_equation_of_state.py, against exact curves and ASE with matscipy.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed, KaratError
from karat.core.units import GPA
from karat.potentials.protocol import AbstractPotential
from karat.simulation.batched_relax import CellFreedom, RelaxSettings, relax_batch
from karat.simulation.strain import require_crystal, scaled_to_volume
from karat.structures.structure import Structure

EosForm = Literal["birch-murnaghan", "vinet"]
FEWEST_VOLUMES = 6
"""Four parameters, and at least two points more, so that the fit has an error."""


@dataclass(frozen=True)
class EosFit:
    """A fitted equation of state; `_error` is one standard deviation of the fit alone.

    The deviations say how well the form describes the points: those are not random, so that a
    deviation is a measure of misfit, no statistical statement.

    Attributes:
        form: third-order Birch-Murnaghan, or Vinet.
        volume: V₀ of the minimum, Å³, of the whole cell.
        energy: E₀, eV.
        bulk_modulus_gpa: B₀.
        bulk_modulus_derivative: B₀' = ∂B/∂p at p = 0.
        rms_residual: eV.
    """

    form: EosForm
    volume: float
    energy: float
    bulk_modulus_gpa: float
    bulk_modulus_derivative: float
    volume_error: float
    energy_error: float
    bulk_modulus_gpa_error: float
    bulk_modulus_derivative_error: float
    rms_residual: float

    def energies(self, volumes: Float[np.ndarray, "volumes"]) -> Float[np.ndarray, "volumes"]:
        """eV at volumes in Å³."""
        bulk = self.bulk_modulus_gpa * GPA
        return _CURVES[self.form](
            volumes, self.energy, self.volume, bulk, self.bulk_modulus_derivative
        )


@dataclass(frozen=True, eq=False)
class EquationOfState:
    """Energies of a crystal over volumes, and two fits.

    Attributes:
        structures: relaxed, one for each volume.
        volumes: Å³ of the whole cell, ascending.
        energies: eV of the whole cell.
        birch_murnaghan, vinet: the fits.
    """

    structures: tuple[Structure, ...]
    volumes: Float[np.ndarray, "volumes"]
    energies: Float[np.ndarray, "volumes"]
    birch_murnaghan: EosFit
    vinet: EosFit


def equation_of_state(
    potential: AbstractPotential,
    structure: Structure,
    volume_span: float = 0.06,
    volumes: int = 11,
    relax_shape: bool = False,
    force_tolerance: float = 1e-3,
    stress_tolerance_gpa: float = 0.01,
    max_steps: int = 1000,
) -> EquationOfState:
    """Energies between (1 - span) and (1 + span) times the structure's volume, ions relaxed.

    All volumes are relaxed together (`relax_batch`).

    Args:
        volume_span: fraction of the volume to either side.
        volumes: how many.
        relax_shape: let the cell's shape relax at each volume too; else it is scaled evenly,
            which is exact for cubic crystals only. Needs stress.
        force_tolerance: eV/Å.
        stress_tolerance_gpa: of the shape.

    Raises:
        UnsuitableStructure, UnknownElement: see `check_suitable`; or not a crystal.
        BadInput: a span outside 0 to 0.5, or too few volumes.
        CalculationFailed: a volume could not be relaxed; kind ``not-bracketed`` where the
            minimum lies outside the volumes.
    """
    require_crystal(structure, "an equation of state")
    if not 0 < volume_span < 0.5:
        raise BadInput(f"equation_of_state: volume_span {volume_span} must lie between 0 and 0.5.")
    if volumes < FEWEST_VOLUMES:
        raise BadInput(
            f"equation_of_state: {volumes} volumes do not carry a fit of four parameters; "
            f"take {FEWEST_VOLUMES} or more."
        )
    factors = np.linspace(1 - volume_span, 1 + volume_span, volumes)
    starts = [scaled_to_volume(structure, factor * structure.volume) for factor in factors]
    cell: CellFreedom = "shape" if relax_shape else "fixed"
    settings = RelaxSettings(force_tolerance, max_steps, cell, stress_tolerance_gpa)
    relaxed = []
    for factor, found in zip(factors, relax_batch(potential, starts, settings)):
        if isinstance(found, KaratError):
            if isinstance(found, CalculationFailed):
                place = f"equation_of_state of {structure.formula} at {factor:.3f} of its volume"
                raise CalculationFailed(f"{place}: {found}", found.kind) from found
            raise found
        relaxed.append(found)
    sizes = np.array([found.structure.volume for found in relaxed])
    energies = np.array([found.energy for found in relaxed])
    return EquationOfState(
        structures=tuple(found.structure for found in relaxed),
        volumes=sizes,
        energies=energies,
        birch_murnaghan=fit_equation_of_state(sizes, energies, "birch-murnaghan"),
        vinet=fit_equation_of_state(sizes, energies, "vinet"),
    )


def fit_equation_of_state(
    volumes: Float[np.ndarray, "volumes"],
    energies: Float[np.ndarray, "volumes"],
    form: EosForm = "birch-murnaghan",
) -> EosFit:
    """V₀, E₀, B₀ and B₀' by least squares.

    Args:
        volumes: Å³.
        energies: eV.

    Raises:
        BadInput: too few points, volumes that are not positive and distinct, not finite.
        CalculationFailed: kind ``not-bracketed`` where no minimum lies inside the volumes.

    Source: Birch, Phys. Rev. 71, 809 (1947); Vinet et al., J. Phys.: Condens. Matter 1, 1941
    (1989).
    """
    from scipy.optimize import least_squares

    _check_points(volumes, energies)
    order = np.argsort(volumes)
    volumes, energies = volumes[order], energies[order]
    lowest = int(np.argmin(energies))
    if lowest in (0, len(volumes) - 1):
        raise _not_bracketed(volumes, float(volumes[lowest]))
    # the fit sees numbers near one: V/V_low, and energies in units of their spread
    size, height = float(volumes[lowest]), float(np.ptp(energies))
    reduced, heights = volumes / size, (energies - energies[lowest]) / height
    curvature = max(float(2 * np.polyfit(reduced - 1, heights, 2)[0]), 1e-3)
    curve = _CURVES[form]
    found = least_squares(
        lambda p: curve(reduced, p[0], p[1], p[2], p[3]) - heights,
        np.array([0.0, 1.0, curvature, 4.0]),
        method="lm",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=10_000,
    )
    shift, ratio, stiffness, derivative = (float(value) for value in found.x)
    if not reduced[0] < ratio < reduced[-1] or not stiffness > 0:
        raise _not_bracketed(volumes, ratio * size)
    spread = float(np.sum(found.fun**2)) / (len(volumes) - len(found.x))
    errors = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)) * spread)
    to_gpa = height / size / GPA
    return EosFit(
        form=form,
        volume=ratio * size,
        energy=shift * height + float(energies[lowest]),
        bulk_modulus_gpa=stiffness * to_gpa,
        bulk_modulus_derivative=derivative,
        volume_error=float(errors[1]) * size,
        energy_error=float(errors[0]) * height,
        bulk_modulus_gpa_error=float(errors[2]) * to_gpa,
        bulk_modulus_derivative_error=float(errors[3]),
        rms_residual=float(np.sqrt(np.mean(found.fun**2))) * height,
    )


def _check_points(volumes: np.ndarray, energies: np.ndarray) -> None:
    if len(volumes) < FEWEST_VOLUMES:
        raise BadInput(
            f"An equation of state needs {FEWEST_VOLUMES} points or more, not {len(volumes)}."
        )
    if not (np.isfinite(volumes).all() and np.isfinite(energies).all()):
        raise BadInput("An equation of state needs finite volumes and energies.")
    if volumes.min() <= 0 or len(np.unique(volumes)) < len(volumes):
        raise BadInput("The volumes of an equation of state must be positive and distinct.")


def _not_bracketed(volumes: np.ndarray, where: float) -> CalculationFailed:
    side = "smaller" if where <= volumes[len(volumes) // 2] else "larger"
    return CalculationFailed(
        f"The minimum of energy lies outside the volumes {volumes[0]:.4g} to {volumes[-1]:.4g} Å³ "
        f"(lowest near {where:.4g}). Relax the cell first, or take {side} volumes.",
        kind="not-bracketed",
    )


def _birch_murnaghan(
    volumes: np.ndarray, energy: float, volume: float, bulk: float, derivative: float
) -> np.ndarray:
    squeeze = (volume / volumes) ** (2 / 3)
    strain = squeeze - 1
    cubic = strain**3 * derivative + strain**2 * (6 - 4 * squeeze)
    return np.asarray(energy + 9 / 16 * volume * bulk * cubic)


def _vinet(
    volumes: np.ndarray, energy: float, volume: float, bulk: float, derivative: float
) -> np.ndarray:
    eta = 1.5 * (derivative - 1)
    stretch = eta * ((volumes / volume) ** (1 / 3) - 1)
    well = 1 - (1 + stretch) * np.exp(-stretch)
    return np.asarray(energy + 9 * bulk * volume / eta**2 * well)


_CURVES = {"birch-murnaghan": _birch_murnaghan, "vinet": _vinet}
