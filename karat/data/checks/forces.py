"""Forces by themselves: size, balance, and whether their unit is eV/Å.

Checked: tests/data/test_doctor_faults.py.
"""

from collections.abc import Iterator

import numpy as np

from karat.core.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL, RYDBERG
from karat.data.checks.fit import MOVED, near_steps
from karat.data.checks.gradient import ENOUGH
from karat.data.finding import Finding, counted, offenders
from karat.data.survey import Survey

LARGE_FORCE = 100.0
"""eV/Å; beyond it atoms collide, or the unit is not eV/Å."""

STRAINED = 5.0
"""eV/Å; seldom exceeded by rattled or hot frames of one structure at rest."""

NET_FORCE = 0.05
"""eV/Å per atom that is left over on average; codes leave below 0.01."""

NET_SHARE = 0.3
"""|ΣF| over √atoms times the force: unrelated forces give 1, converged ones below 0.01."""

NET_TORQUE = 0.2
"""eV, and share of √(Σ r²F²), that codes do not leave."""

BOND_STIFFNESS = (6.0, 160.0)
"""eV/Å²; C-H 31, C-C 28, C=O 75, N≡N 143."""

TYPICAL_STIFFNESS = 35.0

CRYSTAL_STIFFNESS = 90.0
"""eV/Å² for each atom; diamond has 45, tungsten 22, copper 7."""

UNITS = (
    (1 / KCAL_PER_MOL, "kcal/mol/Å"),
    (1 / KJ_PER_MOL, "kJ/mol/Å"),
    (0.1 / KJ_PER_MOL, "kJ/mol/nm"),
    (1000.0, "meV/Å"),
    (BOHR / HARTREE, "hartree/bohr"),
    (BOHR / RYDBERG, "rydberg/bohr"),
)


def large_forces(survey: Survey) -> Iterator[Finding]:
    """Forces beyond any that a model should learn, or in another unit."""
    columns = survey.columns
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(columns.force_max > LARGE_FORCE)
    if len(rows):
        yield Finding(
            "warning",
            "large-forces",
            f"{counted(len(rows), len(survey))} have forces above {LARGE_FORCE:g} eV/Å (up to "
            f"{np.nanmax(columns.force_max[rows]):.4g}): colliding atoms, or not eV/Å "
            "(1 hartree/bohr is 51.4, 1 kcal/mol/Å is 0.043 eV/Å).",
            offenders(survey, rows, columns.force_max[rows]),
        )
    yield from _residual(survey)


def _residual(survey: Survey) -> Iterator[Finding]:
    """Single structures with large forces, in sets that hold no trajectories."""
    columns = survey.columns
    forced = np.flatnonzero(np.isfinite(columns.force_max) & (columns.atoms > 1))
    if len(forced) < 8 or len(survey.steps) > 0.5 * len(survey):
        return
    middle = float(np.median(columns.force_max[forced]))
    rows = forced[columns.force_max[forced] > max(1.0, 8 * middle)]
    if middle < 0.5 and len(rows):
        yield Finding(
            "info",
            "residual-forces",
            f"{counted(len(rows), len(survey))} have forces up to "
            f"{columns.force_max[rows].max():.2g} eV/Å, while most are near rest (median largest "
            f"force {middle:.2g} eV/Å): not relaxed at this level.",
            offenders(survey, rows, columns.force_max[rows]),
        )


def net_force(survey: Survey) -> Iterator[Finding]:
    """Forces that do not sum to zero, though nothing outside acts on the atoms."""
    columns = survey.columns
    with np.errstate(all="ignore"):
        left = columns.net_force / columns.atoms
        share = columns.net_force / (columns.force_rms * np.sqrt(columns.atoms))
        several = np.isfinite(left) & (columns.atoms > 1)
        bad = several & ((left > NET_FORCE) | ((share > NET_SHARE) & (columns.net_force > 0.3)))
    rows = np.flatnonzero(bad)
    worst = float(left[several].max(initial=0.0))
    whole = float(columns.net_force[several].max(initial=0.0))
    if len(rows):
        yield Finding(
            "warning" if len(rows) < 0.5 * several.sum() else "error",
            "net-force",
            f"{counted(len(rows), len(survey))} have a net force (up to {worst:.3g} eV/Å per "
            "atom): unconverged, an outer field, held atoms, or rows of other structures.",
            offenders(survey, rows, left[rows]),
        )
    elif whole > 0.01:
        yield Finding(
            "info",
            "net-force",
            f"net force up to {whole:.2g} eV/Å on a structure ({worst:.2g} per atom): rounding or "
            "loose convergence.",
        )


def net_torque(survey: Survey) -> Iterator[Finding]:
    """A molecule's forces that would turn it."""
    columns = survey.columns
    with np.errstate(all="ignore"):
        share = columns.net_torque / columns.torque_scale
        rows = np.flatnonzero((columns.net_torque > NET_TORQUE) & (share > NET_TORQUE))
    rows = rows[columns.atoms[rows] > 1]
    if len(rows):
        yield Finding(
            "warning" if len(rows) < 0.5 * np.isfinite(share).sum() else "error",
            "net-torque",
            f"{counted(len(rows), len(survey))} are molecules with a net torque (up to "
            f"{columns.net_torque[rows].max():.3g} eV): forces of another orientation, rows in "
            "another order, or an outer field.",
            offenders(survey, rows, share[rows]),
        )


def force_unit(survey: Survey) -> Iterator[Finding]:
    """Bonds or crystals too stiff or too soft: forces (and energies) in another unit."""
    steps = near_steps(survey)
    moved = steps.rmsd > MOVED
    atoms = survey.columns.atoms[steps.first]
    bonds = steps.bond_stiffness[moved & np.isfinite(steps.bond_stiffness) & (atoms > 2)]
    bonds = np.abs(bonds)
    if len(bonds) >= ENOUGH:
        stiff = float(np.median(bonds))
        low, high = BOND_STIFFNESS
        if not low < stiff < high:
            distance = [abs(np.log(stiff / TYPICAL_STIFFNESS / ratio)) for ratio, _ in UNITS]
            best = [UNITS[i][1] for i in np.argsort(distance) if distance[i] < np.log(2.2)]
            fits = f" {' or '.join(best[:2])} fits." if best else ""
            yield Finding(
                "error",
                "force-unit",
                f"forces are not in eV/Å: covalent bonds have a force constant of {stiff:.3g} "
                f"eV/Å² (C-H 31, C=O 75), judged by {len(bonds)} pairs of near frames.{fits} Read "
                "them with the right --energy-unit or --forces-unit.",
            )
        return
    whole = moved & (survey.crystal[steps.first]) & (steps.strain == 0)
    if whole.sum() >= ENOUGH:
        stiffness = np.abs(steps.bend[whole]) / (steps.rmsd[whole] ** 2 * atoms[whole])
        stiff = float(np.median(stiffness))
        if stiff > CRYSTAL_STIFFNESS:
            yield Finding(
                "error",
                "force-unit",
                f"forces are not in eV/Å: atoms are held with {stiff:.3g} eV/Å² (diamond 45, "
                f"tungsten 22, copper 7), judged by {int(whole.sum())} pairs of near frames. In "
                f"kcal/mol it would be {stiff * KCAL_PER_MOL:.3g}, in kJ/mol "
                f"{stiff * KJ_PER_MOL:.3g}.",
            )


FORCE_CHECKS = (large_forces, net_force, net_torque, force_unit)
