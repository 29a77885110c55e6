"""Geometric fingerprint: 64 numbers that are near for structures that are near.

Every feature is a mean over atoms of smooth functions of distances and neighbour vectors, so that
it does not change under rotation, reflection, translation, permutation of like atoms, choice of
cell and supercell. With w₀ = 1 and w₁, w₂ = cosines of the atomic number (`WEIGHTS`), the parts
are

- radial, 36: (1/N) Σ_i Σ_{j≠i} w_a(i) w_b(j) g_n(r_ij), a ≤ b ≤ 2, with six Gaussians g_n between
  1 and 4.5 Å, times (1 - r²/R²)³ with R = `CUTOFF`;
- angular, 16: (1/N) Σ_i w_a(i) |Σ_j w_b(j) h_n(r_ij) r_ij^(l)|² / (1 + (Σ_j h_n(r_ij))²) for
  a, b ∈ {0, 1}, l = 1 (the vector) and 2 (the traceless tensor), h_n = (1 - r²/R_n²)³ with
  R_n = 3.2 Å and `CUTOFF`;
- shape, 4, of a molecule (zero where any direction is periodic), which tells how far parts lie
  from each other beyond the cut-off: with distances r from the mean position and s = 1 + ⟨r²⟩,
  ln s, ⟨w₁ r²⟩/s, ⟨w₂ r²⟩/s, and the squared traceless gyration tensor over s²;
- composition, 8: means of cosines of the atomic number.

The parts that depend on positions are scaled so that displacing each atom of a molecule by a
random vector of root mean square length d Å moves the fingerprint by about d/√atoms;
`displacement` turns a distance back into Å. In a perfect crystal the response is of second order,
as it is for every invariant mean.

Source: radial and angular sums after Behler & Parrinello, Phys. Rev. Lett. 98, 146401 (2007);
squared moments of neighbour vectors after Bartók, Kondor & Csányi, Phys. Rev. B 87, 184115 (2013)
(power spectrum); weights by element after Gastegger et al., J. Chem. Phys. 148, 241709 (2018).
Checked: tests/data/test_fingerprint.py.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.core.errors import BadInput

CUTOFF = 6.0
"""Å; atoms farther apart do not see each other."""

FINGERPRINT_SIZE = 64

MAX_PAIRS = 10_000_000
"""A structure with more pairs within the cut-off is refused: its cell is absurd."""

_CENTRES = np.array([1.0, 1.5, 2.1, 2.8, 3.6, 4.5])
_WIDTHS = np.array([0.30, 0.40, 0.50, 0.65, 0.80, 0.95])
_RADII = np.array([3.2, CUTOFF])
_RADIAL_SCALE = 0.2
_ANGULAR_SCALE = 4.0
_SHAPE_SCALE = 0.6
_COMPOSITION_SCALE = 1.0
_FIRST = np.array([0, 0, 0, 1, 1, 2])
_SECOND = np.array([0, 1, 2, 1, 2, 2])
_LEFT = np.array([1, 2, 3, 1, 1, 2])
_RIGHT = np.array([1, 2, 3, 2, 3, 3])
_UNITS = np.array([_RADII**-2.0, _RADII**-4.0])[:, :, None]
_DENSE_ATOMS = 96
_DENSE_EXTENT = 1000.0
_CHUNK = 60_000

_TURNS = np.sqrt([10.0, 20.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0])
EMBEDDING = np.cos(2.0 * np.pi * np.outer(np.arange(120), _TURNS))
"""Row Z: the eight composition features of an atom of atomic number Z."""

WEIGHTS = np.concatenate([np.ones((120, 1)), EMBEDDING[:, :2]], axis=1)
"""Row Z: the weights w₀, w₁, w₂ of an atom of atomic number Z."""


@runtime_checkable
class Geometry(Protocol):
    """What a fingerprint is made of: a `Structure` or an `Entry`."""

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers (atoms,)."""

    @property
    def positions(self) -> np.ndarray:
        """Å, (atoms, 3)."""

    @property
    def cell(self) -> np.ndarray:
        """Å, (3, 3) rows."""

    @property
    def periodic(self) -> np.ndarray:
        """Which directions repeat (3,)."""


def fingerprint(
    numbers: Int[np.ndarray, "atoms"],
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    periodic: Bool[np.ndarray, "3"],
) -> Float[np.ndarray, "features"]:
    """The fingerprint of one structure, `FINGERPRINT_SIZE` numbers; Å in.

    Raises:
        BadInput: no atom, an atomic number outside 1 to 118, numbers that are not finite, a
            singular cell, or a cell so small that more than `MAX_PAIRS` pairs are neighbours.
    """
    periodic = np.asarray(periodic, dtype=bool)
    numbers, positions = _checked(numbers, np.asarray(positions, dtype=np.float64)[None])
    if periodic.any():
        return _from_pairs(numbers, *_periodic_pairs(positions[0], cell, periodic))
    return _molecules(numbers, positions)[0]


def fingerprint_batch(
    numbers: Int[np.ndarray, "atoms"], positions: Float[np.ndarray, "frames atoms 3"]
) -> Float[np.ndarray, "frames features"]:
    """The fingerprints of frames of one molecule (no direction periodic).

    Raises:
        BadInput: as `fingerprint`, with the frame's number.
    """
    return _molecules(*_checked(numbers, np.asarray(positions, dtype=np.float64)))


def fingerprints(structures: Sequence[Geometry]) -> Float[np.ndarray, "structures features"]:
    """The fingerprint of each structure, in order; molecules of one formula go together.

    Raises:
        BadInput: as `fingerprint`.
    """
    result = np.zeros((len(structures), FINGERPRINT_SIZE))
    alike: dict[bytes, list[int]] = {}
    orders: dict[bytes, np.ndarray] = {}
    for index, item in enumerate(structures):
        if np.any(item.periodic):
            result[index] = fingerprint(item.numbers, item.positions, item.cell, item.periodic)
            continue
        written = np.asarray(item.numbers).tobytes()
        if written not in orders:
            orders[written] = np.argsort(item.numbers, kind="stable")
        key = np.asarray(item.numbers)[orders[written]].tobytes()
        alike.setdefault(key, []).append(index)
    for members in alike.values():
        numbers = np.sort(structures[members[0]].numbers)
        step = max(1, 40 * _CHUNK // len(numbers))
        for start in range(0, len(members), step):
            part = members[start : start + step]
            positions = np.array(
                [
                    structures[i].positions[orders[np.asarray(structures[i].numbers).tobytes()]]
                    for i in part
                ]
            )
            result[part] = fingerprint_batch(numbers, positions)
    return result


def displacement(distance: float, atoms: int) -> float:
    """Å; the root mean square displacement of atoms that moves a molecule's fingerprint so far."""
    return distance * float(np.sqrt(atoms))


def _checked(numbers: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.asarray(numbers, dtype=np.int64)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise BadInput("fingerprint: a structure needs at least one atom.")
    if positions.shape[1:] != (len(numbers), 3):
        raise BadInput(
            f"fingerprint: positions have shape {positions.shape[1:]}, {len(numbers)} atomic "
            "numbers need one row of three for each."
        )
    if numbers.min() < 1 or numbers.max() > 118:
        bad = next(int(z) for z in numbers if not 1 <= z <= 118)
        raise BadInput(f"fingerprint: unknown atomic number {bad}; 1 to 118 are known.")
    if not np.isfinite(positions).all():
        frame = int(np.flatnonzero(~np.isfinite(positions).all(axis=(1, 2)))[0])
        raise BadInput(f"fingerprint: positions of frame {frame} hold NaN or infinity.")
    return numbers, positions - positions.mean(axis=1, keepdims=True)


def _molecules(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(frames, features) of centred positions."""
    if len(numbers) > _DENSE_ATOMS or np.abs(positions).max(initial=0.0) > _DENSE_EXTENT:
        rows = [_from_pairs(numbers, *_free_pairs(frame)) for frame in positions]
        result = np.array(rows).reshape(-1, FINGERPRINT_SIZE)
    else:
        result = np.zeros((len(positions), FINGERPRINT_SIZE))
        step = max(1, _CHUNK // len(numbers) ** 2)
        for start in range(0, len(positions), step):
            result[start : start + step] = _dense(numbers, positions[start : start + step])
    result[:, 52:56] = _SHAPE_SCALE * _shape(numbers, positions)
    return result


def _dense(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """All pairs of a small molecule by matrix products, for several frames at once."""
    frames, atoms = positions.shape[:2]
    places, channels = _molecule_pairs(numbers.tobytes())
    axes = np.ascontiguousarray(positions.transpose(0, 2, 1))
    squared = np.square(axes[:, 0, :, None] - axes[:, 0, None, :])
    squared += np.square(axes[:, 1, :, None] - axes[:, 1, None, :])
    squared += np.square(axes[:, 2, :, None] - axes[:, 2, None, :])
    radial = (2.0 / atoms) * (_radial(squared.reshape(frames, -1)[:, places]) @ channels)
    near = _falling(squared[:, :, None, :], _RADII[:, None])
    diagonal = np.arange(atoms)
    near[:, diagonal, :, diagonal] = 0.0
    own = _products(axes)
    fields = np.concatenate([own, own * WEIGHTS[numbers, 1]], axis=1)
    sums = (fields @ near.reshape(frames, atoms, 2 * atoms)).reshape(frames, 2, 10, 2, atoms)
    # from sums over r_j to sums over r_j - r_i
    here = own[:, None, :, None, :]
    linear = sums[:, :, 1:4] - sums[:, :, :1] * here[:, :, 1:4]
    second_moments = sums[:, :, 4:] + sums[:, :, :1] * here[:, :, 4:]
    second_moments -= sums[:, :, _LEFT] * here[:, :, _RIGHT]
    second_moments -= sums[:, :, _RIGHT] * here[:, :, _LEFT]
    return _assembled(numbers, radial.transpose(1, 0, 2), sums[:, 0, 0], linear, second_moments)


@lru_cache(maxsize=32)
def _molecule_pairs(numbers: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Of the pairs i < j: place in a flat (atoms, atoms) array, and channels (pairs, 6)."""
    weights = WEIGHTS[np.frombuffer(numbers, dtype=np.int64)]
    first, second = np.triu_indices(len(weights), 1)
    return first * len(weights) + second, _channels(weights[first], weights[second])


def _products(axes: np.ndarray) -> np.ndarray:
    """(frames, 10, atoms): 1, x, y, z, xx, yy, zz, xy, xz, yz of (frames, 3, atoms)."""
    result = np.empty((len(axes), 10, axes.shape[2]))
    result[:, 0] = 1.0
    result[:, 1:4] = axes
    np.multiply(result[:, _LEFT], result[:, _RIGHT], out=result[:, 4:])
    return result


def _from_pairs(
    numbers: np.ndarray, centres: np.ndarray, neighbours: np.ndarray, vectors: np.ndarray
) -> np.ndarray:
    """From a full neighbour list, in pieces of bounded memory; the shape part is left zero."""
    from scipy.sparse import csr_matrix

    atoms = len(numbers)
    weights = WEIGHTS[numbers]
    radial = np.zeros((1, 6, 6))
    sums = np.zeros((40, atoms))
    for start in range(0, len(centres), _CHUNK):
        i, j = centres[start : start + _CHUNK], neighbours[start : start + _CHUNK]
        axes = np.ascontiguousarray(vectors[start : start + _CHUNK].T)
        squared = np.square(axes).sum(axis=0)
        # each pair comes twice, with equal contributions
        half = np.flatnonzero((i < j) | ((i == j) & _upper(axes)))
        channels = _channels(weights[i[half]], weights[j[half]])
        radial[0] += (2.0 / atoms) * (_radial(squared[half]) @ channels)
        fields = _products(axes[None])[0]
        fields = np.concatenate([fields, fields * weights[j, 1]])
        near = _falling(squared, _RADII[:, None])
        gather = csr_matrix((np.ones(len(i)), (np.arange(len(i)), i)), shape=(len(i), atoms))
        sums += (fields[:, None, :] * near).reshape(40, len(i)) @ gather
    sums = sums.reshape(1, 2, 10, 2, atoms)
    return _assembled(numbers, radial, sums[:, 0, 0], sums[:, :, 1:4], sums[:, :, 4:])[0]


def _upper(axes: np.ndarray) -> np.ndarray:
    """Which vectors lie in the half space that holds one of v and -v."""
    x, y, z = axes
    return (z > 0) | ((z == 0) & ((y > 0) | ((y == 0) & (x > 0))))


def _radial(squared: np.ndarray) -> np.ndarray:
    """(6, …): the Gaussians, each times the cut-off function."""
    distances = np.sqrt(squared)
    falling = _falling(squared, CUTOFF)
    basis = np.empty((len(_CENTRES), *squared.shape))
    for row, centre, width in zip(basis, _CENTRES, _WIDTHS):
        np.subtract(distances, centre, out=row)
        np.square(row, out=row)
        row *= -0.5 / width**2
        np.exp(row, out=row)
        row *= falling
    return basis


def _falling(squared: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """(1 - r²/R²)³, zero beyond R."""
    t = squared * (-1.0 / np.square(radius))
    t += 1.0
    np.maximum(t, 0.0, out=t)
    return t * t * t


def _channels(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(pairs, 6): products of weights, symmetric in the two atoms."""
    left = first[:, _FIRST] * second[:, _SECOND]
    right = first[:, _SECOND] * second[:, _FIRST]
    return (left + right) / 2.0


def _assembled(
    numbers: np.ndarray, radial: np.ndarray, q: np.ndarray, linear: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """(frames, features) with the shape part zero.

    `radial` is (frames, 6, 6), `q` (frames, 2, atoms): Σ h for each R_n; `linear` (frames, 2, 3, 2,
    atoms) and `second` (frames, 2, 6, 2, atoms): Σ w h r and Σ w h r r, by w and R_n.
    """
    frames, atoms = len(q), len(numbers)
    powers = np.empty((frames, 2, 2, 2, atoms))  # l, w, R_n
    np.square(linear).sum(axis=2, out=powers[:, 0])
    squares = np.square(second)
    squares[:, :, 3:] *= 2.0
    squares.sum(axis=2, out=powers[:, 1])
    powers[:, 1] -= np.square(second[:, :, :3].sum(axis=2)) / 3.0
    powers *= (_UNITS / (1.0 + np.square(q))[:, None])[:, :, None]
    result = np.zeros((frames, FINGERPRINT_SIZE))
    result[:, :36] = _RADIAL_SCALE * radial.reshape(frames, 36)
    centre = (_ANGULAR_SCALE / atoms) * WEIGHTS[numbers, :2]
    result[:, 36:52] = (powers.reshape(frames, 8, atoms) @ centre).reshape(frames, 16)
    result[:, 56:] = _COMPOSITION_SCALE * EMBEDDING[numbers].mean(axis=0)
    return result


def _shape(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(frames, 4) of centred molecules."""
    weights = WEIGHTS[numbers] / len(numbers)
    squared = np.square(positions).sum(axis=2)
    spread = squared @ weights
    tensor = np.einsum("fix,fiy->fxy", positions, positions) / len(numbers)
    anisotropy = np.square(tensor).sum(axis=(1, 2)) - np.square(spread[:, 0]) / 3.0
    size = 1.0 + spread[:, 0]
    return np.stack(
        [
            np.log(size),
            spread[:, 1] / size,
            spread[:, 2] / size,
            anisotropy / np.square(size),
        ],
        axis=1,
    )


def _free_pairs(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.spatial import cKDTree

    tree = cKDTree(positions)
    _within_limit(int(tree.count_neighbors(tree, CUTOFF)))
    pairs = tree.query_pairs(CUTOFF, output_type="ndarray")
    centres = np.concatenate([pairs[:, 0], pairs[:, 1]])
    neighbours = np.concatenate([pairs[:, 1], pairs[:, 0]])
    return centres, neighbours, positions[neighbours] - positions[centres]


def _periodic_pairs(
    positions: np.ndarray, cell: np.ndarray, periodic: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import vesin

    rows = np.asarray(cell, dtype=np.float64)[periodic]
    if not np.isfinite(rows).all():
        raise BadInput("fingerprint: the cell holds NaN or infinity.")
    measure = float(np.sqrt(max(np.linalg.det(rows @ rows.T), 0.0)))
    lengths = np.linalg.norm(rows, axis=1)
    if measure <= 1e-6 * float(np.prod(lengths)) or lengths.min() == 0.0:
        raise BadInput("fingerprint: the cell's lattice vectors are zero or linearly dependent.")
    # images within the cut-off: ball, disc or stretch over volume, area or length of the cell
    ball = {1: 2.0, 2: np.pi, 3: 4.0 * np.pi / 3.0}[len(rows)] * CUTOFF ** len(rows)
    _within_limit(int(len(positions) * ball / measure))
    box = np.where(periodic[:, None], cell, 0.0)
    calculator = vesin.NeighborList(cutoff=CUTOFF, full_list=True)
    centres, neighbours, vectors = calculator.compute(
        points=positions, box=box, periodic=periodic, quantities="ijD"
    )
    return np.asarray(centres, np.int64), np.asarray(neighbours, np.int64), vectors


def _within_limit(pairs: int) -> None:
    if pairs > MAX_PAIRS:
        raise BadInput(
            f"fingerprint: about {pairs} pairs lie within {CUTOFF:g} Å, more than {MAX_PAIRS}. "
            "Check the length unit of positions and cell."
        )
