"""Is the stress (1/V) ∂E/∂ε in eV/Å³, tension positive?

Checked: tests/data/test_doctor_faults.py.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from karat.core.units import GPA, KCAL_PER_MOL
from karat.data.checks.fit import Fit, fit, near_steps
from karat.data.finding import Finding, counted, offenders
from karat.data.steps import Steps
from karat.data.survey import Survey

ENOUGH = 6
"""Pairs of strained neighbours."""

BETTER = 0.85
"""Share of the pairs for which another order of shear stresses must be better."""

STRAINED = 1e-4
"""Norm of the strain; less is rounding."""

LARGE = 0.6
"""eV/Å³, 100 GPa: half of all stresses are seldom larger."""

UNITS = (
    (1 / GPA, "GPa"),
    (10 / GPA, "kbar"),
    (1e4 / GPA, "bar"),
    (1e3 / GPA, "MPa"),
    (1 / KCAL_PER_MOL, "kcal/mol/Å³"),
)


def stress(survey: Survey) -> Iterator[Finding]:
    """Sign, unit and volume factor by pairs of strained neighbours, else by what is usual."""
    columns = survey.columns
    if not columns.has_stress.any():
        return
    steps = near_steps(survey)
    rows = np.flatnonzero((steps.strain > STRAINED) & np.isfinite(steps.strain_work))
    steps = steps.take(rows)
    noise = 0.1 * np.abs(steps.strain_begin - steps.strain_end) + 0.05 * np.abs(steps.bend) + 1e-4
    result = fit(steps.strain_work, steps.energy - steps.work, noise)
    volume = np.abs(columns.volume[steps.first])
    direct = result.count >= ENOUGH and result.signal > 2 and abs(result.correlation) > 0.5
    yield from _order(survey, steps)
    if direct:
        as_virial = fit(steps.strain_work / volume, steps.energy - steps.work, noise / volume)
        yield from _by_pairs(result, as_virial)
    else:
        yield from _by_volume(survey)
    yield from _by_size(survey, direct)


def _order(survey: Survey, steps: Steps) -> Iterator[Finding]:
    """Shear components in another order: xx yy zz xy yz xz (VASP) read as yz xz xy, …"""
    share = np.square(steps.strains[:, 3:]).sum(axis=1) / np.square(steps.strains).sum(axis=1)
    sheared = steps.take(np.flatnonzero(share > 0.3))
    if len(sheared) < ENOUGH:
        return
    wanted = sheared.energy - sheared.work
    straight = (sheared.strains[:, :3] * sheared.tensions[:, :3]).sum(axis=1)
    noise = 0.03 * sheared.bend_size + 0.1 * np.abs(sheared.strain_begin - sheared.strain_end)
    as_is = np.abs(wanted - sheared.strain_work)
    best, chosen = 1.0, None
    for order in itertools.permutations(range(3)):
        shear = 2 * (sheared.strains[:, 3:] * sheared.tensions[:, [3 + i for i in order]])
        other = np.abs(wanted - straight - shear.sum(axis=1))
        telling = np.abs(straight + shear.sum(axis=1) - sheared.strain_work) > noise
        if telling.sum() < ENOUGH or (other < as_is)[telling].mean() < BETTER:
            continue
        ratio = float(np.median(other[telling]) / np.median(as_is[telling]))
        if ratio < min(best, 0.5):
            best, chosen = ratio, (order, telling, other)
    if chosen is None:
        return
    order, telling, other = chosen
    names = ("yz", "xz", "xy")
    yield Finding(
        "error",
        "stress-order",
        f"shear stresses stand in the wrong order: over {int(telling.sum())} pairs of sheared "
        f"neighbours energies are off by {np.median(as_is[telling]):.2g} eV (median), but only by "
        f"{np.median(other[telling]):.2g} eV if what stands at yz, xz, xy is put at "
        f"{', '.join(names[order.index(i)] for i in range(3))}. VASP writes xx yy zz xy yz zx.",
        offenders(survey, *_blamed(sheared, as_is)),
    )


def _blamed(steps: Steps, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Structures of the pairs, with the worst of their errors."""
    rows = np.unique(np.concatenate([steps.first, steps.second]))
    worst = np.zeros(len(rows))
    for side in (steps.first, steps.second):
        np.maximum.at(worst, np.searchsorted(rows, side), off)
    return rows, worst


def _by_pairs(result: Fit, as_virial: Fit) -> Iterator[Finding]:
    slope = result.slope
    number = f"{result.count} pairs of strained neighbours"
    if 0.6 < slope < 1.6:
        return
    if -1.6 < slope < -0.6:
        yield Finding(
            "error",
            "stress-sign",
            f"stress has the wrong sign: over {number} energies change by {slope:.3g} of V σ:ε. "
            "karat's is positive under tension (VASP's is not): change it.",
        )
        return
    sign = ", with the sign turned (as VASP prints it)" if slope < 0 else ""
    fits = [word for scale, word in UNITS if 0.7 < abs(slope) * scale < 1.45]
    if 0.7 < abs(as_virial.slope) < 1.45:
        turned = "; a virial is −V σ, so its sign is turned" if as_virial.slope < 0 else ""
        fits.append(f"an energy: a virial, or stress times volume{turned}")
    why = f": it looks like {' or like '.join(fits)}{sign}" if fits else sign
    yield Finding(
        "error",
        "stress-unit",
        f"stress is not ∂E/∂ε / V in eV/Å³: over {number} energies change by {slope:.3g} of "
        f"V σ:ε{why}. Read it with --stress-unit or --virial-key.",
    )


def _by_volume(survey: Survey) -> Iterator[Finding]:
    """Denser structures of one composition must be under more pressure."""
    columns = survey.columns
    with np.errstate(invalid="ignore"):
        mean = columns.stress[:, :3].mean(axis=1)
    rows = np.flatnonzero(survey.crystal & np.isfinite(mean))
    if len(rows) < 8:
        return
    shares = columns.composition[rows] // np.gcd.reduce(columns.composition[rows], axis=1)[:, None]
    _, keys = np.unique(shares, axis=0, return_inverse=True)
    keys = keys.reshape(-1)
    votes, number = 0.0, 0
    for one in np.flatnonzero(np.bincount(keys) >= 8).tolist():
        some = rows[keys == one]
        volume = np.log(np.abs(columns.volume[some]) / columns.atoms[some])
        if np.ptp(volume) < 0.03 or mean[some].std() == 0:
            continue
        votes += len(some) * float(np.corrcoef(volume, mean[some])[0, 1])
        number += len(some)
    if number and votes / number < -0.6:
        yield Finding(
            "error",
            "stress-sign",
            f"stress has the wrong sign: among {number} structures denser ones are under more "
            f"tension (correlation {votes / number:.2f}). karat's is positive under tension "
            "(VASP's is not): change it.",
        )


def _by_size(survey: Survey, direct: bool) -> Iterator[Finding]:
    columns = survey.columns
    with np.errstate(invalid="ignore"):
        size = np.abs(columns.stress).max(axis=1)
    known = np.flatnonzero(np.isfinite(size))
    if len(known) == 0 or direct or np.median(size[known]) < LARGE:
        return
    rows = known[size[known] > LARGE]
    middle = float(np.median(size[known]))
    yield Finding(
        "error" if middle > 10 * LARGE else "warning",
        "stress-size",
        f"{counted(len(rows), len(survey))} have a stress beyond {LARGE:g} eV/Å³ (100 GPa; "
        f"median {middle:.3g}): likely GPa ({middle * GPA:.2g} eV/Å³), kbar "
        f"({middle * GPA / 10:.2g}) or a virial passed off as stress. Name its unit "
        "(--stress-unit).",
        offenders(survey, rows, size[rows]),
    )


STRESS_CHECKS = (stress,)
