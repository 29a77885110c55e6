"""Hyper-parameters out of bounds are refused with field, value and bounds."""

from dataclasses import dataclass

import pytest

from karat.core.errors import BadInput
from karat.potentials.native import bounds


@dataclass(frozen=True)
class Example:
    cutoff_angstrom: float = 5.0
    channels: int = 8
    nodes: int | None = None
    scale: float | None = None
    hidden: tuple[int, ...] = (8, 8)


def check(example: Example) -> None:
    bounds.require_cutoff("example", example.cutoff_angstrom, 10.0)
    bounds.require_range("example", example, {"channels": (1, 64), "nodes": (8, 16)})
    bounds.require_positive("example", example, "scale")
    bounds.require_widths("example", example, "hidden")


@pytest.mark.parametrize(
    "inside",
    [
        Example(),
        Example(cutoff_angstrom=10.0),
        Example(channels=1, nodes=8, scale=1e-9),
        Example(channels=64, nodes=16, hidden=(4096,) * 8),
    ],
)
def test_values_on_their_bounds_pass(inside: Example) -> None:
    check(inside)


@pytest.mark.parametrize(
    ("outside", "message"),
    [
        (Example(cutoff_angstrom=0.0), "example.cutoff_angstrom 0.0 must lie in 0…10 Å"),
        (Example(cutoff_angstrom=10.1), "example.cutoff_angstrom 10.1"),
        (Example(cutoff_angstrom=float("nan")), "example.cutoff_angstrom nan"),
        (Example(channels=0), "example.channels 0 must lie in 1…64"),
        (Example(channels=65), "example.channels 65"),
        (Example(nodes=7), "example.nodes 7 must lie in 8…16"),
        (Example(scale=0.0), "example.scale 0.0 must be positive"),
        (Example(scale=float("inf")), "example.scale inf must be positive"),
        (Example(hidden=()), r"example.hidden \[\]: 1 to 8 widths of 1…4096"),
        (Example(hidden=(8, 0)), r"example.hidden \[8, 0\]"),
        (Example(hidden=(1,) * 9), "example.hidden"),
    ],
)
def test_values_outside_are_refused(outside: Example, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check(outside)
