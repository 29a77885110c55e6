"""Checks of one dataset. To add one: write the function, add it to `CHECKS`.

Checked: tests/data/test_doctor.py, also on published sets with known findings.
"""

from collections.abc import Callable, Iterator

import numpy as np

from karat.data.dataset import Dataset, Record
from karat.data.finding import Finding, counted, label_key, named
from karat.structures.neighbours import neighbour_pairs

TOO_CLOSE = 0.5
"""Share of the sum of covalent radii; closer atoms overlap (the shortest bonds are at 0.8)."""

LARGE_FORCE = 100.0
"""eV/Å; beyond it atoms collide, or the unit is not eV/Å."""

NET_FORCE = 0.05
"""eV/Å per atom that is left over on average; codes leave below 0.01."""

OUTLIER = 25.0
"""Distance from the median in median absolute deviations; 5 σ of a normal is 7.4."""


def summary(dataset: Dataset) -> Iterator[Finding]:
    """What there is."""
    from ase.data import chemical_symbols

    sizes = [len(record.structure) for record in dataset]
    quantities = [set(map(str, record.labels.quantities)) for record in dataset]
    words = ", ".join(
        f"{name} {sum(name in q for q in quantities)}"
        for name in ("energy", "forces", "stress")
        if any(name in q for q in quantities)
    )
    yield Finding(
        "info",
        "summary",
        f"{len(dataset)} structures of {min(sizes)} to {max(sizes)} atoms "
        f"({', '.join(chemical_symbols[z] for z in dataset.species)}), {dataset.level.label}; "
        f"labels: {words or 'none'}; {len({r.group for r in dataset})} groups, "
        f"{len({r.kind for r in dataset})} kinds.",
    )


def unknown_level(dataset: Dataset) -> Iterator[Finding]:
    """Who computed the labels is not said."""
    if dataset.level.method.lower() == "unknown":
        yield Finding(
            "warning",
            "unknown-level",
            "the level of theory is not known: name it, so that results are not mixed with others.",
        )


def not_finite(dataset: Dataset) -> Iterator[Finding]:
    """NaN or infinity in labels."""
    bad = [record for record in dataset if not record.labels.finite()]
    if bad:
        message = f"{counted(len(bad), len(dataset))} have NaN or infinity: remove or relabel them."
        yield Finding("error", "not-finite", message, named(bad))


def missing_labels(dataset: Dataset) -> Iterator[Finding]:
    """Some have a label that others lack, or none at all."""
    for name in ("energy", "forces", "stress"):
        without = [r for r in dataset if getattr(r.labels, name) is None]
        if 0 < len(without) < len(dataset):
            message = f"{counted(len(without), len(dataset))} have no {name}, the others have it."
            yield Finding("warning", f"missing-{name}", message, named(without))
    nothing = [r for r in dataset if r.labels.energy is None and r.labels.forces is None]
    if nothing:
        message = f"{counted(len(nothing), len(dataset))} have neither energy nor forces."
        yield Finding("error", "no-labels", message, named(nothing))


def duplicates(dataset: Dataset) -> Iterator[Finding]:
    """Structures that repeat exactly."""
    seen: dict[str, Record] = {}
    repeated = []
    for record in dataset:
        first = seen.setdefault(record.structure.digest, record)
        if first is not record:
            repeated.append(record)
    if repeated:
        message = f"{counted(len(repeated), len(dataset))} repeat another exactly: drop them."
        yield Finding("warning", "duplicates", message, named(repeated))


def equivalent(dataset: Dataset) -> Iterator[Finding]:
    """Different structures with identical energies and forces."""
    seen: dict[tuple, Record] = {}
    found = []
    for record in dataset:
        key = label_key(record)
        if key is None:
            continue
        first = seen.setdefault(key, record)
        if first is not record and first.structure.digest != record.structure.digest:
            found.append(record)
    if found:
        message = (
            f"{counted(len(found), len(dataset))} have the energy and forces of another: "
            "symmetry-equivalent, they weigh double."
        )
        yield Finding("info", "equivalent", message, named(found))


def overlapping_atoms(dataset: Dataset) -> Iterator[Finding]:
    """Atoms much closer than any bond."""
    from ase.data import covalent_radii

    bad = []
    for record in dataset:
        structure = record.structure
        radii = covalent_radii[structure.numbers]
        pairs = neighbour_pairs(structure, 2 * TOO_CLOSE * float(radii.max()))
        distances = np.linalg.norm(pairs.vectors, axis=1)
        if (distances < TOO_CLOSE * (radii[pairs.centers] + radii[pairs.neighbours])).any():
            bad.append(record)
    if bad:
        message = (
            f"{counted(len(bad), len(dataset))} have atoms closer than {TOO_CLOSE:g} of the sum of "
            "their covalent radii. Remove them unless you want the repulsive wall."
        )
        yield Finding("warning", "overlapping-atoms", message, named(bad))


def large_forces(dataset: Dataset) -> Iterator[Finding]:
    """Forces beyond any that a model should learn, or in another unit."""
    bad = [
        record
        for record in dataset
        if record.labels.forces is not None and np.abs(record.labels.forces).max() > LARGE_FORCE
    ]
    if bad:
        message = (
            f"{counted(len(bad), len(dataset))} have forces above {LARGE_FORCE:g} eV/Å: colliding "
            "atoms, or not eV/Å (1 hartree/bohr is 51.4, 1 kcal/mol/Å is 0.043 eV/Å)."
        )
        yield Finding("warning", "large-forces", message, named(bad))


def net_force(dataset: Dataset) -> Iterator[Finding]:
    """Forces that do not sum to zero, though nothing outside acts on the atoms."""
    bad = []
    worst = 0.0
    for record in dataset:
        forces = record.labels.forces
        if forces is None or not np.isfinite(forces).all():
            continue
        left = float(np.linalg.norm(forces.sum(axis=0))) / len(forces)
        worst = max(worst, left)
        if left > NET_FORCE:
            bad.append(record)
    if bad:
        message = (
            f"{counted(len(bad), len(dataset))} have a net force above {NET_FORCE:g} eV/Å per atom "
            f"(largest {worst:.3g}): unconverged, an outer field, or rows in another order."
        )
        yield Finding("warning", "net-force", message, named(bad))
    elif worst > 1e-3:
        message = f"net force up to {worst:.2g} eV/Å per atom: rounding or loose convergence."
        yield Finding("info", "net-force", message)


def left_handed(dataset: Dataset) -> Iterator[Finding]:
    """Cells whose vectors form a left-handed system: allowed, some programs refuse them."""
    bad = [r for r in dataset if r.structure.periodic.all() and np.linalg.det(r.structure.cell) < 0]
    if bad:
        message = f"{counted(len(bad), len(dataset))} have a left-handed cell."
        yield Finding("info", "left-handed-cell", message, named(bad))


def energy_outliers(dataset: Dataset) -> Iterator[Finding]:
    """Energies per atom far from those of other structures of the same composition."""
    families: dict[str, list[Record]] = {}
    for record in dataset:
        if record.labels.energy is not None and np.isfinite(record.labels.energy):
            families.setdefault(_composition(record), []).append(record)
    bad = []
    for records in families.values():
        if len(records) < 8:
            continue
        energies = np.array([(r.labels.energy or 0.0) / len(r.structure) for r in records])
        centre = np.median(energies)
        # 1 meV/atom: relaxed structures differ by nothing
        spread = max(float(np.median(np.abs(energies - centre))), 1e-3)
        bad += [r for r, e in zip(records, energies) if abs(e - centre) > OUTLIER * spread]
    if bad:
        message = (
            f"{counted(len(bad), len(dataset))} have an energy per atom beyond {OUTLIER:g} median "
            "deviations of their composition: look at them."
        )
        yield Finding("warning", "energy-outliers", message, named(bad))


def _composition(record: Record) -> str:
    numbers, counts = np.unique(record.structure.numbers, return_counts=True)
    parts = (counts / np.gcd.reduce(counts)).astype(int)
    return " ".join(f"{z}:{n}" for z, n in zip(numbers, parts))


def relative_energies(dataset: Dataset) -> Iterator[Finding]:
    """Energies that are not totals: shifted to a minimum, or in an unexpected unit."""
    per_atom = np.array(
        [
            r.labels.energy / len(r.structure)
            for r in dataset
            if r.labels.energy is not None and len(r.structure) > 1
        ]
    )
    if len(per_atom) == 0 or not np.isfinite(per_atom).all():
        return
    if (per_atom > 0).mean() > 0.5:
        yield Finding(
            "warning",
            "relative-energies",
            f"most energies are positive (median {np.median(per_atom):.3g} eV/atom): relative to "
            "a minimum, or the unit is not eV. Bound atoms have negative totals.",
        )
    if np.abs(per_atom).max() > 100.0:
        yield Finding(
            "info",
            "large-totals",
            f"energies are all-electron totals (down to {per_atom.min():.0f} eV/atom): subtract "
            "reference energies before storing them in 32 bits.",
        )


CHECKS: tuple[Callable[[Dataset], Iterator[Finding]], ...] = (
    summary,
    unknown_level,
    not_finite,
    missing_labels,
    duplicates,
    equivalent,
    overlapping_atoms,
    large_forces,
    net_force,
    left_handed,
    energy_outliers,
    relative_energies,
)
