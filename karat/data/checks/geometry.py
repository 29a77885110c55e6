"""Are the structures possible, and is their length unit Å?

Checked: tests/data/test_doctor_faults.py.
"""

from collections.abc import Iterator

import numpy as np

from karat.data.contacts import radii
from karat.data.finding import Finding, counted, offenders
from karat.data.survey import Survey

TOO_CLOSE = 0.5
"""Share of the sum of covalent radii; closer atoms overlap (the shortest bonds are at 0.77)."""

NORMAL_BOND = (0.70, 1.45)
"""Nearest neighbours over the sum of covalent radii: N2 0.77, metals 0.8 to 1.2, salts 1.05."""

PACKING = 2.2
"""Volume of covalent spheres over that of the cell: tungsten 1.1, at 500 GPa 1.9."""

LOOSE = (2, 10, 18, 36, 54, 86)
"""Noble gases keep apart."""

LENGTHS = (
    (1.8897261246, "bohr"),
    (0.1, "nm"),
    (100.0, "pm"),
    (0.529177210903, "Å converted from bohr a second time"),
)


def bad_geometry(survey: Survey) -> Iterator[Finding]:
    """Unknown elements, NaN, singular cells."""
    rows = np.flatnonzero(~survey.columns.fine_geometry)
    if len(rows):
        yield Finding(
            "error",
            "bad-geometry",
            f"{counted(len(rows), len(survey))} have an unknown element, coordinates that are NaN "
            "or beyond 1e6 Å, or a periodic cell that is singular: remove them (--fix does).",
            offenders(survey, rows),
        )


def length_unit(survey: Survey) -> Iterator[Finding]:
    """Nearest neighbours all too far or too near."""
    columns = survey.columns
    loose = columns.composition[:, list(LOOSE)].sum(axis=1) == columns.atoms
    rows = np.flatnonzero(columns.fine_geometry & (columns.atoms > 2) & ~loose)
    if len(rows) == 0:
        return
    bonds = columns.bond[rows]
    low, high = NORMAL_BOND
    odd = (bonds < low) | (bonds > high)
    if odd.mean() < 0.8:
        return
    middle = float(np.median(bonds))
    fits = [
        word
        for factor, word in LENGTHS
        if np.isfinite(middle) and 0.8 < middle / factor < 1.25 and abs(factor - 1) > 0.2
    ]
    said = f"; divided by the factor of {' or '.join(fits)} they are normal" if fits else ""
    yield Finding(
        "error" if fits else "warning",
        "length-unit",
        f"{counted(int(odd.sum()), len(survey))} have nearest neighbours at {middle:.3g} of the "
        f"sum of covalent radii (normal is {low:g} to {high:g}){said}: positions are not in Å. "
        "Read them with --length-unit.",
        offenders(survey, rows[odd], np.abs(np.log(np.maximum(bonds[odd], 1e-9)))),
    )


def overlapping_atoms(survey: Survey) -> Iterator[Finding]:
    """Atoms much closer than any bond."""

    columns = survey.columns
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(columns.closest < TOO_CLOSE)
    if len(rows) == 0:
        return
    worst = int(rows[columns.closest[rows].argmin()])
    first, second = columns.closest_pair[worst].tolist()
    yield Finding(
        "warning",
        "overlapping-atoms",
        f"{counted(len(rows), len(survey))} have atoms closer than {TOO_CLOSE:g} of the sum of "
        f"their covalent radii (atoms {first} and {second}, counted from 0, of "
        f"{survey.names[worst]}: {columns.closest_distance[worst]:.3g} Å). Remove them unless you "
        "want the repulsive wall.",
        offenders(survey, rows, -columns.closest[rows]),
    )


def too_dense(survey: Survey) -> Iterator[Finding]:
    """Cells too small for what is in them."""
    columns = survey.columns
    spheres = columns.composition @ (4 / 3 * np.pi * radii() ** 3)
    with np.errstate(all="ignore"):
        packing = spheres / np.abs(columns.volume)
        rows = np.flatnonzero(survey.crystal & columns.fine_geometry & (packing > PACKING))
    if len(rows):
        yield Finding(
            "warning",
            "too-dense",
            f"{counted(len(rows), len(survey))} have a cell in which covalent spheres take up to "
            f"{packing[rows].max():.3g} times its volume (tungsten 1.1): the cell is too small "
            "for its atoms, or in another unit than they are.",
            offenders(survey, rows, packing[rows]),
        )


def periodic_flags(survey: Survey) -> Iterator[Finding]:
    """A cell that is given but not used; some periodic, others not."""
    columns = survey.columns
    idle = columns.has_cell & survey.molecule & columns.fine_geometry
    bonded = idle & (columns.across < 1.25)
    rows = np.flatnonzero(bonded)
    if len(rows):
        yield Finding(
            "error",
            "periodic-flags",
            f"{counted(len(rows), len(survey))} have a cell and atoms bonded through its faces "
            f"(down to {columns.across[rows].min():.2g} of the sum of covalent radii), but are "
            "declared not periodic: set pbc to T T T.",
            offenders(survey, rows, -columns.across[rows]),
        )
    out = np.flatnonzero(idle & ~bonded & (columns.outside > 0))
    if len(out):
        yield Finding(
            "info",
            "outside-cell",
            f"{counted(len(out), len(survey))} have a cell, are declared not periodic and have "
            "atoms outside the cell: it is not used; set pbc if it should be.",
            offenders(survey, out, columns.outside[out]),
        )
    keys = np.stack([columns.system, columns.group], axis=1)
    _, which = np.unique(keys, axis=0, return_inverse=True)
    which = which.reshape(-1)
    count = columns.periodic.sum(axis=1)
    most = np.full(which.max() + 1, -1)
    for value in range(4):
        share = np.bincount(which, weights=count == value) / np.bincount(which)
        most[share > 0.5] = value
    mixed = np.flatnonzero((most[which] != count) & (most[which] >= 0))
    if len(mixed):
        yield Finding(
            "warning",
            "mixed-periodicity",
            f"{counted(len(mixed), len(survey))} repeat in other directions than most structures "
            "of the same atoms and group: look at their pbc flags.",
            offenders(survey, mixed),
        )


def left_handed(survey: Survey) -> Iterator[Finding]:
    """Cells whose vectors form a left-handed system: allowed, some programs refuse them."""
    rows = np.flatnonzero(survey.crystal & (survey.columns.volume < 0))
    if len(rows):
        yield Finding(
            "info",
            "left-handed-cell",
            f"{counted(len(rows), len(survey))} have a left-handed cell: allowed, but some "
            "programs refuse it (--fix turns it without changing the crystal).",
            offenders(survey, rows),
        )


def element_order(survey: Survey) -> Iterator[Finding]:
    """Positions of one trajectory with the elements in another order."""
    from scipy.spatial import cKDTree

    columns = survey.columns
    fine = np.flatnonzero(columns.fine_geometry & (columns.atoms > 2))
    _, formula = np.unique(columns.composition[fine], axis=0, return_inverse=True)
    formula = formula.reshape(-1)
    found: list[int] = []
    for one in np.flatnonzero(np.bincount(formula) >= 5).tolist():
        rows = fine[formula == one]
        systems, counts = np.unique(columns.system[rows], return_counts=True)
        if len(systems) == 1 or counts.max() < 0.6 * len(rows):
            continue
        most = rows[columns.system[rows] == systems[counts.argmax()]]
        rest = rows[columns.system[rows] != systems[counts.argmax()]]
        rest = rest[columns.charge[rest] == columns.charge[most[0]]]
        tree = cKDTree(columns.trace[most].astype(np.float64))
        usual = np.percentile(tree.query(columns.trace[most[:200]], k=2)[0][:, 1], 90)
        off = tree.query(columns.trace[rest].astype(np.float64))[0]
        shorter = columns.closest[rest] < 0.85 * columns.closest[most].min()
        alike = (off < min(1.5 * usual, 0.3)) & shorter
        found += rest[alike].tolist()
    if found:
        yield Finding(
            "error",
            "element-order",
            f"{counted(len(found), len(survey))} have the positions of their trajectory but the "
            "elements in another order, so that atoms of other kinds stand where the others' do: "
            "elements and positions do not belong together.",
            offenders(survey, np.array(found), -columns.closest[found]),
        )


def electrons(survey: Survey) -> Iterator[Finding]:
    """Charge and multiplicity that no number of electrons allows."""
    columns = survey.columns
    unpaired = columns.multiplicity - 1
    stated = (columns.multiplicity >= 0) & survey.molecule & columns.fine_geometry
    wrong = (unpaired < 0) | ((columns.electrons - unpaired) % 2 != 0)
    wrong |= unpaired > columns.electrons
    rows = np.flatnonzero((stated & wrong) | (columns.fine_geometry & (columns.electrons < 0)))
    if len(rows):
        yield Finding(
            "error",
            "electrons",
            f"{counted(len(rows), len(survey))} state a charge and a multiplicity that do not fit "
            "their number of electrons: one of the two is wrong.",
            offenders(survey, rows),
        )


def one_cell(survey: Survey) -> Iterator[Finding]:
    """Facts that bound what can be learnt about pressure."""
    columns = survey.columns
    crystals = np.flatnonzero(survey.crystal)
    if len(crystals) < 2:
        return
    labelled = columns.has_energy.any() or columns.has_forces.any()
    if labelled and not columns.has_stress[crystals].any():
        yield Finding(
            "info", "no-stress", "no structure has a stress: pressure and elasticity are untrained."
        )
    if len(np.unique(columns.cell_key[crystals])) == 1:
        yield Finding(
            "info",
            "one-cell",
            f"all {len(crystals)} periodic structures have one and the same cell: density and "
            "elasticity cannot be learnt from their energies.",
        )


GEOMETRY_CHECKS = (
    bad_geometry,
    length_unit,
    overlapping_atoms,
    too_dense,
    periodic_flags,
    left_handed,
    element_order,
    electrons,
    one_cell,
)
