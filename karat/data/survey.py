"""`survey`: one pass over entries that keeps a few hundred bytes of each structure, for the doctor.

Nothing of an entry is kept but these columns, bar a sample of frames (`sample.py`), so that files
may be larger than memory. Checked: tests/data/test_survey.py.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.data.entry import Entry
from karat.data.sample import Sample
from karat.data.steps import Steps, join_steps
from karat.data.survey_block import measure
from karat.structures.labels import LevelOfTheory

CHUNK_ATOMS = 40_000
CHUNK_ENTRIES = 2_000
"""Entries are measured together, so many atoms or structures at a time: arrays of some 10 MB."""


@dataclass(frozen=True, eq=False)
class Columns:
    """One row for each structure; NaN stands for a label (or a number) that is not there.

    Attributes:
        atoms: their number.
        composition: atoms of each element, column z; column 0 counts unknown ones.
        digest: of the structure, 16 bytes as two integers.
        system: digest of elements in order, charge and multiplicity.
        labels_key: digest of elements, energy and sorted force lengths as printed; equal for
            symmetry-equivalent structures; 0 without energy or forces.
        forces_key: digest of the forces; 0 without forces or where all are zero.
        fine_geometry: elements are known, positions finite, the periodic part of the cell is too
            and is not singular.
        has_energy, has_forces, has_stress: the label is there, be it NaN.
        finite: every label that is there is finite.
        energy: eV.
        force_max, force_rms: largest length, and root mean square length, of forces, eV/Å.
        net_force: |Σ F|, eV/Å.
        net_torque: |Σ r × F| about the centre, eV; NaN for periodic structures.
        torque_scale: √(Σ r² F²), eV: what rows in random order leave.
        zero_forces: atoms whose force is exactly zero.
        energy_single, forces_single: the numbers are exactly those of 32-bit floats.
        stress: xx yy zz yz xz xy, eV/Å³.
        asymmetry: largest |σ_xy − σ_yx| over the largest component.
        volume: signed determinant of the cell, Å³.
        has_cell: a cell is given (whether periodic or not).
        periodic: flags.
        cell_key: digest of the cell, 0 without.
        outside: share of atoms outside a cell that is given though not periodic.
        across: shortest distance through the faces of a cell that is given though not periodic,
            over the sum of covalent radii.
        closest: shortest distance over the sum of covalent radii.
        closest_distance: that distance, Å.
        closest_pair: the two atoms.
        bond: median over atoms of the nearest neighbour's distance over the sum of radii; inf
            where there is none within reach.
        electrons: nuclear charges minus charge.
        multiplicity: as stated, -1 where not.
        charge: e.
        frame: as in `Entry`.
        group, kind, level: rows of the tables of the survey.
        trace: ordered distances between fixed pairs of atoms, projected on few directions
            (`trace.py`): frames of one system differ in it by their RMSD.
        shape: fingerprint of the geometry, blind to order, rotation and place.
    """

    atoms: Int[np.ndarray, "n"]
    composition: Int[np.ndarray, "n elements"]
    digest: Int[np.ndarray, "n 2"]
    system: Int[np.ndarray, "n"]
    labels_key: Int[np.ndarray, "n"]
    forces_key: Int[np.ndarray, "n"]
    fine_geometry: Bool[np.ndarray, "n"]
    has_energy: Bool[np.ndarray, "n"]
    has_forces: Bool[np.ndarray, "n"]
    has_stress: Bool[np.ndarray, "n"]
    finite: Bool[np.ndarray, "n"]
    energy: Float[np.ndarray, "n"]
    force_max: Float[np.ndarray, "n"]
    force_rms: Float[np.ndarray, "n"]
    net_force: Float[np.ndarray, "n"]
    net_torque: Float[np.ndarray, "n"]
    torque_scale: Float[np.ndarray, "n"]
    zero_forces: Int[np.ndarray, "n"]
    energy_single: Bool[np.ndarray, "n"]
    forces_single: Bool[np.ndarray, "n"]
    stress: Float[np.ndarray, "n 6"]
    asymmetry: Float[np.ndarray, "n"]
    volume: Float[np.ndarray, "n"]
    has_cell: Bool[np.ndarray, "n"]
    periodic: Bool[np.ndarray, "n 3"]
    cell_key: Int[np.ndarray, "n"]
    outside: Float[np.ndarray, "n"]
    across: Float[np.ndarray, "n"]
    closest: Float[np.ndarray, "n"]
    closest_distance: Float[np.ndarray, "n"]
    closest_pair: Int[np.ndarray, "n 2"]
    bond: Float[np.ndarray, "n"]
    electrons: Int[np.ndarray, "n"]
    multiplicity: Int[np.ndarray, "n"]
    charge: Int[np.ndarray, "n"]
    frame: Int[np.ndarray, "n"]
    group: Int[np.ndarray, "n"]
    kind: Int[np.ndarray, "n"]
    level: Int[np.ndarray, "n"]
    trace: Float[np.ndarray, "n projections"]
    shape: Float[np.ndarray, "n features"]


@dataclass(frozen=True, eq=False)
class Survey:
    """What the doctor knows of a set.

    Attributes:
        names: of structures, for people; the place where there is no name.
        columns: one row for each structure.
        groups, kinds, levels: what the columns of that name count.
        steps: pairs of neighbouring frames with energy difference and work of the forces.
    """

    names: list[str]
    columns: Columns
    groups: tuple[str, ...]
    kinds: tuple[str, ...]
    levels: tuple[LevelOfTheory | None, ...]
    steps: Steps

    def __len__(self) -> int:
        return len(self.names)

    @property
    def per_atom(self) -> Float[np.ndarray, "n"]:
        """Energies per atom, eV; NaN where there is none."""
        return self.columns.energy / self.columns.atoms

    @property
    def crystal(self) -> Bool[np.ndarray, "n"]:
        """Periodic in three directions."""
        return np.array(self.columns.periodic.all(axis=1))

    @property
    def molecule(self) -> Bool[np.ndarray, "n"]:
        """Not periodic."""
        return np.array(~self.columns.periodic.any(axis=1))

    @property
    def elements(self) -> Int[np.ndarray, "elements"]:
        """Atomic numbers that occur, ascending."""
        return np.flatnonzero(self.columns.composition.any(axis=0))


class _Table:
    """Numbers for values in the order of their first appearance."""

    def __init__(self) -> None:
        self.values: dict = {}

    def number(self, key: object, value: object) -> int:
        return self.values.setdefault(key, (len(self.values), value))[0]

    def all(self) -> tuple:
        return tuple(value for _, value in self.values.values())


def survey(entries: Iterable[Entry], progress: Callable[[int], object] | None = None) -> Survey:
    """One pass over `entries`; `progress` is told the number of structures seen, now and then."""
    groups, kinds, levels = _Table(), _Table(), _Table()
    names: list[str] = []
    blocks: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    steps: list[Steps] = []
    sample = Sample()
    chunk: list[Entry] = []
    atoms = shaped = 0

    def finish() -> None:
        nonlocal chunk, atoms, shaped
        start = len(names) - len(chunk)
        for rows, columns, block in measure(chunk, shaped):
            crystals = columns["periodic"].any(axis=1) & columns["fine_geometry"]
            shaped += int(crystals.sum()) * block.numbers.shape[1]
            picked = [chunk[row] for row in rows.tolist()]
            columns["frame"] = np.array([entry.frame for entry in picked], np.int64)
            columns["group"] = np.array([groups.number(e.group, e.group) for e in picked], np.int64)
            columns["kind"] = np.array([kinds.number(e.kind, e.kind) for e in picked], np.int64)
            columns["level"] = np.array(
                [levels.number(e.level and e.level.label.upper(), e.level) for e in picked],
                np.int64,
            )
            blocks.append((rows + start, columns))
            steps.extend(sample.add(rows + start, columns, block))
        chunk, atoms = [], 0
        if progress is not None:
            progress(len(names))

    for entry in entries:
        chunk.append(entry)
        names.append(entry.name or entry.place or f"structure {len(names)}")
        atoms += len(entry)
        if atoms >= CHUNK_ATOMS or len(chunk) >= CHUNK_ENTRIES:
            finish()
    if chunk:
        finish()
    steps.extend(sample.closest())
    return Survey(
        names, _columns(blocks), groups.all(), kinds.all(), levels.all(), join_steps(steps)
    )


def _columns(blocks: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> Columns:
    """Columns in the order of the entries."""
    if not blocks:
        blocks = _nothing()
    order = np.argsort(np.concatenate([rows for rows, _ in blocks]), kind="stable")
    values = {}
    for field in fields(Columns):
        values[field.name] = np.concatenate([columns.pop(field.name) for _, columns in blocks])[
            order
        ]
    return Columns(**values)


def _nothing() -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Columns of no row."""
    one = Entry(np.ones(1, np.int64), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), "")
    ((rows, columns, _),) = measure([one])
    columns |= {name: np.zeros(1, np.int64) for name in ("frame", "group", "kind", "level")}
    return [(rows[:0], {name: column[:0] for name, column in columns.items()})]
