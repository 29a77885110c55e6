"""Bounds of architectures' hyper-parameters, each refused in the same words.

Checked: tests/potentials/native/test_bounds.py.
"""

from collections.abc import Mapping

from karat.core.errors import BadInput

Bound = float | int
MAX_WIDTH = 4096
MAX_LAYERS = 8


def require_cutoff(owner: str, cutoff_angstrom: float, most: float = 20.0) -> None:
    """Refuse a cut-off that is not above 0 and at most `most`, Å."""
    if not 0 < cutoff_angstrom <= most:
        raise BadInput(f"{owner}.cutoff_angstrom {cutoff_angstrom} must lie in 0…{most:g} Å.")


def require_range(owner: str, model: object, bounds: Mapping[str, tuple[Bound, Bound]]) -> None:
    """Refuse fields outside their bounds, which are included; `None`, where a field may be it,
    stands for a value found later."""
    for name, (low, high) in bounds.items():
        value = getattr(model, name)
        if value is not None and not low <= value <= high:
            raise BadInput(f"{owner}.{name} {value} must lie in {low:g}…{high:g}.")


def require_positive(owner: str, model: object, *names: str) -> None:
    """Refuse fields that are not finite and above zero; `None` passes, as in `require_range`."""
    for name in names:
        value = getattr(model, name)
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"{owner}.{name} {value} must be positive.")


def require_widths(owner: str, model: object, *names: str) -> None:
    """Refuse widths of layers of which there are none or too many, or that are out of bounds."""
    for name in names:
        widths = getattr(model, name)
        if not 1 <= len(widths) <= MAX_LAYERS or not all(1 <= n <= MAX_WIDTH for n in widths):
            raise BadInput(
                f"{owner}.{name} {list(widths)}: 1 to {MAX_LAYERS} widths of 1…{MAX_WIDTH}."
            )
