"""What goes into a step: components by value, the files they name by content.

Checked: tests/campaign/test_plan.py.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from karat.core import components
from karat.core.files import readable_file
from karat.core.hashing import digest_json

PATH_KEYS = frozenset(
    {
        *("file", "path", "system_xml", "prmtop", "inpcrd", "gromacs_top", "gromacs_gro"),
        *("gromacs_include",),
    }
)
"""Keys of components whose text is a path, at any depth; a component may list further ones in
its class attribute `path_keys`."""


def path_keys(cls: type) -> frozenset[str]:
    """Keys of a component that hold paths."""
    return PATH_KEYS | frozenset(getattr(cls, "path_keys", ()))


def map_paths(values: Any, keys: Collection[str], change: Callable[[str], str]) -> Any:
    """`values` with `change` applied to every text under one of `keys`, at any depth."""
    if isinstance(values, Mapping):
        changed = {
            key: change(item)
            if key in keys and isinstance(item, str) and item
            else map_paths(item, keys, change)
            for key, item in values.items()
        }
        return values | changed if isinstance(values, dict) else changed
    if isinstance(values, list | tuple):
        return [map_paths(item, keys, change) for item in values]
    return values


def check_files(component: Any) -> None:
    """Every path that a component names is a file with content, or a folder.

    Raises:
        BadInput: missing or empty.
    """

    def check(text: str) -> str:
        path = Path(text)
        if not path.is_dir():
            readable_file(path, "file")
        return text

    map_paths(components.dump(component), path_keys(type(component)), check)


def content_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; read once per version of the file."""
    status = path.stat()
    return _content_digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _content_digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _contents(text: str) -> str:
    path = Path(text)
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        return digest_json([[str(f.relative_to(path)), content_digest(f)] for f in files])
    return f"sha256:{content_digest(readable_file(path, 'file'))}"


def component_digest(component: Any) -> str:
    """SHA-256 of the class, its values, and the contents (not the names) of its files."""
    cls = type(component)
    values = map_paths(components.dump(component), path_keys(cls), _contents)
    return digest_json({"class": f"{cls.__module__}:{cls.__qualname__}", "values": values})
