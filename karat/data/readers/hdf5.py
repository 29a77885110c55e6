"""HDF5 by what is inside: karat's own layout, groups (ANI-1x, SPICE), or arrays (MD17, QM9).

Checked: tests/data/readers/test_hdf5_published.py, test_hdf5_guard.py.
"""

from collections.abc import Iterator
from pathlib import Path

from karat.core.errors import BadInput
from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.array_layout import Stated, entries_of_arrays, is_array_layout
from karat.data.readers.guard import reading
from karat.data.readers.hdf5_groups import entries_of_groups, plain_rows, stated_units
from karat.data.readers.hdf5_guard import attribute, datasets_in, opened
from karat.data.readers.hdf5_karat import FORMAT, entries_of_karat


def read_hdf5(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Every structure of the file; units by its attributes, else by the options.

    Raises:
        BadInput: not HDF5, no known layout, links out of the file, no unit.
    """
    with reading(path, "HDF5"), opened(path) as file:
        if attribute(file, "format") == FORMAT:
            yield from entries_of_karat(path, file, options)
            return
        datasets = datasets_in(file)
        if is_array_layout(datasets):
            units = stated_units(datasets)
            yield from entries_of_arrays(path, plain_rows(datasets), options, Stated(units))
            return
        count = 0
        for entry in entries_of_groups(path, file, options):
            yield entry
            count += 1
        if not count:
            raise BadInput(
                f"{path}: no group of it holds elements and positions in a layout that karat "
                "knows (ANI-1x, SPICE, MD17, QM9, karat's own). Convert it to extended XYZ."
            )
