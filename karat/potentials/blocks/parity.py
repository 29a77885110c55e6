"""Features with parity: which kinds of them products with harmonics of pairs can make.

A kind (l, p) has 2l + 1 components that turn as harmonics of degree l and are multiplied by p under
inversion; harmonics themselves are of the kind (l, (-1)ˡ).

Checked: tests/potentials/native/test_nequip.py, tests/potentials/native/test_allegro.py.
"""

Kind = tuple[int, int]
"""(degree, parity 1 or -1)."""

SCALAR: Kind = (0, 1)


def kinds_up_to(highest: int, both: bool) -> tuple[Kind, ...]:
    """All kinds up to this degree; without `both` those of harmonics only. By degree, the parity
    of harmonics first."""
    return tuple(
        (degree, parity)
        for degree in range(highest + 1)
        for parity in ((-1) ** degree, -((-1) ** degree))
        if both or parity == (-1) ** degree
    )


def couples(first: Kind, degree: int, third: Kind) -> bool:
    """Whether a product of the first kind with harmonics of this degree has a part of the third."""
    in_reach = abs(first[0] - degree) <= third[0] <= first[0] + degree
    return in_reach and first[1] * (-1) ** degree == third[1]


def paths_between(
    inputs: tuple[Kind, ...], highest: int, outputs: tuple[Kind, ...]
) -> tuple[tuple[int, int, int], ...]:
    """(place among the inputs, degree of harmonics, place among the outputs) of all products with
    harmonics up to `highest`, in this order."""
    return tuple(
        (i, degree, o)
        for i, first in enumerate(inputs)
        for degree in range(highest + 1)
        for o, third in enumerate(outputs)
        if couples(first, degree, third)
    )


def live_kinds(
    layers: int, highest: int, both: bool, start: tuple[Kind, ...] = (SCALAR,)
) -> tuple[tuple[Kind, ...], ...]:
    """Kinds before the first of so many layers, between them and after the last, where the first
    is given `start` and only even scalars of the last are used.

    Left out is what products with harmonics up to `highest` cannot reach from the one end or what
    they cannot take to the other: such features would be zero, or would change nothing.
    """
    everything = kinds_up_to(highest, both)
    found: list[tuple[Kind, ...]] = [start]
    for layer in range(layers):
        allowed = everything if layer < layers - 1 else (SCALAR,)
        found.append(_linked(allowed, found[-1], highest))
    for layer in range(layers - 1, 0, -1):
        found[layer] = _linked(found[layer], found[layer + 1], highest)
    return tuple(found)


def _linked(kinds: tuple[Kind, ...], others: tuple[Kind, ...], highest: int) -> tuple[Kind, ...]:
    """Those that a product links with any of the others; links have no direction."""
    return tuple(
        kind
        for kind in kinds
        if any(couples(other, d, kind) for other in others for d in range(highest + 1))
    )
