"""Extended XYZ trajectories: text that ASE, OVITO and others read, one frame after another.

Columns: ``pos`` in Å; ``velo`` in Å/fs, exact; ``momenta`` in √(eV amu), the same velocities as
ASE wants them (`atoms.get_velocities()`); ``forces`` in eV/Å where there are any. The comment
line has ``energy`` (potential) and ``stress`` (eV, eV/Å³), which ASE puts into its results, and
``time_fs``, ``kinetic_energy``, ``temperature_k``, ``conserved_energy``, ``frame``; that of frame
0 also ``karat`` (header and storage) and the topology. Numbers are written so that they come back
exactly: 17 digits at most, 9 for what is stored in float32.

Source: ASE's extended XYZ (Larsen et al., J. Phys. Condens. Matter 29, 273002 (2017)).
Checked: tests/simulation/trajectory/test_extended_xyz.py, against ASE's reader.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from karat.core.errors import BadInput
from karat.core.hashing import canonical_json
from karat.core.units import ACCELERATION
from karat.simulation.trajectory.frames import (
    VERSION,
    FrameBlock,
    Metadata,
    Storage,
    topology_values,
)
from karat.simulation.trajectory.protocol import AbstractFormat, AbstractReader
from karat.simulation.velocities import kinetic_temperature, masses
from karat.structures.extended_xyz import Frame, parse_frames

ROWS: Final = 4096
"""Atoms that are written at once."""


class ExtendedXyz(AbstractFormat):
    """Text, appended to the file itself."""

    def running(self, path: Path) -> Path:
        return path

    def begin(self, path: Path) -> None:
        pass

    def head(self, metadata: Metadata) -> bytes:
        return b""

    def encoded(self, metadata: Metadata, block: FrameBlock) -> Iterator[bytes]:
        momentum = masses(metadata.start)[:, None] / np.sqrt(ACCELERATION)
        precise = metadata.storage.precision
        rows = _row_formats(metadata.start.symbols, precise, 9 if block.forces is None else 12)
        for k in range(len(block)):
            yield _comment(metadata, block, k)
            velocities = block.velocities[k].astype(np.float64)
            columns = [block.positions[k], velocities, velocities * momentum]
            columns += [] if block.forces is None else [block.forces[k]]
            for number, text in enumerate(rows):
                part = slice(number * ROWS, (number + 1) * ROWS)
                table = np.concatenate([column[part] for column in columns], axis=1)
                # in one go: a call for each number or atom would cost more than the digits
                yield (text % tuple(table.astype(precise).ravel().tolist())).encode()

    def complete(self, path: Path) -> None:
        pass


@lru_cache(maxsize=2)
def _row_formats(symbols: tuple[str, ...], precision: str, columns: int) -> tuple[str, ...]:
    """Format strings for `ROWS` atoms each."""
    row = (" %r" if precision == "float64" else " %.9g") * columns + "\n"
    return tuple(
        "".join(symbol + row for symbol in symbols[start : start + ROWS])
        for start in range(0, len(symbols), ROWS)
    )


def _comment(metadata: Metadata, block: FrameBlock, k: int) -> bytes:
    """The first two lines of a frame."""
    start = metadata.start
    kinetic = float(block.kinetic_energies[k])
    words = [f'Lattice="{_floats(block.cells[k])}"'] if metadata.boxed else []
    words.append("Properties=species:S:1:pos:R:3:velo:R:3:momenta:R:3")
    words[-1] += "" if block.forces is None else ":forces:R:3"
    words.append('pbc="{}"'.format(" ".join("T" if flag else "F" for flag in start.periodic)))
    words.append(f"energy={float(block.potential_energies[k])!r}")
    if block.stress is not None:
        words.append(f'stress="{_floats(block.stress[k])}"')
    words.append(f"frame={block.first + k} time_fs={float(block.times_fs[k])!r}")
    temperature = kinetic_temperature(kinetic, metadata.degrees_of_freedom)
    words.append(f"kinetic_energy={kinetic!r} temperature_k={temperature!r}")
    if block.conserved is not None:
        words.append(f"conserved_energy={float(block.conserved[k])!r}")
    words.append(f"charge={start.charge}")
    if start.multiplicity is not None:
        words.append(f"multiplicity={start.multiplicity}")
    if block.first + k == 0:
        about = {"karat_trajectory": VERSION, "header": metadata.header}
        words.append("karat=" + _json({**about, "storage": asdict(metadata.storage)}))
        if start.topology is not None:
            words.append("topology=" + _json(topology_values(start)))
    return f"{len(start)}\n{' '.join(words)}\n".encode()


def _floats(array: np.ndarray) -> str:
    return " ".join(map(repr, array.astype(np.float64).ravel().tolist()))


def _json(value: Any) -> str:
    """As ASE spells JSON in a comment line: in quotes, backslashes and quotes escaped."""
    escaped = canonical_json(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"_JSON {escaped}"'


class ExtendedXyzReader(AbstractReader):
    """Frames of a trajectory that karat wrote as extended XYZ; an end torn off is left out.

    Raises:
        BadInput: the file holds no whole frame, or was not written by karat.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as stream:
            lines = _count_lines(stream)
            stream.seek(0)
            atoms = _atoms(stream.readline(64))
            self._count = lines // (atoms + 2) if atoms else 0
            if self._count == 0:
                raise BadInput(f"{path}: holds no whole frame yet.")
            stream.seek(0)
            frame = next(parse_frames(stream, str(path)))
        about: Any = frame.info.get("karat")
        try:
            if about["karat_trajectory"] != VERSION:
                raise ValueError(f"version {about['karat_trajectory']}")
            storage = Storage(**about["storage"])
            header = dict(about["header"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f"{path}: was not written by karat's dynamics: frame 0 has no fitting 'karat=…' in "
                f"its comment line ({error}). Read it as structures, or with ASE."
            ) from error
        optional = [name for name in ("stress",) if name in frame.info]
        optional += ["forces"] if "forces" in frame.arrays else []
        optional += ["conserved"] if "conserved_energy" in frame.info else []
        boxed = bool(frame.cell.any())
        start = frame.structure(f"{path}, frame 0")
        self._metadata = Metadata(start, header, storage, tuple(optional), boxed)

    @property
    def metadata(self) -> Metadata:
        return self._metadata

    def __len__(self) -> int:
        return self._count

    def _stream(self, first: int, stop: int, size: int) -> Iterator[FrameBlock]:
        with self._path.open("rb") as stream:
            for _ in range(first * (len(self.start) + 2)):
                stream.readline()
            frames = parse_frames(stream, f"{self._path} after frame {first}")
            for begin in range(first, stop, size):
                yield self._block(list(islice(frames, min(size, stop - begin))), begin)

    def _block(self, frames: list[Frame], first: int) -> FrameBlock:
        for k, frame in enumerate(frames):
            if not np.array_equal(frame.numbers, self.start.numbers):
                raise BadInput(f"{self._path}, frame {first + k}: has other atoms than frame 0.")
        optional = self._metadata.optional
        try:
            return FrameBlock(
                first=first,
                times_fs=_stacked(frames, "time_fs", ()),
                positions=self._exact([frame.positions for frame in frames]),
                velocities=self._exact([frame.arrays["velo"] for frame in frames]),
                cells=np.array([frame.cell for frame in frames]),
                potential_energies=_stacked(frames, "energy", ()),
                kinetic_energies=_stacked(frames, "kinetic_energy", ()),
                stress=_stacked(frames, "stress", (3, 3)) if "stress" in optional else None,
                forces=(
                    self._exact([frame.arrays["forces"] for frame in frames])
                    if "forces" in optional
                    else None
                ),
                conserved=(
                    _stacked(frames, "conserved_energy", ()) if "conserved" in optional else None
                ),
            )
        except (KeyError, ValueError, TypeError) as error:
            last = first + len(frames) - 1
            raise BadInput(
                f"{self._path}, frames {first} to {last}: not all have what frame 0 has ({error})."
            ) from error

    def _exact(self, arrays: list[np.ndarray]) -> np.ndarray:
        """The very numbers that were stored, in float64."""
        stored = np.array(arrays).astype(self._metadata.storage.precision)
        return stored.reshape(len(arrays), len(self.start), 3).astype(np.float64)


def _stacked(frames: list[Frame], key: str, shape: tuple[int, ...]) -> np.ndarray:
    values = [np.array(frame.info[key], dtype=np.float64).reshape(shape) for frame in frames]
    return np.array(values).reshape(len(frames), *shape)


def _count_lines(stream: Any) -> int:
    count = 0
    while piece := stream.read(2**20):
        count += piece.count(b"\n")
    return count


def _atoms(line: bytes) -> int:
    try:
        return max(0, int(line))
    except ValueError:
        return 0
