"""npz archives: MD17, rMD17, sGDML data sets, QM9; streamed, also compressed ones.

Units: sGDML files state theirs (`r_unit`, `e_unit`); the others state none and are asked for.

Source: see `array_layout`; sGDML: Chmiela et al., Comput. Phys. Commun. 240, 38 (2019).
Checked: tests/data/readers/test_npz.py.
"""

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.array_layout import Stated, entries_of_arrays
from karat.data.readers.guard import reading
from karat.data.readers.rows import NpyRows, Rows, floats
from karat.data.readers.scales import StatedUnits
from karat.structures.labels import LevelOfTheory

MAX_MEMBERS = 1000
_TEXTS = {"r_unit": "length", "e_unit": "energy"}


def read_npz(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Every structure of the archive.

    Raises:
        BadInput: not an archive of plain arrays, shapes that do not fit, no unit.
    """
    with reading(path, "npz"), ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise BadInput(f"{path}: holds {len(members)} arrays, which cannot be a data set.")
        arrays: dict[str, Rows] = {}
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadInput(f"{path}: '{member.filename}' is packed in a way numpy never uses.")
            if member.filename.endswith(".npy"):
                stream = cast(zipfile.ZipExtFile, stack.enter_context(archive.open(member)))
                name = member.filename.removesuffix(".npy")
                arrays[name] = NpyRows(stream, name, member.file_size)
        yield from entries_of_arrays(path, arrays, options, _stated(arrays))


def _stated(arrays: dict[str, Rows]) -> Stated:
    units = {}
    for key, name in _TEXTS.items():
        if text := _text(arrays, key):
            units[name] = text
    theory = _text(arrays, "theory")
    cell = None
    if "lattice" in arrays and arrays["lattice"].shape == (3, 3):
        # sGDML stores lattice vectors as columns
        cell = floats(arrays["lattice"].take(3), "lattice").T.copy()
    known = theory and theory.lower() not in ("unknown", "none")
    return Stated(
        units=StatedUnits(**units),
        level=LevelOfTheory(method=theory) if known else None,
        cell=cell,
    )


def _text(arrays: dict[str, Rows], key: str) -> str:
    """A single text, or "" where there is none."""
    rows = arrays.get(key)
    if rows is None or rows.shape not in ((), (1,)) or rows.dtype.kind not in "SU":
        return ""
    value = rows.take(1).ravel()[0]
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()[
        :200
    ]
