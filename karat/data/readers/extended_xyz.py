"""Extended XYZ, plain or gzip, line by line.

Labels: the user's keys, else ``REF_energy``, ``REF_forces``, ``REF_stress``, ``REF_virial``, else
the same without ``REF_``. Units: eV and Å by the format, stress eV/Å³, virial eV (−V σ).

Source: libAtoms/extxyz and ASE's ``extxyz`` (keys, units).
Checked: tests/data/readers/test_extended_xyz_reader.py.
"""

from collections.abc import Iterator
from pathlib import Path

from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.frames import entries_of_frames
from karat.structures.geometry_files import read_frames


def read_extended_xyz(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Every frame; see the module for keys and units.

    Raises:
        BadInput: not readable, with the frame (from 0) and its line (from 1).
    """
    frames = ((frame, None) for frame in read_frames(path))
    yield from entries_of_frames(path, frames, options)
