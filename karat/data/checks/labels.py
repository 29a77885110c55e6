"""Are the labels there, finite and each structure's own?

Checked: tests/data/test_doctor_faults.py.
"""

from collections.abc import Iterator

import numpy as np

from karat.data.finding import Finding, counted, offenders
from karat.data.survey import Survey

ABSURD_ENERGY = 1e6
"""eV per atom; the all-electron total of uranium is -8e5."""

ABSURD_FORCE = 1e4
"""eV/Å; two nuclei at 0.8 covalent radii reach 2e3."""

ABSURD_STRESS = 100.0
"""eV/Å³, 16 TPa; the centre of Jupiter has a quarter of it."""

ASYMMETRY = 1e-3
"""As `karat.data.entry.ASYMMETRY`: more is not rounding."""

LEFT_OVER = 0.01
"""eV/Å that the forces on frozen atoms would have balanced."""


def summary(survey: Survey) -> Iterator[Finding]:
    """What there is."""
    from ase.data import chemical_symbols

    columns = survey.columns
    words = ", ".join(
        f"{name} {int(there.sum())}"
        for name, there in (
            ("energy", columns.has_energy),
            ("forces", columns.has_forces),
            ("stress", columns.has_stress),
        )
        if there.any()
    )
    levels = ", ".join(sorted({level.label for level in survey.levels if level is not None}))
    yield Finding(
        "info",
        "summary",
        f"{len(survey)} structures of {columns.atoms.min()} to {columns.atoms.max()} atoms "
        f"({', '.join(chemical_symbols[z] if z else 'unknown' for z in survey.elements)}), "
        f"{levels or 'unknown'}; labels: {words or 'none'}; {len(survey.groups)} groups, "
        f"{len(survey.kinds)} kinds.",
    )


def levels(survey: Survey) -> Iterator[Finding]:
    """Who computed the labels: not said, or several."""
    if not survey.columns.has_energy.any() and not survey.columns.has_forces.any():
        return
    known = np.array(
        [level is not None and level.method.lower() != "unknown" for level in survey.levels]
    )
    if not known.any():
        yield Finding(
            "warning",
            "unknown-level",
            "the level of theory is not known: name it (--level), so that results are not mixed "
            "with others.",
        )
        return
    counts = np.bincount(survey.columns.level, minlength=len(known))
    if (~known).any():
        rows = np.flatnonzero(~known[survey.columns.level])
        yield Finding(
            "warning",
            "unknown-level",
            f"{counted(len(rows), len(survey))} do not say their level of theory, the others do.",
            offenders(survey, rows),
        )
    if known.sum() > 1:
        words = ", ".join(
            f"{level.label} {count}"
            for level, count in zip(survey.levels, counts.tolist())
            if level is not None
        )
        main = int(np.where(known, counts, -1).argmax())
        rows = np.flatnonzero(known[survey.columns.level] & (survey.columns.level != main))
        yield Finding(
            "error",
            "mixed-levels",
            f"labels of {int(known.sum())} levels of theory ({words}), which are never mixed. "
            "Write one file for each.",
            offenders(survey, rows),
        )


def not_finite(survey: Survey) -> Iterator[Finding]:
    """NaN or infinity in labels."""
    rows = np.flatnonzero(~survey.columns.finite)
    if len(rows):
        yield Finding(
            "error",
            "not-finite",
            f"{counted(len(rows), len(survey))} have labels with NaN or infinity: label them "
            "again or remove them (--fix does).",
            offenders(survey, rows),
        )


def missing(survey: Survey) -> Iterator[Finding]:
    """Some have a label that others lack, or none at all."""
    columns = survey.columns
    nothing = ~columns.has_energy & ~columns.has_forces
    if nothing.all():
        yield Finding(
            "warning",
            "no-labels",
            f"none of the {len(survey)} structures has energy or forces: only their geometry was "
            "looked at. If the labels stand under other keys, name them.",
        )
        return
    if nothing.any():
        yield Finding(
            "error",
            "no-labels",
            f"{counted(int(nothing.sum()), len(survey))} have neither energy nor forces, others "
            "do: label or remove them (--fix does).",
            offenders(survey, np.flatnonzero(nothing)),
        )
    single = (columns.atoms == 1) & survey.molecule
    for name, there in (
        ("energy", columns.has_energy),
        ("forces", columns.has_forces | single),
        ("stress", columns.has_stress | ~survey.crystal),
    ):
        without = np.flatnonzero(~there & ~nothing)
        some = getattr(columns, f"has_{name}").any()
        if len(without) and some:
            yield Finding(
                "warning",
                f"missing-{name}",
                f"{counted(len(without), len(survey))} have no {name}, others have it: they "
                "count less in training.",
                offenders(survey, without),
            )


def absurd(survey: Survey) -> Iterator[Finding]:
    """Numbers that no code would give."""
    columns = survey.columns
    with np.errstate(invalid="ignore"):
        excess = np.nanmax(
            np.stack(
                [
                    np.abs(survey.per_atom) / ABSURD_ENERGY,
                    columns.force_max / ABSURD_FORCE,
                    np.abs(columns.stress).max(axis=1) / ABSURD_STRESS,
                    np.zeros(len(survey)),
                ]
            ),
            axis=0,
        )
    rows = np.flatnonzero((excess > 1) & columns.finite)
    if len(rows):
        yield Finding(
            "error",
            "absurd-values",
            f"{counted(len(rows), len(survey))} have an energy beyond {ABSURD_ENERGY:g} eV/atom, a "
            f"force beyond {ABSURD_FORCE:g} eV/Å or a stress beyond {ABSURD_STRESS:g} eV/Å³: "
            "remove them, or mend the unit.",
            offenders(survey, rows, excess[rows]),
        )


def constant(survey: Survey) -> Iterator[Finding]:
    """Energies or forces that are placeholders."""
    columns = survey.columns
    there = np.flatnonzero(columns.has_energy & columns.finite & (columns.atoms > 1))
    different = len(np.unique(columns.digest[there], axis=0))
    if different > 4 and len(np.unique(columns.energy[there])) == 1:
        yield Finding(
            "error",
            "constant-energy",
            f"{different} different structures have one and the same energy "
            f"({columns.energy[there[0]]:.6g} eV): a placeholder, not a label.",
            offenders(survey, there),
        )
    # two atoms far apart may well feel nothing
    energies = columns.energy[there]
    zero = there[energies == 0]
    if 0 < len(zero) < 0.5 * len(there) and (energies < 0).mean() > 0.1:
        yield Finding(
            "error",
            "zero-energy",
            f"{counted(len(zero), len(survey))} have an energy of exactly zero, among totals that "
            "are not: a calculation that failed. Remove them.",
            offenders(survey, zero),
        )
    moving = columns.has_forces & (columns.atoms > 2) & (columns.zero_forces == columns.atoms)
    forced = columns.has_forces & (columns.atoms > 2)
    rows = np.flatnonzero(moving & survey.molecule)
    steps = survey.steps
    moved = steps.take(np.flatnonzero(moving[steps.first] & moving[steps.second]))
    if moving.any() and (moving == forced).all() and (moved.rmsd > 0.02).mean() > 0.5:
        rows = np.flatnonzero(moving)
    if len(rows):
        yield Finding(
            "error" if len(rows) > 0.01 * forced.sum() else "warning",
            "zero-forces",
            f"{counted(len(rows), len(survey))} have forces that are exactly zero on every atom, "
            "though nothing in their geometry asks for it: a placeholder, if not an optimum. "
            "Remove the forces.",
            offenders(survey, rows),
        )


def copied_forces(survey: Survey) -> Iterator[Finding]:
    """Different structures with the very same forces."""
    columns = survey.columns
    # the forces on two atoms are one number: as printed, it may well occur twice
    with np.errstate(invalid="ignore"):
        telling = (columns.atoms > 2) & (columns.force_max > 0.01)
    keyed = np.flatnonzero((columns.forces_key != 0) & telling)
    order = keyed[np.argsort(columns.forces_key[keyed], kind="stable")]
    same = columns.forces_key[order][1:] == columns.forces_key[order][:-1]
    first, second = order[:-1][same], order[1:][same]
    moved = np.linalg.norm(columns.trace[first] - columns.trace[second], axis=1) > 0.01
    moved |= columns.system[first] != columns.system[second]
    rows = np.unique(second[moved])
    if len(rows):
        yield Finding(
            "error",
            "copied-forces",
            f"{counted(len(rows), len(survey))} have, bit by bit, the forces of another, different "
            "structure: labels were copied or rows went astray.",
            offenders(survey, rows),
        )


def frozen(survey: Survey) -> Iterator[Finding]:
    """Forces of some atoms set to zero, as codes do for atoms that are held."""
    columns = survey.columns
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(
            (columns.zero_forces > 0)
            & (columns.force_max > 0)
            & (columns.net_force > LEFT_OVER)
            & (columns.atoms > 1)
        )
    if len(rows):
        most = columns.zero_forces[rows] / columns.atoms[rows]
        yield Finding(
            "warning",
            "frozen-atoms",
            f"{counted(len(rows), len(survey))} have atoms whose force is exactly zero while the "
            "others do not balance: held atoms, whose true forces are missing. Write them out, "
            "or leave these atoms out of the loss.",
            offenders(survey, rows, most),
        )


def asymmetric_stress(survey: Survey) -> Iterator[Finding]:
    """Stress with σ_xy ≠ σ_yx."""
    columns = survey.columns
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(columns.asymmetry > ASYMMETRY)
    if len(rows):
        yield Finding(
            "error",
            "asymmetric-stress",
            f"{counted(len(rows), len(survey))} have a stress that is not symmetric (up to "
            f"{columns.asymmetry[rows].max():.2g} of its largest component): components in the "
            "wrong order, or not a stress.",
            offenders(survey, rows, columns.asymmetry[rows]),
        )


LABEL_CHECKS = (
    summary,
    levels,
    not_finite,
    missing,
    absurd,
    constant,
    copied_forces,
    frozen,
    asymmetric_stress,
)
