"""Frames of one system on their way to and from disk, and what a file says about itself.

Checked: tests/simulation/trajectory/test_writer.py, test_h5md.py, test_extended_xyz.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.hashing import canonical_json, digest_json
from karat.simulation.velocities import degrees_of_freedom
from karat.structures.extended_xyz import topology_of
from karat.structures.structure import Structure

VERSION: Final = 1
"""Of what karat writes about a trajectory into its file."""


@dataclass(frozen=True, eq=False)
class FrameBlock:
    """Consecutive frames of one system.

    Attributes:
        first: number of the first frame; frame 0 is the start of the run.
        times_fs: since the start.
        positions: Å, not wrapped into the cell.
        velocities: Å/fs.
        cells: Å, rows are the lattice vectors; zeros where there is no cell.
        potential_energies, kinetic_energies: eV.
        stress: eV/Å³, its potential part, tension positive; `None` where not asked for.
        forces: eV/Å; `None` where not asked for.
        conserved: eV, what the integrator conserves; `None` where it conserves nothing.
    """

    first: int
    times_fs: Float[np.ndarray, "frames"]
    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    cells: Float[np.ndarray, "frames 3 3"]
    potential_energies: Float[np.ndarray, "frames"]
    kinetic_energies: Float[np.ndarray, "frames"]
    stress: Float[np.ndarray, "frames 3 3"] | None = None
    forces: Float[np.ndarray, "frames atoms 3"] | None = None
    conserved: Float[np.ndarray, "frames"] | None = None

    def __len__(self) -> int:
        return len(self.times_fs)


@dataclass(frozen=True)
class Quantity:
    """One array of a `FrameBlock`: its attribute, its place and unit in an H5MD file."""

    name: str
    path: str
    unit: str
    kind: Literal["scalar", "tensor", "atoms"]

    def shape(self, atoms: int) -> tuple[int, ...]:
        """Of one frame."""
        return {"scalar": (), "tensor": (3, 3), "atoms": (atoms, 3)}[self.kind]


QUANTITIES: Final = (
    Quantity("positions", "particles/all/position", "Angstrom", "atoms"),
    Quantity("velocities", "particles/all/velocity", "Angstrom fs-1", "atoms"),
    Quantity("forces", "particles/all/force", "eV Angstrom-1", "atoms"),
    Quantity("cells", "particles/all/box/edges", "Angstrom", "tensor"),
    Quantity("potential_energies", "observables/potential_energy", "eV", "scalar"),
    Quantity("kinetic_energies", "observables/kinetic_energy", "eV", "scalar"),
    Quantity("conserved", "observables/conserved_energy", "eV", "scalar"),
    Quantity("stress", "observables/stress", "eV Angstrom-3", "tensor"),
)
"""All but the times."""
OPTIONAL: Final = ("stress", "forces", "conserved")


def stored_quantities(optional: Sequence[str], boxed: bool) -> tuple[Quantity, ...]:
    """Those of `QUANTITIES` that a file has: all but absent ones of `OPTIONAL`, and cells."""
    absent = [name for name in OPTIONAL if name not in optional] + ([] if boxed else ["cells"])
    return tuple(quantity for quantity in QUANTITIES if quantity.name not in absent)


@dataclass(frozen=True)
class Storage:
    """How a trajectory is stored.

    Attributes:
        every: integration steps from one frame to the next.
        degrees_of_freedom: over which the temperature is taken; `None`: those left without
            the overall motion (see `velocities.degrees_of_freedom`).
        precision: of positions, velocities and forces; all else is float64.
        compression: of the finished HDF5 file; extended XYZ is never compressed.
        author: whom an H5MD file names.
    """

    every: int = 1
    degrees_of_freedom: int | None = None
    precision: Literal["float64", "float32"] = "float64"
    compression: Literal["none", "gzip"] = "none"
    author: str = "unknown"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise BadInput(f"trajectory: every is {self.every}; at least 1 is needed.")
        if self.degrees_of_freedom is not None and self.degrees_of_freedom < 0:
            raise BadInput(f"trajectory: degrees_of_freedom is {self.degrees_of_freedom}.")
        for name, allowed in (
            ("precision", ("float64", "float32")),
            ("compression", ("none", "gzip")),
        ):
            if getattr(self, name) not in allowed:
                raise BadInput(
                    f"trajectory: {name} is '{getattr(self, name)}'. Allowed: {', '.join(allowed)}."
                )


@dataclass(frozen=True, eq=False)
class Metadata:
    """What a trajectory file says about itself.

    Attributes:
        start: elements, periodicity, charge, multiplicity, topology; in a file that is read, also
            the positions and the cell of frame 0 (as stored).
        header: what the writer was given.
        storage: how it is stored.
        optional: which of `OPTIONAL` all frames have.
        boxed: whether there is a cell.
    """

    start: Structure
    header: Mapping[str, Any]
    storage: Storage
    optional: tuple[str, ...]
    boxed: bool

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Those that are stored."""
        return stored_quantities(self.optional, self.boxed)

    @property
    def degrees_of_freedom(self) -> int:
        """Over which the temperature is taken."""
        given = self.storage.degrees_of_freedom
        return degrees_of_freedom(self.start) if given is None else given

    @property
    def identity(self) -> str:
        """Digest of all but header, author, coordinates and optional quantities."""
        start, storage = self.start, asdict(self.storage)
        del storage["author"]
        what = [start.numbers.tolist(), start.periodic.tolist(), start.charge]
        return digest_json([VERSION, *what, start.unpaired_electrons, self.boxed, storage])

    def to_json(self) -> str:
        """One line of JSON, without coordinates."""
        start = self.start
        return canonical_json(
            {
                "karat_trajectory": VERSION,
                "header": self.header,
                "storage": asdict(self.storage),
                "optional": list(self.optional),
                "boxed": self.boxed,
                "numbers": start.numbers.tolist(),
                "periodic": start.periodic.tolist(),
                "charge": start.charge,
                "multiplicity": start.multiplicity,
                "topology": topology_values(start),
            }
        )


def metadata_of(start: Structure, header: Mapping[str, Any], storage: Storage) -> Metadata:
    """Of a new trajectory, before the first frame is known.

    Raises:
        BadInput: a header that is not JSON.
    """
    try:
        header = json.loads(canonical_json(dict(header)))
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"trajectory: the header cannot be written as JSON ({error}). "
            "Use text, finite numbers, lists and mappings only."
        ) from error
    boxed = bool(start.periodic.any() or start.cell.any())
    return Metadata(start, header, storage, (), boxed)


def metadata_from_json(text: str | bytes, positions: np.ndarray, cell: np.ndarray) -> Metadata:
    """The inverse of `Metadata.to_json`, with the coordinates of frame 0.

    Raises:
        ValueError, KeyError, TypeError, BadInput: not what `to_json` writes.
    """
    found = json.loads(text)
    if found["karat_trajectory"] != VERSION:
        raise ValueError(f"written by another version ({found['karat_trajectory']})")
    start = Structure(
        numbers=np.array(found["numbers"]),
        positions=positions,
        cell=cell,
        periodic=np.array(found["periodic"]),
        charge=found["charge"],
        multiplicity=found["multiplicity"],
        topology=topology_of(found["topology"]),
    )
    storage = Storage(**found["storage"])
    return Metadata(start, found["header"], storage, tuple(found["optional"]), found["boxed"])


def topology_values(start: Structure) -> dict[str, Any] | None:
    """A topology in JSON's types, as `karat.structures.extended_xyz.topology_of` reads it."""
    topology = start.topology
    if topology is None:
        return None
    return {
        "bonds": topology.bonds.ravel().tolist(),
        "orders": topology.orders.tolist(),
        "formal_charges": topology.formal_charges.tolist(),
        "residues": list(topology.residues),
        "smiles": topology.smiles,
    }


def optional_of(block: FrameBlock) -> tuple[str, ...]:
    """Which of `OPTIONAL` it has."""
    return tuple(name for name in OPTIONAL if getattr(block, name) is not None)


def check_block(block: FrameBlock, metadata: Metadata, frames: int) -> None:
    """Raise unless the block can follow after `frames` frames.

    Raises:
        BadInput: another frame was expected, other quantities or shapes, a cell without a box.
    """
    if block.first != frames:
        raise BadInput(f"trajectory: frame {frames} is next, not {block.first}.")
    if optional_of(block) != metadata.optional:
        raise BadInput(
            f"trajectory: frame {block.first} has {', '.join(optional_of(block)) or 'none'} of "
            f"{', '.join(OPTIONAL)}; the frames before have "
            f"{', '.join(metadata.optional) or 'none'}. All frames need the same."
        )
    atoms = len(metadata.start)
    for quantity in QUANTITIES:
        array = getattr(block, quantity.name)
        shape = (len(block), *quantity.shape(atoms))
        if array is not None and array.shape != shape:
            raise BadInput(f"trajectory: {quantity.name} have shape {array.shape}, need {shape}.")
    if not metadata.boxed and block.cells.any():
        raise BadInput("trajectory: frames have a cell, the structure at the start has none.")
