"""Do energies and forces belong together? Judged by pairs of near frames (`karat.data.steps`).

Checked: tests/data/test_doctor_faults.py.
"""

from collections.abc import Iterator

import numpy as np

from karat.core.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL
from karat.data.checks.fit import MOVED, Fit, fit, near_steps
from karat.data.finding import Finding, counted, offenders
from karat.data.steps import Steps
from karat.data.survey import Survey

ENOUGH = 12
"""Pairs; with fewer nothing is said about the whole set."""

BEND_ERROR = 0.05
"""Error of the trapezoid over the change of the forces' work; 0.01 to 0.05 on rMD17 and mlearn."""

UPHILL = -0.85
"""Share of forces that push on less that of those that pull back; unrelated forces give 0, rows
shifted to a neighbour in a crystal down to -0.7."""

CLEAR = 1.5
"""Signal (see `Fit`) at which correct labels correlate by 0.75."""

JUMP = 0.6
"""Of Σ |(F_a − F_b)_i·u_i|, for one pair; monotone forces along the way give at most 0.5."""

JUMP_NEAR = 0.25
"""Å; on longer ways atoms that turn about others do not go straight."""

NAMED_GROUPS = 16

JUMP_ENERGY = 0.1
JUMP_PER_ATOM = 2e-3
"""eV, and eV per atom, that a pair may be off besides: loose convergence."""

RATIOS = (
    (1 / KCAL_PER_MOL, "energies in kcal/mol with forces in eV/Å"),
    (1 / KJ_PER_MOL, "energies in kJ/mol with forces in eV/Å"),
    (1000.0, "energies in meV with forces in eV/Å"),
    (1 / HARTREE, "energies in hartree with forces in eV/Å"),
    (2 / HARTREE, "energies in rydberg with forces in eV/Å"),
    (KCAL_PER_MOL, "forces in kcal/mol/Å with energies in eV"),
    (KJ_PER_MOL, "forces in kJ/mol/Å with energies in eV"),
    (1e-3, "forces in meV/Å with energies in eV"),
    (HARTREE / BOHR, "forces in hartree/bohr with energies in eV"),
    (HARTREE / BOHR / 2, "forces in rydberg/bohr with energies in eV"),
    (HARTREE, "forces in hartree/Å with energies in eV"),
    (1 / BOHR, "forces per bohr (hartree/bohr or eV/bohr) with the same unit of energy per Å"),
    (BOHR, "forces per Å and positions in bohr"),
    (10.0, "forces per nm with positions in Å, or the other way about"),
    (0.1, "forces per nm with positions in Å, or the other way about"),
)
"""What E over F·Δr comes to, and what that says."""


def gradient(survey: Survey) -> Iterator[Finding]:
    """Sign, unit and order of forces; shuffled energies; jumps."""
    steps = near_steps(survey)
    moved = steps.take(np.flatnonzero((steps.rmsd > MOVED) & (np.abs(steps.bend) > 0)))
    if len(moved) == 0:
        return
    noise = BEND_ERROR * np.abs(moved.bend) + 1e-4
    noise += 0.1 * np.abs(moved.strain_begin - moved.strain_end)
    whole = moved.strain_work == 0
    if whole.sum() >= ENOUGH:
        moved, noise = moved.take(np.flatnonzero(whole)), noise[whole]
    result = fit(moved.work, moved.energy - np.nan_to_num(moved.strain_work), noise)
    # forces of a bound system pull back: most of (F_a - F_b)·u is positive
    share = float(moved.bend.sum() / np.abs(moved.bend).sum())
    found = list(_whole(survey, moved, result, share)) if result.count >= ENOUGH else []
    yield from found
    if not found:
        yield from _jumps(survey, steps)


def _whole(survey: Survey, steps: Steps, result: Fit, share: float) -> Iterator[Finding]:
    """What holds for most pairs."""
    number = f"{result.count} pairs of near frames"
    clear = result.signal > CLEAR
    if share < UPHILL:
        yield Finding(
            "error",
            "forces-sign",
            f"forces point uphill: in {number} they push on instead of pulling back"
            + (f", and energies change by {result.slope:.3g} of −F·Δr" if clear else "")
            + ". They are gradients: change their sign.",
            _worst(survey, steps),
        )
    elif share < 0.5:
        yield Finding(
            "error",
            "forces-unrelated",
            f"forces do not belong to these positions: in {number} they pull back as often as they "
            "push on. Rows in another order than the atoms', or forces of other structures.",
            _worst(survey, steps),
        )
    elif clear and result.correlation < -0.5:
        yield Finding(
            "error",
            "energy-sign",
            f"energies rise where the forces push: over {number} energy differences correlate "
            f"{result.correlation:.2f} with −F·Δr, though forces pull back. Energies have the "
            "wrong sign.",
            _worst(survey, steps),
        )
    elif clear and result.correlation < 0.3:
        yield Finding(
            "error",
            "energies-unrelated",
            f"energies do not belong to these structures: over {number} energy differences "
            f"correlate {result.correlation:.2f} with −F·Δr, though forces agree with each other. "
            "Energies in another order than the structures.",
            _worst(survey, steps),
        )
    elif clear and result.correlation > 0.5:
        yield from _slope(survey, steps, result, number)


def _slope(survey: Survey, steps: Steps, result: Fit, number: str) -> Iterator[Finding]:
    sharp = result.correlation > 0.97 and result.signal > 5
    low, high = (0.85, 1.18) if sharp else (0.45, 2.2)
    if low < result.slope < high:
        return
    distance = [abs(np.log(result.slope / ratio)) for ratio, _ in RATIOS]
    allowed = 0.08 if sharp else 0.25
    fits = [RATIOS[i][1] for i in np.argsort(distance) if distance[i] < allowed]
    if fits:
        yield Finding(
            "error",
            "energy-force-units",
            f"energies and forces are in different units: over {number} energies change by "
            f"{result.slope:.4g} times −F·Δr, as with {' or '.join(fits[:3])}. Read them with "
            "the right --energy-unit, --forces-unit or --length-unit.",
        )
    else:
        yield Finding(
            "error",
            "forces-not-gradient",
            f"forces are not the gradient of the energy: over {number} energies change by "
            f"{result.slope:.4g} times −F·Δr (correlation {result.correlation:.3f}), and no unit "
            "explains it: another level, a free energy, or forces scaled or projected.",
            _worst(survey, steps),
        )


def _worst(survey: Survey, steps: Steps) -> tuple[str, ...]:
    """Structures of the pairs that fit worst."""
    off = np.abs(steps.energy - steps.work - np.nan_to_num(steps.strain_work))
    rows, first = np.unique(steps.second[np.argsort(-off)], return_index=True)
    return offenders(survey, rows[np.argsort(first)])


def _jumps(survey: Survey, steps: Steps) -> Iterator[Finding]:
    """Single pairs between which the energy changes as no force on the way allows."""
    # where cells differ, energies are judged together with stress (`stress.py`)
    steps = steps.take(np.flatnonzero((steps.strain == 0) & (steps.farthest < JUMP_NEAR)))
    allowed = JUMP * steps.bend_size
    atoms = survey.columns.atoms[steps.first]
    allowed += JUMP_ENERGY + JUMP_PER_ATOM * atoms
    off = np.abs(steps.energy - steps.work - steps.strain_work)
    excess = off - allowed
    bad = excess > 0
    if not bad.any():
        return
    # of a bad pair, blame the structure whose pairs are bad more often
    count = np.zeros((2, len(survey)))
    for side in (steps.first, steps.second):
        np.add.at(count[0], side, bad)
        np.add.at(count[1], side, 1)
    rate = count[0] / np.maximum(count[1], 1)
    pairs = steps.take(np.flatnonzero(bad))
    blamed = np.where(rate[pairs.first] > rate[pairs.second], pairs.first, pairs.second)
    badness = np.zeros(len(survey))
    np.maximum.at(badness, blamed, excess[bad])
    rows = np.flatnonzero(badness > 0)
    judged = int((count[1] > 0).sum())
    groups = np.unique(survey.columns.group[rows])
    where = (
        f" in {len(groups)} groups ({', '.join(_by_group(survey, rows, badness))})"
        if len(survey.groups) > 1
        else ""
    )
    yield Finding(
        "error" if len(rows) > 0.01 * max(judged, 100) else "warning",
        "energy-jumps",
        f"{counted(len(rows), judged)} that have a near neighbour{where} have an energy that its "
        f"forces contradict (by up to {off[bad].max():.3g} eV): unconverged, another electronic "
        "state, or a label of another structure. Remove them or compute them again.",
        offenders(survey, rows, badness[rows]),
    )


def _by_group(survey: Survey, rows: np.ndarray, badness: np.ndarray) -> list[str]:
    """The groups with the largest jumps."""
    worst: dict[str, float] = {}
    for row in rows.tolist():
        name = survey.groups[survey.columns.group[row]]
        worst[name] = max(worst.get(name, 0.0), float(badness[row]))
    order = sorted(worst, key=lambda name: -worst[name])
    return [f"{name} {worst[name]:.2g} eV" for name in order[:NAMED_GROUPS]]
