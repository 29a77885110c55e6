"""The comment line of extended XYZ: ``key=value`` pairs → Python values.

Values are what ASE's reader makes of them (numbers, arrays of numbers, flags, `_JSON`, else
text), except that names stay text and that tensors are not turned round.

Checked: tests/structures/test_geometry_files.py, against ASE's reader.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

TEXT_KEYS = frozenset({"name", "config_type", "group", "uid"})
"""Keys whose values stay as they are written."""

_PAIRS = re.compile(r"""\s*([^\s"'{}\[\]\\=,]+)=(?:"([^"\\]*)"|([^\s"'{}\[\]\\=]+))(?=\s|\Z)""")
_PIECES = re.compile(
    r'"(?P<double>[^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z)'
    r"|'(?P<single>[^'\\]*(?:\\.[^'\\]*)*)(?:'|\\?\Z)"
    r"|\{(?P<curly>[^}\\]*(?:\\.[^}\\]*)*)(?:\}|\\?\Z)"
    r"|\[(?P<square>[^\]\\]*(?:\\.[^\]\\]*)*)(?:\]|\\?\Z)"
    r"|\\(?P<escaped>.?)"
    r"|(?P<equals>\s*=\s*)"
    r"|(?P<space>\s+)"
    r"|(?P<plain>[^\s\"'{\[\\=]+)",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("F", "false", "False", "FALSE"), False),
}
_NUMBER_START = frozenset("0123456789+-.nNiI")


def comment_values(comment: str) -> dict[str, Any]:
    """Key → `int`, `float`, `bool`, array of these, list of flags, JSON value or text.

    Raises:
        ValueError: JSON that is not JSON.
    """
    found: dict[str, Any] = {}
    for key, text in _pairs(comment):
        found[key] = _value(key, text)
    return found


def _pairs(comment: str) -> Iterator[tuple[str, str]]:
    comment = comment.strip()
    position = 0
    while match := _PAIRS.match(comment, position):
        key, quoted, bare = match.groups()
        yield key, quoted if bare is None else bare
        position = match.end()
    if position < len(comment):
        yield from _awkward_pairs(comment[position:].strip())


def _awkward_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Pairs with brackets, escapes, pieces glued together, or words without a value (true)."""
    key: str | None = None
    pieces: list[str] = []
    written = False
    for match in _PIECES.finditer(text):
        kind = match.lastgroup or "plain"
        part = match.group(kind)
        if kind == "equals" and key is None and written:
            key, pieces = "".join(pieces), []
        elif kind == "equals":
            pieces.append("=")
        elif kind == "space":
            if written:
                yield _pair(key, pieces)
            key, pieces, written = None, [], False
            continue
        elif kind in ("plain", "escaped"):
            pieces.append(part)
        else:
            pieces.append(_ESCAPE.sub(r"\1", part))
        written = True
    if written:
        yield _pair(key, pieces)


def _pair(key: str | None, pieces: list[str]) -> tuple[str, str]:
    return ("".join(pieces), "T") if key is None else (key, "".join(pieces))


def _value(key: str, text: str) -> Any:
    if text.startswith("_JSON "):
        return _json(text[6:])
    if key in TEXT_KEYS:
        return text
    words = text.replace(",", " ").split()
    if not words:
        return text
    if words[0][0] in _NUMBER_START:
        try:
            return _numbers(words)
        except (ValueError, OverflowError):
            pass
    if all(word in _FLAGS for word in words):
        flags = [_FLAGS[word] for word in words]
        return flags[0] if len(flags) == 1 else flags
    return text


def _numbers(words: list[str]) -> Any:
    if len(words) == 1:
        try:
            number = int(words[0])
        except ValueError:
            return float(words[0])
        return number if abs(number) < 2**63 else float(words[0])
    try:
        return np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array([float(word) for word in words], dtype=np.float64)


def _json(text: str) -> Any:
    try:
        value = json.loads(text)
        if isinstance(value, list) and _all_numbers(value):
            array = np.array(value)
            return array if array.dtype.kind in "ifb" else value
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    return value


def _all_numbers(value: Any) -> bool:
    """Whether it is a regular array of numbers: lists of equal shape down to numbers."""
    if not isinstance(value, list):
        return isinstance(value, int | float)
    lengths = {len(item) if isinstance(item, list) else -1 for item in value}
    return len(lengths) <= 1 and all(_all_numbers(item) for item in value)
