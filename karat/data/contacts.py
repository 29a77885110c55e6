"""Shortest distances over sums of covalent radii, for many structures.

Checked: tests/data/test_survey.py, against plain loops over images.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.structures.structure import MAX_ATOMIC_NUMBER

REACH = 2.6
"""Sums of covalent radii within which a nearest neighbour is looked for."""

CROWD = 30
"""Neighbours of an atom that are looked at, on average; shorter cut-offs in denser cells."""

HYDROGENS = 1.2
"""Å, in place of twice hydrogen's radius for `closest`: H2 is 0.74 Å long, no two hydrogens are
nearer than 0.6 Å, half of this."""

DENSE_ATOMS = 128
_CHUNK = 400_000


@lru_cache(maxsize=1)
def radii() -> Float[np.ndarray, "elements"]:
    """Covalent radius of each element in Å (Cordero 2008); 0.2 where not known."""
    from ase.data import covalent_radii

    return np.array(covalent_radii[: MAX_ATOMIC_NUMBER + 1], dtype=np.float64)


def contacts(
    numbers: Int[np.ndarray, "n atoms"],
    positions: Float[np.ndarray, "n atoms 3"],
    cell: Float[np.ndarray, "n 3 3"],
    periodic: Bool[np.ndarray, "n 3"],
    fine: Bool[np.ndarray, "n"],
) -> dict[str, np.ndarray]:
    """The columns `closest`, `closest_distance`, `closest_pair`, `bond`, `outside` and `across`
    of a `Survey`; NaN where the geometry is not `fine`."""
    count, atoms = numbers.shape
    found = {
        "closest": np.full(count, np.nan),
        "closest_distance": np.full(count, np.nan),
        "closest_pair": np.zeros((count, 2), np.int64),
        "bond": np.full(count, np.nan),
        "outside": np.zeros(count),
        "across": np.full(count, np.inf),
    }
    known = np.where((numbers >= 1) & (numbers <= MAX_ATOMIC_NUMBER), numbers, 0)
    sizes = radii()[known]
    free = fine & ~periodic.any(axis=1)
    if atoms <= DENSE_ATOMS:
        _all_pairs(np.flatnonzero(free), positions, sizes, found)
        listed = fine & ~free
    else:
        listed = fine
    for row in np.flatnonzero(listed).tolist():
        _by_list(row, positions[row], cell[row], periodic[row], sizes[row], found)
    edges = np.square(cell).sum(axis=2)
    boxed = free & (edges > 0).all(axis=1) & np.isfinite(cell).all(axis=(1, 2))
    for row in np.flatnonzero(boxed).tolist():
        _through_faces(row, positions[row], cell[row], sizes[row], found)
    return found


def _all_pairs(
    rows: np.ndarray, positions: np.ndarray, sizes: np.ndarray, found: dict[str, np.ndarray]
) -> None:
    """Small molecules: every pair."""
    atoms = positions.shape[1]
    step = max(1, _CHUNK // atoms**2)
    diagonal = np.arange(atoms)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        place = positions[some]
        squared = np.zeros((len(some), atoms, atoms))
        for axis in range(3):
            line = place[:, :, axis]
            squared += np.square(line[:, :, None] - line[:, None, :])
        sums = sizes[some][:, :, None] + sizes[some][:, None, :]
        ratio = np.sqrt(squared) / sums
        ratio[:, diagonal, diagonal] = np.inf
        bonds = ratio.min(axis=2)
        light = sizes[some] == radii()[1]
        both = light[:, :, None] & light[:, None, :]
        ratio = np.where(both, ratio * (2 * radii()[1] / HYDROGENS), ratio)
        nearest = ratio.min(axis=2)
        first = nearest.argmin(axis=1)
        each = np.arange(len(some))
        second = ratio[each, first].argmin(axis=1)
        found["closest"][some] = nearest[each, first]
        found["closest_distance"][some] = np.sqrt(squared[each, first, second])
        found["closest_pair"][some] = np.sort(np.stack([first, second], axis=1), axis=1)
        found["bond"][some] = _median(np.where(bonds > REACH, np.inf, bonds))


def _median(nearest: np.ndarray) -> np.ndarray:
    """The lower median of each row: infinity stays countable."""
    middle = (nearest.shape[1] - 1) // 2
    return np.partition(nearest, middle, axis=1)[:, middle]


def _by_list(
    row: int,
    positions: np.ndarray,
    cell: np.ndarray,
    periodic: np.ndarray,
    sizes: np.ndarray,
    found: dict[str, np.ndarray],
) -> None:
    """Large or periodic structures: a neighbour list."""
    import vesin
    from scipy.spatial import cKDTree

    atoms = len(positions)
    cutoff = REACH * 2 * float(sizes.max())
    if periodic.any():
        box = np.where(periodic[:, None], cell, 0.0)
        if periodic.all():
            per_atom = abs(float(np.linalg.det(cell))) / atoms
            cutoff = min(cutoff, (CROWD * per_atom * 3 / (4 * np.pi)) ** (1 / 3))
        else:
            cutoff = min(cutoff, 4.0)
        calculator = vesin.NeighborList(cutoff=cutoff, full_list=True)
        centres, neighbours, distances = calculator.compute(
            points=positions, box=box, periodic=periodic, quantities="ijd"
        )
        centres = np.asarray(centres, np.int64)
        neighbours = np.asarray(neighbours, np.int64)
    else:
        pairs = cKDTree(positions).query_pairs(min(cutoff, 4.0), output_type="ndarray")
        centres = np.concatenate([pairs[:, 0], pairs[:, 1]])
        neighbours = np.concatenate([pairs[:, 1], pairs[:, 0]])
        distances = np.linalg.norm(positions[centres] - positions[neighbours], axis=1)
    nearest = np.full(atoms, np.inf)
    if len(centres):
        ratio = distances / (sizes[centres] + sizes[neighbours])
        np.minimum.at(nearest, centres, ratio)
        light = sizes == radii()[1]
        both = light[centres] & light[neighbours]
        ratio = np.where(both, distances / HYDROGENS, ratio)
        worst = int(ratio.argmin())
        found["closest"][row] = ratio[worst]
        found["closest_distance"][row] = distances[worst]
        found["closest_pair"][row] = sorted((centres[worst], neighbours[worst]))
    else:
        found["closest"][row] = found["closest_distance"][row] = np.inf
    found["bond"][row] = _median(nearest[None])[0]


def _through_faces(
    row: int,
    positions: np.ndarray,
    cell: np.ndarray,
    sizes: np.ndarray,
    found: dict[str, np.ndarray],
) -> None:
    """What a cell says that is given without being periodic."""
    import vesin

    volume = abs(float(np.linalg.det(cell)))
    if volume <= 1e-6 * float(np.prod(np.linalg.norm(cell, axis=1))):
        return
    fractional = positions @ np.linalg.inv(cell)
    out = (fractional < -1e-6) | (fractional > 1 + 1e-6)
    found["outside"][row] = out.any(axis=1).mean()
    cutoff = 1.3 * 2 * float(sizes.max())
    cutoff = min(cutoff, (CROWD * volume / len(positions) * 3 / (4 * np.pi)) ** (1 / 3))
    calculator = vesin.NeighborList(cutoff=cutoff, full_list=True)
    centres, neighbours, shifts, distances = calculator.compute(
        points=positions, box=cell, periodic=True, quantities="ijSd"
    )
    through = np.asarray(shifts).any(axis=1)
    if through.any():
        sums = sizes[np.asarray(centres, np.int64)] + sizes[np.asarray(neighbours, np.int64)]
        found["across"][row] = float((distances / sums)[through].min())
