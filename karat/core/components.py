"""Components: frozen dataclasses that are signature, schema, documentation and saved header.

A component is written in a campaign as a mapping; `parse` validates it strictly (unknown keys
are errors with a suggestion, numbers are not read from strings) and `dump` writes it back.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from karat.core.errors import BadInput, unknown_key
from karat.core.hashing import digest_json

T = TypeVar("T")


def adapter(cls: type[T]) -> pydantic.TypeAdapter[T]:
    """The validator of a frozen dataclass: extra keys forbidden; built once for each class."""
    return _adapter(cls)  # type: ignore[arg-type]  # (classes are hashable)


@functools.cache
def _adapter(cls: Any) -> pydantic.TypeAdapter:
    if not getattr(getattr(cls, "__dataclass_params__", None), "frozen", False):
        raise TypeError(f"{cls.__qualname__} is not a frozen dataclass")
    if not hasattr(cls, "__pydantic_config__"):
        config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        cls.__pydantic_config__ = config
    return pydantic.TypeAdapter(cls)


def parse(cls: type[T], values: Mapping[str, Any], place: str) -> T:
    """An instance of `cls` from a mapping, e.g. read from YAML.

    Raises:
        UnknownKey: a key that `cls` does not have, with a suggestion.
        BadInput: a missing or wrong value; the message starts with `place`.
    """
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise unknown_key(place, str(key), fields)
    try:
        return adapter(cls).validate_json(json.dumps(dict(values)), strict=True)
    except pydantic.ValidationError as error:
        lines = [
            f"{place}.{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            f" (given: {item['input']!r})"
            for item in error.errors()
        ]
        raise BadInput("\n".join(lines)) from error


def dump(component: Any) -> dict[str, Any]:
    """The component as JSON-ready values, every default written out."""
    return adapter(type(component)).dump_python(component, mode="json")


def schema(cls: type) -> dict[str, Any]:
    """JSON schema of a component."""
    return adapter(cls).json_schema()


def digest(component: Any) -> str:
    """Digest of the class's name and all values."""
    kind = f"{type(component).__module__}:{type(component).__qualname__}"
    return digest_json({"class": kind, "values": dump(component)})
