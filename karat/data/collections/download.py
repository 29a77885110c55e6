"""Archives of collections from the network (or a file), verified before anything is unpacked.

Checked: tests/data/collections/test_download.py, from a local server.
"""

import hashlib
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from karat.core.errors import BadInput

MAX_BYTES = 2**31
"""Of an archive, and of what is unpacked."""
MAX_FILES = 100
PIECE = 2**20
TIMEOUT_SECONDS = 30.0
SCHEMES = ("https", "http", "file")


@runtime_checkable
class Stream(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


def download(
    url: str, digest: str, path: Path, progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Fetch `url` into `path`.

    Args:
        digest: SHA-256 that the file must have, hexadecimal.
        progress: told bytes so far and in all, where known.

    Raises:
        BadInput: not reachable, too large, or another digest; nothing is left then.
    """
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise BadInput(f"{url}: '{scheme}' is none of {', '.join(SCHEMES)}.")
    found = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as source, path.open("wb") as to:
            total = source.headers.get("Content-Length")
            for done, piece in _pieces(source):
                if done > MAX_BYTES:
                    raise BadInput(f"{url}: is larger than {MAX_BYTES} bytes.")
                found.update(piece)
                to.write(piece)
                if progress is not None:
                    progress(done, int(total) if total else None)
        if found.hexdigest() != digest.lower():
            raise BadInput(
                f"{url}: SHA-256 is {found.hexdigest()}, not {digest}. Ask its authors which is "
                "right."
            )
    except BadInput:
        path.unlink(missing_ok=True)
        raise
    except (urllib.error.URLError, OSError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise BadInput(f"{url}: cannot be fetched ({error}). Try again.") from error


def _pieces(source: Stream) -> Iterator[tuple[int, bytes]]:
    done = 0
    while piece := source.read(PIECE):
        done += len(piece)
        yield done, piece


def unpack(archive: Path, folder: Path) -> None:
    """Files of a tar or zip archive, by their own names, into `folder`: a package is flat. Links,
    devices and what is too large are refused; folders in the archive are left out.

    Raises:
        BadInput: not an archive, or one that no package is in.
    """
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                _write(_tar_files(tar, archive), folder, archive)
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _write(_zip_files(zipped), folder, archive)
        else:
            raise BadInput(f"{archive.name}: is neither a tar nor a zip archive.")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise BadInput(f"{archive.name}: is damaged ({error}). Get it again.") from error


def _tar_files(tar: tarfile.TarFile, archive: Path) -> Iterator[tuple[str, int, Stream]]:
    for member in tar:
        if member.isdir():
            continue
        source = tar.extractfile(member) if member.isreg() else None
        if source is None:
            raise BadInput(f"{archive.name}: '{member.name}' is not a plain file.")
        yield member.name, member.size, source


def _zip_files(zipped: zipfile.ZipFile) -> Iterator[tuple[str, int, Stream]]:
    for member in zipped.infolist():
        if not member.is_dir():
            with zipped.open(member) as source:
                yield member.filename, member.file_size, source


def _write(files: Iterator[tuple[str, int, Stream]], folder: Path, archive: Path) -> None:
    total = 0
    for count, (path, size, source) in enumerate(files, 1):
        name = path.replace("\\", "/").rsplit("/", 1)[-1]
        total += size
        if count > MAX_FILES or total > MAX_BYTES:
            raise BadInput(
                f"{archive.name}: more than {MAX_FILES} files or {MAX_BYTES} bytes: no collection."
            )
        if name in ("", ".", "..") or (folder / name).exists():
            raise BadInput(f"{archive.name}: '{path}' has no name of its own.")
        with (folder / name).open("xb") as to:
            for _, piece in _pieces(source):
                to.write(piece)
