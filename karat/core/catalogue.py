"""Catalogues: a literal table from name to import path, entry points, or `module:Class`.

Nothing registers itself on import: `resolve` imports a member only when it is asked for.
"""

import importlib
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from karat.core.errors import BadInput, MissingDependency, unknown_key

_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Catalogue:
    """The members of one kind (`potentials`, `engines`, `assays`, `samplers`, …).

    `members` maps a name to `package.module:Class`; installed packages add to it through
    entry points of the group `karat.<kind>`.
    """

    kind: str
    members: Mapping[str, str]

    def names(self) -> dict[str, str]:
        """Every known name with its import path, entry points included (built-in ones win)."""
        found = {
            entry.name: entry.value
            for entry in importlib.metadata.entry_points(group=f"karat.{self.kind}")
        }
        return dict(sorted((found | dict(self.members)).items()))

    def resolve(self, name: str) -> Any:
        """The class behind a name or behind `package.module:Class`.

        Raises:
            UnknownKey: no such name.
            MissingDependency: its module needs a package that is not installed.
        """
        names = self.names()
        path = names.get(name)
        if path is None:
            if not _IMPORT_PATH.fullmatch(name):
                raise unknown_key(f"The catalogue of {self.kind}", name, names)
            path = name
        module_name, _, attribute = path.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"{self.kind} '{name}' needs the Python module '{error.name}', which is not "
                f"installed. Install it into this environment, then run `karat doctor`."
            ) from error
        if not hasattr(module, attribute):
            raise BadInput(f"{self.kind} '{name}': {module_name} has no '{attribute}'.")
        return getattr(module, attribute)
