"""What an OpenMM system is like: periodic, cut off, smooth, charged; read from its forces."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openmm

SMOOTH = 99
SWITCHED = 2
JUMPS = -1

INDUCED = ("AmoebaMultipoleForce", "HippoNonbondedForce")
"""Forces with induced dipoles that are iterated to a tolerance."""


@dataclass(frozen=True)
class Nature:
    """Attributes:
    periodic: whether the system repeats (in three directions).
    cutoff: largest cut-off, Å, or `None`.
    continuity: see `Traits.continuity`.
    force_tolerance: eV/Å, on the Reference platform.
    tolerance_reason: why not 1e-6.
    charge: sum of fixed charges in e, or `None` where it is no integer or there are none.
    """

    periodic: bool
    cutoff: float | None
    continuity: int
    force_tolerance: float
    tolerance_reason: str
    charge: int | None


def nature_of(system: "openmm.System") -> Nature:
    """Judge a system by the forces in it."""
    forces = system.getForces()
    continuity = min((_continuity(force) for force in forces), default=SMOOTH)
    cutoffs = [cutoff for force in forces if (cutoff := _cutoff(force)) is not None]
    tolerance, reason = 1e-6, ""
    if continuity == JUMPS:
        tolerance, reason = 1e-3, "pairs jump at the cut-off; Ewald sums are interpolated"
    if any(force.getName() in INDUCED or type(force).__name__ in INDUCED for force in forces):
        tolerance, reason = 1e-3, "induced dipoles are iterated to a finite tolerance"
    return Nature(
        periodic=bool(system.usesPeriodicBoundaryConditions()),
        cutoff=max(cutoffs) if cutoffs else None,
        continuity=continuity,
        force_tolerance=tolerance,
        tolerance_reason=reason,
        charge=_charge(forces),
    )


def _without_cutoff(force: Any) -> bool:
    """In every OpenMM force class method 0 is NoCutoff."""
    return not hasattr(force, "getNonbondedMethod") or force.getNonbondedMethod() == 0


def _cutoff(force: Any) -> float | None:
    import openmm

    if _without_cutoff(force) or not hasattr(force, "getCutoffDistance"):
        return None
    return float(force.getCutoffDistance().value_in_unit(openmm.unit.angstrom))


def _continuity(force: Any) -> int:
    import openmm

    if _without_cutoff(force):
        return SMOOTH
    if isinstance(force, openmm.CustomNonbondedForce):
        return SWITCHED if force.getUseSwitchingFunction() else JUMPS
    if isinstance(force, openmm.NonbondedForce):
        cut = (openmm.NonbondedForce.CutoffNonPeriodic, openmm.NonbondedForce.CutoffPeriodic)
        plain = force.getNonbondedMethod() in cut and not force.getNumParticleParameterOffsets()
        switched = plain and force.getUseSwitchingFunction() and not any(_charges(force))
        return SWITCHED if switched else JUMPS
    return JUMPS


def _charges(force: Any) -> list[float]:
    import openmm

    unit = openmm.unit.elementary_charge
    return [
        float(force.getParticleParameters(i)[0].value_in_unit(unit))
        for i in range(force.getNumParticles())
    ]


def _charge(forces: list[Any]) -> int | None:
    import openmm

    found = [force for force in forces if isinstance(force, openmm.NonbondedForce)]
    if len(found) != 1:
        return None
    total = sum(_charges(found[0]))
    # force fields round charges to 1e-4 … 1e-3 e an atom; half-way is no charge at all
    return round(total) if abs(total - round(total)) < 0.05 else None
