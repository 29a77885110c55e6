"""The formats of labelled structures: name → reader, and how a path is recognised.

To add one: write the reader (see README.md), add its line here and to `_SUFFIXES` or `_FOLDERS`.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from karat.core.catalogue import Catalogue
from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.protocol import Reader
from karat.structures.geometry_files import file_format

READERS: Final = Catalogue(
    "readers",
    {
        "extended_xyz": "karat.data.readers.extended_xyz:read_extended_xyz",
        "npz": "karat.data.readers.npz:read_npz",
        "deepmd": "karat.data.readers.deepmd:read_deepmd",
        "hdf5": "karat.data.readers.hdf5:read_hdf5",
        "ase_sqlite": "karat.data.readers.ase_sqlite:read_ase_sqlite",
        "ase_json": "karat.data.readers.ase_json:read_ase_json",
        "structure_file": "karat.data.readers.structure_files:read_structure_file",
    },
)

_SUFFIXES: Final[Mapping[str, str]] = {
    ".xyz": "extended_xyz",
    ".extxyz": "extended_xyz",
    ".exyz": "extended_xyz",
    ".npz": "npz",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".db": "ase_sqlite",
    ".json": "ase_json",
}
_NO_OPTIONS: Final = ReadOptions()
_FOLDERS: Final[Mapping[str, str]] = {"type.raw": "deepmd"}
"""A file that such a folder, or one under it, holds."""


def format_of(path: Path) -> str:
    """The name in `READERS` of the format of that file or folder.

    Raises:
        BadInput: a folder of no known format.
    """
    if path.is_dir():
        for file, name in _FOLDERS.items():
            if next(path.rglob(file), None) is not None:
                return name
        raise BadInput(
            f"{path}: is a folder and holds no file {' or '.join(_FOLDERS)} (a DeePMD folder "
            "does). Name a file inside it."
        )
    return _SUFFIXES.get(file_format(path), "structure_file")


@cache
def _reader(name: str) -> Reader:
    # installed packages are asked for readers of theirs once, which takes milliseconds
    reader: Reader = READERS.resolve(name)
    return reader


def iterate(path: Path | str, options: ReadOptions = _NO_OPTIONS) -> Iterator[Entry]:
    """Entries of a file or folder, one after another, so that it may be larger than memory.

    Raises:
        BadInput: missing, empty or unreadable, with the place; units or keys to be named.
    """
    path = Path(path)
    if not path.is_dir():
        readable_file(path, "structure file")
    reader = _reader(format_of(path))
    count = 0
    for entry in reader(path, options):
        yield entry
        count += 1
    if not count:
        raise BadInput(f"{path}: holds no structure.")
