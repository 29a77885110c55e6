"""Packages: a folder with the manifest, structures (extended XYZ) and energies (CSV).

Checked: tests/data/collections/test_package.py.
"""

import csv
import dataclasses
import hashlib
import io
from pathlib import Path

from karat.core.errors import BadInput
from karat.core.files import readable_file, writable_folder, write_atomic, write_json
from karat.data.collections.collection import Collection, Energy, parse_terms, terms_text
from karat.data.collections.manifest import NAME, Manifest, read_manifest
from karat.data.entry import Entry
from karat.data.writers import write_entries
from karat.structures.geometry_files import structures_and_frames
from karat.structures.structure import Structure

STRUCTURES = "structures.xyz.gz"
ENERGIES = "energies.csv"
COLUMNS = ("name", "reference_ev", "terms", "kind", "group", "coordinate")


def write_package(folder: Path, manifest: Manifest, collection: Collection) -> Manifest:
    """Write structures, energies, and the manifest, which then knows their digests, last.

    Only structures that energies are made of are kept.
    """
    writable_folder(folder)
    used = [(name, collection.structures[name]) for name in collection.used]
    write_entries((_entry(name, structure) for name, structure in used), folder / STRUCTURES)
    write_atomic(folder / ENERGIES, _table(collection).encode())
    files = {name: file_digest(folder / name) for name in (STRUCTURES, ENERGIES)}
    whole = dataclasses.replace(manifest, files=files)
    write_json(folder / NAME, whole.as_dict())
    return whole


def read_package(folder: Path) -> tuple[Manifest, Collection]:
    """A package whose files are what its manifest says.

    Raises:
        BadInput: a missing or changed file, or content that makes no collection.
    """
    manifest = check_files(folder)
    structures: dict[str, Structure] = {}
    for structure, frame in structures_and_frames(folder / STRUCTURES):
        name = str(frame.info.get("name", ""))
        if not name or name in structures:
            raise BadInput(f"{folder / STRUCTURES}: the name {name!r} is empty or given twice.")
        structures[name] = structure
    energies = _read_table(folder / ENERGIES)
    try:
        return manifest, Collection(structures, energies)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}") from error


def check_files(folder: Path) -> Manifest:
    """The manifest, if every file is there with its digest.

    Raises:
        BadInput: naming the file.
    """
    manifest = read_manifest(folder)
    missing = {STRUCTURES, ENERGIES} - set(manifest.files)
    if missing:
        raise BadInput(f"{folder / NAME}: does not list {' and '.join(sorted(missing))}.")
    for name, digest in manifest.files.items():
        path = readable_file(folder / name, f"file of the collection {manifest.name}")
        if file_digest(path) != digest:
            raise BadInput(
                f"{path}: is not the file that {NAME} describes (its digest differs). Get the "
                "collection again."
            )
    return manifest


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _entry(name: str, structure: Structure) -> Entry:
    return Entry(
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        periodic=structure.periodic,
        place=name,
        charge=structure.charge,
        multiplicity=structure.multiplicity,
        topology=structure.topology,
        name=name,
    )


def _table(collection: Collection) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in collection.energies:
        place = "" if one.coordinate is None else repr(one.coordinate)
        group = "" if one.group == one.name else one.group
        rows.writerow(
            [one.name, repr(one.reference), terms_text(one.terms), one.kind, group, place]
        )
    return text.getvalue()


def _read_table(path: Path) -> tuple[Energy, ...]:
    energies = []
    try:
        with path.open(newline="") as stream:
            rows = csv.DictReader(stream, strict=True)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise BadInput(f"{path}: its columns must be {', '.join(COLUMNS)}.")
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                energies.append(_energy(row, place))
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a table of energies ({error}).") from error
    return tuple(energies)


def _energy(row: dict[str, str], place: str) -> Energy:
    if None in row or None in row.values():
        raise BadInput(f"{place}: has not {len(COLUMNS)} columns.")
    try:
        coordinate = float(row["coordinate"]) if row["coordinate"] else None
        reference = float(row["reference_ev"])
    except ValueError as error:
        raise BadInput(f"{place}: {error}.") from error
    try:
        return Energy(
            name=row["name"],
            reference=reference,
            terms=parse_terms(row["terms"], place),
            kind=row["kind"],
            group=row["group"],
            coordinate=coordinate,
        )
    except BadInput as error:
        raise BadInput(f"{place}: {error}") from error
