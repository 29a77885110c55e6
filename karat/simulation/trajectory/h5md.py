"""HDF5 trajectories in the H5MD layout: plain records while the run goes on, then one HDF5 file.

Units stand in `unit` attributes (``Angstrom``, ``fs``, ``Angstrom fs-1``, ``eV Angstrom-1``,
``eV``), spelled as MDAnalysis reads them; it does not know eV, so files with forces need its
``convert_units=False``. `parameters/karat` is JSON: header, storage, charge, topology.

Source: de Buyl, Colberg, Höfling, Comput. Phys. Commun. 185, 1546 (2014); H5MD 1.1, module units.
Checked: tests/simulation/trajectory/test_h5md.py, by the rules of the standard.
"""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, Final

import numpy as np

from karat.core.errors import BadInput, CalculationFailed, MissingDependency
from karat.simulation.trajectory.append_file import sync_folder, write_failed
from karat.simulation.trajectory.careful_file import CarefulFile
from karat.simulation.trajectory.frames import FrameBlock, Metadata, metadata_from_json
from karat.simulation.trajectory.protocol import AbstractFormat, AbstractReader
from karat.simulation.trajectory.records import RecordReader, encoded, head
from karat.simulation.velocities import masses

CHUNK: Final = 2**18
"""Bytes of one chunk of a dataset, about: what is read at least for one frame."""
CACHE: Final = 2**20
"""Bytes of chunks that HDF5 holds for each dataset."""
CHUNK_FRAMES: Final = 1024
SLAB: Final = 2**22
"""Bytes that are copied at once, about."""
ATOMS: Final = "particles/all"


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependency(
            "HDF5 trajectories need h5py: pip install h5py. Or write extended XYZ."
        ) from error
    return h5py


class H5md(AbstractFormat):
    """``NAME.h5.running`` of plain records, which `complete` turns into ``NAME.h5``."""

    def running(self, path: Path) -> Path:
        return path.with_name(path.name + ".running")

    def begin(self, path: Path) -> None:
        running = self.running(path)
        if running.exists() or not path.exists():
            return
        reader = H5mdReader(path)
        partial = path.with_name(f".{path.name}.reopened")
        try:
            with partial.open("wb") as stream:
                stream.write(head(reader.metadata))
                for block in reader.blocks():
                    for piece in encoded(reader.metadata, block):
                        stream.write(piece)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, running)
        except OSError as error:
            raise write_failed(
                running, error, f"{path} is as it was.", "resume the run again"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)

    def head(self, metadata: Metadata) -> bytes:
        return head(metadata)

    def encoded(self, metadata: Metadata, block: FrameBlock) -> Iterator[bytes]:
        return encoded(metadata, block)

    def complete(self, path: Path) -> None:
        h5py = _h5py()
        running = self.running(path)
        reader = RecordReader(running)
        partial = path.with_name(f".{path.name}.merging")
        try:
            stream = CarefulFile(partial)
            try:
                _in_thread(h5py, stream, reader)
                stream.finish()
            finally:
                stream.close()
            os.replace(partial, path)
        except OSError as error:
            raise write_failed(
                path,
                error,
                f"its {len(reader)} frames are kept in {running.name}.",
                "resume the run or finish the file again",
            ) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        sync_folder(path.parent)
        running.unlink(missing_ok=True)
        sync_folder(path.parent)


def _in_thread(h5py: Any, stream: CarefulFile, reader: RecordReader) -> None:
    """Write the file in another thread: Ctrl-C, which Python raises in the main one only, would
    otherwise come up inside a call from the HDF5 library, which does not survive that."""
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(_write, h5py, stream, reader, stop)
        try:
            done.result()
        except BaseException:
            stop.set()
            raise


def _write(h5py: Any, stream: CarefulFile, reader: RecordReader, stop: Event) -> None:
    metadata, frames = reader.metadata, len(reader)
    with h5py.File(stream, "w", rdcc_nbytes=CACHE) as file:
        _describe(h5py, file, metadata)
        values = _datasets(h5py, file, metadata, frames)
        chunk = values["positions"].chunks[0]
        slab = chunk * max(1, SLAB // (72 * len(metadata.start) * chunk))
        for block in reader.blocks(slab):
            part = slice(block.first, block.first + len(block))
            values["step"][part] = np.arange(part.start, part.stop) * metadata.storage.every
            values["time"][part] = block.times_fs
            for quantity in metadata.quantities:
                values[quantity.name][part] = getattr(block, quantity.name)
            if stop.is_set() or stream.failure is not None:
                return


def _describe(h5py: Any, file: Any, metadata: Metadata) -> None:
    """All that does not change with time."""
    import karat

    start = metadata.start
    about = file.create_group("h5md")
    about.attrs["version"] = np.array([1, 1], dtype=np.int32)
    about.create_group("author").attrs["name"] = np.bytes_(metadata.storage.author.encode())
    creator = about.create_group("creator")
    creator.attrs["name"] = np.bytes_(b"karat")
    creator.attrs["version"] = np.bytes_(karat.__version__.encode())
    units = about.create_group("modules/units")
    units.attrs["version"] = np.array([1, 0], dtype=np.int32)
    _text(h5py, units, "system", "eV Angstrom fs u K")
    box = file.create_group(f"{ATOMS}/box")
    box.attrs["dimension"] = np.int32(3)
    boundary = [b"periodic" if flag else b"none" for flag in start.periodic]
    box.attrs["boundary"] = np.array(boundary, dtype="S8")
    file[f"{ATOMS}/species"] = start.numbers.astype(np.int32)
    file[f"{ATOMS}/mass"] = masses(start)
    _text(h5py, file[f"{ATOMS}/mass"], "unit", "u")
    file["parameters/karat"] = metadata.to_json()


def _datasets(h5py: Any, file: Any, metadata: Metadata, frames: int) -> dict[str, Any]:
    """Empty datasets by name of quantity; all share one `step` and one `time`."""
    squeeze = "gzip" if metadata.storage.compression == "gzip" else None

    def make(place: str, shape: tuple[int, ...], dtype: str) -> Any:
        return file.create_dataset(
            place,
            shape=(frames, *shape),
            maxshape=(None, *shape),
            chunks=_chunks(frames, shape, np.dtype(dtype).itemsize),
            dtype=dtype,
            compression=squeeze,
            shuffle=squeeze is not None,
            track_times=False,
        )

    found = {
        "step": make(f"{ATOMS}/position/step", (), "<i8"),
        "time": make(f"{ATOMS}/position/time", (), "<f8"),
    }
    _text(h5py, found["time"], "unit", "fs")
    precise = {"float64": "<f8", "float32": "<f4"}[metadata.storage.precision]
    for quantity in metadata.quantities:
        group = file.require_group(quantity.path)
        if "step" not in group:
            group["step"], group["time"] = found["step"], found["time"]
        dtype = precise if quantity.kind == "atoms" else "<f8"
        shape = quantity.shape(len(metadata.start))
        found[quantity.name] = make(f"{quantity.path}/value", shape, dtype)
        _text(h5py, found[quantity.name], "unit", quantity.unit)
    return found


def _chunks(frames: int, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Whole frames of about `CHUNK` bytes; parts of one frame where it is larger."""
    each = itemsize * int(np.prod(shape, initial=1))
    count = max(1, min(CHUNK_FRAMES, CHUNK // each, frames))
    if each > CHUNK and len(shape) == 2:
        parts = -(-each // CHUNK)
        return (1, -(-shape[0] // parts), shape[1])
    return (count, *shape)


def _text(h5py: Any, place: Any, name: str, text: str) -> None:
    """A text attribute of variable length, as the module units wants it."""
    place.attrs.create(name, text, dtype=h5py.string_dtype("ascii"))


class H5mdReader(AbstractReader):
    """Frames of a finished HDF5 trajectory of karat, in any order.

    Raises:
        BadInput: the file cannot be opened as HDF5, or was not written by karat's dynamics.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with _h5py().File(path, "r", rdcc_nbytes=CACHE) as file:
                text = file["parameters/karat"][()]
                self._count = file[f"{ATOMS}/position/value"].shape[0]
                boxed = "edges" in file[f"{ATOMS}/box"]
                cell = file[f"{ATOMS}/box/edges/value"][0] if boxed else np.zeros((3, 3))
                positions = file[f"{ATOMS}/position/value"][0]
            self._metadata = metadata_from_json(text, positions, cell)
        except (OSError, KeyError, ValueError, TypeError, BadInput) as error:
            raise BadInput(
                f"{path}: is no HDF5 trajectory of karat's dynamics, or is damaged "
                f"({str(error)[:200]})."
            ) from error

    @property
    def metadata(self) -> Metadata:
        return self._metadata

    def __len__(self) -> int:
        return self._count

    def _stream(self, first: int, stop: int, size: int) -> Iterator[FrameBlock]:
        for begin in range(first, stop, size):
            yield self._block(begin, min(begin + size, stop))

    def _block(self, first: int, stop: int) -> FrameBlock:
        part = slice(first, stop)
        try:
            with _h5py().File(self._path, "r", rdcc_nbytes=CACHE) as file:
                times = _read(file, f"{ATOMS}/position/time", part)
                found = {
                    quantity.name: _read(file, f"{quantity.path}/value", part)
                    for quantity in self._metadata.quantities
                }
        except (OSError, KeyError, ValueError) as error:
            raise CalculationFailed(
                f"{self._path}, frames {first} to {stop - 1}: cannot be read "
                f"({str(error)[:200]}). Check the disk, or take a copy of the file.",
                kind="damaged",
            ) from error
        found.setdefault("cells", np.zeros((stop - first, 3, 3)))
        return FrameBlock(first=first, times_fs=times, **found)


def _read(file: Any, place: str, part: slice) -> np.ndarray:
    return np.asarray(file[place][part], dtype=np.float64)
