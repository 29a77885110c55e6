"""Are the energies totals of one reference?

Checked: tests/data/test_doctor_faults.py.
"""

from collections.abc import Iterator

import numpy as np

from karat.data.finding import Finding, counted, offenders
from karat.data.survey import Survey

OUTLIER = 25.0
"""Distance from the median in median absolute deviations; 5 σ of a normal is 7.4."""

STANDS_OUT = 0.1
"""eV/atom; a smaller distance is no outlier, however narrow the others lie."""

GAP = 8.0
"""Two references: the gap between two clumps of energies over the larger clump's width."""

SAME_ENERGY = 1e-6
"""eV/atom; energies that agree so far are the same number."""

FEW = 8


def outliers(survey: Survey) -> Iterator[Finding]:
    """Energies per atom far from those of other structures of the same composition."""
    rows, keys = _families(survey)
    bad, distance = [], []
    for one in np.flatnonzero(np.bincount(keys) >= FEW).tolist():
        members = rows[keys == one]
        energies = survey.per_atom[members]
        centre = np.median(energies)
        # 1 meV/atom: relaxed structures differ by nothing
        spread = max(float(np.median(np.abs(energies - centre))), 1e-3)
        off = np.abs(energies - centre)
        far = (off > OUTLIER * spread) & (off > STANDS_OUT)
        bad += members[far].tolist()
        distance += (off[far] / spread).tolist()
    if bad:
        yield Finding(
            "warning",
            "energy-outliers",
            f"{counted(len(bad), len(survey))} have an energy per atom beyond {OUTLIER:g} median "
            "deviations of their composition: look at them.",
            offenders(survey, np.array(bad), distance),
        )


def _families(survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Rows with an energy, and a number for each reduced composition and charge."""
    columns = survey.columns
    rows = np.flatnonzero(columns.has_energy & np.isfinite(columns.energy) & (columns.atoms > 1))
    if len(rows) == 0:
        return rows, rows
    counts = columns.composition[rows]
    counts = counts // np.gcd.reduce(counts, axis=1)[:, None]
    full = np.concatenate([counts, columns.charge[rows, None]], axis=1)
    _, keys = np.unique(full, axis=0, return_inverse=True)
    return rows, keys.reshape(-1)


def mixed_references(survey: Survey) -> Iterator[Finding]:
    """Alike geometries and forces, energies in two clumps: two levels or two references."""
    rows, values = _residuals(survey)
    if len(rows) < 2 * FEW:
        return
    order = np.argsort(values)
    ascending = values[order]
    few = max(3, len(rows) // 50)
    gaps = np.diff(ascending)[few - 1 : len(rows) - few]
    if len(gaps) == 0:
        return
    cut = int(gaps.argmax()) + few
    low, high = order[:cut], order[cut:]
    width = max(float(np.subtract(*np.percentile(values[part], [90, 10]))) for part in (low, high))
    gap = float(np.median(values[high]) - np.median(values[low]))
    if gap < GAP * max(width, 0.005):
        return
    if not _alike(survey, rows[low], rows[high]):
        return
    minor = np.sort(rows[low] if len(low) < len(high) else rows[high])
    yield Finding(
        "error",
        "mixed-references",
        f"energies fall in two clumps {gap:.4g} eV/atom apart ({len(low)} and {len(high)} "
        f"structures, {width:.2g} wide) while compositions, geometries and forces do not: two "
        "levels of theory, settings or references. Separate them.",
        offenders(survey, minor),
    )


def _residuals(survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Energies per atom less what the composition explains (least absolute deviations)."""
    rows, keys = _families(survey)
    if len(rows) < 2 * FEW:
        return rows, rows.astype(float)
    energies = survey.per_atom[rows]
    if len(np.unique(keys)) == 1:
        return rows, energies - np.median(energies)
    counts = survey.columns.composition[rows].astype(float)
    shares = counts[:, counts.any(axis=0)] / counts.sum(axis=1, keepdims=True)
    if len(rows) < 4 * shares.shape[1]:
        return rows[:0], energies[:0]
    weights = np.ones(len(rows))
    for _ in range(30):
        solution = np.linalg.lstsq(shares * weights[:, None], energies * weights, rcond=None)[0]
        left = energies - shares @ solution
        weights = 1 / np.sqrt(np.maximum(np.abs(left), 1e-3))
    return rows, left


def _alike(survey: Survey, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether the two parts have the same elements, forces of one size and overlapping shapes."""
    columns = survey.columns
    shares = [
        (columns.composition[part] / columns.atoms[part, None]).mean(axis=0) for part in (low, high)
    ]
    if np.abs(shares[0] - shares[1]).max() > 0.1:
        return False
    sizes = [columns.force_rms[part] for part in (low, high)]
    if all(np.isfinite(size).any() for size in sizes):
        first, second = (float(np.nanmedian(size)) for size in sizes)
        if abs(first - second) > 0.25 * max(first, second):
            return False
    whole = np.isfinite(columns.shape).all(axis=1)
    shapes = [columns.shape[part[whole[part]]] for part in (low, high)]
    if any(len(shape) == 0 for shape in shapes):
        return False
    between = np.linalg.norm(shapes[0].mean(axis=0) - shapes[1].mean(axis=0))
    within = np.sqrt(sum(float(shape.var(axis=0).sum()) for shape in shapes) / 2)
    return bool(between < 0.75 * within)


def isolated_atoms(survey: Survey) -> Iterator[Finding]:
    """Energies of single atoms: absent, contradicting, or used as totals."""
    columns = survey.columns
    several = columns.has_energy & np.isfinite(columns.energy) & (columns.atoms > 1)
    alone = columns.has_energy & np.isfinite(columns.energy) & (columns.atoms == 1)
    alone &= ~survey.crystal & columns.fine_geometry
    if not several.any():
        return
    references: dict[int, float] = {}
    for row in np.flatnonzero(alone).tolist():
        element = int(columns.composition[row].argmax())
        energy = float(columns.energy[row])
        if columns.charge[row] == 0 and abs(references.setdefault(element, energy) - energy) > 1e-3:
            yield Finding(
                "warning",
                "isolated-atoms",
                f"the isolated atom of atomic number {element} has two energies "
                f"({references[element]:.6g} and {energy:.6g} eV): keep the right one.",
                (survey.names[row],),
            )
    wanted = set(survey.elements.tolist()) - {0}
    if set(references) != wanted:
        words = "no energies of isolated atoms" if not references else "some isolated atoms lack"
        yield Finding(
            "info",
            "no-isolated-atoms",
            f"{words}: reference energies come from a fit to compositions, so that dissociation "
            "energies rest on that fit.",
        )
        if not references:
            return
    rows = np.flatnonzero(several)
    covered = columns.composition[rows][:, [z for z in range(119) if z not in references]]
    rows = rows[~covered.any(axis=1)]
    if len(rows) == 0:
        return
    energies = np.zeros(119)
    energies[list(references)] = list(references.values())
    sums = columns.composition[rows] @ energies
    yield from _against_atoms(survey, rows, sums)


def _against_atoms(survey: Survey, rows: np.ndarray, sums: np.ndarray) -> Iterator[Finding]:
    columns = survey.columns
    atoms = columns.atoms[rows]
    bound = (columns.energy[rows] - sums) / atoms
    same = np.flatnonzero(np.abs(bound) < SAME_ENERGY)
    if len(same):
        yield Finding(
            "error",
            "atoms-as-totals",
            f"{counted(len(same), len(survey))} have exactly the sum of the energies of their "
            "isolated atoms as energy: a placeholder, not a total.",
            offenders(survey, rows[same]),
        )
    # a molecule or crystal is bound by 0.5 to 9 eV/atom; relative energies look like that alone
    relative = (np.abs(bound) > 15) & (np.abs(columns.energy[rows] / atoms) < 15)
    if relative.mean() > 0.5:
        yield Finding(
            "error",
            "atomisation-energies",
            f"{counted(int(relative.sum()), len(survey))} have an energy that is "
            f"{np.median(np.abs(bound)):.4g} eV/atom away from that of their isolated atoms, which "
            "are in the same set: atomisation (or relative) energies beside total ones. Use one "
            "kind.",
            offenders(survey, rows[relative]),
        )
    elif (bound > 0).mean() > 0.5:
        yield Finding(
            "warning",
            "unbound",
            f"{counted(int((bound > 0).sum()), len(survey))} lie above their isolated atoms: the "
            "isolated-atom energies are of another level or spin.",
            offenders(survey, rows[bound > 0], bound[bound > 0]),
        )


def relative_energies(survey: Survey) -> Iterator[Finding]:
    """Energies that are not totals: shifted to a minimum, or in an unexpected unit."""
    columns = survey.columns
    rows = np.flatnonzero(columns.has_energy & np.isfinite(columns.energy) & (columns.atoms > 2))
    if len(rows) == 0:
        return
    per_atom = survey.per_atom[rows]
    if (per_atom >= 0).mean() > 0.5 and len(np.unique(per_atom)) > 1:
        yield Finding(
            "warning",
            "relative-energies",
            f"most energies are positive (median {np.median(per_atom):.3g} eV/atom): relative to "
            "a minimum, or the unit is not eV. Bound atoms have negative totals; never mix these "
            "with totals.",
        )


def rounding(survey: Survey) -> Iterator[Finding]:
    """What 32-bit floats did, or would do, to energies."""
    columns = survey.columns
    rows = np.flatnonzero(columns.has_energy & np.isfinite(columns.energy) & (columns.energy != 0))
    if len(rows) < FEW:
        return
    # numbers with few digits fit 32 bits by themselves
    digits = np.abs(columns.energy[rows] * 1024) % 1 != 0
    step = np.spacing(np.abs(columns.energy[rows]).astype(np.float32)).astype(np.float64)
    per_atom = step / columns.atoms[rows]
    single = columns.energy_single[rows]
    if single.mean() > 0.99 and (digits.any() or step.max() > 1e-4):
        worst = float(per_atom.max())
        yield Finding(
            "warning" if worst > 1e-4 else "info",
            "float32-energies",
            f"energies went through 32-bit floats: they come in steps of {step.max():.2g} eV, "
            f"{1e3 * worst:.2g} meV/atom. "
            + (
                "Read them again in 64 bits, or subtract atomic energies before storing."
                if worst > 1e-4
                else "No model can be better than that."
            ),
            offenders(survey, rows, per_atom) if worst > 1e-4 else (),
        )
    elif step.max() > 1e-4:
        yield Finding(
            "info",
            "large-totals",
            f"energies are large totals (down to {columns.energy[rows].min():.0f} eV, "
            f"{survey.per_atom[rows].min():.0f} eV/atom): 32-bit floats would keep them to "
            f"{1e3 * step.max():.2g} meV only; subtract reference energies before storing them so.",
        )
    forced = columns.has_forces & (columns.force_max > 0)
    if forced.sum() >= FEW and columns.forces_single[forced].mean() > 0.99:
        yield Finding(
            "info", "float32-forces", "forces went through 32-bit floats: enough for training."
        )


ENERGY_CHECKS = (outliers, mixed_references, isolated_atoms, relative_energies, rounding)
