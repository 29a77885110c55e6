"""What can be computed, and what can be set, in words.

Checked: tests/cli/test_compute.py.
"""

import dataclasses
import inspect
import re
from dataclasses import dataclass
from typing import Any

from karat.campaign.compute.catalogue import CATALOGUE
from karat.campaign.compute.protocol import AbstractProperty
from karat.core.errors import BadInput

_ATTRIBUTE = re.compile(r"^ {4}(?P<names>\w+(?:, \w+)*): (?P<words>.*(?:\n {8}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        default: JSON-ready; `None` also where there is none.
        required: whether it must be given.
        words: unit and meaning.
    """

    name: str
    default: Any
    required: bool
    words: str


@dataclass(frozen=True)
class Description:
    """A property in words."""

    name: str
    title: str
    settings: tuple[Setting, ...]


def describe(name: str) -> Description:
    """Title and settings from the documentation of the class.

    Raises:
        UnknownKey: no such property, with a suggestion.
        BadInput: something else than a property.
    """
    cls = CATALOGUE.resolve(name)
    if not (isinstance(cls, type) and issubclass(cls, AbstractProperty)):
        raise BadInput(f"{name}: is no property (AbstractProperty).")
    text = inspect.getdoc(cls) or ""
    words = {
        key: " ".join(found["words"].split())
        for found in _ATTRIBUTE.finditer(text.partition("Attributes:")[2])
        for key in found["names"].split(", ")
    }
    settings = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        factory, default = field.default_factory, field.default
        required = default is dataclasses.MISSING and factory is dataclasses.MISSING
        if default is dataclasses.MISSING:
            default = None if factory is dataclasses.MISSING else factory()
        if isinstance(default, tuple):
            default = list(default)
        settings.append(Setting(field.name, default, required, words.get(field.name, "")))
    return Description(name, " ".join(text.split("\n\n")[0].split()), tuple(settings))
