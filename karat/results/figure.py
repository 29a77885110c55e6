"""Figures as data: the report draws them, other programs read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FigureKind = Literal["parity", "histogram", "lines", "points", "bars"]


@dataclass(frozen=True)
class Series:
    """One curve or cloud.

    Attributes:
        name: legend entry.
        x, y: numbers (for `histogram`, `x` holds bin centres and `y` counts; for `bars`, `x`
            may hold text).
        low, high: 95 % interval of each `y`, or empty.
        labels: hover text of each point, or empty.
    """

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """What to draw.

    Attributes:
        kind: how it is drawn.
        group: figures of several contestants with one `group` are overlaid, e.g. ``torsion:0``.
        title, x_label, y_label: axis labels carry their unit.
        series: the data.
        log_x, log_y: logarithmic axes.
    """

    kind: FigureKind
    group: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    note: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        values = dict(self.__dict__)
        values["series"] = [
            {k: list(v) if isinstance(v, tuple) else v for k, v in s.__dict__.items()}
            for s in self.series
        ]
        values["extra"] = dict(self.extra)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Figure":
        """The inverse of `as_dict`."""
        data = dict(values)
        data["series"] = tuple(
            Series(
                name=item["name"],
                **{key: tuple(item[key]) for key in ("x", "y", "low", "high", "labels")},
            )
            for item in data["series"]
        )
        return cls(**data)
