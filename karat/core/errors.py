"""Errors. Each message names the value, the place and the next step.

`BadInput` and its kinds end a command with exit status 2 before work starts.
"""

import difflib
from collections.abc import Iterable


class KaratError(Exception):
    """Anything that karat raises on purpose."""


class BadInput(KaratError):
    """What the user gave cannot be used; nothing was started (exit status 2)."""


class UnknownKey(BadInput):
    """A name that is not among the allowed ones."""


class UnknownElement(BadInput):
    """An element that a potential or engine was not made for."""


class UnsuitableStructure(BadInput):
    """A structure that a method cannot treat (periodicity, charge, missing topology, size)."""


class MissingDependency(BadInput):
    """A program or package that is not installed, with the command that installs it."""


class CalculationFailed(KaratError):
    """An engine or potential started and could not finish: not converged, exploded, died.

    Attributes:
        kind: short word for counting, e.g. ``not-converged``, ``timeout``, ``dead-process``.
    """

    def __init__(self, message: str, kind: str = "error") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.kind)


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """`did you mean 'x'? Allowed: …` for a message about an unknown name."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Allowed: {', '.join(names)}."


def unknown_key(place: str, name: str, allowed: Iterable[str]) -> UnknownKey:
    """The error for a name that is not among the allowed ones, with a suggestion."""
    return UnknownKey(f"{place} has no '{name}'; {suggestion(name, allowed)}")
