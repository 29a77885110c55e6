"""`--set key=value` options as nested keys, for the verbs that set up one component."""

from collections.abc import Sequence
from typing import Any

from karat.core.errors import BadInput


def key_values(assignments: Sequence[str], option: str) -> dict[str, Any]:
    """`a.b=value` strings as nested keys; values are read as YAML, an empty one is "".

    Raises:
        BadInput: no key, a value that is not YAML, a key that is value and parent at once.
    """
    import yaml

    found: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not (path and equals):
            raise BadInput(f"{option} {assignment}: write key=value, e.g. accuracy=0.1.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BadInput(f"{option} {assignment}: the value is not YAML ({error}).") from error
        *parents, last = path.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BadInput(f"{option} {assignment}: '{parent}' already has a value.")
        place[last] = "" if value is None and not text.strip() else value
    return found
