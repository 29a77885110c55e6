"""Columns of a `Survey` for a few thousand entries at a time, those of equal size together.

Checked: tests/data/test_survey.py, against plain loops.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.core.errors import BadInput
from karat.data.contacts import contacts
from karat.data.entry import Entry
from karat.data.fingerprint import FINGERPRINT_SIZE, fingerprint, fingerprint_batch
from karat.data.trace import traces
from karat.structures.structure import MAX_ATOMIC_NUMBER

DENSEST = 1.0
"""Å³ per atom; hydrogen at 500 GPa has 1.3. Denser cells have no fingerprint."""

FLAT = 1e-6
"""A periodic cell whose volume is less than this share of its edges' product is singular."""

FARTHEST = 1e6
"""Å; coordinates beyond it are absurd."""

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))

SHAPED_ATOMS = 400_000
"""Atoms of periodic structures that get a fingerprint (0.8 ms for one of 20 atoms); what comes
later is compared in the order of its atoms only, and the doctor says so."""


@dataclass(frozen=True, eq=False)
class Block:
    """Structures of equal size, stacked; labels that are not there are NaN."""

    numbers: Int[np.ndarray, "n atoms"]
    positions: Float[np.ndarray, "n atoms 3"]
    cell: Float[np.ndarray, "n 3 3"]
    periodic: Bool[np.ndarray, "n 3"]
    energy: Float[np.ndarray, "n"]
    forces: Float[np.ndarray, "n atoms 3"]
    stress: Float[np.ndarray, "n 3 3"]

    def take(self, rows: np.ndarray | slice) -> "Block":
        """The structures of those rows."""
        return Block(
            self.numbers[rows],
            self.positions[rows],
            self.cell[rows],
            self.periodic[rows],
            self.energy[rows],
            self.forces[rows],
            self.stress[rows],
        )


def measure(
    entries: Sequence[Entry], shaped: int = 0
) -> Iterator[tuple[Int[np.ndarray, "n"], dict[str, np.ndarray], Block]]:
    """For each size: rows of `entries`, their columns (see `survey.Columns`), and the block.

    `shaped` atoms of periodic structures have a fingerprint already.
    """
    sizes = np.array([len(entry) for entry in entries])
    for size in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == size)
        picked = [entries[row] for row in rows.tolist()]
        block = _stack(picked, size)
        yield rows, _columns(picked, block, shaped), block


def _stack(entries: list[Entry], size: int) -> Block:
    nothing = np.full((size, 3), np.nan)
    no_stress = np.full((3, 3), np.nan)
    return Block(
        numbers=np.array([entry.numbers for entry in entries], np.int64).reshape(-1, size),
        positions=np.array([e.positions for e in entries], np.float64).reshape(-1, size, 3),
        cell=np.array([entry.cell for entry in entries], np.float64),
        periodic=np.array([entry.periodic for entry in entries], bool),
        energy=np.array([np.nan if e.energy is None else e.energy for e in entries], np.float64),
        forces=np.array(
            [nothing if e.forces is None else e.forces for e in entries], np.float64
        ).reshape(-1, size, 3),
        stress=np.array([no_stress if e.stress is None else e.stress for e in entries], np.float64),
    )


def _columns(entries: list[Entry], block: Block, shaped: int) -> dict[str, np.ndarray]:
    count, size = block.numbers.shape
    known = (block.numbers >= 1) & (block.numbers <= MAX_ATOMIC_NUMBER)
    numbers = np.where(known, block.numbers, 0)
    composition = np.zeros((count, MAX_ATOMIC_NUMBER + 1), np.int32)
    np.add.at(composition, (np.arange(count)[:, None], numbers), 1)
    charge = np.array([entry.charge for entry in entries], np.int64)
    columns = {
        "atoms": np.full(count, size),
        "composition": composition,
        "charge": charge,
        "electrons": numbers.sum(axis=1) - charge,
        "multiplicity": np.array(
            [-1 if e.multiplicity is None else e.multiplicity for e in entries], np.int64
        ),
        "has_energy": np.array([entry.energy is not None for entry in entries], bool),
        "has_forces": np.array([entry.forces is not None for entry in entries], bool),
        "has_stress": np.array([entry.stress is not None for entry in entries], bool),
        "energy": block.energy,
        "periodic": block.periodic,
    }
    columns |= _cells(block)
    with np.errstate(invalid="ignore"):
        here = (np.abs(block.positions) < FARTHEST).all(axis=(1, 2))
    fine = known.all(axis=1) & here & columns.pop("_fine")
    columns["fine_geometry"] = fine
    columns |= _labels(block, columns)
    columns |= _digests(block, columns)
    columns |= contacts(block.numbers, block.positions, block.cell, block.periodic, fine)
    columns["trace"] = traces(block.positions, block.cell, block.periodic, fine)
    columns["shape"] = _shapes(block, fine, shaped)
    return columns


def _cells(block: Block) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        volume = np.linalg.det(block.cell)
        edges = np.linalg.norm(block.cell, axis=2)
        # directions without period do not count
        box = np.where(block.periodic[:, :, None], block.cell, 0.0)
        finite = np.array(np.isfinite(box).all(axis=(1, 2)))
        fine = np.array(finite)
        for row in np.flatnonzero(block.periodic.any(axis=1) & finite).tolist():
            vectors = box[row][block.periodic[row]]
            gram = max(float(np.linalg.det(vectors @ vectors.T)), 0.0)
            product = float(np.prod(np.linalg.norm(vectors, axis=1)))
            fine[row] = product > 0 and gram**0.5 > FLAT * product
    return {"volume": volume, "has_cell": (edges > 0).all(axis=1), "_fine": fine}


def _labels(block: Block, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    forces, energy, stress = block.forces, block.energy, block.stress
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.square(forces).sum(axis=2))
        arms = block.positions - block.positions.mean(axis=1, keepdims=True)
        torque = np.linalg.norm(np.cross(arms, forces).sum(axis=1), axis=1)
        scale = np.sqrt((np.square(arms).sum(axis=2) * np.square(lengths)).sum(axis=1))
        largest = np.abs(stress).max(axis=(1, 2))
        turned = np.abs(stress - stress.transpose(0, 2, 1)).max(axis=(1, 2))
        single = forces.astype(np.float32)
        free = ~block.periodic.any(axis=1)
        result = {
            "force_max": lengths.max(axis=1, initial=0.0),
            "force_rms": np.sqrt(np.square(lengths).mean(axis=1)),
            "net_force": np.linalg.norm(forces.sum(axis=1), axis=1),
            "net_torque": np.where(free, torque, np.nan),
            "torque_scale": np.where(free, scale, np.nan),
            "zero_forces": (lengths == 0).sum(axis=1),
            "energy_single": energy.astype(np.float32) == energy,
            "forces_single": (single == forces).all(axis=(1, 2)),
            "stress": np.stack([(stress[:, i, j] + stress[:, j, i]) / 2 for i, j in VOIGT], 1),
            "asymmetry": turned / np.maximum(largest, 1e-6),
        }
    result["force_max"][~columns["has_forces"]] = np.nan
    result["finite"] = (
        (~columns["has_energy"] | np.isfinite(energy))
        & (~columns["has_forces"] | np.isfinite(forces).all(axis=(1, 2)))
        & (~columns["has_stress"] | np.isfinite(stress).all(axis=(1, 2)))
    )
    return result


def _hash(*parts: bytes) -> int:
    return int.from_bytes(
        hashlib.blake2b(b"|".join(parts), digest_size=8).digest(), "little", signed=True
    )


def _digests(block: Block, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Digests; -0.0 and 0.0 are the same number."""
    count = len(block.energy)
    digest = np.zeros((count, 2), np.int64)
    single = {name: np.zeros(count, np.int64) for name in ("system", "labels_key", "forces_key")}
    single["cell_key"] = np.zeros(count, np.int64)
    positions, forces = block.positions + 0.0, block.forces + 0.0
    used = np.asarray(block.periodic.any(axis=1))[:, None, None]
    cells = np.where(used, block.cell, 0.0) + 0.0
    with np.errstate(all="ignore"):
        lengths = np.sort(np.round(np.sqrt(np.square(forces).sum(axis=2)), 4), axis=1) + 0.0
    usable = np.array(columns["finite"] & columns["has_energy"] & columns["has_forces"])
    states = np.stack([columns["charge"], columns["multiplicity"]], axis=1)
    for row in range(count):
        elements, state = block.numbers[row].tobytes(), states[row].tobytes()
        single["system"][row] = _hash(elements, state)
        digest[row] = np.frombuffer(
            hashlib.blake2b(
                elements
                + state
                + positions[row].tobytes()
                + cells[row].tobytes()
                + block.periodic[row].tobytes(),
                digest_size=16,
            ).digest(),
            np.int64,
        )
        if block.cell[row].any():
            single["cell_key"][row] = _hash(block.cell[row].tobytes())
        if usable[row]:
            content = columns["composition"][row].tobytes()
            if len(block.numbers[row]) > 1:
                energy = f"{block.energy[row]:.12g}".encode()
                single["labels_key"][row] = _hash(content, energy, lengths[row].tobytes())
            if lengths[row].any():
                single["forces_key"][row] = _hash(forces[row].tobytes())
    return {"digest": digest, **single}


def _shapes(block: Block, fine: np.ndarray, shaped: int) -> np.ndarray:
    """Fingerprints; NaN where there is none."""
    shapes = np.full((len(fine), FINGERPRINT_SIZE), np.nan, np.float32)
    free = fine & ~block.periodic.any(axis=1)
    if free.any():
        orders = np.argsort(block.numbers, axis=1, kind="stable")
        numbers = np.take_along_axis(block.numbers, orders, axis=1)
        positions = np.take_along_axis(block.positions, orders[:, :, None], axis=1)
        rows = np.flatnonzero(free)
        _, which = np.unique(numbers[rows], axis=0, return_inverse=True)
        which = which.reshape(-1)
        for one in range(which.max() + 1):
            some = rows[which == one]
            shapes[some] = _try(numbers[some[0]], positions[some])
    whole = block.periodic.all(axis=1) & fine
    cells: np.ndarray = np.where(whole[:, None, None], block.cell, 1e3 * np.eye(3))
    left = max(0, SHAPED_ATOMS - shaped) // max(block.numbers.shape[1], 1)
    roomy = free | (np.abs(np.linalg.det(cells)) > DENSEST * block.numbers.shape[1])
    for row in np.flatnonzero(fine & ~free & roomy)[:left]:
        try:
            shapes[row] = fingerprint(
                block.numbers[row], block.positions[row], block.cell[row], block.periodic[row]
            )
        except BadInput:
            continue  # absurdly dense: `contacts` and the checks of units speak of it
    return shapes


def _try(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Fingerprints of molecules of one formula, NaN where atoms are absurdly many or dense."""
    try:
        return fingerprint_batch(numbers, positions)
    except BadInput:
        return np.full((len(positions), FINGERPRINT_SIZE), np.nan)
