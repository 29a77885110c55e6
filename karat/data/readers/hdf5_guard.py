"""HDF5 without its traps: links, virtual and external data, plug-in filters, packed bombs.

What is left: the HDF5 library itself, which sets aside what the length of an attribute of
variable length says (up to 4 GB, for a moment) before it finds that the file does not hold it.

Checked: tests/data/readers/test_hdf5_guard.py.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from karat.core.errors import BadInput

if TYPE_CHECKING:
    import h5py

MAX_CHUNK: Final = 2**26
"""Bytes of one chunk, unpacked."""
MAX_PACKED: Final = 2**18
"""A packed chunk of at most so many bytes cannot unpack to more than 2**28 (deflate: 1 to 1032)."""
MAX_TEXT: Final = 2**16
"""Bytes of a text that is read."""
_FILTERS: Final = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}


@contextmanager
def opened(path: Path) -> Iterator["h5py.File"]:
    """The file, read-only."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        yield file


def names_in(group: "h5py.Group") -> Iterator[str]:
    """Names of a group, in order.

    Raises:
        BadInput: one of them is a link to elsewhere.
    """
    from h5py import h5l

    for name in group:
        if not isinstance(name, str):
            raise BadInput(f"group '{group.name}' holds a name that is no UTF-8 text: {name!r}.")
        kind = group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type
        if kind != h5l.TYPE_HARD:
            raise BadInput(
                f"'{name}' in group '{group.name}' is a link to somewhere else, which karat does "
                "not follow. Copy what it points to: h5repack, or h5py's Group.copy(expand_*)."
            )
        yield name


def datasets_in(group: "h5py.Group") -> dict[str, "h5py.Dataset"]:
    """Name → data set of those directly in the group."""
    import h5py

    found = {}
    for name in names_in(group):
        if group.get(name, getclass=True) is h5py.Dataset:
            found[name] = group[name]
    return found


class H5Rows:
    """Rows of a data set (see `rows.Rows`), checked before anything is read.

    Raises:
        BadInput: not plain numbers, data of another file, an unknown filter, chunks too large,
            or (unless `sparse`) more numbers than its bytes can hold.
    """

    def __init__(self, dataset: "h5py.Dataset", sparse: bool = False) -> None:
        self.name: str = str(dataset.name)
        self._dataset = dataset
        self._next = 0
        if dataset.shape is None or dataset.dtype.kind not in "biuf":
            raise BadInput(f"data set '{self.name}' does not hold plain numbers.")
        if dataset.is_virtual or dataset.external:
            raise BadInput(f"data set '{self.name}' has its numbers in other files. Copy them in.")
        self.dtype: np.dtype = dataset.dtype
        # a single value is an array of one row
        self.shape: tuple[int, ...] = dataset.shape or (1,)
        if len(self.shape) > 4:
            raise BadInput(f"data set '{self.name}' has {len(self.shape)} dimensions.")
        self._packed = self._check_filters()
        size = self.dtype.itemsize
        for side in self.shape:
            size *= side
        stored = dataset.id.get_storage_size()
        if not sparse and size > stored * (1100 if self._packed else 1):
            raise BadInput(
                f"data set '{self.name}' announces {size} bytes, holds {stored}: it was never "
                "written to the end."
            )

    def _check_filters(self) -> bool:
        chunks = self._dataset.chunks
        if chunks is None:
            return False
        if int(np.prod(chunks, dtype=object)) * self.dtype.itemsize > MAX_CHUNK:
            raise BadInput(f"data set '{self.name}' has chunks of more than {MAX_CHUNK} bytes.")
        properties = self._dataset.id.get_create_plist()
        codes = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        unknown = [code for code in codes if code not in _FILTERS]
        if unknown:
            raise BadInput(
                f"data set '{self.name}' is packed by filter {unknown[0]}; known are "
                f"{', '.join(_FILTERS.values())}. Repack it: h5repack -f GZIP=1 OLD NEW."
            )
        return bool(codes)

    def take(self, count: int) -> np.ndarray:
        """See `rows.Rows`."""
        start, self._next = self._next, self._next + count
        if self._next > self.shape[0]:
            raise BadInput(f"data set '{self.name}' has {self.shape[0]} rows, needs more.")
        if self._dataset.shape == ():
            return np.asarray(self._dataset[()]).reshape(1)
        if self._packed and count:
            self._check_chunks(start, start + count)
        return np.asarray(self._dataset[start : start + count])

    def _check_chunks(self, start: int, end: int) -> None:
        """No chunk of those rows may unpack to much more than it should."""
        chunks = self._dataset.chunks
        first = range(start // chunks[0] * chunks[0], end, chunks[0])
        others = [range(0, side, step) for side, step in zip(self.shape[1:], chunks[1:])]
        expected = int(np.prod(chunks)) * self.dtype.itemsize
        for corner in np.stack(np.meshgrid(first, *others, indexing="ij"), -1).reshape(
            -1, len(chunks)
        ):
            where = tuple(int(value) for value in corner)
            info = self._dataset.id.get_chunk_info_by_coord(where)
            if info.byte_offset is None or info.size <= MAX_PACKED:
                continue
            packed = self._dataset.id.read_direct_chunk(where)[1]
            unpacker = zlib.decompressobj()
            try:
                size = len(unpacker.decompress(packed, expected + 64))
            except zlib.error:
                continue  # not gzip, or broken, which HDF5 says itself
            if size > expected + 4 or unpacker.unconsumed_tail:
                raise BadInput(f"data set '{self.name}': a chunk unpacks to more than its size.")


def text_of(dataset: "h5py.Dataset") -> list[str]:
    """The texts of a small data set of strings.

    Raises:
        BadInput: not text, or too much.
    """
    import h5py

    shape = dataset.shape
    if h5py.check_string_dtype(dataset.dtype) is None or shape is None or len(shape) > 1:
        raise BadInput(f"data set '{dataset.name}' does not hold texts.")
    if dataset.is_virtual or dataset.external or (shape and shape[0] > 10**6):
        raise BadInput(f"data set '{dataset.name}' holds too much, or data of other files.")
    if dataset.dtype.itemsize > MAX_TEXT or dataset.id.get_storage_size() == 0:
        raise BadInput(f"data set '{dataset.name}' holds no text.")
    if dataset.dtype.kind == "O":
        _check_lengths(dataset)
    values = np.atleast_1d(dataset[()])
    return [
        value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for value in values.tolist()
    ]


def _check_lengths(dataset: "h5py.Dataset") -> None:
    """Texts of variable length must be short: HDF5 sets aside what each says before it looks."""
    chunked = dataset.chunks is not None
    count = int(np.prod(dataset.shape))
    offset = dataset.id.get_offset()
    if (
        chunked
        and dataset.id.get_num_chunks() == 1
        and not dataset.id.get_chunk_info(0).filter_mask
    ):
        packed = dataset.id.get_create_plist().get_nfilters()
        offset = None if packed else dataset.id.get_chunk_info(0).byte_offset
    if offset is None or count > 10**6:
        raise BadInput(f"data set '{dataset.name}' holds texts packed or in pieces. Rewrite it.")
    with open(dataset.file.filename, "rb") as stream:
        stream.seek(offset)
        # each: four bytes of length, eight of address, four of index
        found = np.frombuffer(stream.read(16 * count), np.uint8)
    if found.size != 16 * count or found.reshape(-1, 16)[:, :4].copy().view("<u4").max() > MAX_TEXT:
        raise BadInput(f"data set '{dataset.name}' holds a text of more than {MAX_TEXT} bytes.")


def attribute(item: "h5py.Group | h5py.Dataset", name: str) -> str:
    """A short text among the attributes, "" where there is none."""
    import h5py

    if name not in item.attrs:
        return ""
    found = item.attrs.get_id(name)
    if found.shape not in ((), (1,)) or h5py.check_string_dtype(found.dtype) is None:
        return ""
    if found.dtype.itemsize > MAX_TEXT:
        return ""
    value = np.atleast_1d(item.attrs[name]).ravel()[0]
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.strip()[:200]
