"""Campaign files as plain values: strict YAML with line numbers, `${NAME}`, `--set key=value`.

Checked: tests/campaign/test_loading.py.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from karat.core.errors import BadInput, UnknownKey, suggestion
from karat.core.files import readable_file

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(:-(?P<default>[^}]*))?\}")


class Section(dict[str, Any]):
    """A mapping that knows the line of the file it begins at (0: from the command line)."""

    line: int = 0


class _StrictLoader(yaml.SafeLoader):
    """YAML 1.2's plain scalars (`1e-4` is a number, `no` is text), and no key twice."""


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )
# an empty value is null; YAML looks it up under the empty first character
_StrictLoader.yaml_implicit_resolvers[""] = [("tag:yaml.org,2002:null", re.compile("^$"))]


def _construct_float(loader: yaml.SafeLoader, node: yaml.Node) -> float:
    text = str(loader.construct_scalar(node)).lower()  # type: ignore[arg-type]
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _construct_int(loader: yaml.SafeLoader, node: yaml.Node) -> int:
    return int(str(loader.construct_scalar(node)))  # type: ignore[arg-type]


def _construct_section(loader: yaml.SafeLoader, node: yaml.Node) -> Section:
    assert isinstance(node, yaml.MappingNode)
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is not text; put it in quotes", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"the key '{key}' was given before in line {seen[key]}; remove one",
                key_node.start_mark,
            )
        seen[key] = line
    loader.flatten_mapping(node)
    section = Section(cast(dict[str, Any], loader.construct_mapping(node, deep=True)))
    section.line = node.start_mark.line + 1
    return section


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_section)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse_yaml(text: str, place: str) -> Any:
    """The values of one strict YAML document; mappings are `Section`s.

    Raises:
        BadInput: not YAML, or a key given twice, with place, line and column.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        problem = error.problem or error.context or "not YAML"
        raise BadInput(f"{where}: {problem}. Correct this line.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{place}: not YAML ({error}).") from error


def load_values(path: Path, overrides: Sequence[str] = ()) -> Section:
    """The mapping a campaign file holds, overrides set, variables put in.

    Raises:
        BadInput: a file that is missing, empty, not text, not YAML or not a mapping; an override
            or a variable that cannot be resolved.
    """
    readable_file(path, "campaign file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not a text file (UTF-8). Name a campaign in YAML.") from error
    values = parse_yaml(text, str(path))
    if values is None:
        raise BadInput(f"{path}: holds no campaign (only blanks or comments).")
    if not isinstance(values, Section):
        raise BadInput(f"{path}: a campaign is a mapping (name: …), not {_kind(values)}.")
    for override in overrides:
        _set(values, override)
    return _expand(values, str(path))


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"the single value {value!r}"


def _set(values: Section, override: str) -> None:
    """Put `key.0.key=value` into `values`; the value is read as YAML."""
    path, equals, text = override.partition("=")
    place = f"--set {override}"
    if not equals or not path.strip():
        raise BadInput(f"{place}: write key=value, e.g. --set train.0.size=20.")
    parts = path.strip().split(".")
    target: Any = values
    for depth, part in enumerate(parts[:-1]):
        target = _step_into(target, part, ".".join(parts[: depth + 1]), place)
    value = parse_yaml(text, place)
    if isinstance(target, list):
        target[_index(target, parts[-1], place)] = value
    else:
        target[parts[-1]] = value


def _step_into(target: Any, part: str, so_far: str, place: str) -> Any:
    if isinstance(target, list):
        index = _index(target, part, place)
        if target[index] is None:
            target[index] = Section()
        found = target[index]
    else:
        if target.get(part) is None:
            target[part] = Section()
        found = target[part]
    if not isinstance(found, Section | list):
        raise BadInput(f"{place}: '{so_far}' is {_kind(found)}, it has no parts to set.")
    return found


def _index(target: list, part: str, place: str) -> int:
    if not part.isdigit() or int(part) >= len(target):
        known = ", ".join(map(str, range(len(target)))) or "none: the list is empty"
        raise UnknownKey(f"{place}: the list has no entry '{part}'. Allowed: {known}.")
    return int(part)


def _expand(value: Any, place: str) -> Any:
    """`value` with `${NAME}` and `${NAME:-default}` replaced in every text, keys kept."""
    if isinstance(value, Section):
        section = Section({key: _expand(item, place) for key, item in value.items()})
        section.line = value.line
        return section
    if isinstance(value, list):
        return [_expand(item, place) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, value, place), value)
    return value


def _variable(match: re.Match[str], value: str, place: str) -> str:
    name, default = match["name"], match["default"]
    found = os.environ.get(name) or default
    if found is None:
        raise BadInput(
            f"{place}: '{value}' uses the environment variable {name}, which is not set. "
            f"Set it (export {name}=…), or write ${{{name}:-default}}."
        )
    return found


def where(section: Mapping[str, Any], file: str, path: str) -> str:
    """`file:line: path` of a section, for messages."""
    line = getattr(section, "line", 0)
    return f"{file}:{line}: {path}" if line else f"{file}: {path}"


def check_keys(
    section: Mapping[str, Any], allowed: Sequence[str], place: str, required: Sequence[str] = ()
) -> None:
    """Refuse unknown and missing keys.

    Raises:
        UnknownKey: a key that is not allowed, with a suggestion.
        BadInput: a required key is missing.
    """
    for key in section:
        if key not in allowed:
            raise UnknownKey(f"{place} has no key '{key}'; {suggestion(str(key), allowed)}")
    for key in required:
        if section.get(key) is None:
            raise BadInput(f"{place} needs the key '{key}'. Allowed: {', '.join(allowed)}.")
