"""Numbers, units, intervals and lists in words, the same in every output format.

Checked: tests/report/test_words.py.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from karat.results.metric import Metric

_SMALLER = {
    "eV": (("meV", 1e3),),
    "s": (("ms", 1e3), ("µs", 1e6)),
}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Unit:
    """The unit numbers of one column are shown in: shown = stored · factor."""

    text: str
    factor: float = 1.0


def shown_unit(unit: str, values: Iterable[float]) -> Unit:
    """One unit for a column: milli or micro where its middle number is below one."""
    sizes = sorted(abs(value) for value in values if value)
    typical = sizes[len(sizes) // 2] if sizes else 1.0
    head, slash, tail = unit.partition("/")
    chosen = Unit(unit)
    for name, factor in _SMALLER.get(head, ()):
        if typical * chosen.factor >= 1:
            break
        chosen = Unit(f"{name}{slash}{tail}", factor)
    return chosen


def number(value: float, digits: int = 3) -> str:
    """To `digits` significant digits, powers of ten written out: ``1.23``, ``4.5 × 10⁻⁷``."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if exponent < -4 or exponent > 6:
        mantissa = f"{value / 10**exponent:.{digits - 1}f}"
        return f"{mantissa} × 10{str(exponent).translate(_SUPERSCRIPT)}".replace("-", "−")
    decimals = max(0, digits - 1 - exponent)
    text = f"{value:.{decimals}f}"
    if exponent >= digits:
        text = f"{float(f'{value:.{digits - 1}e}'):.0f}"
    return text.replace("-", "−")


class WithInterval(Protocol):
    """A metric, or a row of a comparison."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def why_no_interval(self) -> str: ...


def interval(metric: WithInterval, unit: Unit | None = None) -> str:
    """``1.1 – 1.4``, or why there is none."""
    if metric.low is None or metric.high is None:
        return f"no interval: {metric.why_no_interval}"
    factor = unit.factor if unit else 1.0
    return f"{number(metric.low * factor)} – {number(metric.high * factor)}"


def in_unit(value: float, unit: Unit) -> str:
    """The value with its unit."""
    return f"{number(value * unit.factor)} {unit.text}".strip()


def metric_title(metric: Metric) -> str:
    """Readable name."""
    return metric.title or metric.name.replace("_", " ")


def subset_title(subset: str) -> str:
    """``element:C`` → ``element C``; "" → ``all``."""
    return subset.replace(":", " ", 1) if subset else "all"


def duration(seconds: float | None) -> str:
    """``12 ms``, ``3.4 s``, ``2 min 5 s``, ``1 h 12 min``; "–" for unknown."""
    if seconds is None:
        return "–"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def listed(names: Sequence[str], last: str = "and", limit: int = 12) -> str:
    """``a, b and c``; long lists end in ``… and 5 more``."""
    shown = list(names)
    if not shown:
        return "none"
    if len(shown) > limit:
        return f"{', '.join(shown[:limit])} {last} {len(shown) - limit} more"
    if len(shown) == 1:
        return shown[0]
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 case``, ``3 cases``."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
