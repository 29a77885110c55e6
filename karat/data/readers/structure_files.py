"""SDF, MOL and PDB by RDKit (with bonds), and whatever else ASE reads (CIF, POSCAR, traj, …).

ASE converts its formats to eV and Å, labels of its calculators included. Properties of an SDF
file are labels only where the user names the key and its unit.

Checked: tests/data/readers/test_structure_files.py.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from karat.data.entry import Entry
from karat.data.read_options import ReadOptions
from karat.data.readers.frames import entries_of_frames
from karat.data.readers.scales import EV_ANGSTROM, StatedUnits
from karat.structures.extended_xyz import Frame
from karat.structures.geometry_files import file_format, read_frames, structures_and_frames
from karat.structures.topology import Topology

WITH_BONDS = (".sdf", ".sd", ".mol", ".pdb", ".ent")


def read_structure_file(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Every structure of the file.

    Raises:
        BadInput: not readable, with the entry where reading stopped.
    """
    if file_format(path) not in WITH_BONDS:
        frames = ((frame, None) for frame in read_frames(path))
        yield from entries_of_frames(path, frames, options)
        return
    stated = EV_ANGSTROM if options.energy_key is None else StatedUnits(length="angstrom")
    yield from entries_of_frames(path, _molecules(path, options), options, stated)


def _molecules(path: Path, options: ReadOptions) -> Iterator[tuple[Frame, Topology | None]]:
    kept = ("name", options.energy_key)
    for structure, frame in structures_and_frames(path):
        info = {key: value for key, value in frame.info.items() if key in kept}
        info["charge"] = structure.charge
        if structure.multiplicity is not None:
            info["multiplicity"] = structure.multiplicity
        yield replace(frame, info=info), structure.topology
