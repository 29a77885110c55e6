"""Labelled datasets and named structures from files, whole, in memory.

Streams of entries: `karat.data.readers.catalogue.iterate`; writing: `karat.data.writers`.
Checked: tests/data/test_files.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from karat.core.errors import BadInput
from karat.data.dataset import Dataset, Record
from karat.data.entry import Entry, entry_of
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate
from karat.data.writers import write_entries
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure


@dataclass(frozen=True, eq=False)
class NamedStructure:
    """A structure with what a `Record` keeps about its origin."""

    structure: Structure
    name: str
    kind: str
    group: str
    frame: int


def read_structures(path: Path | str, options: ReadOptions | None = None) -> list[NamedStructure]:
    """Every structure of a file or folder (any format of `karat.data.readers.catalogue`).

    Names, kinds (`config_type`), groups and frames are the file's own where it says them. Else a
    name is ``file:number``, and structures of one file with the same atoms in the same order
    (and the same kind) are taken for one trajectory: they share a group and count its frames.

    Raises:
        BadInput: missing, empty or unreadable, with the frame (counted from 0).
    """
    return [
        NamedStructure(entry.structure(), entry.name, entry.kind, entry.group, entry.frame)
        for entry in iterate(path, options or ReadOptions())
    ]


def read_dataset(
    path: Path | str,
    level: LevelOfTheory | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    options: ReadOptions | None = None,
) -> Dataset:
    """A labelled dataset from one file or folder, in eV and Å.

    Extended XYZ: labels are read from `REF_energy`, `REF_forces`, `REF_stress` (`REF_virial`),
    else from `energy`, `forces`, `stress` (`virial`), else from the keys given. Stress may have
    nine numbers or six (xx yy zz yz xz xy). Other formats: see `karat/data/readers`. The level of
    theory is the argument's, else what the file states, else `unknown`.

    Args:
        options: units and keys; the arguments before it go first.

    Raises:
        BadInput: missing or empty file, a frame without any label, NaN, shapes that do not
            fit, two levels of theory in one file, a level other than the file's, or a unit
            that nobody states; with the frame's number (counted from 0).
    """
    asked = options or ReadOptions()
    asked = replace(
        asked,
        level=level or asked.level,
        energy_key=energy_key or asked.energy_key,
        forces_key=forces_key or asked.forces_key,
        stress_key=stress_key or asked.stress_key,
    )
    records: list[Record] = []
    levels: dict[str, LevelOfTheory] = {}
    unlabelled, bare = None, 0
    for entry in iterate(path, asked):
        if entry.energy is None and entry.forces is None and not records:
            # nothing may be labelled at all, which is another message
            unlabelled, bare = unlabelled or _error(entry), bare + 1
        elif unlabelled is not None:
            raise unlabelled
        else:
            records.append(entry.record())
            if entry.level is not None:
                levels.setdefault(entry.level.digest, entry.level)
    if not records:
        raise _without_labels(path, bare, asked)
    if len(levels) > 1:
        labels = ", ".join(sorted(level.label for level in levels.values()))
        raise BadInput(
            f"{path}: holds labels of {len(levels)} levels of theory ({labels}), which are never "
            "mixed. Write one file for each."
        )
    return Dataset(tuple(records), next(iter(levels.values()), LevelOfTheory(method="unknown")))


def _error(entry: Entry) -> BadInput:
    """What is wrong with an entry without labels."""
    try:
        entry.record()
    except BadInput as error:
        return error
    raise AssertionError(f"{entry.place} has labels")


def _without_labels(path: Path | str, count: int, options: ReadOptions) -> BadInput:
    keys = ", ".join(key for key in (options.energy_key, options.forces_key) if key)
    return BadInput(
        f"{path}: none of its {count} structures has labels "
        f"({keys or 'REF_energy, REF_forces, energy, forces'}). "
        f"Compute them first: karat label {path} --engine gfn2_xtb -o labelled.xyz"
    )


def write_dataset(dataset: Dataset, path: Path | str) -> None:
    """Write a dataset that `read_dataset` reads bit by bit; the suffix chooses the format.

    See `karat.data.writers.write_entries`. Uncertainties are not written: they are a model's,
    not a reference's.

    Raises:
        BadInput: a suffix that no writer knows.
    """
    write_entries(_entries(dataset), path)


def _entries(dataset: Dataset) -> Iterator[Entry]:
    return (entry_of(record, level=dataset.level) for record in dataset)
