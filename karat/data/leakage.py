"""Checks of a training set against a test set. To add one: write the function, add it to
`PAIR_CHECKS`.

Checked: tests/data/test_doctor_pairs.py.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.data.checks.duplicates import NEAR, near_pairs
from karat.data.finding import Finding, counted, offenders
from karat.data.survey import Survey
from karat.data.trace import PROJECTIONS

NEAR_FRAMES = 2
"""Frames of one trajectory at most so far apart are neighbours: one is nearly the other."""

NEIGHBOUR = 0.25
"""Share of the usual distance between nearest frames, below which two are neighbours in time."""

AHEAD = 0.5
"""A neighbour in time is nearer than this share of the distance to the nearest other frame; where
many are as near, as in a crystal at rest, none is a neighbour."""

BESIDE = 3
"""Frames so near in order do not count as other ones."""

SAMPLED = 400
"""Frames by which usual distances are judged."""

AT_REST = 0.03
"""eV/Å; root mean square forces of frames in motion are larger."""

OUTSIDE = 3.0
"""A test energy or force so many widths of the training range beyond it is far outside."""


def leaked(train: Survey, test: Survey) -> Bool[np.ndarray, "n"]:
    """Which structures of `train` are in `test`: exactly, by symmetry or nearly."""
    a, b = train.columns, test.columns
    found = _known(a.digest, b.digest)
    found |= (a.labels_key != 0) & np.isin(a.labels_key, b.labels_key)
    first, _ = near_pairs(train, test)
    found[first] = True
    return found


def _known(digests: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which 16-byte digests are among others."""
    asked, known = (
        np.ascontiguousarray(some).view([("a", np.int64), ("b", np.int64)])[:, 0]
        for some in (digests, others)
    )
    return np.isin(asked, known)


def leakage(train: Survey, test: Survey) -> Iterator[Finding]:
    """The same structure on both sides."""
    a, b = train.columns, test.columns
    same = _known(b.digest, a.digest)
    if same.any():
        yield Finding(
            "error",
            "leakage",
            f"leakage: {counted(int(same.sum()), len(test))} of the test set are in the training "
            "set. Remove them from one side (--fix removes them from DATA).",
            offenders(test, np.flatnonzero(same)),
        )
    alike = ~same & (b.labels_key != 0) & np.isin(b.labels_key, a.labels_key)
    if alike.any():
        yield Finding(
            "warning",
            "equivalent-leakage",
            f"{counted(int(alike.sum()), len(test))} of the test set have the energy and forces of "
            "a training structure: symmetry-equivalent, they test nothing (--fix).",
            offenders(test, np.flatnonzero(alike)),
        )
    _, rows = near_pairs(train, test)
    near = np.unique(rows[~same[rows] & ~alike[rows]])
    if len(near):
        yield Finding(
            "error",
            "near-leakage",
            f"leakage: {counted(len(near), len(test))} of the test set differ from a training "
            f"structure by less than {NEAR:g} Å (root mean square displacement) and in labels as "
            "little: moved, turned, rounded or relabelled copies. Remove them from one side.",
            offenders(test, near),
        )


def neighbouring_frames(train: Survey, test: Survey) -> Iterator[Finding]:
    """Neighbouring frames of one trajectory on both sides, by number or by geometry."""
    same = _known(test.columns.digest, train.columns.digest)
    rows = _by_number(train, test)
    rows = rows[~same[rows]]
    if len(rows):
        yield Finding(
            "error",
            "neighbouring-frames",
            f"leakage: {counted(len(rows), len(test))} of the test set are at most {NEAR_FRAMES} "
            "frames from a training frame of the same trajectory. Split by time block.",
            offenders(test, rows),
        )
        return
    rows, distances, usual = _by_geometry(train, test)
    if len(rows):
        yield Finding(
            "error" if len(rows) > 0.01 * len(test) else "warning",
            "neighbouring-frames",
            f"leakage: {counted(len(rows), len(test))} of the test set lie as near to a training "
            f"frame (down to {distances.min():.2g} Å) as only neighbours of one trajectory do "
            f"({usual}). Split by time block.",
            offenders(test, rows, -distances),
        )


def _by_number(train: Survey, test: Survey) -> Int[np.ndarray, "found"]:
    frames: dict[str, list[int]] = {}
    a, b = train.columns, test.columns
    numbered = np.flatnonzero(a.frame >= 0)
    for group, frame in zip(a.group[numbered].tolist(), a.frame[numbered].tolist()):
        if train.groups[group]:
            frames.setdefault(train.groups[group], []).append(frame)
    arrays = {group: np.sort(values) for group, values in frames.items()}
    found = []
    for row in np.flatnonzero(b.frame >= 0).tolist():
        known = arrays.get(test.groups[b.group[row]])
        if known is None:
            continue
        place = int(np.searchsorted(known, b.frame[row]))
        around = known[max(0, place - 1) : place + 1]
        if np.abs(around - b.frame[row]).min() <= NEAR_FRAMES:
            found.append(row)
    return np.array(found, np.int64)


def _nearest(
    train: Survey, test: Survey
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For each system on both sides: rows of both, traces of both, shifted alike."""
    a, b = train.columns, test.columns
    members = []
    for columns in (a, b):
        fine = np.flatnonzero(np.isfinite(columns.trace).all(axis=1) & (columns.atoms > 2))
        order = fine[np.argsort(columns.system[fine], kind="stable")]
        systems, starts = np.unique(columns.system[order], return_index=True)
        members.append(dict(zip(systems.tolist(), np.split(order, starts[1:]))))
    for system in sorted(members[0].keys() & members[1].keys()):
        here, there = members[0][system], members[1][system]
        base = a.trace[here[0]].astype(np.float64)
        yield here, there, a.trace[here] - base, b.trace[there] - base


def _usual(traces: Float[np.ndarray, "n features"]) -> float:
    """Median distance of frames to their nearest."""
    from scipy.spatial import cKDTree

    pick = np.linspace(0, len(traces) - 1, min(SAMPLED, len(traces))).astype(int)
    distance, _ = cKDTree(traces).query(traces[pick], k=2)
    return float(np.median(distance[:, 1]))


def _by_geometry(train: Survey, test: Survey) -> tuple[np.ndarray, np.ndarray, str]:
    nearest: dict[int, float] = {}
    usual = ""
    for here, there, known, asked in _nearest(train, test):
        groups = train.columns.group[here]
        for group in np.unique(groups).tolist():
            some = np.flatnonzero((groups == group) & _moving(train, here))
            if len(some) < 20:
                continue
            some = some[np.argsort(train.columns.frame[here[some]], kind="stable")]
            typical, words, ordered = _step(known[some])
            if not typical > 2 * NEAR:
                continue
            distance, rest = _ahead(known[some], asked, typical, ordered)
            close = np.flatnonzero((distance < AHEAD * rest) & (distance > 1e-5))
            for row, one in zip(there[close].tolist(), distance[close].tolist()):
                nearest[row] = min(one, nearest.get(row, np.inf))
            usual = words if len(close) and not usual else usual
    rows = np.array(sorted(nearest), np.int64)
    return rows, np.array([nearest[row] for row in rows.tolist()]), usual


def _moving(survey: Survey, rows: np.ndarray) -> np.ndarray:
    """Which are no perfect crystals, whose strained cells form no trajectory."""
    forces = survey.columns.force_rms[rows]
    return ~survey.crystal[rows] | ~(forces < AT_REST)


def _step(traces: np.ndarray) -> tuple[float, str, bool]:
    """A distance below which frames are neighbours in time: of a trajectory written in order
    1.5 times its steps, else a quarter of the usual distance between nearest frames; why; and
    whether it is in order."""
    steps = float(np.median(np.linalg.norm(np.diff(traces, axis=0), axis=1)))
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, len(traces), (2, SAMPLED))
    spread = float(np.median(np.linalg.norm(traces[first] - traces[second], axis=1)))
    if steps < 0.4 * spread:
        return 1.5 * steps, f"consecutive training frames are {steps:.2g} Å apart", True
    usual = _usual(traces)
    return NEIGHBOUR * usual, f"nearest training frames are {usual:.2g} Å apart", False


def _ahead(
    known: np.ndarray, asked: np.ndarray, radius: float, ordered: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest known frame (infinite beyond `radius`), and to the nearest of those
    that are no neighbours of it: more than `BESIDE` away in order, or just the second nearest."""
    from scipy.spatial import cKDTree

    tree = cKDTree(known)
    nearest, _ = tree.query(asked, distance_upper_bound=radius)
    rest = np.full(len(asked), np.inf)
    rows = np.flatnonzero(np.isfinite(nearest))
    distance, which = tree.query(asked[rows], k=min(2 * BESIDE + 2, len(known)))
    apart = np.abs(which - which[:, :1])
    others = np.where(apart > (BESIDE if ordered else 0), distance, np.inf)
    rest[rows] = others.min(axis=1)
    # strained cells form no trajectory
    cells = known[which[:, 0], PROJECTIONS:] - asked[rows, PROJECTIONS:]
    nearest[rows[np.linalg.norm(cells, axis=1) > 0.5 * nearest[rows]]] = np.inf
    return nearest, rest


def same_system(train: Survey, test: Survey) -> Iterator[Finding]:
    """One molecule or cell on both sides: the test says nothing about others."""
    from scipy.spatial import cKDTree

    systems = [set(survey.columns.system.tolist()) for survey in (train, test)]
    if systems[0] != systems[1] or len(systems[0]) != 1:
        return
    words = ""
    for here, there, known, asked in _nearest(train, test):
        if len(here) < 20 or len(there) < 5:
            continue
        pick = np.linspace(0, len(there) - 1, min(SAMPLED, len(there))).astype(int)
        away = float(np.median(cKDTree(known).query(asked[pick])[0]))
        usual = _usual(known)
        if away < 1.3 * usual:
            words = (
                f" Test frames lie among the training frames (nearest at {away:.2g} Å, training "
                f"frames among themselves {usual:.2g} Å), as frames of one trajectory do."
            )
    yield Finding(
        "info",
        "same-system",
        "train and test hold the same system: errors hold for it alone; if both are frames of one "
        f"trajectory, they are optimistic.{words}",
    )


def different_levels(train: Survey, test: Survey) -> Iterator[Finding]:
    """Two levels of theory."""
    labels = [
        sorted({"unknown" if x is None else x.label.upper() for x in survey.levels})
        for survey in (train, test)
    ]
    if labels[0] != labels[1] and all(s.columns.has_energy.any() for s in (train, test)):
        yield Finding(
            "error",
            "different-levels",
            f"train is {', '.join(labels[0])}, test is {', '.join(labels[1])}: never mix levels.",
        )


def new_elements(train: Survey, test: Survey) -> Iterator[Finding]:
    """Elements that only the test set has."""
    from ase.data import chemical_symbols

    new = sorted(set(test.elements.tolist()) - set(train.elements.tolist()) - {0})
    if new:
        words = ", ".join(chemical_symbols[z] for z in new)
        rows = np.flatnonzero(test.columns.composition[:, new].any(axis=1))
        yield Finding(
            "error",
            "new-elements",
            f"the test set has {words}, the training set not: no model can know them.",
            offenders(test, rows),
        )


def shifted_energies(train: Survey, test: Survey) -> Iterator[Finding]:
    """The same composition at quite another energy: another level or reference."""
    for code, severity, rows, words in (*_energy_shift(train, test), *_far_outside(train, test)):
        yield Finding(severity, code, words, offenders(test, rows))


def _energy_shift(train: Survey, test: Survey) -> Iterator[tuple]:
    a, b = train.columns, test.columns
    for here, there, *_ in _nearest(train, test):
        known = train.per_atom[here][np.isfinite(train.per_atom[here])]
        asked = test.per_atom[there][np.isfinite(test.per_atom[there])]
        if len(known) < 8 or len(asked) < 3:
            continue
        width = max(float(np.ptp(known)), float(np.ptp(asked)), 1e-3)
        shift = float(np.median(asked) - np.median(known))
        sizes = [c.force_rms[r][np.isfinite(c.force_rms[r])] for c, r in ((a, here), (b, there))]
        forces = [float(np.median(size)) if len(size) else np.nan for size in sizes]
        unlike = np.isfinite(forces).all() and abs(forces[0] - forces[1]) > 0.4 * max(forces)
        if abs(shift) > 3 * width and not unlike:
            yield (
                "energy-shift",
                "error",
                there,
                f"{counted(len(there), len(test))} of the test set lie {shift:.4g} eV/atom from "
                f"the same atoms in the training set ({width:.2g} eV/atom wide), with like forces: "
                "another level of theory, reference or unit.",
            )
            return


def _far_outside(train: Survey, test: Survey) -> Iterator[tuple]:
    kinds = (("force_max", "largest force", "eV/Å"), ("per_atom", "energy", "eV/atom"))
    for name, word, unit in kinds:
        sources = [s if name == "per_atom" else s.columns for s in (train, test)]
        known, asked = (np.asarray(getattr(source, name)) for source in sources)
        same = np.isin(test.columns.system, train.columns.system) if name == "per_atom" else True
        finite = known[np.isfinite(known) & (train.columns.atoms > 1)]
        if len(finite) < 20:
            continue
        low, high = np.percentile(finite, [0.5, 99.5])
        with np.errstate(invalid="ignore"):
            excess = np.maximum(asked - high, low - asked if name == "per_atom" else -np.inf)
            rows = np.flatnonzero(
                same & (test.columns.atoms > 1) & (excess > OUTSIDE * max(high - low, 1e-3))
            )
        if len(rows):
            yield (
                "outside-training",
                "info",
                rows[np.argsort(-excess[rows])],
                f"{counted(len(rows), len(test))} of the test set have their {word} far "
                f"outside the training set's ({low:.7g} to {high:.7g} {unit}): they test "
                "extrapolation.",
            )


PAIR_CHECKS: tuple[Callable[[Survey, Survey], Iterator[Finding]], ...] = (
    leakage,
    neighbouring_frames,
    same_system,
    different_levels,
    new_elements,
    shifted_energies,
)
