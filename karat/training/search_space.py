"""What a search may vary: spans of numbers and lists of values, by dotted key of a model.

Checked: tests/training/test_tuning.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.potentials.model import AbstractModel

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`, both included.

    Attributes:
        whole: whole numbers only.
        logarithmic: even in the logarithm.
    """

    low: float
    high: float
    whole: bool = False
    logarithmic: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.logarithmic and self.low <= 0):
            raise BadInput(f"span {self.low:g}..{self.high:g}: the first must be the smaller.")

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values at the edges, to see whether a model takes them."""
        return (self.value(self.low), self.value(self.high))

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.logarithmic)
        return FloatDistribution(self.low, self.high, log=self.logarithmic)

    def value(self, stored: Any) -> int | float:
        """What the model gets."""
        return int(stored) if self.whole else float(stored)

    def stored(self, value: Any) -> int | float:
        """What Optuna keeps."""
        return self.value(value)


@dataclass(frozen=True)
class Options:
    """One of some values (numbers, words, lists).

    Attributes:
        texts: each value as JSON.
    """

    texts: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Options":
        """From the values themselves."""
        return cls(tuple(json.dumps(value, sort_keys=True) for value in values))

    def __post_init__(self) -> None:
        if len(set(self.texts)) < 2:
            raise BadInput(f"options {', '.join(self.texts)}: at least two are needed.")

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return tuple(json.loads(text) for text in self.texts)

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)

    def value(self, stored: Any) -> Any:
        """What the model gets."""
        return json.loads(stored)

    def stored(self, value: Any) -> str:
        """What Optuna keeps."""
        return json.dumps(value, sort_keys=True)


def parse_choice(assignment: str) -> tuple[str, Span | Options]:
    """``key=low..high``, ``key=low..high:log`` or ``key=[a, b]`` (YAML); whole numbers where both
    ends are.

    Raises:
        BadInput: anything else.
    """
    import yaml

    key, equals, text = assignment.partition("=")
    usage = (
        f"--vary {assignment}: write key=LOW..HIGH, key=LOW..HIGH:log or key=[A, B], e.g. "
        "cutoff_angstrom=4.0..6.0."
    )
    if not (key and equals):
        raise BadInput(usage)
    span, colon, suffix = text.partition(":")
    low, dots, high = span.partition("..")
    try:
        if dots and suffix in ("", "log"):
            whole = all(end.strip().lstrip("+-").isdigit() for end in (low, high))
            return key, Span(float(low), float(high), whole, bool(colon))
        values = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise BadInput(f"{usage} ({error})") from error
    if not isinstance(values, list):
        raise BadInput(usage)
    return key, Options.of([_number(value) for value in values])


def _number(value: Any) -> Any:
    """YAML reads 1e-10 as a word."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def with_values(model: AbstractModel, values: Mapping[str, Any]) -> AbstractModel:
    """The model with some fields changed; dots lead into nested ones.

    Raises:
        UnknownKey: a field that it has not; BadInput: a value that it cannot have.
    """
    fields = dump(model)
    for key, value in values.items():
        *parents, last = key.split(".")
        place = fields
        for parent in parents:
            inner = place.get(parent)
            if not isinstance(inner, dict):
                raise BadInput(f"'{key}': {type(model).__name__} has no nested '{parent}'.")
            place = inner
        place[last] = value
    return parse(type(model), fields, type(model).__name__)
