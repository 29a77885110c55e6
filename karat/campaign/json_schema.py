"""The JSON schema of campaign files, put together from the components' own schemas.

Checked: tests/campaign/test_json_schema.py.
"""

import inspect
from typing import Any

from karat.campaign.schema import catalogue
from karat.campaign.sections import GivenData, Resources, SplitSettings, System
from karat.core import components
from karat.core.errors import MissingDependency

IMPORT_PATH = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


def campaign_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a campaign file; options of each known component included."""
    from karat.training.settings import TrainingSettings

    definitions: dict[str, Any] = {}

    def own(name: str, cls: type) -> dict[str, Any]:
        return _hoisted(components.schema(cls), name, definitions)

    settings = own("training.settings", TrainingSettings)
    text = {"type": "string"}
    made = {
        "type": "object",
        "properties": {
            "sample": _list(_choice("samplers", "sampler", {}, definitions)),
            "split": own("data.split", SplitSettings),
        },
        "required": ["sample"],
        "additionalProperties": False,
    }
    size = {"type": ["integer", "null"], "minimum": 1}
    properties = {
        "name": text,
        "title": text,
        "seed": {"type": "integer", "minimum": 0},
        "system": own("system", System),
        "reference": _choice("engines", "engine", {}, definitions),
        "data": {"anyOf": [made, own("data.given", GivenData)]},
        "train": _list(
            _choice(
                "architectures",
                "model",
                {"name": text, "size": size, "settings": settings},
                definitions,
            )
        ),
        "contestants": _list(_choice("potentials", "potential", {"name": text}, definitions)),
        "assays": _list(_choice("assays", "assay", {"name": text}, definitions)),
        "resources": own("resources", Resources),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "karat campaign",
        "type": "object",
        "properties": properties,
        "required": ["name", "assays"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _choice(
    kind: str, key: str, more: dict[str, Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    """One of the components of a kind with its options, or any import path."""
    variants = []
    members = catalogue(kind)
    for name in members.names():
        try:
            cls = members.resolve(name)
        except MissingDependency:
            continue
        options = _hoisted(components.schema(cls), f"{kind}.{name}", definitions)
        variants.append(_variant(key, {"const": name}, options, more, inspect.getdoc(cls)))
    path = {"type": "string", "pattern": IMPORT_PATH}
    variants.append(_variant(key, path, {"type": "object"}, more, "A component by import path."))
    return {"oneOf": variants}


def _variant(
    key: str,
    name: dict[str, Any],
    options: dict[str, Any],
    more: dict[str, Any],
    words: str | None,
) -> dict[str, Any]:
    required = [key, "options"] if options.get("required") else [key]
    return {
        "type": "object",
        "description": (words or "").strip().split("\n\n")[0],
        "properties": {key: name, "options": options, **more},
        "required": required,
        "additionalProperties": False,
    }


def _hoisted(schema: dict[str, Any], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """`schema` with its own definitions moved to the whole document's, under a prefix."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: f"#/$defs/{prefix}.{v.rpartition('/')[2]}" if k == "$ref" else renamed(v)
                for k, v in value.items()
                if k != "$defs"
            }
        return [renamed(item) for item in value] if isinstance(value, list) else value

    for name, definition in schema.get("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = renamed(definition)
    result: dict[str, Any] = renamed(schema)
    return result
