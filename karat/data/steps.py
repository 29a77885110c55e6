"""`Steps`: pairs of neighbouring frames, and whether their energies and forces belong together.

For two frames a, b of one system, close to each other, the energy difference is minus the mean
force times the displacement u, plus volume times mean stress times strain ε:

    E_b − E_a ≈ −½ (F_a + F_b)·u + ½ (V_a σ_a + V_b σ_b):ε,

exactly so for a harmonic surface; and where the force along the way is monotone, the error is at
most ½ |(F_b − F_a)·u|. Checked: tests/data/test_survey.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.data.contacts import radii
from karat.data.survey_block import VOIGT, Block
from karat.data.trace import whole_cells

BONDED = 1.25
"""Sums of covalent radii within which two atoms of `COVALENT` are bonded."""

SHORTEST = 0.6
"""Share of that reach; nearer atoms are on the repulsive wall."""

STRETCHED = 0.01
"""Å, root mean square; bonds that change less say nothing about their stiffness."""

COVALENT = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 34, 35, 53)


@dataclass(frozen=True, eq=False)
class Steps:
    """One row for each pair of frames.

    Attributes:
        first, second: rows of the survey.
        energy: E_b − E_a, eV.
        begin: F_a·u, eV, with the frames turned onto each other and without the strain.
        end: F_b·u, eV.
        bend_size: Σ |(F_a − F_b)_i·u_i| over atoms, eV: how much forces change on the way.
        strain_work: ½ (V_a σ_a + V_b σ_b):ε, eV; zero where the cell is the same, NaN without
            stress.
        strain_begin, strain_end: V_a σ_a:ε and V_b σ_b:ε, eV.
        rmsd: root mean square of |u|, Å.
        farthest: largest |u|, Å.
        strain: norm of ε.
        strains: ε as xx yy zz yz xz xy.
        tensions: ½ (V_a σ_a + V_b σ_b) as xx yy zz yz xz xy, eV.
        bond_stiffness: force constant of covalent bonds, eV/Å², from how forces along them change
            with their lengths; NaN where there are none.
        consecutive: b follows a in the file.
    """

    first: Int[np.ndarray, "steps"]
    second: Int[np.ndarray, "steps"]
    energy: Float[np.ndarray, "steps"]
    begin: Float[np.ndarray, "steps"]
    end: Float[np.ndarray, "steps"]
    bend_size: Float[np.ndarray, "steps"]
    strain_work: Float[np.ndarray, "steps"]
    strain_begin: Float[np.ndarray, "steps"]
    strain_end: Float[np.ndarray, "steps"]
    rmsd: Float[np.ndarray, "steps"]
    farthest: Float[np.ndarray, "steps"]
    strain: Float[np.ndarray, "steps"]
    strains: Float[np.ndarray, "steps 6"]
    tensions: Float[np.ndarray, "steps 6"]
    bond_stiffness: Float[np.ndarray, "steps"]
    consecutive: Bool[np.ndarray, "steps"]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def work(self) -> Float[np.ndarray, "steps"]:
        """−½ (F_a + F_b)·u, eV: what the energy should change by, but for the strain."""
        return -(self.begin + self.end) / 2

    @property
    def bend(self) -> Float[np.ndarray, "steps"]:
        """(F_a − F_b)·u, eV: positive where forces pull back."""
        return self.begin - self.end

    def take(self, rows: np.ndarray) -> "Steps":
        """The pairs of those rows."""
        return Steps(*(getattr(self, field.name)[rows] for field in fields(Steps)))


def join_steps(parts: Sequence[Steps]) -> Steps:
    """All pairs, one after another."""
    kinds = {"first": np.int64, "second": np.int64, "consecutive": bool}
    columns = []
    for field in fields(Steps):
        empty = np.zeros((0, 6) if field.name in ("strains", "tensions") else 0)
        empty = empty.astype(kinds.get(field.name, np.float64))
        columns.append(np.concatenate([empty, *(getattr(part, field.name) for part in parts)]))
    return Steps(*columns)


def steps_between(
    first: Int[np.ndarray, "steps"],
    second: Int[np.ndarray, "steps"],
    a: Block,
    b: Block,
    consecutive: bool,
) -> Steps:
    """The pairs (first, second), whose structures are rows of `a` and `b`: the same system, with
    fine geometry and the same periodicity."""
    free = ~a.periodic.any(axis=1)
    values = {
        name: np.full(len(first), np.nan)
        for name in (
            *("energy", "begin", "end", "bend_size", "strain_work", "strain_begin", "strain_end"),
            *("rmsd", "farthest", "strain", "bond_stiffness"),
        )
    }
    values |= {name: np.zeros((len(first), 6)) for name in ("strains", "tensions")}
    with np.errstate(all="ignore"):
        values["energy"] = b.energy - a.energy
        for rows, compare in ((free, _molecules), (~free, _crystals)):
            some = np.flatnonzero(rows)
            if len(some):
                for name, column in compare(a.take(some), b.take(some)).items():
                    values[name][some] = column
    follows = np.full(len(first), consecutive)
    return Steps(np.asarray(first), np.asarray(second), **values, consecutive=follows)


def _molecules(a: Block, b: Block) -> dict[str, np.ndarray]:
    start = a.positions - a.positions.mean(axis=1, keepdims=True)
    stop = b.positions - b.positions.mean(axis=1, keepdims=True)
    turn = _turns(start, stop)
    start, begin = start @ turn, a.forces @ turn
    return _works(start, stop - start, begin, b.forces) | {
        "strain_work": np.zeros(len(start)),
        "strain_begin": np.zeros(len(start)),
        "strain_end": np.zeros(len(start)),
        "strain": np.zeros(len(start)),
        "bond_stiffness": _stiffness(a.numbers[0], start, stop, b.forces - begin),
    }


def _turns(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Proper rotations that bring the rows of `start` nearest to those of `stop` (Kabsch)."""
    left, _, right = np.linalg.svd(np.einsum("nai,naj->nij", start, stop))
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    return left @ right


def _works(
    start: np.ndarray, moved: np.ndarray, begin: np.ndarray, end: np.ndarray
) -> dict[str, np.ndarray]:
    squared = np.square(moved).sum(axis=2)
    return {
        "begin": (begin * moved).sum(axis=(1, 2)),
        "end": (end * moved).sum(axis=(1, 2)),
        "bend_size": np.abs(((begin - end) * moved).sum(axis=2)).sum(axis=1),
        "rmsd": np.sqrt(squared.mean(axis=1)),
        "farthest": np.sqrt(squared.max(axis=1)),
    }


def _stiffness(
    numbers: np.ndarray, start: np.ndarray, stop: np.ndarray, change: np.ndarray
) -> np.ndarray:
    """−Σ Δf Δd / Σ Δd² over covalent bonds, f the force that lengthens the bond."""
    result = np.full(len(start), np.nan)
    first, second = np.triu_indices(len(numbers), 1)
    covalent = np.isin(numbers, COVALENT)
    some = covalent[first] & covalent[second]
    first, second = first[some], second[some]
    if len(first) == 0 or len(numbers) > 200:
        return result
    before = start[:, second] - start[:, first]
    after = stop[:, second] - stop[:, first]
    short, long = np.linalg.norm(before, axis=2), np.linalg.norm(after, axis=2)
    reach = BONDED * (radii()[numbers[first]] + radii()[numbers[second]])
    bonded = (short < reach) & (long < reach) & (short > SHORTEST * reach)
    bonded &= long > SHORTEST * reach
    along = after / long[:, :, None]
    pull = ((change[:, second] - change[:, first]) * along).sum(axis=2) / 2
    longer = np.where(bonded, long - short, 0.0)
    squares = np.square(longer).sum(axis=1)
    result = -(np.where(bonded, pull, 0.0) * longer).sum(axis=1) / squares
    return np.where(squares > STRETCHED**2 * np.maximum(bonded.sum(axis=1), 1), result, np.nan)


def _crystals(a: Block, b: Block) -> dict[str, np.ndarray]:
    """Deformation gradient D = A⁻¹B = (1 + ε)·rotation, for rows; then what is left of the
    displacement inside the cell."""
    box_a, box_b = whole_cells(a.cell, a.periodic), whole_cells(b.cell, b.periodic)
    gradient = np.linalg.inv(box_a) @ box_b
    left, stretch, right = np.linalg.svd(gradient)
    turn = left @ right
    epsilon = np.einsum("nij,nj,nkj->nik", left, stretch, left) - np.eye(3)
    back = turn.transpose(0, 2, 1)
    shift = b.positions @ np.linalg.inv(box_b) - a.positions @ np.linalg.inv(box_a)
    whole = np.round(shift - _drift(shift)[:, None, :]) * a.periodic[:, None, :]
    shift = shift - whole
    shift = shift - shift.mean(axis=1, keepdims=True)
    between = (box_a + box_b @ back) / 2
    works = _works(a.positions, shift @ between, a.forces, b.forces @ back)
    volume_a, volume_b = (np.abs(np.linalg.det(box)) for box in (box_a, box_b))
    norm = np.sqrt(np.square(epsilon).sum(axis=(1, 2)))
    same = (a.cell == b.cell).all(axis=(1, 2))
    tension_a = volume_a[:, None, None] * a.stress
    tension_b = volume_b[:, None, None] * (turn @ b.stress @ back)
    begin = np.einsum("nij,nij->n", tension_a, epsilon)
    end = np.einsum("nij,nij->n", tension_b, epsilon)
    mean = (tension_a + tension_b) / 2
    return works | {
        "strain_work": np.where(same, 0.0, (begin + end) / 2),
        "strain_begin": np.where(same, 0.0, begin),
        "strain_end": np.where(same, 0.0, end),
        "strain": np.where(same, 0.0, norm),
        "strains": np.where(same[:, None], 0.0, _six(epsilon)),
        "tensions": np.where(same[:, None], 0.0, _six(mean)),
    }


def _six(tensors: np.ndarray) -> np.ndarray:
    """Symmetric (n, 3, 3) as (n, 6): xx yy zz yz xz xy."""
    return np.stack([(tensors[:, i, j] + tensors[:, j, i]) / 2 for i, j in VOIGT], axis=1)


def _drift(shift: np.ndarray) -> np.ndarray:
    """The shift of the whole, in fractions of the cell: the mean on the circle."""
    angle = 2 * np.pi * shift
    return np.arctan2(np.sin(angle).mean(axis=1), np.cos(angle).mean(axis=1)) / (2 * np.pi)
